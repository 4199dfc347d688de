//! The control side: one task that owns the mappings and the plans, and a few that serve it.
//!
//! [`load`] reads what shall be served; `Control::run` serves it until it is told to end. Shards are
//! reached over the wires of `contract.rs` only.
//!
//! Invariant: one task decides; the others bring it news or carry out what it published.

mod access;
mod attend;
mod aws;
pub mod check;
mod clients;
mod commands;
pub mod destinations;
mod document;
mod ending;
mod expiry;
mod function;
mod health;
mod http;
mod keys;
mod memory;
mod names;
mod observe;
mod owner;
mod plan;
mod probe;
mod publish;
mod reading;
pub mod redrive;
mod region;
mod rereading;
mod scrape;
pub(crate) mod secret;
mod secrets;
pub(crate) mod shards;
mod skips;
mod snapshot;
mod standing;
mod store;
mod verdict;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::{ConsumerStatus, Phase};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::clock;
use crate::config::{Config, Problems};
use crate::contract::{Credentials, REQUESTS_MAX, ShardStatus, Unfinished, mpsc, watch};
use crate::crash;
use crate::mapping::{Declared, Function, Mapping, SecretSource, Signing};
use crate::status::socket::Doors as UnixDoors;
use access::Accesses;
use attend::Pace;
use aws::{Aws, Keys, Settings, credentials};
use expiry::Expiries;
use function::FunctionId;
use health::{ASKS_MAX, Ask};
use observe::{Observer, Removed};
use plan::Planner;
use reading::Readings;
use rereading::Rereading;
use secrets::{Secrets, Unreadable};
use shards::{STATUS_INTERVAL, Shards};
use skips::Skips;
use snapshot::Moment;
use standing::Standings;
use store::Store;
use verdict::Verdict;

pub use plan::capacity;
pub use region::with_region;
pub(crate) use shards::SpawnShard;

/// What the owner of the node wants of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Whether it runs.
    pub lifecycle: Lifecycle,
    /// How often the mappings were to be read again.
    pub reloads: u64,
}

/// Whether the node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// It serves.
    #[default]
    Run,
    /// It lets calls in flight end, up to the grace, and ends.
    Drain,
    /// It ends now.
    GiveUp,
}

/// How far control has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many of the ordered readings are done.
    pub reloads: u64,
    /// Every shard runs its first plan.
    pub started: bool,
    /// The node ends: it was told to, or a part of it has died.
    pub ending: bool,
}

/// How the node ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Calls were given up, at the grace deadline or by order.
    pub gave_up: bool,
    /// A shard has died, or did not end in time and was left behind.
    pub failed: bool,
    /// What was given up or could not be committed, and will come again.
    pub unfinished: Vec<Unfinished>,
}

/// Reads and checks the mappings that `config` names, and whether the node can serve them.
pub fn load(config: &Config) -> Result<Vec<Declared>, Problems> {
    let mut problems = match config.check_node_id() {
        Ok(()) => Vec::new(),
        Err(Problems(problems)) => problems,
    };
    match Store::open(config) {
        Ok(store) => {
            problems.extend(capacity(config, store.declared()));
            match problems.is_empty() {
                true => Ok(store.into_declared()),
                false => Err(Problems(problems)),
            }
        }
        Err(wrong) => {
            problems.extend(wrong.0);
            Err(Problems(problems))
        }
    }
}

/// Where the node is asked.
pub(crate) struct Doors {
    pub(crate) metrics: tokio::net::TcpListener,
    /// `None` where they could not be made.
    pub(crate) unix: Option<UnixDoors>,
}

