//! What a consumer says of itself, as a snapshot.

use std::fmt;
use std::sync::Arc;

use super::skip::{SkipId, SkipStatus};
use crate::lambda::failure::Condition;
use crate::time::Instant;

/// Where a consumer stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Looking for the cluster, the coordinator, or joining the group.
    Joining,
    /// A member with an assignment (which may be empty).
    Stable,
    /// No member: it resolves and keeps where the mapping is to start.
    KeepingPlace,
    /// Ending what is in flight, committing, leaving.
    Draining,
    /// Ended.
    Stopped,
}

/// A fault that the mapping's status shows; decision 26 maps it to AWS's code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No broker of the list can be reached.
    ClusterUnreachable(String),
    /// A broker that we need cannot be reached where the cluster says that it is, or there is none.
    BrokerUnreachable(String),
    /// A broker does not take our credentials; it is tried again.
    AuthenticationFailed(String),
    /// We do not trust a broker's certificate; it is tried again.
    ServerNotTrusted(String),
    /// A broker does not trust our certificate, or wants one; it is tried again.
    ClientNotTrusted(String),
    /// The topic does not exist.
    TopicMissing,
    /// The mapping starts at a time, and the topic's message format (v0) has no timestamps.
    NoTimestamps,
    /// The topic or the group is denied.
    NotAuthorized(String),
    /// The cluster cannot do what we need.
    Incompatible(String),
    /// The group has members that share no assignor with us.
    InconsistentGroup(String),
    /// The function fails: its own error.
    FunctionFailing(String),
    /// The function cannot be called: missing, denied, misconfigured.
    FunctionRefused(String),
    /// The function's endpoint throttles, errs or cannot be reached.
    FunctionUnavailable(String),
    /// The destination does not take failed records; it is tried again.
    DestinationFailing(String),
    /// Lanes that stand still until an operator acts, with the offset and why.
    LaneHalted(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = match self {
            Self::ClusterUnreachable(detail) => ("cluster unreachable", detail.as_str()),
            Self::BrokerUnreachable(detail) => ("broker unreachable", detail.as_str()),
            Self::AuthenticationFailed(detail) => ("authentication failed", detail.as_str()),
            Self::ServerNotTrusted(detail) => ("broker not trusted", detail.as_str()),
            Self::ClientNotTrusted(detail) => ("not trusted by the broker", detail.as_str()),
            Self::TopicMissing => ("topic missing", ""),
            Self::NoTimestamps => ("topic without timestamps", ""),
            Self::NotAuthorized(detail) => ("not authorized", detail.as_str()),
            Self::Incompatible(detail) => ("cluster incompatible", detail.as_str()),
            Self::InconsistentGroup(detail) => ("group inconsistent", detail.as_str()),
            Self::FunctionFailing(detail) => ("function failing", detail.as_str()),
            Self::FunctionRefused(detail) => ("function refused", detail.as_str()),
            Self::FunctionUnavailable(detail) => ("function unavailable", detail.as_str()),
            Self::DestinationFailing(detail) => ("destination failing", detail.as_str()),
            Self::LaneHalted(detail) => ("partition halted", detail.as_str()),
        };
        match detail {
            "" => f.write_str(what),
            detail => write!(f, "{what}: {detail}"),
        }
    }
}

/// One owned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: i32,
    /// The next offset to fetch.
    pub fetched_offset: i64,
    /// Below it everything was processed.
    pub processed_offset: i64,
    /// What the group's commit says; -1 before the first.
    pub committed_offset: i64,
    /// As the last fetch told; -1 before it.
    pub high_watermark: i64,
    /// When that fetch was answered: while brokers cannot be reached, or the partition has no room for more, nobody
    /// knows what came since.
    pub high_watermark_at: Option<Instant>,
    /// As the last fetch told; -1 before it.
    pub log_start_offset: i64,
    /// The call of it that is open, if one is.
    pub call: Option<CallStatus>,
    /// Why it stands still, if it does.
    pub halted: Option<HaltStatus>,
    /// How its next records fail, if a call of them did.
    pub retry: Option<RetryStatus>,
}

