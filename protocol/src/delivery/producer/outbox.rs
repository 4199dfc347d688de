//! What goes to one partition of a topic of failed records, and under which numbers.
//!
//! Invariant: a number is used for one record alone, under one producer id.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Item;
use super::identification::Identity;
use crate::delivery::DiversionId;
use crate::kafka::records::Codec;
use crate::kafka::records::write::ProducerStamp;
use crate::lambda::failure::Failure;
use crate::limits;

/// What goes to one partition of the topic.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) queue: VecDeque<Item>,
    pub(super) sent: Option<Sent>,
    /// Under which id its numbers count.
    pub(super) identity: Option<Identity>,
    pub(super) next_sequence: i32,
    /// A batch of several records is at most as large.
    pub(super) bytes_max: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            sent: None,
            identity: None,
            next_sequence: 0,
            bytes_max: limits::PRODUCE_BATCH_BYTES_MAX,
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn is_due(&self) -> bool {
        match &self.sent {
            Some(sent) => !sent.is_in_flight && (sent.of.is_some() || !self.queue.is_empty()),
            None => !self.queue.is_empty(),
        }
    }

    /// What the next batch goes under, where `newest` is our newest id.
    pub(super) fn stamp(&mut self, newest: Option<Identity>) -> ProducerStamp {
        let Some(newest) = newest else {
            return ProducerStamp::NONE;
        };
        let identity = *self.identity.get_or_insert(newest);
        ProducerStamp {
            id: identity.id,
            epoch: identity.epoch,
            base_sequence: self.next_sequence,
        }
    }

    /// The numbers go on, and after the last begin at 0 again.
    pub(super) fn count_up(&mut self, records: usize) {
        let records = i32::try_from(records).expect("a batch has few records");
        self.next_sequence = self.next_sequence.wrapping_add(records) & i32::MAX;
    }
}

/// A batch that was sent and not acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    /// The try that waits for it; `None` while its batch waits to try again.
    pub(super) of: Option<DiversionId>,
    pub(super) batch: u64,
    pub(super) failure: Rc<Failure>,
    pub(super) items: Vec<Item>,
    pub(super) bytes: usize,
    pub(super) stamp: ProducerStamp,
    pub(super) codec: Option<Codec>,
    pub(super) is_in_flight: bool,
    /// It was sent before, and may have been written then.
    pub(super) is_doubtful: bool,
}
