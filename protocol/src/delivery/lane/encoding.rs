//! Records on their way from fetched bytes into the open body, a bounded turn at a time. Those that no filter wants
//! are passed over, as gaps are: they count as processed once what was before them has ended.
//!
//! Invariant: a record is encoded once, in order; what stops a turn leaves the next record unread.

use super::super::Budget;
use super::{Fetched, Lane};
use crate::filter::{self, FilterSet, Subject};
use crate::kafka::records::{Decompressor, Headers, Record, RecordError};
use crate::lambda::event::{Buffer, EventShape, Fragment, Push};
use crate::limits::OVERSIZED_EVENT_BYTES_MAX;
use crate::time::Instant;

/// What a turn of encoding came to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::delivery) enum Encoded {
    /// Nothing more is pending.
    Drained,
    /// The open body takes no more.
    Full,
    /// The turn's bytes are used up; there is more.
    Paused,
    /// This record fits no body; the lane stands before it.
    Oversized { offset: i64, body_bytes: usize },
    /// The batch at this offset does not decode.
    Corrupt {
        offset: i64,
        /// The offset behind it, as far as can be told.
        end: Option<i64>,
        error: RecordError,
    },
}

/// What encoding needs beside the lane.
pub(in crate::delivery) struct Workbench<'a> {
    pub(in crate::delivery) shape: &'a EventShape,
    pub(in crate::delivery) filters: &'a FilterSet,
    pub(in crate::delivery) topic: &'a str,
    /// What filters work in.
    pub(in crate::delivery) scratch: &'a mut filter::Scratch,
    pub(in crate::delivery) decompressor: &'a mut Decompressor,
    /// Where buffers come from that bodies are built in.
    pub(in crate::delivery) budget: &'a Budget,
    pub(in crate::delivery) body_limit: usize,
    pub(in crate::delivery) batch_size: usize,
    /// Whether a body that begins is hashed while it is written.
    pub(in crate::delivery) hash_along: bool,
    pub(in crate::delivery) now: Instant,
    /// Bytes that this turn may still decode.
    pub(in crate::delivery) turn_bytes: usize,
    /// Records read, filtered or not.
    pub(in crate::delivery) polled: u64,
    /// Of these, those that no filter wants.
    pub(in crate::delivery) filtered: u64,
}

impl Lane {
    /// Encodes pending records into the open body until it is full, the turn is over or nothing is left.
    pub(in crate::delivery) fn encode(&mut self, bench: &mut Workbench<'_>) -> Encoded {
        let (usual, expected) = (self.usual_body_bytes, self.expected_body_bytes());
        let outcome = loop {
            let Some(Fetched { reader, .. }) = self.pending.front_mut() else {
                break Encoded::Drained;
            };
            if self.full {
                break Encoded::Full;
            }
            if bench.turn_bytes == 0 {
                break Encoded::Paused;
            }
            match reader.next(bench.decompressor) {
                Ok(Some(record)) if bench.filters_out(self.partition, &record) => {
                    self.encoded = record.offset + 1;
                    self.epoch = reader.leader_epoch();
                }
                Ok(Some(record)) => {
                    let open = match &mut self.open {
                        Some(open) => open,
                        none => {
                            let buffer = bench.budget.buffer(usual, expected);
                            let open = Fragment::new(bench.shape, self.partition, buffer);
                            let open = none.insert(open);
                            if bench.hash_along {
                                open.hash_along();
                            }
                            open
                        }
                    };
                    let offset = record.offset;
                    match push(open, &record, bench) {
                        Push::Appended => {
                            debug_assert!(offset >= self.encoded, "offsets ascend");
                            self.encoded = offset + 1;
                            self.epoch = reader.leader_epoch();
                            bench.polled += 1;
                            self.open_first.get_or_insert((offset, bench.now));
                            self.full = open.records() >= bench.batch_size;
                        }
                        Push::Full => {
                            reader.unread();
                            self.full = true;
                        }
                        Push::Oversized { body_bytes } => {
                            reader.unread();
                            break Encoded::Oversized { offset, body_bytes };
                        }
                    }
                }
                Ok(None) => self.leave_record_set(),
                Err(error) => {
                    let offset = reader.next_offset();
                    // All that lies before it was read.
                    self.encoded = self.encoded.max(offset);
                    break Encoded::Corrupt {
                        offset,
                        end: reader.entry_end(),
                        error,
                    };
                }
            }
            if let Some(Fetched { reader, .. }) = self.pending.front_mut() {
                bench.turn_bytes = bench.turn_bytes.saturating_sub(reader.turn_bytes());
            }
        };
        if self.open.as_ref().is_some_and(|open| open.records() == 0) {
            self.open = None;
        }
        let pending = self.pending.iter();
        self.pending_bytes = pending.map(|it| it.reader.remaining_bytes()).sum();
        self.settle();
        outcome
    }