impl PartitionStatus {
    /// High watermark less committed offset, once both are known.
    pub fn lag_records(&self) -> Option<i64> {
        let known = self.high_watermark >= 0 && self.committed_offset >= 0;
        known.then(|| (self.high_watermark - self.committed_offset).max(0))
    }
}

/// A call that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallStatus {
    /// When it began.
    pub since: Instant,
    /// When it is closed, if it has not ended by then.
    pub deadline: Instant,
}

/// A partition that stands still until an operator acts, or what it stands at is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltStatus {
    /// The offset that it stands at.
    pub offset: i64,
    /// The last of the offsets that it cannot read there, as far as is known.
    pub last_offset: i64,
    /// Why.
    pub reason: String,
    /// When it is looked at again.
    pub next_try: Instant,
}

/// Records whose last call failed, and which are called with again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryStatus {
    /// The first of the partition's records that the call carried.
    pub offset: i64,
    /// The last of them.
    pub last_offset: i64,
    /// Of the calls that the function answered with an error, those that count against a limit: not such that only led to
    /// smaller ones.
    pub attempts: u32,
    /// Calls that the function answered with an error.
    pub function_errors: u32,
    /// Calls that failed in whatever way; 0 where none was made, as of records that are too old.
    pub failed_calls: u32,
    /// Why the last of them failed, without what the function said of a record.
    pub error: Arc<str>,
    /// When the first of them failed.
    pub since: Instant,
    /// Why they are given up: the destination is written to then, and the function is called no more.
    pub leaving: Option<Condition>,
    /// When the next one is due; `None` while it is open.
    pub next_try: Option<Instant>,
}

/// Counts since the consumer began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records read from Kafka.
    pub records_polled: u64,
    /// Bytes of record sets fetched.
    pub bytes_fetched: u64,
    /// Records that no filter wants.
    pub records_filtered: u64,
    /// Records sent in calls, again for each retry.
    pub records_invoked: u64,
    /// Records in calls that failed.
    pub records_failed: u64,
    /// Records whose batch succeeded.
    pub records_succeeded: u64,
    /// Records given up that the destination has acknowledged.
    pub records_diverted: u64,
    /// Records given up by the owner's rule.
    pub records_dropped: u64,
    /// Records that retention took before we read them.
    pub records_lost_to_retention: u64,
    /// Sum of committed-offset deltas.
    pub offsets_committed: u64,
    /// Calls started.
    pub calls: u64,
    /// Calls that ended in an error of the function.
    pub function_errors: u64,
    /// Calls that were throttled.
    pub throttles: u64,
    /// Calls that ended in a service error or a broken connection.
    pub call_failures: u64,
    /// Writings to the destination that failed.
    pub destination_errors: u64,
    /// Documents that the destination has without their event, as it takes none of that size.
    pub documents_shortened: u64,
    /// Fetches that failed.
    pub fetch_errors: u64,
    /// Commits that failed.
    pub commit_errors: u64,
    /// Rebalances gone through.
    pub rebalances: u64,
    /// Answers with which brokers wanted to be left alone for a while (their quotas).
    pub broker_throttles: u64,
    /// Partitions that stood still without a reason, and calls that never ended: each was begun again.
    pub partitions_restarted: u64,
}

/// A consumer as a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Where it stands.
    pub phase: Phase,
    /// What is wrong, if anything.
    pub fault: Option<Fault>,
    /// Whether any record was processed yet.
    pub processed_any: bool,
    /// The group's generation; -1 outside.
    pub generation: i32,
    /// How many partitions the topic has; `None` until the cluster has said.
    pub topic_partitions: Option<u32>,
    /// The partitions it owns, ascending.
    pub partitions: Vec<PartitionStatus>,
    /// How what an operator wants passed over stands, in the order in which it was told.
    pub skips: Vec<(SkipId, SkipStatus)>,
    /// Bytes it holds of the memory budget.
    pub memory_bytes: usize,
    /// Counts since it began.
    pub counters: Counters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_words() {
        let fault = Fault::FunctionUnavailable("HTTP status 502".to_owned());
        assert_eq!(fault.to_string(), "function unavailable: HTTP status 502");
        assert_eq!(Fault::TopicMissing.to_string(), "topic missing");
    }
}
