//! The at-least-once core: one closed machine per consumer.
//!
//! [`Consumer`] takes [`Input`]s and the time, and yields [`Effect`]s; the shell moves frames, makes the
//! calls and keeps the timer. Exactly one task owns a consumer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::kafka::sasl::{Derivation, DerivedKey, NonceKey, SaslCredentials};
use crate::lambda::failure::Failure;
use crate::lambda::invoke::Outcome;
use crate::sigv4::PayloadDigest;
use crate::time::Instant;

/// A broker's address, before any name is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Names one connection that a consumer asked for; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Names one call that a consumer asked for; never used twice. A retry is a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Names one writing to the destination that a consumer asked for; never used twice. Another try is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiversionId(pub u64);

/// Where a partition without a commit starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartingPosition {
    /// The log's start.
    TrimHorizon,
    /// The log's end when the mapping was declared.
    Latest,
    /// The first record at or after that Unix time in milliseconds.
    AtTimestamp(i64),
}

/// What becomes of a record that no body can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOversized {
    /// The lane stops and says so.
    Halt,
    /// AWS's way: counted, logged, passed over.
    Discard,
}

/// How often, and how long, records are tried (contract 4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `MaximumRetryAttempts`: calls after the first; `None` is without end.
    pub max_attempts: Option<u32>,
    /// `MaximumRecordAgeInSeconds`; `None` is without end.
    pub max_age: Option<Duration>,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `ReportBatchItemFailures`: the function says which records failed.
    pub report_item_failures: bool,
}

/// Where records go that are given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A service of AWS: the shell writes to it.
    Service,
    /// A topic of the same cluster: the consumer writes to it itself.
    Topic(TopicDestination),
}

/// A topic of the same cluster, and what its documents say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDestination {
    /// The topic; not the one that is read.
    pub topic: String,
    /// The function's ARN as the mapping has it.
    pub function_arn: String,
}

/// Everything a consumer is told at first.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The brokers to begin with, in the configured order.
    pub bootstrap: Vec<Endpoint>,
    /// The configured endpoints joined by `,`, as the event shows them.
    pub bootstrap_servers: String,
    /// The one topic.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// `client.id`: `<uuid>-<n>`.
    pub client_id: String,
    /// `client.rack`; empty for none.
    pub rack_id: String,
    /// What it is for.
    pub duty: Duty,
    /// `group.protocol`.
    pub group_protocol: GroupProtocol,
    /// `group.instance.id`, for static membership.
    pub group_instance_id: Option<String>,
    /// Where a partition without a commit starts.
    pub starting_position: StartingPosition,
    /// A body stays strictly below this many bytes.
    pub body_limit: usize,
    /// How records are delivered, as long as nothing else is told.
    pub delivery: DeliverySettings,
    /// Whether open and aborted transactions are left out.
    pub read_committed: bool,
    /// The group's session timeout.
    pub session_timeout: Duration,
    /// The group's rebalance timeout.
    pub rebalance_timeout: Duration,
    /// Between two heartbeats; a coordinator of consumer groups tells its own.
    pub heartbeat_interval: Duration,
    /// How long a broker may take over an answer (JoinGroup and long polls get more).
    pub request_timeout: Duration,
    /// How long a call may take.
    pub call_deadline: Duration,
    /// Calls in flight at once; the machine goes below it while the function throttles.
    pub max_in_flight: u32,
    /// Makes nonces of its own: 32 random bytes, a secret.
    pub nonce_key: NonceKey,
    /// Seeds jitter, and makes a member's id its own: no two consumers have the same.
    pub seed: u64,
}

/// What a consumer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It is a member of its group, and calls the function.
    Serve,
    /// It is never a member and calls nothing: it commits where LATEST or a time begins as long as the group is
    /// empty, and keeps the group's commits from expiring, until the mapping is enabled (decision 25).
    KeepPlace,
}

/// How a consumer is a member of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The clients assign.
    Classic,
    /// The coordinator assigns (KIP-848), where it can; else as `Classic`.
    Consumer,
}

/// Why a connection ended, or never came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The name does not resolve.
    Unresolved(String),
    /// Nobody answered, or it was refused.
    Unreachable(String),
    /// The peer closed it or it broke.
    Closed(String),
    /// The peer is not what it was taken for; the text says what to change.
    Protocol(String),
    /// We do not trust the certificate of the peer.
    ServerNotTrusted(String),
    /// The peer does not trust our certificate, or wants one.
    ClientNotTrusted(String),
}