    /// Encodes the record that `encode` found too large, as a body of its own: whole, or without its key, value and
    /// headers. Where others are encoded before it, those are to go first. Whether it was encoded.
    pub(in crate::delivery) fn encode_oversized(
        &mut self,
        shape: &EventShape,
        decompressor: &mut Decompressor,
        body_bytes: usize,
        whole: bool,
        now: Instant,
    ) -> bool {
        if self.open.is_some() {
            self.full = true;
            return false;
        }
        let Some(Fetched { reader, .. }) = self.pending.front_mut() else {
            return false;
        };
        // What was decoded a moment ago decodes again.
        let Ok(Some(record)) = reader.next(decompressor) else {
            return false;
        };
        let record = match whole {
            true => record,
            false => Record {
                key: None,
                value: None,
                headers: Headers::default(),
                ..record
            },
        };
        let mut open = Fragment::new(shape, self.partition, Buffer::default());
        let pushed = open.push(&record, OVERSIZED_EVENT_BYTES_MAX);
        assert_eq!(pushed, Push::Appended, "its size was looked at before");
        let offset = record.offset;
        self.encoded = offset + 1;
        self.epoch = reader.leader_epoch();
        self.open_first = Some((offset, now));
        self.open = Some(open);
        self.full = true;
        self.oversized = Some(body_bytes);
        let pending = self.pending.iter();
        self.pending_bytes = pending.map(|it| it.reader.remaining_bytes()).sum();
        true
    }

    /// How large the next body is going to be, so that it need not grow: as they have lately been, unless
    /// much less than that is waiting.
    fn expected_body_bytes(&self) -> usize {
        // Small records grow to three times their bytes and more; others by a third.
        self.usual_body_bytes
            .min(self.pending_bytes.saturating_mul(3))
    }

    /// The first record set is read to its end.
    fn leave_record_set(&mut self) {
        if let Some(Fetched { reader, .. }) = self.pending.pop_front() {
            self.encoded = self.encoded.max(reader.next_offset());
            self.epoch = reader.leader_epoch();
            self.corrupt_fetches = 0;
        }
    }

    /// Passes over the record that `encode` stopped before.
    pub(in crate::delivery) fn skip_record(&mut self, decompressor: &mut Decompressor) {
        if let Some(Fetched { reader, .. }) = self.pending.front_mut()
            && reader.skip(decompressor)
        {
            self.encoded = reader.next_offset();
        }
        self.settle();
    }
}

impl Workbench<'_> {
    /// Whether no filter wants the record, which is counted then.
    #[inline]
    fn filters_out(&mut self, partition: i32, record: &Record<'_>) -> bool {
        if self.filters.is_empty() {
            return false;
        }
        let subject = Subject {
            topic: self.topic,
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: record.timestamp_type.name(),
            key: record.key,
            value: record.value,
        };
        let filtered = !self.filters.passes(&subject, self.scratch);
        self.polled += u64::from(filtered);
        self.filtered += u64::from(filtered);
        filtered
    }
}

/// Appends the record; a body that outgrows its buffer goes on in a larger one.
#[inline]
fn push(open: &mut Fragment, record: &Record<'_>, bench: &mut Workbench<'_>) -> Push {
    let Workbench {
        budget, body_limit, ..
    } = bench;
    open.push_growing(record, *body_limit, |fragment, bytes| {
        let outgrown = fragment.move_to(budget.buffer(bytes, bytes));
        budget.keep(outgrown);
    })
}
