//! The status document: what a node says of itself and of its mappings, as JSON.
//!
//! Control makes it (`control/document.rs`), the socket of [`socket`] gives it to whoever may read, and
//! [`ask`] reads it. Members that AWS has bear AWS's names; times are seconds since 1970.
//!
//! Invariant: a member that is there keeps its meaning as long as [`FORMAT`] is the same; members may come.

pub mod ask;
pub mod socket;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use table::{details, overview};

/// Which documents these are.
pub const FORMAT: u32 = 1;

/// A node, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was made.
    pub time: f64,
    /// The node itself.
    pub node: Node,
    /// Its mappings, in the order of their files; those that are being removed come last.
    pub mappings: Vec<Mapping>,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Forebay's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// `node_id`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// `starting`, `running` or `draining`.
    pub lifecycle: String,
    /// When it began.
    pub started: f64,
    /// How long ago that was.
    pub uptime_seconds: f64,
    /// The budget for records and bodies.
    pub memory_budget_bytes: u64,
    /// What consumers hold of it.
    pub memory_used_bytes: u64,
    /// The newest reading of the mappings.
    pub reload: Reload,
    /// Its shards, in order.
    pub shards: Vec<Shard>,
}

/// How the mappings were read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether the newest reading had no problem.
    pub success: bool,
    /// What was wrong with the files; of very many the first.
    pub problems: Vec<String>,
    /// When one last had none.
    pub succeeded: f64,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// Its number.
    pub shard: usize,
    /// The plan that it has applied.
    pub generation: u64,
    /// The newest plan that it was sent.
    pub planned_generation: u64,
    /// Consumers that run on it.
    pub consumers: usize,
    /// What they hold of the memory budget.
    pub memory_used_bytes: u64,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// Its identity.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// What it calls.
    #[serde(rename = "FunctionArn")]
    pub function_arn: String,
    /// Where it reads; absent in the documents of older nodes.
    #[serde(
        default,
        rename = "SelfManagedEventSource",
        skip_serializing_if = "Option::is_none"
    )]
    pub source: Option<Source>,
    /// What it reads.
    #[serde(rename = "Topics")]
    pub topics: Vec<String>,
    /// Where a partition without a commit starts; absent in the documents of older nodes.
    #[serde(
        default,
        rename = "StartingPosition",
        skip_serializing_if = "Option::is_none"
    )]
    pub starting_position: Option<String>,
    /// The time of AT_TIMESTAMP.
    #[serde(
        default,
        rename = "StartingPositionTimestamp",
        skip_serializing_if = "Option::is_none"
    )]
    pub starting_position_timestamp: Option<f64>,
    /// As whom.
    #[serde(rename = "ConsumerGroupId")]
    pub consumer_group_id: String,
    /// AWS's state.
    #[serde(rename = "State")]
    pub state: String,
    /// AWS's code.
    #[serde(rename = "StateTransitionReason")]
    pub state_transition_reason: String,
    /// AWS's text, or one in its manner.
    #[serde(rename = "LastProcessingResult")]
    pub last_processing_result: String,
    /// When its file or its state last changed.
    #[serde(rename = "LastModified")]
    pub last_modified: f64,
    /// Its file's name, without the ending.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Our own words on a problem, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What was counted since the node began, by the names of the metrics.
    pub counters: BTreeMap<String, u64>,
    /// Its consumers here.
    pub consumers: Vec<Consumer>,
    /// The partitions that they own, ascending. Other nodes may own others.
    pub partitions: Vec<Partition>,
    /// The certificates that it uses of its secrets, those that end first before the others.
    pub certificates: Vec<Certificate>,
    /// The secrets that cannot be used now.
    pub secrets: Vec<Secret>,
}

/// A cluster, in AWS's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its endpoints.
    #[serde(rename = "Endpoints")]
    pub endpoints: Endpoints,
}

/// The endpoints of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Its brokers to begin with, as they were configured.
    #[serde(rename = "KAFKA_BOOTSTRAP_SERVERS")]
    pub kafka_bootstrap_servers: Vec<String>,
}

/// The phase of a consumer that waits for its group.
pub(crate) const JOINING: &str = "joining";

/// A consumer of a mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// Which of the mapping's, from 0.
    pub consumer: u32,
    /// Where it runs.
    pub shard: usize,
    /// `joining`, `stable`, `keeping place`, `draining` or `stopped`.
    pub phase: String,
    /// The group's generation or epoch; absent outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// How many partitions it owns.
    pub partitions: usize,
    /// What it holds of the memory budget.
    pub memory_bytes: u64,
    /// What is wrong, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A partition that a consumer of this node owns. An offset that is not known is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// The partition.
    pub partition: i32,
    /// Who owns it.
    pub consumer: u32,
    /// The group's committed offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_offset: Option<i64>,
    /// Below it every record was processed.
    pub processed_offset: i64,
    /// The next offset to fetch.
    pub fetched_offset: i64,
    /// As the last fetch told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_watermark: Option<i64>,
    /// How long ago that was: nothing is known of what came since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_watermark_age_seconds: Option<f64>,
    /// As the last fetch told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_start_offset: Option<i64>,
    /// High watermark less committed offset; as old as the high watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<i64>,
    /// Whether a call of it is open.
    pub in_flight: bool,
    /// The call of it that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// What it stands still at, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halted>,
    /// What is called with again, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A call that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// When it began.
    pub since: f64,
    /// How long ago that was.
    pub age_seconds: f64,
    /// When it is closed, if it has not ended by then.
    pub deadline: f64,
}

/// What a partition stands still at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Halted {
    /// The offset.
    pub offset: i64,
    /// Why.
    pub reason: String,
    /// When it is looked at again.
    pub next_try: f64,
}

/// Records whose last call failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// The first of them.
    pub offset: i64,
    /// The last of them.
    pub last_offset: i64,
    /// Calls that the function answered with an error.
    pub attempts: u32,
    /// Calls that the function answered with an error.
    #[serde(default)]
    pub function_errors: u32,
    /// Calls that failed in whatever way.
    pub failed_calls: u32,
    /// Why the last of them failed.
    pub error: String,
    /// Why they are given up: the destination is written to then, and the function is called no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
    /// When the first of them failed.
    pub since: f64,
    /// How long ago that was.
    pub age_seconds: f64,
    /// When the next one is due; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<f64>,
}

/// A certificate of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `client`, `broker root` or `function root`.
    pub kind: String,
    /// The secret that holds it.
    pub secret: String,
    /// Whose it is.
    pub subject: String,
    /// When it ends.
    pub not_after: f64,
    /// How long that is from now; below 0 it has ended.
    pub expires_in_seconds: f64,
}

/// A secret that cannot be used now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// Where it is.
    pub secret: String,
    /// Why it cannot be used.
    pub error: String,
    /// Since when.
    pub since: f64,
}