/// The one task that decides.
pub(crate) struct Control {
    config: Config,
    store: Store,
    planner: Planner,
    spawn_shard: SpawnShard,
    shards: Shards,
    orders: watch::Receiver<Orders>,
    progress: watch::Sender<Progress>,
    credentials: watch::Sender<Option<Arc<Credentials>>>,
    /// Whether calls that are signed wait for keys, because there are none.
    unsigned: watch::Sender<bool>,
    /// Whether any mapping signs its calls.
    signs: watch::Sender<bool>,
    /// Raised when a shard's keys were refused.
    refresh: Arc<Notify>,
    /// The secrets that mappings need, and what they hold.
    wanted_secrets: watch::Sender<Arc<[SecretSource]>>,
    secrets: watch::Sender<Arc<Secrets>>,
    unreadable: watch::Sender<Arc<Unreadable>>,
    accesses: Accesses,
    /// Raised when all secrets are to be read at once.
    secrets_refresh: Arc<Notify>,
    rereading: Rereading,
    expiries: Expiries,
    /// The functions whose timeout is asked for.
    functions: watch::Sender<Arc<[Function]>>,
    /// Mappings that have taken the process down again and again, as they were at the start: changed, they
    /// are tried again.
    halted: Vec<Arc<Mapping>>,
    /// How long calls may take, where the endpoint has told.
    deadlines: BTreeMap<FunctionId, Duration>,
    observer: Observer,
    standings: Standings,
    readings: Readings,
    removed: Removed,
    skips: Skips,
    started: Moment,
    /// Raised when a shard has said something.
    news: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Control {
    pub(crate) fn new(
        config: Config,
        declared: Vec<Declared>,
        spawn_shard: SpawnShard,
        orders: watch::Receiver<Orders>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        if let Some(said) = crash::unnotable(&config) {
            warn!(state_dir = %config.state_dir.display(), "State directory {said}");
        }
        let halted = crash::repeated(&config.state_dir, clock::unix_now());
        let halted = declared
            .iter()
            .map(|declared| Arc::clone(&declared.mapping))
            .filter(|mapping| halted.contains(&mapping.uuid))
            .collect();
        Self {
            halted,
            planner: Planner::new(config.shards),
            readings: Readings::first(&config, &declared),
            removed: Removed::default(),
            skips: Skips::default(),
            store: Store::of(declared),
            spawn_shard,
            shards: Shards::default(),
            orders,
            progress,
            credentials: watch::Sender::new(None),
            unsigned: watch::Sender::new(false),
            signs: watch::Sender::new(false),
            refresh: Arc::new(Notify::new()),
            wanted_secrets: watch::Sender::new(Arc::default()),
            secrets: watch::Sender::new(Arc::default()),
            unreadable: watch::Sender::new(Arc::default()),
            accesses: Accesses::default(),
            secrets_refresh: Arc::new(Notify::new()),
            rereading: Rereading::new(),
            expiries: Expiries::default(),
            functions: watch::Sender::new(Arc::default()),
            deadlines: BTreeMap::new(),
            observer: Observer::default(),
            standings: Standings::default(),
            started: Moment::now(),
            news: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
            config,
        }
    }

    /// Serves until it is told to end, or a shard or a helper has died: then what is left drains.
    pub(crate) async fn run(mut self, doors: Doors) -> ShutdownReport {
        for mapping in &self.halted {
            let file = crash::file(&self.config.state_dir);
            self.observer.judge(mapping, Verdict::crashing(&file));
        }
        let (requests_end, requests) = mpsc::channel(REQUESTS_MAX);
        let aws = Arc::new(self.aws());
        let (refresh, asked) = (Arc::clone(&self.refresh), Arc::clone(&aws));
        self.tasks.spawn(attend::requests(requests, refresh, asked));
        self.shards = Shards::start(
            &self.config,
            self.spawn_shard,
            &self.credentials,
            &requests_end,
        );
        drop(requests_end);
        for status in self.shards.watches() {
            let news = Arc::clone(&self.news);
            self.tasks.spawn(attend::status(status, news));
        }
        let mut asks = self.open(doors);
        let mut told = self.start_helpers(aws);
        let mut unsigned = self.unsigned.subscribe();
        let mut secrets = self.secrets.subscribe();
        self.publish();
        let mut helper_died = false;
        let mut pace = Pace::default();
        loop {
            self.note_started();
            let orders = *self.orders.borrow_and_update();
            if orders.lifecycle != Lifecycle::Run {
                break;
            }
            if let Some(shard) = self.shards.dead() {
                error!(shard, "Shard has died: the others drain, and the node ends");
                break;
            }
            if orders.reloads > self.progress.borrow().reloads {
                self.reload();
                self.progress
                    .send_modify(|progress| progress.reloads = orders.reloads);
            }
            tokio::select! {
                changed = self.orders.changed() => if changed.is_err() {
                    break;
                },
                () = pace.news(&self.news) => pace.note(self.look()),
                Ok(()) = unsigned.changed() => self.take_news(),
                Ok(()) = secrets.changed() => {
                    self.publish();
                    self.take_news();
                }
                Some(ask) = asks.recv() => self.answer(ask),
                Some((function, deadline)) = told.recv() => self.learn(function, deadline),
                () = attend::death(&mut self.tasks) => {
                    error!("A part of control has died: the shards drain, and the node ends");
                    helper_died = true;
                    break;
                }
                // A shard that dies brings no news of it, nor does who waits no longer.
                () = tokio::time::sleep(STATUS_INTERVAL) => self.settle_skips(),
            }
        }
        self.progress.send_modify(|progress| progress.ending = true);
        let mut report = self.end(asks).await;
        report.failed |= helper_died;
        report
    }

    /// Starts what answers at the doors; what is asked comes out of the receiver.
    fn open(&mut self, doors: Doors) -> mpsc::Receiver<Ask> {
        let (asks_end, asks) = mpsc::channel(ASKS_MAX);
        if let Some(UnixDoors {
            status,
            commands,
            guard,
        }) = doors.unix
        {
            self.tasks
                .spawn(window::serve((status, guard), asks_end.clone()));
            self.tasks
                .spawn(commands::serve(commands, asks_end.clone()));
        }
        self.tasks.spawn(health::serve(doors.metrics, asks_end));
        asks
    }

    fn note_started(&self) {
        let all = self.shards.have_started();
        self.progress
            .send_if_modified(|progress| all && !std::mem::replace(&mut progress.started, true));
    }

    /// Whoever asks AWS's services, with the keys that are fetched as long as anyone needs some.
    fn aws(&self) -> Aws {
        let keys = Keys::new(
            self.credentials.subscribe(),
            self.unsigned.subscribe(),
            Arc::clone(&self.refresh),
        );
        Aws::new(Settings::of(&self.config), keys)
    }

    /// Starts what fetches credentials and asks for timeouts; the timeouts come out of the receiver.
    fn start_helpers(&mut self, aws: Arc<Aws>) -> mpsc::Receiver<(FunctionId, Duration)> {
        self.tasks.spawn(credentials::attend(
            Settings::of(&self.config),
            self.signs.subscribe(),
            Arc::clone(&self.refresh),
            self.credentials.clone(),
            self.unsigned.clone(),
        ));
        self.tasks.spawn(secrets::attend(
            aws,
            self.wanted_secrets.subscribe(),
            Arc::clone(&self.secrets_refresh),
            self.rereading.take_requests(),
            self.secrets.clone(),
            self.unreadable.clone(),
        ));
        self.tasks.spawn(rereading::watch_files(
            self.wanted_secrets.subscribe(),
            self.rereading.requests(),
        ));
        let (deadlines, told) = mpsc::channel(REQUESTS_MAX);
        self.tasks.spawn(function::attend(
            self.functions.subscribe(),
            self.credentials.subscribe(),
            deadlines,
        ));
        told
    }

    /// Reads the mappings again, and keeps what ran where the new text is wrong.
    fn reload(&mut self) {
        let before = self.store.declared().to_vec();
        let outcome = self.store.reload(&self.config);
        self.secrets_refresh.notify_one();
        let (config, declared) = (&self.config, self.store.declared());
        self.readings.again(config, declared, &outcome.problems);
        self.removed.note(&before, self.store.declared());
        self.standings
            .read(&before, self.store.declared(), clock::unix_now());
        self.publish();
    }

    /// An endpoint has told a function's timeout. A thousand are told one by one, and published together.
    fn learn(&mut self, function: FunctionId, deadline: Duration) {
        self.deadlines.insert(function, deadline);
        self.news.notify_one();
    }

    /// Takes the news; says how long that took.
    fn look(&mut self) -> Duration {
        let began = clock::now();
        self.take_news();
        clock::now().saturating_since(began)
    }

    fn take_news(&mut self) {
        self.settle_skips();
        for (shard, generation) in self.shards.applied() {
            self.planner.acknowledge(shard, generation);
        }
        let statuses = self.shards.statuses();
        let consumers = by_mapping(&statuses);
        let unsigned = *self.unsigned.borrow();
        let mut declared = BTreeSet::new();
        for Declared { mapping, .. } in self.store.declared() {
            declared.insert(mapping.uuid);
            let signs = mapping.enabled && mapping.function.signing != Signing::None;
            let waits = unsigned && signs;
            if let Some(own) = consumers.get(&mapping.uuid) {
                let verdict = Verdict::of(own.iter().copied(), &mapping.topic, waits);
                // While none has come through to the group, nothing is known.
                let is_known = own.iter().any(|it| it.phase != Phase::Joining);
                if is_known || verdict.is_problem() {
                    self.observer.judge(mapping, verdict);
                }
            } else if let Some(trouble) = self.accesses.trouble(mapping.uuid) {
                self.observer.judge(mapping, Verdict::of_trouble(trouble));
            }
        }
        self.expiries.retain(&declared);
        declared.extend(self.removed.declared().map(|it| it.mapping.uuid));
        self.observer.retain(&declared);
        self.accesses.retain(&declared);
        if self.shards.have_applied(&self.planner) {
            for (mapping, committed) in self.removed.ended(&statuses) {
                let Mapping {
                    uuid,
                    function,
                    group_id,
                    topic,
                    ..
                } = &*mapping;
                info!(mapping = %uuid, function = function.name, group = group_id, topic, committed, "Mapping has ended; its group keeps these offsets");
            }
            self.standings.settle(clock::unix_now());
        }
        self.look_at_secrets(&statuses);
        self.publish();
    }

    /// Whoever asked may be gone; then nobody needs the answer.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Ready(answer) => {
                let Progress {
                    started, ending, ..
                } = *self.progress.borrow();
                answer.send(started && !ending).unwrap_or_default();
            }
            // The error is the snapshot itself.
            Ask::Snapshot(answer) => answer.send(Box::new(self.snapshot())).unwrap_or(()),
            Ask::Skip(of, answer) => answer.send(self.begin_skip(&of)).map_or((), drop),
        }
    }
}

/// The consumers of each mapping, over all shards.
fn by_mapping(statuses: &[Arc<ShardStatus>]) -> BTreeMap<Uuid, Vec<&ConsumerStatus>> {
    let mut consumers: BTreeMap<Uuid, Vec<&ConsumerStatus>> = BTreeMap::new();
    for consumer in statuses.iter().flat_map(|status| &status.consumers) {
        let own = consumers.entry(consumer.uuid).or_default();
        own.push(&consumer.status);
    }
    consumers
}
