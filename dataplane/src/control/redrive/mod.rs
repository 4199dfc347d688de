//! `forebay redrive`: what failed is sent to the function again, or written back to its topic.
//!
//! A `Run` goes through the documents of a `Store`, makes of each the events that are to be
//! sent again, sends them, and notes what was taken in a progress file, from which the next one goes on.
//!
//! Invariant: nothing is sent twice that was noted, and nothing is removed that did not succeed whole. It joins no group
//! and commits nothing, so it works beside a node that runs, and outside the order that the node keeps.

mod back;
mod brokers;
mod bucket;
mod call;
mod failures;
mod progress;
mod queue;
mod refetch;
mod run;
mod source;
mod store;
mod tally;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::access;
use super::aws::{Aws, Keys, Settings, credentials};
use crate::config::Config;
use crate::contract::watch;
use crate::mapping::{Declared, Mapping, Signing};
use brokers::Brokers;
use call::Calls;
use progress::{Progress, Subject};
use run::Run;
use source::Source;
use store::{Store, Use};

/// Names that an unknown mapping is answered with at most.
const NAMES_MAX: usize = 20;

/// How long a document is held in a queue, beside its call.
const HELD_BESIDE_CALL: Duration = Duration::from_secs(60);

/// What is said at the end of each.
pub const OUTSIDE_THE_ORDER: &str = "redrive stands outside the order guarantee: what it sends comes after records that are \
    later in their partition, and may come twice";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The mapping, by its file's name without the ending or by its UUID.
    pub mapping: String,
    /// Where failed records are; else where the mapping has them written.
    pub from: Option<String>,
    /// Where they go.
    pub to: Target,
    /// Else nothing is sent, and only told what would be.
    pub execute: bool,
    /// Whether documents that succeeded whole are removed.
    pub remove: bool,
    /// The progress file; else one in the state directory.
    pub progress: Option<PathBuf>,
    /// So many documents at most.
    pub limit: Option<u64>,
}

/// Where failed records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the function, as events.
    Function,
    /// Back to the topic that they came from.
    Topic,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Topic => "topic",
        }
    }
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Unable(String),
}

/// Does it, line by line. Whether everything succeeded. `stop` ends it between two calls.
pub async fn redrive(
    config: &Config,
    set: &[Declared],
    order: &Order,
    stop: watch::Receiver<bool>,
    tell: &mut dyn FnMut(&dyn Display),
) -> Result<bool, Refusal> {
    let mapping = mapping_of(set, &order.mapping)?;
    let source = Source::of(order.from.as_deref(), &mapping, config).map_err(Refusal::Usage)?;
    if order.remove && matches!(source, Source::Topic(_)) {
        let what = "--remove: what a topic holds is removed by its retention alone; leave it out";
        return Err(Refusal::Usage(what.to_owned()));
    }
    let mut helpers = JoinSet::new();
    let keys = match needs_keys(&mapping, &source, order) {
        true => attended(config, &mut helpers),
        false => Keys::fixed(None),
    };
    let aws = Arc::new(Aws::new(Settings::of(config), keys.clone()));
    let read = access::read(&mapping, &aws).await;
    let access = access::of_brokers(&mapping, &read).map_err(|trouble| {
        Refusal::Unable(format!(
            "the brokers cannot be reached: {}",
            trouble.detail()
        ))
    })?;
    let mut brokers = Brokers::new(Arc::clone(&mapping), access);
    let unable = |reason: String| Refusal::Unable(reason);
    let calls = match (order.execute, order.to) {
        (true, Target::Function) => {
            let calls = Calls::new(Arc::clone(&mapping), keys).await;
            Some(calls.map_err(unable)?)
        }
        _ => None,
    };
    let progress = progress_of(config, &mapping, &source, order, &mut brokers).await?;
    let how = Use {
        looks: !order.execute,
        held_for: calls.as_ref().map_or(Duration::ZERO, Calls::deadline) + HELD_BESIDE_CALL,
    };
    let store = Store::open(&source, &mapping, aws, &mut brokers, how).await;
    let store = store.map_err(|error| Refusal::Unable(format!("{source}: {error}")))?;
    begin(&mapping, &source, order, &progress, tell);
    let run = Run {
        mapping: &mapping,
        order,
        brokers,
        store,
        progress,
        calls,
        stop,
        tell,
        tally: tally::Tally::default(),
    };
    Ok(run.all().await)
}

