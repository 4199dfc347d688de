//! The control side: one task that owns the mappings and the plans, and a few that serve it.
//!
//! [`load`] reads what shall be served; `Control::run` serves it until it is told to end. Shards are
//! reached over the wires of `contract.rs` only.
//!
//! Invariant: one task decides; the others bring it news or carry out what it published.

mod attend;
pub mod check;
mod credentials;
mod function;
mod health;
mod http;
mod memory;
mod names;
mod observe;
mod plan;
mod probe;
mod reading;
mod region;
mod scrape;
mod store;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_protocol::delivery::ConsumerStatus;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::clock;
use crate::config::{Config, Problems};
use crate::contract::{
    Credentials, Plan, REQUESTS_MAX, ShardStatus, ShardWires, Unfinished, mpsc, watch,
};
use crate::crash;
use crate::mapping::{Declared, Function, Mapping, Signing, initial_call_deadline};
use crate::metrics::ShardMetrics;
use function::FunctionId;
use health::{ASKS_MAX, Ask};
use memory::ShardMemory;
use observe::{Observer, Removed};
use plan::{Demand, Planner};
use reading::Readings;
use scrape::Scrape;
use store::Store;
use verdict::Verdict;

pub use plan::capacity;
pub use region::with_region;

/// How often a shard says how it stands when nothing changes.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long shards may take to end after they were told to give up; then they are left behind.
pub(crate) const GIVE_UP_WAIT: Duration = Duration::from_secs(10);

/// How often a shard's thread is looked at while it ends.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

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

/// How a shard is started: `shard::spawn`, but for tests of its death.
pub(crate) type SpawnShard = fn(ShardWires, Option<usize>) -> JoinHandle<()>;

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

/// The one task that decides.
pub(crate) struct Control {
    config: Config,
    store: Store,
    planner: Planner,
    spawn_shard: SpawnShard,
    shards: Vec<ShardEnd>,
    orders: watch::Receiver<Orders>,
    progress: watch::Sender<Progress>,
    credentials: watch::Sender<Option<Arc<Credentials>>>,
    /// Whether calls that are signed wait for keys, because there are none.
    unsigned: watch::Sender<bool>,
    /// Whether any mapping signs its calls.
    signs: watch::Sender<bool>,
    /// Raised when a shard's keys were refused.
    refresh: Arc<Notify>,
    /// The functions whose timeout is asked for.
    functions: watch::Sender<Arc<[Function]>>,
    /// Mappings that have taken the process down again and again, as they were at the start: changed, they
    /// are tried again.
    halted: Vec<Arc<Mapping>>,
    /// How long calls may take, where the endpoint has told.
    deadlines: BTreeMap<FunctionId, Duration>,
    observer: Observer,
    readings: Readings,
    removed: Removed,
    /// Raised when a shard has said something.
    news: Arc<Notify>,
    tasks: JoinSet<()>,
}

/// Control's ends of one shard's wires.
struct ShardEnd {
    plan: watch::Sender<Arc<Plan>>,
    status: watch::Receiver<Arc<ShardStatus>>,
    metrics: Arc<ShardMetrics>,
    thread: JoinHandle<()>,
}

