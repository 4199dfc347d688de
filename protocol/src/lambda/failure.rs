//! What failed records leave at the mapping's destination (contract 5.3 to 5.5; decisions 8, 14, 16 to 18).
//!
//! A [`Failure`] is what is known of them; how it is written depends on the destination. A [`FailureDocument`] is what is
//! read there again.
//!
//! Source: the AWS Lambda Developer Guide, "Capturing discarded batches for a self-managed Apache Kafka event
//! source".
//!
//! Invariant: every record that it speaks of is within the first and the last offset of its lane.

mod document;
mod reading;
mod time;

use std::sync::Arc;

use uuid::Uuid;

pub use document::{Origin, probe, probe_key, qualified, text_bytes};
pub use reading::{FailureDocument, LaneRange, NoDocument};
use time::UtcTime;

/// Records of one call, or of none, that go to the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub condition: Condition,
    /// `x-amzn-RequestId` of the last call that carried them; one of our own, where there was none.
    pub request_id: String,
    /// Calls that carried them and reached the function; 1 where none was made.
    pub invoke_count: u32,
    /// What the function answered last; `None` where it was not asked.
    pub response: Option<FunctionResponse>,
    /// Unix milliseconds.
    pub at_unix_ms: i64,
    /// The size of their event.
    pub event_bytes: usize,
    /// The partitions, ascending; one at least.
    pub lanes: Vec<FailedLane>,
}

/// Why records go to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The function failed more often than `MaximumRetryAttempts` allows.
    RetryAttemptsExhausted,
    /// No call may carry a record of that size.
    MaximumPayloadSizeExceeded,
    /// Older than `MaximumRecordAgeInSeconds`, or no longer kept by the brokers.
    RecordAgeExceeded,
    /// An operator has passed over it.
    SkippedByOperator,
}

impl Condition {
    /// As the documents have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetryAttemptsExhausted => "RetryAttemptsExhausted",
            Self::MaximumPayloadSizeExceeded => "MaximumPayloadSizeExceeded",
            Self::RecordAgeExceeded => "RecordAgeExceeded",
            Self::SkippedByOperator => "SkippedByOperator",
        }
    }
}

/// How the function answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionResponse {
    /// The HTTP status.
    pub status: u16,
    /// `X-Amz-Executed-Version`; empty where the endpoint gives none.
    pub executed_version: String,
    /// `X-Amz-Function-Error`; `None` if it answered that some of the records had failed.
    pub function_error: Option<String>,
}

/// What is told of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLane {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// How many of its records.
    pub records: usize,
    /// The first.
    pub first: RecordPosition,
    /// The last.
    pub last: RecordPosition,
}

/// Where a record stands, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in Unix milliseconds; -1 if it has none.
    pub timestamp: i64,
}

impl Failure {
    /// How many records.
    pub fn records(&self) -> usize {
        self.lanes.iter().map(|lane| lane.records).sum()
    }

    /// The same of the first half of its partitions, and of the others; `None` if there is one alone. What is told of
    /// the event stays that of the whole.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let (first, second) = self.lanes.split_at(self.lanes.len() / 2);
        let of = |lanes: &[FailedLane]| Self {
            lanes: lanes.to_vec(),
            ..self.clone()
        };
        (!first.is_empty()).then(|| [of(first), of(second)])
    }

    /// Where it lies in a bucket (contract 5.5, decision 17). `unique` keeps two of one second apart.
    pub fn object_key(&self, mapping: Uuid, unique: Uuid) -> String {
        let first = self.lanes.first().expect("a failure has a partition");
        let lane = format!("{}-{}", first.topic, first.partition);
        object_key(mapping, &lane, UtcTime::of_unix_ms(self.at_unix_ms), unique)
    }
}

/// A Unix time in milliseconds as documents have it: UTC, ISO 8601.
pub fn iso_utc(unix_ms: i64) -> String {
    UtcTime::of_unix_ms(unix_ms).to_string()
}

/// The folder of a mapping in a bucket.
pub fn folder(mapping: Uuid) -> String {
    format!("aws/lambda/{mapping}/")
}

/// `aws/lambda/<mapping>/<topic>-<partition>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<unique>`.
fn object_key(mapping: Uuid, lane: &str, at: UtcTime, unique: Uuid) -> String {
    let (day, second) = (at.day_path(), at.second_name());
    let folder = folder(mapping);
    format!("{folder}{lane}/{day}/{second}-{unique}")
}