/// Says what is done.
fn begin(
    mapping: &Mapping,
    source: &Source,
    order: &Order,
    progress: &Progress,
    tell: &mut dyn FnMut(&dyn Display),
) {
    let to = match order.to {
        Target::Function => format!("function {}", mapping.function.name),
        Target::Topic => format!("topic {}", mapping.topic),
    };
    let path = progress.path().display();
    match order.execute {
        true => tell(&format_args!(
            "from {source} to {to}; progress is kept in {path}"
        )),
        false => tell(&format_args!(
            "from {source} to {to}: a dry run, nothing is sent; --execute sends"
        )),
    }
    if order.execute && order.to == Target::Function && call::is_capped(&mapping.function) {
        tell(
            &"note: the function has max_in_flight, which counts the calls of a node alone: this is one more beside them",
        );
    }
}

fn mapping_of(set: &[Declared], name: &str) -> Result<Arc<Mapping>, Refusal> {
    let is_meant = |it: &&Declared| it.name() == name || it.mapping.uuid.to_string() == name;
    if let Some(found) = set.iter().find(is_meant) {
        return Ok(Arc::clone(&found.mapping));
    }
    let mut names: Vec<String> = set.iter().map(Declared::name).take(NAMES_MAX + 1).collect();
    if names.len() > NAMES_MAX {
        names[NAMES_MAX] = "and more".to_owned();
    }
    Err(Refusal::Unable(match names.is_empty() {
        true => format!("there is no mapping {name}; there is none at all"),
        false => format!("there is no mapping {name}; there are {}", names.join(", ")),
    }))
}

fn needs_keys(mapping: &Mapping, source: &Source, order: &Order) -> bool {
    let calls = order.to == Target::Function && mapping.function.signing != Signing::None;
    calls || mapping.access.is_managed() || !matches!(source, Source::Topic(_))
}

/// Keys that are renewed as long as the helpers live.
fn attended(config: &Config, helpers: &mut JoinSet<()>) -> Keys {
    let (newest_in, newest) = watch::channel(None);
    let (absent_in, absent) = watch::channel(false);
    let (needed_in, needed) = watch::channel(true);
    let refresh = Arc::new(Notify::new());
    let attend = credentials::attend(
        Settings::of(config),
        needed,
        Arc::clone(&refresh),
        newest_in,
        absent_in,
    );
    helpers.spawn(async move {
        attend.await;
        drop(needed_in);
    });
    Keys::new(newest, absent, refresh)
}

/// The progress file of this redrive; without `--execute` it is only looked at.
async fn progress_of(
    config: &Config,
    mapping: &Mapping,
    source: &Source,
    order: &Order,
    brokers: &mut Brokers,
) -> Result<Progress, Refusal> {
    let topic_id = match source {
        Source::Topic(topic) => {
            let told = brokers.topic(topic).await;
            let told = told.map_err(|error| Refusal::Unable(format!("{source}: {error}")))?;
            told.0
        }
        Source::Bucket(..) | Source::Queue(_) => Uuid::nil(),
    };
    let subject = Subject::new(mapping.uuid, source.to_string(), topic_id, order.to.name());
    let path = order.progress.clone().unwrap_or_else(|| {
        let of = format!("{} {source}", order.to.name());
        let name = Uuid::new_v5(&mapping.uuid, of.as_bytes());
        config
            .state_dir
            .join("redrive")
            .join(format!("{name}.jsonl"))
    });
    let progress = match order.execute {
        true => Progress::open(&path, &subject),
        false => Progress::look(&path, &subject),
    };
    progress.map_err(|error| Refusal::Unable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Surroundings};

    /// A node's directory, and its configuration.
    pub(super) fn config() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "mappings_dir = \".\"\nendpoint_url = \"http://127.0.0.1:1\"\nregion = \"eu-west-1\"\n";
        let around = Surroundings::without_environment(Machine::here());
        let config = Config::parse(text, &dir.path().join("forebay.conf"), &around).unwrap();
        (dir, config)
    }

    /// A mapping of topic orders to that destination.
    pub(super) fn mapping(config: &Config, destination: &str) -> Arc<Mapping> {
        let text = format!(
            "FunctionName = \"f\"\nTopics = [\"orders\"]\nDestinationConfig.OnFailure.Destination = \"{destination}\"\n\
             SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"k1:9092\", \"k2:9092\"]\n"
        );
        std::fs::write(config.mappings_dir.join("orders.toml"), text).unwrap();
        let reading = crate::mapping::read(config);
        assert_eq!(reading.problems, []);
        Arc::clone(&reading.declared[0].mapping)
    }
}
