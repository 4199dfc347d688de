//! What the functions received, for assertions: every call with its bytes, and what must never be.
//!
//! Invariant: calls are in the order in which their bodies ended; nothing is taken out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::event::SeenRecord;
use super::http::Head;

/// A topic's partition.
pub type Lane = (String, i32);

/// One call.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The function that was named.
    pub function: String,
    /// The request's head.
    pub head: Head,
    /// The body, byte for byte.
    pub body: Bytes,
    /// Its records.
    pub records: Vec<SeenRecord>,
    /// When the body had come, since the server began.
    pub began: Duration,
    /// When the answer was sent or the connection ended; `None` while the call is open.
    pub ended: Option<Duration>,
    /// Whether it was answered as a success.
    pub succeeded: bool,
}

impl Invocation {
    /// The offsets of one partition, in order.
    pub fn offsets(&self, topic: &str, partition: i32) -> Vec<i64> {
        self.records
            .iter()
            .filter(|record| record.topic == topic && record.partition == partition)
            .map(|record| record.offset)
            .collect()
    }

    fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::new();
        for record in &self.records {
            if lanes.last().is_none_or(|(topic, partition)| {
                *topic != record.topic || *partition != record.partition
            }) {
                lanes.push((record.topic.clone(), record.partition));
            }
        }
        lanes
    }
}

/// Everything that was received.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    calls: Vec<Invocation>,
    open: BTreeMap<Lane, usize>,
    violations: Vec<String>,
}

impl Ledger {
    /// Every call, in order of arrival.
    pub fn calls(&self) -> &[Invocation] {
        &self.calls
    }

    /// The calls that were answered as successes, in order of arrival.
    pub fn successes(&self) -> impl Iterator<Item = &Invocation> {
        self.calls.iter().filter(|call| call.succeeded)
    }

    /// The offsets of a partition in successful calls, in order of arrival.
    pub fn delivered(&self, topic: &str, partition: i32) -> Vec<i64> {
        self.successes()
            .flat_map(|call| call.offsets(topic, partition))
            .collect()
    }

    /// The offsets of a partition in all calls, in order of arrival.
    pub fn attempted(&self, topic: &str, partition: i32) -> Vec<i64> {
        self.calls
            .iter()
            .flat_map(|call| call.offsets(topic, partition))
            .collect()
    }

    /// How many different records of a topic were delivered.
    pub fn distinct(&self, topic: &str) -> usize {
        let mut seen = std::collections::BTreeSet::new();
        for call in self.successes() {
            let records = call.records.iter().filter(|record| record.topic == topic);
            seen.extend(records.map(|record| (record.partition, record.offset)));
        }
        seen.len()
    }

    /// What broke a rule, as sentences: two open calls of one partition, a body that is no event, a
    /// signature that does not verify.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Calls that are open now.
    pub fn open_calls(&self) -> usize {
        self.calls
            .iter()
            .filter(|call| call.ended.is_none())
            .count()
    }

    pub(super) fn violation(&mut self, sentence: String) {
        self.violations.push(sentence);
    }

    /// A call's body has come; its number.
    pub(super) fn begin(&mut self, call: Invocation) -> usize {
        let number = self.calls.len();
        for lane in call.lanes() {
            if let Some(other) = self.open.insert(lane.clone(), number)
                && self.calls[other].ended.is_none()
            {
                let (topic, partition) = lane;
                self.violations.push(format!(
                    "call {number} of {topic}-{partition} began while call {other} was open"
                ));
            }
        }
        self.calls.push(call);
        number
    }

    pub(super) fn end(&mut self, number: usize, at: Duration, succeeded: bool) {
        self.calls[number].ended = Some(at);
        self.calls[number].succeeded = succeeded;
    }
}