impl Control {
    pub(crate) fn new(
        config: Config,
        declared: Vec<Declared>,
        spawn_shard: SpawnShard,
        orders: watch::Receiver<Orders>,
        progress: watch::Sender<Progress>,
    ) -> Self {
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
            store: Store::of(declared),
            spawn_shard,
            shards: Vec::new(),
            orders,
            progress,
            credentials: watch::Sender::new(None),
            unsigned: watch::Sender::new(false),
            signs: watch::Sender::new(false),
            refresh: Arc::new(Notify::new()),
            functions: watch::Sender::new(Arc::default()),
            deadlines: BTreeMap::new(),
            observer: Observer::default(),
            news: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
            config,
        }
    }

    /// Serves until it is told to end, or a shard or a helper has died: then what is left drains.
    pub(crate) async fn run(mut self, listener: tokio::net::TcpListener) -> ShutdownReport {
        for mapping in &self.halted {
            let file = crash::file(&self.config.state_dir);
            self.observer.judge(mapping, Verdict::crashing(&file));
        }
        self.start_shards();
        let (asks_end, mut asks) = mpsc::channel(ASKS_MAX);
        self.tasks.spawn(health::serve(listener, asks_end));
        let mut told = self.start_helpers();
        let mut unsigned = self.unsigned.subscribe();
        self.publish();
        let mut helper_died = false;
        loop {
            self.note_started();
            let orders = *self.orders.borrow_and_update();
            if orders.lifecycle != Lifecycle::Run {
                break;
            }
            let mut threads = self.shards.iter().map(|shard| &shard.thread);
            if let Some(shard) = threads.position(JoinHandle::is_finished) {
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
                () = self.news.notified() => self.take_news(),
                Ok(()) = unsigned.changed() => self.take_news(),
                Some(ask) = asks.recv() => self.answer(ask),
                Some((function, deadline)) = told.recv() => {
                    self.deadlines.insert(function, deadline);
                    self.publish();
                }
                () = attend::death(&mut self.tasks) => {
                    error!("A part of control has died: the shards drain, and the node ends");
                    helper_died = true;
                    break;
                }
                // A shard that dies brings no news of it.
                () = tokio::time::sleep(STATUS_INTERVAL) => {}
            }
        }
        self.progress.send_modify(|progress| progress.ending = true);
        let mut report = self.end(asks).await;
        report.failed |= helper_died;
        report
    }

    fn note_started(&self) {
        let mut shards = self.shards.iter();
        let all = shards.all(|shard| shard.status.borrow().generation > 0);
        self.progress
            .send_if_modified(|progress| all && !std::mem::replace(&mut progress.started, true));
    }

    fn start_shards(&mut self) {
        let memory = ShardMemory::of(self.config.memory_bytes, self.config.shards);
        let (requests_end, requests) = mpsc::channel(REQUESTS_MAX);
        self.tasks
            .spawn(attend::requests(requests, Arc::clone(&self.refresh)));
        for shard in 0..self.config.shards {
            let (plan, plan_end) = watch::channel(Arc::new(Plan::default()));
            let (status_end, status) = watch::channel(Arc::new(ShardStatus::default()));
            let metrics = Arc::new(ShardMetrics::default());
            let wires = ShardWires {
                shard,
                plan: plan_end,
                credentials: self.credentials.subscribe(),
                status: status_end,
                requests: requests_end.clone(),
                metrics: Arc::clone(&metrics),
                consumer_bytes: memory.consumer_bytes,
                receive_bytes: memory.receive_bytes,
                status_interval: STATUS_INTERVAL,
            };
            let cpu = self.config.cpus.get(shard % self.config.cpus.len());
            let thread = (self.spawn_shard)(wires, cpu.copied());
            let news = Arc::clone(&self.news);
            self.tasks.spawn(attend::status(status.clone(), news));
            self.shards.push(ShardEnd {
                plan,
                status,
                metrics,
                thread,
            });
        }
    }

    /// Starts what fetches credentials and asks for timeouts; the timeouts come out of the receiver.
    fn start_helpers(&mut self) -> mpsc::Receiver<(FunctionId, Duration)> {
        self.tasks.spawn(credentials::attend(
            self.config.region_name().map(str::to_owned),
            self.signs.subscribe(),
            Arc::clone(&self.refresh),
            self.credentials.clone(),
            self.unsigned.clone(),
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
        let (config, declared) = (&self.config, self.store.declared());
        self.readings.again(config, declared, &outcome.problems);
        self.removed.note(&before, self.store.declared());
        self.publish();
    }

    /// Publishes what follows from the mappings: plans, whether keys are needed, whom to ask.
    fn publish(&mut self) {
        let mappings: Vec<_> = self
            .store
            .declared()
            .iter()
            .map(|declared| Arc::clone(&declared.mapping))
            .filter(|mapping| !self.halted.contains(mapping))
            .collect();
        let enabled = || mappings.iter().filter(|mapping| mapping.enabled);
        let signs = enabled().any(|mapping| mapping.function.signing != Signing::None);
        self.signs
            .send_if_modified(|old| std::mem::replace(old, signs) != signs);
        // A timeout that the configuration gives is not asked for.
        let asked: BTreeMap<FunctionId, Function> = enabled()
            .map(|mapping| &mapping.function)
            .filter(|function| function.timeout.is_none())
            .map(|it| (function::id(it), it.clone()))
            .collect();
        let asked: Vec<Function> = asked.into_values().collect();
        self.functions.send_if_modified(|old| {
            let changed = **old != asked;
            if changed {
                *old = asked.into();
            }
            changed
        });
        let statuses = self.statuses();
        let consumers = by_mapping(&statuses);
        // How many partitions a topic has, as any of its consumers last said.
        let partitions = |uuid| {
            let own = consumers.get(&uuid)?.iter();
            own.filter_map(|consumer| consumer.topic_partitions).max()
        };
        let demands: Vec<Demand> = mappings
            .into_iter()
            .map(|mapping| Demand {
                call_deadline: self.call_deadline(&mapping.function),
                partitions: partitions(mapping.uuid),
                mapping,
            })
            .collect();
        let plans = self.planner.plan(&demands);
        self.send(plans);
    }

    fn call_deadline(&self, of: &Function) -> Duration {
        let told = self.deadlines.get(&function::id(of)).copied();
        match of.timeout {
            Some(_) => initial_call_deadline(of),
            None => told.unwrap_or_else(|| initial_call_deadline(of)),
        }
    }

    fn send(&self, plans: Vec<(usize, Plan)>) {
        for (shard, plan) in plans {
            self.shards[shard].plan.send_replace(Arc::new(plan));
        }
    }

    fn take_news(&mut self) {
        for (index, shard) in self.shards.iter().enumerate() {
            let generation = shard.status.borrow().generation;
            self.planner.acknowledge(index, generation);
        }
        let statuses = self.statuses();
        let consumers = by_mapping(&statuses);
        let unsigned = *self.unsigned.borrow();
        let mut declared = BTreeSet::new();
        for Declared { mapping, .. } in self.store.declared() {
            declared.insert(mapping.uuid);
            let waits = unsigned && mapping.function.signing != Signing::None;
            if let Some(own) = consumers.get(&mapping.uuid) {
                let verdict = Verdict::of(own.iter().copied(), &mapping.topic, waits);
                self.observer.judge(mapping, verdict);
            }
        }
        self.observer.retain(&declared);
        let mut shards = self.shards.iter().enumerate();
        if shards.all(|(index, shard)| self.has_applied(index, shard)) {
            for (mapping, committed) in self.removed.ended(&statuses) {
                let Mapping {
                    uuid,
                    group_id,
                    topic,
                    ..
                } = &*mapping;
                info!(mapping = %uuid, group = group_id, topic, committed, "Mapping has ended; its group keeps these offsets");
            }
        }
        self.publish();
    }

    /// Whether a shard runs its newest plan, and nothing else any more.
    fn has_applied(&self, index: usize, shard: &ShardEnd) -> bool {
        shard.status.borrow().generation >= self.planner.generation(index)
    }

    /// The newest words of each shard.
    fn statuses(&self) -> Vec<Arc<ShardStatus>> {
        let shards = self.shards.iter();
        shards
            .map(|shard| Arc::clone(&shard.status.borrow()))
            .collect()
    }

    /// Whoever asked may be gone; then nobody needs the answer.
    fn answer(&self, ask: Ask) {
        match ask {
            Ask::Ready(answer) => {
                let Progress {
                    started, ending, ..
                } = *self.progress.borrow();
                answer.send(started && !ending).unwrap_or_default();
            }
            Ask::Metrics(answer) => {
                let declared = self.store.declared().iter();
                let statuses = self.statuses();
                let totals = observe::totals(&statuses);
                let scrape = Scrape {
                    shards: statuses
                        .into_iter()
                        .zip(self.shards.iter().map(|shard| Arc::clone(&shard.metrics)))
                        .collect(),
                    mappings: declared
                        .map(|Declared { mapping, .. }| {
                            let totals = totals.get(&mapping.uuid).copied();
                            (Arc::clone(mapping), totals.unwrap_or_default())
                        })
                        .collect(),
                    problems: self.observer.problems(),
                    memory_bytes: self.config.memory_bytes,
                    reload_success: self.readings.success,
                    reload_succeeded_at: self.readings.succeeded_at,
                };
                answer.send(scrape.render()).unwrap_or_default();
            }
        }
    }

    /// Drains up to the grace, gives up after it, and waits for the shards.
    async fn end(mut self, mut asks: mpsc::Receiver<Ask>) -> ShutdownReport {
        let mut report = ShutdownReport::default();
        if self.lifecycle() != Lifecycle::GiveUp {
            info!(grace_ms = self.config.grace.as_millis() as u64, "Draining");
            let plans = self.planner.drain(false);
            self.send(plans);
            report.gave_up = !self.drained_within_grace(&mut asks).await;
        } else {
            report.gave_up = true;
        }
        if report.gave_up {
            warn!("Giving up what is in flight");
            let plans = self.planner.drain(true);
            self.send(plans);
        }
        // Without their plans the shards end; their last statuses stay.
        let (statuses, threads): (Vec<_>, _) = self
            .shards
            .drain(..)
            .map(|shard| (shard.status, shard.thread))
            .unzip();
        report.failed = !join(threads).await;
        for status in statuses {
            report.unfinished.extend(self.unfinished(&status.borrow()));
        }
        self.tasks.shutdown().await;
        report
    }

    fn lifecycle(&self) -> Lifecycle {
        // An owner that is gone cannot wait for a grace.
        match self.orders.has_changed() {
            Err(_) => Lifecycle::GiveUp,
            Ok(_) => self.orders.borrow().lifecycle,
        }
    }

    async fn drained_within_grace(&mut self, asks: &mut mpsc::Receiver<Ask>) -> bool {
        let deadline = tokio::time::Instant::now() + self.config.grace;
        loop {
            let drained =
                self.shards.iter().enumerate().all(|(index, shard)| {
                    shard.thread.is_finished() || self.has_applied(index, shard)
                });
            if drained {
                return true;
            }
            if self.lifecycle() == Lifecycle::GiveUp {
                return false;
            }
            tokio::select! {
                () = self.news.notified() => {}
                _ = self.orders.changed() => {}
                Some(ask) = asks.recv() => self.answer(ask),
                () = tokio::time::sleep(STATUS_INTERVAL) => {}
                () = tokio::time::sleep_until(deadline) => return false,
            }
        }
    }

    /// What will come again as a shard's last status knows. Consumers in it have not ended: their shard has
    /// died, or was left behind.
    fn unfinished(&self, last: &ShardStatus) -> Vec<Unfinished> {
        let mut unfinished = last.unfinished.clone();
        for consumer in &last.consumers {
            let topic = self.store.topic(consumer.uuid).unwrap_or_default();
            let open = consumer.status.partitions.iter().filter(|it| it.in_flight);
            unfinished.extend(open.map(|it| Unfinished::of(consumer.uuid, topic, it)));
        }
        unfinished
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

/// Waits for the threads; false if one died or did not end in time.
async fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let deadline = tokio::time::Instant::now() + GIVE_UP_WAIT;
    let mut ended = true;
    for (shard, thread) in threads.into_iter().enumerate() {
        while !thread.is_finished() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(JOIN_INTERVAL).await;
        }
        if !thread.is_finished() {
            error!(shard, "Shard did not end in time and is left behind");
            ended = false;
        } else if thread.join().is_err() {
            error!(shard, "Shard died by a panic");
            ended = false;
        }
    }
    ended
}