/// What a consumer is told.
#[derive(Debug)]
pub enum Input {
    /// The connection stands; frames may be sent.
    Connected(ConnectionId),
    /// The connection ended, or could not be made. Nothing more comes of it.
    Disconnected(ConnectionId, Disconnect),
    /// One whole frame arrived, without its length prefix.
    Frame(ConnectionId, Bytes),
    /// What connections authenticate with from now on; before the first it is nothing. Those that stand take it
    /// one by one, without a lost request.
    Credentials(Option<Arc<SaslCredentials>>),
    /// Connections are made in another way from now on: other roots, another certificate. Those that stand are made
    /// anew one by one, without a lost request.
    MakeAnew,
    /// The key that a connection asked for.
    Derived(ConnectionId, DerivedKey),
    /// A call ended, one way or another. Each call ends exactly once.
    CallEnded(CallId, Outcome),
    /// The destination has acknowledged what was written to it, or has not. Each writing ends exactly once.
    Diverted(DiversionId, Result<Taken, Undelivered>),
    /// What an operator wants passed over: all of it. What is not named any more is wanted no longer; how the rest
    /// stands, the status tells.
    Skips(Vec<Skip>),
    /// What Unix time it was at the origin of [`Instant`], in milliseconds; again whenever that clock was set.
    UnixTime(i64),
    /// Calls in flight at once, from now on.
    MaxInFlight(u32),
    /// How long a call may take, for calls that start from now on.
    CallDeadline(Duration),
    /// How records are delivered from now on. What is encoded stays as it is, and attempts stay counted.
    Delivery(Box<DeliverySettings>),
    /// Whether bodies that begin from now on are hashed while they are written, as long as they are of one
    /// partition: right where calls are signed and no other body is there to be hashed beside them.
    HashAlong(bool),
    /// Drain: start no call, let those in flight end, commit, leave, stop.
    Stop,
    /// Give up what is in flight: commit what has ended, leave, stop.
    Abort,
}

/// One call to make: the pieces of the body, in order.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The body is their concatenation. A retry carries the same bytes.
    pub pieces: Vec<Bytes>,
    /// Their length in all.
    pub body_bytes: usize,
    /// Their hash, where it is known already.
    pub digest: Option<PayloadDigest>,
    /// Records in it.
    pub records: u32,
    /// When the call must have ended.
    pub deadline: Instant,
}

/// Failed records that are to be written to the mapping's destination.
#[derive(Clone, Debug)]
pub struct Diversion {
    /// What is known of them.
    pub failure: Failure,
    /// Their event, as pieces: as it was sent, or as it would have been.
    pub event: Vec<Bytes>,
}

/// How a destination has taken what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// As it is written there.
    Whole,
    /// Without the event, for which it has no room.
    WithoutEvent,
}

/// Why a destination has not taken what was written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The service's words, or what went wrong on the way to it.
    pub reason: String,
}

/// What a consumer wants done.
#[derive(Debug)]
pub enum Effect {
    /// Connect; answer with `Connected` or `Disconnected`.
    Connect(ConnectionId, Endpoint),
    /// Send a whole frame, length prefix included.
    Send(ConnectionId, Bytes),
    /// The same, of a fetch whose broker is known to have about so many bytes ready for it. What comes
    /// faster than it is taken only lies about: until others have got theirs it may wait, for a moment.
    Fetch(ConnectionId, Bytes, usize),
    /// Close the connection; answer with nothing more.
    Close(ConnectionId),
    /// Derive a key where that holds up nobody; answer with `Derived`.
    Derive(ConnectionId, Derivation),
    /// Make a call; answer with `CallEnded`.
    Invoke(CallId, Invocation),
    /// Close that call's connection now; answer with `CallEnded` all the same.
    CancelCall(CallId),
    /// Write failed records to the destination; answer with `Diverted`.
    Divert(DiversionId, Diversion),
    /// The consumer has ended; nothing follows.
    Stopped,
}

mod batch;
mod cluster;
mod complaints;
mod consumer;
mod lane;
mod links;
mod memory;
mod part;
mod producer;
mod settings;
mod skip;
pub mod status;

pub use consumer::Consumer;
pub use settings::DeliverySettings;
pub use skip::{Skip, SkipId, SkipStatus};
pub use status::{
    CallStatus, ConsumerStatus, Fault, HaltStatus, PartitionStatus, Phase, RetryStatus,
};

mod budget;
mod buffers;

pub use budget::Budget;

/// How loud a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// An operator must act.
    Error,
    /// We recovered, and it may matter.
    Warn,
    /// Lifecycle and state transitions.
    Info,
    /// Each request.
    Debug,
}

/// Something to say to the log: a capitalised sentence without data, and the data beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub severity: Severity,
    /// What happened.
    pub message: &'static str,
    /// The data, as `key=value` pairs; never record content, never a secret.
    pub detail: String,
}
