//! The records of one entry: of a batch, of a message, or of a wrapper's messages.
//!
//! Invariant: `left` records lie in `at..end`, in whichever bytes the run's owner says.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::input::Input;
use super::legacy::{Inner, Message};
use super::v2::{self, Batch};
use super::{Headers, Record, TimestampType};

const UNREADABLE: &str = "a record does not decode";

/// What is left of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Where the next record begins.
    pub(super) at: usize,
    /// Where the last one ends.
    pub(super) end: usize,
    /// How many there are left.
    pub(super) left: u32,
    /// The last offset that the entry accounts for.
    pub(super) last_offset: i64,
    form: Form,
}

/// How records are written, and what they are relative to.
#[derive(Clone, Copy, Debug)]
enum Form {
    Batch {
        base_offset: i64,
        base_timestamp: i64,
        /// What of a record's own timestamp counts: all of it, or nothing.
        delta_mask: i64,
        timestamp_type: TimestampType,
    },
    Messages {
        base_offset: i64,
        append_time: Option<i64>,
    },
}

impl Run {
    /// Before the first entry, and behind the last.
    pub(super) const NONE: Self = Self {
        at: 0,
        end: 0,
        left: 0,
        last_offset: -1,
        form: Form::Messages {
            base_offset: 0,
            append_time: None,
        },
    };

    /// A batch whose records end at `end`, uncompressed.
    pub(super) fn batch(batch: &Batch<'_>, end: usize) -> Self {
        let timestamp_type = batch.timestamp_type();
        let (base_timestamp, delta_mask) = match timestamp_type {
            TimestampType::LogAppendTime => (batch.max_timestamp, 0),
            TimestampType::CreateTime | TimestampType::NoTimestamp => (batch.base_timestamp, -1),
        };
        Self {
            at: end.saturating_sub(batch.payload.len()),
            end,
            left: batch.count,
            last_offset: batch.last_offset,
            form: Form::Batch {
                base_offset: batch.base_offset,
                base_timestamp,
                delta_mask,
                timestamp_type,
            },
        }
    }

    /// A message that takes `length` bytes and ends at `end`.
    pub(super) fn message(message: &Message<'_>, length: usize, end: usize) -> Self {
        Self {
            at: end.saturating_sub(length),
            end,
            left: 1,
            last_offset: message.offset,
            form: Form::Messages {
                base_offset: 0,
                append_time: None,
            },
        }
    }

    /// A wrapper's messages, `length` bytes in a buffer of their own.
    pub(super) fn wrapper(wrapper: &Message<'_>, inner: Inner, length: usize) -> Self {
        let append_time = match wrapper.timestamp_type() {
            TimestampType::LogAppendTime => Some(wrapper.timestamp),
            TimestampType::CreateTime | TimestampType::NoTimestamp => None,
        };
        Self {
            at: 0,
            end: length,
            left: inner.count,
            last_offset: wrapper.offset,
            form: Form::Messages {
                base_offset: inner.base_offset,
                append_time,
            },
        }
    }

    /// The same records, decompressed to `length` bytes in a buffer of their own.
    pub(super) fn decompressed(self, length: usize) -> Self {
        Self {
            at: 0,
            end: length,
            ..self
        }
    }

    /// The same entry with nothing left in it.
    pub(super) fn passed(self) -> Self {
        Self {
            at: self.end,
            left: 0,
            ..self
        }
    }

    /// Reads the next of the records in `source`; there must be one left. An error changes nothing.
    // Why always: every record comes this way, and a call here takes a fifth of its decoding. Whoever is not
    // on that way calls `read_aside`.
    #[inline(always)]
    pub(super) fn read<'a>(&mut self, source: &'a [u8]) -> Result<Record<'a>, &'static str> {
        debug_assert!(self.left > 0);
        let data = source.get(..self.end).unwrap_or_default();
        let mut input = Input::starting_at(data, self.at);
        let record = match self.form {
            Form::Batch {
                base_offset,
                base_timestamp,
                delta_mask,
                timestamp_type,
            } => {
                let record = v2::read_record(&mut input).ok_or(UNREADABLE)?;
                let delta = record.timestamp_delta & delta_mask;
                Record {
                    // Out of the batch's range, and so refused, when it wraps.
                    offset: base_offset.wrapping_add(i64::from(record.offset_delta)),
                    // Why wrapping: so do producers, when times lie further apart than a delta holds.
                    timestamp: base_timestamp.wrapping_add(delta),
                    timestamp_type,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                }
            }
            Form::Messages {
                base_offset,
                append_time,
            } => read_message(&mut input, base_offset, append_time).ok_or(UNREADABLE)?,
        };
        self.at = input.position();
        self.left = self.left.wrapping_sub(1);
        Ok(record)
    }

    /// As `read`, for the few records that are not given to anyone.
    #[inline(never)]
    pub(super) fn read_aside<'a>(&mut self, source: &'a [u8]) -> Result<Record<'a>, &'static str> {
        self.read(source)
    }

    /// Takes back the last `read`, which began at `at`.
    pub(super) fn step_back(&mut self, at: usize) {
        self.at = at;
        self.left = self.left.saturating_add(1);
    }

    /// Goes past the records below `offset`, with which the records in `source` may begin.
    pub(super) fn skip_to(&mut self, offset: i64, source: &[u8]) -> Result<(), &'static str> {
        while self.left > 0 {
            let before = *self;
            if self.read_aside(source)?.offset >= offset {
                *self = before;
                break;
            }
        }
        Ok(())
    }
}

/// Out of the way of the batches' path, which is the hot one.
#[inline(never)]
fn read_message<'a>(
    input: &mut Input<'a>,
    base_offset: i64,
    append_time: Option<i64>,
) -> Option<Record<'a>> {
    let message = Message::read(input)?;
    let (timestamp, timestamp_type) = match append_time {
        None => (message.timestamp, message.timestamp_type()),
        Some(time) => (time, TimestampType::LogAppendTime),
    };
    Some(Record {
        offset: base_offset.checked_add(message.offset)?,
        timestamp,
        timestamp_type,
        key: message.key,
        value: message.value,
        headers: Headers::default(),
    })
}
