//! The resumable walk over one partition's record set.
//!
//! ```text
//! [whole entry]... [cut tail]      position: the first entry that was not entered yet
//!      |
//!   entered -> run: what is left of it, in the set itself or in the buffer it was decompressed into
//! ```
//!
//! Invariant: `next_offset` never goes back but by `unread`; an error leaves the reader where it was,
//! so it comes again; offsets ascend over everything that is given.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::scan::{Entry, First};
use super::transactions::Transactions;
use super::v2::{self, Batch, RelativeRecord};
use super::{Decompressor, Record, RecordError, TimestampType};
use crate::kafka::messages::AbortedTransaction;

/// Reads one [`FetchedPartition`](crate::kafka::messages::FetchedPartition)'s records, as many
/// at a time as its caller likes.
#[derive(Debug)]
pub struct RecordReader {
    /// The record set; emptied at its end, so that the frame may go.
    records: Bytes,
    /// Where the first entry begins that was not entered yet.
    position: usize,
    /// What is left of the entered one.
    run: Run,
    /// What to go back to on `unread`.
    given: Option<Given>,
    /// Records below it were not asked for.
    fetch_offset: i64,
    next_offset: i64,
    leader_epoch: i32,
    /// With read_committed only.
    transactions: Option<Transactions>,
    /// Bytes passed since the last `turn_bytes`, but for those of the run.
    turn_bytes: usize,
    /// Where the run stood at the last `turn_bytes`.
    turn_at: usize,
}

impl RecordReader {
    /// Reads `records` from `fetch_offset` on. `aborted` has a meaning with `read_committed` only.
    pub fn new(
        records: Bytes,
        fetch_offset: i64,
        aborted: Vec<AbortedTransaction>,
        read_committed: bool,
    ) -> Self {
        Self {
            records,
            position: 0,
            run: Run::NONE,
            given: None,
            fetch_offset,
            next_offset: fetch_offset,
            leader_epoch: -1,
            transactions: read_committed.then(|| Transactions::new(aborted)),
            turn_bytes: 0,
            turn_at: 0,
        }
    }

    /// The next record; `None` at the end of the set. Passes over what is below the fetch offset, over
    /// control batches, and with read_committed over what aborted transactions wrote.
    ///
    /// # Errors
    ///
    /// When the set cannot be read on; asked again, it gives the same error.
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        decompressor: &mut Decompressor,
    ) -> Result<Option<Record<'a>>, RecordError> {
        while self.run.left == 0 {
            if !self.advance(decompressor)? {
                return Ok(None);
            }
        }
        let run = &mut self.run;
        let offset = self.next_offset;
        let data = self.records.get(run.at..run.end).unwrap_or_default();
        let Some((record, rest)) = v2::read_record(data) else {
            return Err(corrupt(offset, "a record does not decode"));
        };
        let Some(record) = run.absolute(record, offset) else {
            return Err(corrupt(offset, "its records' offsets do not ascend"));
        };
        self.given = Some(Given {
            at: run.at,
            next_offset: offset,
        });
        run.at = run.end.saturating_sub(rest.len());
        run.left = run.left.saturating_sub(1);
        self.next_offset = record.offset.saturating_add(1);
        Ok(Some(record))
    }

    /// The record just given will be given again by `next`. Without one (at the beginning, at the end,
    /// after an error) nothing changes.
    pub fn unread(&mut self) {
        if let Some(given) = self.given.take() {
            self.run.at = given.at;
            self.run.left = self.run.left.saturating_add(1);
            self.next_offset = given.next_offset;
        }
    }

    /// Bytes passed over, checked or decompressed since this was asked last: what bounds a turn.
    pub fn turn_bytes(&mut self) -> usize {
        let passed = self.run.at.saturating_sub(self.turn_at);
        self.turn_at = self.run.at;
        std::mem::take(&mut self.turn_bytes).saturating_add(passed)
    }

    /// The offset after everything given or passed over so far. The control batches, void batches and
    /// gaps that follow the last record given count once `next` has gone past them.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The leader's epoch in the last batch that was entered; -1 before the first, and for formats
    /// that have none.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The memory that it holds: the record set (of which nothing can go before the end) and what is
    /// decompressed of it. 0 at the end.
    pub fn remaining_bytes(&self) -> usize {
        self.records.len()
    }

    /// Leaves the current entry and enters the next; `false` at the end of the set. What it enters may
    /// have nothing to give.
    #[cold]
    #[inline(never)]
    fn advance(&mut self, decompressor: &mut Decompressor) -> Result<bool, RecordError> {
        self.given = None;
        self.leave()?;
        let records = self.records.clone();
        let set = records.get(self.position..).unwrap_or_default();
        let first = Entry::first(set).map_err(|what| corrupt(self.next_offset, what))?;
        let First::Whole(entry) = first else {
            self.turn_bytes = self.turn_bytes.saturating_add(set.len());
            self.records = Bytes::new();
            self.position = 0;
            self.run = Run::NONE;
            self.turn_at = 0;
            return Ok(false);
        };
        let run = match entry.magic {
            2 => self.enter_batch(&entry, decompressor)?,
            magic => {
                let offset = self.next_offset;
                return Err(RecordError::UnsupportedMagic { offset, magic });
            }
        };
        // What is read in place is counted as it is passed.
        let at_once = entry
            .bytes
            .len()
            .saturating_sub(run.end.saturating_sub(run.at));
        self.turn_bytes = self.turn_bytes.saturating_add(at_once);
        self.turn_at = run.at;
        self.run = run;
        self.position = self.position.saturating_add(entry.bytes.len());
        Ok(true)
    }

    /// Goes behind the last offset of the current entry.
    fn leave(&mut self) -> Result<(), RecordError> {
        if self.run.at != self.run.end {
            let what = "it has more bytes than its records";
            return Err(corrupt(self.next_offset, what));
        }
        self.turn_bytes = self
            .turn_bytes
            .saturating_add(self.run.at.saturating_sub(self.turn_at));
        self.turn_at = self.run.at;
        let after = self.run.last_offset.saturating_add(1);
        self.next_offset = self.next_offset.max(after);
        Ok(())
    }

    /// What there is to read of a v2 batch; an empty run for one that is passed over.
    fn enter_batch(
        &mut self,
        entry: &Entry<'_>,
        _decompressor: &mut Decompressor,
    ) -> Result<Run, RecordError> {
        let next_offset = self.next_offset;
        let batch = Batch::read(entry.bytes).map_err(|what| corrupt(next_offset, what))?;
        // Only what the fetch offset points into may begin before it.
        if batch.base_offset < next_offset && next_offset > self.fetch_offset {
            return Err(corrupt(next_offset, "its offsets overlap those before it"));
        }
        let end = self.position.saturating_add(entry.bytes.len());
        let mut run = Run {
            at: end.saturating_sub(batch.payload.len()),
            end,
            left: batch.count,
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            timestamps: match batch.timestamp_type() {
                TimestampType::LogAppendTime => Timestamps::Append(batch.max_timestamp),
                _ => Timestamps::Create(batch.base_timestamp),
            },
        };
        self.leader_epoch = batch.leader_epoch;
        if batch.codec() != 0 {
            return Err(RecordError::UnsupportedCodec {
                offset: next_offset,
                codec: batch.codec(),
            });
        }
        if self.is_void(&batch, batch.payload)? || batch.last_offset < next_offset {
            return Ok(run.pass());
        }
        run.skip_to(next_offset, batch.payload)?;
        Ok(run)
    }

    /// Whether nothing of `batch` is given: a control batch, or one of an aborted transaction.
    fn is_void(&mut self, batch: &Batch<'_>, payload: &[u8]) -> Result<bool, RecordError> {
        let Some(transactions) = &mut self.transactions else {
            return Ok(batch.is_control());
        };
        if batch.producer_id < 0 {
            return Ok(batch.is_control());
        }
        transactions.begin_up_to(batch.last_offset);
        if batch.is_control() {
            // An empty one is what compaction left of a marker, as in Java's reader.
            if batch.count > 0 {
                let abort =
                    v2::read_record(payload).and_then(|(marker, _)| v2::is_abort(marker.key));
                if abort.ok_or(corrupt(
                    self.next_offset,
                    "its transaction marker does not decode",
                ))? {
                    transactions.end(batch.producer_id);
                }
            }
            return Ok(true);
        }
        Ok(batch.is_transactional() && transactions.is_aborted(batch.producer_id))
    }
}

/// What is left of an entry.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where the next record begins.
    at: usize,
    /// Where the last one ends.
    end: usize,
    /// How many there are left.
    left: u32,
    base_offset: i64,
    last_offset: i64,
    timestamps: Timestamps,
}

/// How a run's records come by their timestamps.
#[derive(Clone, Copy, Debug)]
enum Timestamps {
    /// Each has its own, counted from here.
    Create(i64),
    /// All have this.
    Append(i64),
}

/// Where a record began, and what `next_offset` was before it.
#[derive(Clone, Copy, Debug)]
struct Given {
    at: usize,
    next_offset: i64,
}

impl Run {
    /// Before the first entry, and behind the last.
    const NONE: Self = Self {
        at: 0,
        end: 0,
        left: 0,
        base_offset: -1,
        last_offset: -1,
        timestamps: Timestamps::Create(0),
    };

    /// The same run with nothing left in it.
    fn pass(self) -> Self {
        Self {
            at: self.end,
            left: 0,
            ..self
        }
    }

    /// Goes past the records below `offset`, which `payload` begins with.
    fn skip_to(&mut self, offset: i64, payload: &[u8]) -> Result<(), RecordError> {
        if self.base_offset >= offset {
            return Ok(());
        }
        let mut rest = payload;
        while self.left > 0 {
            let (record, after) =
                v2::read_record(rest).ok_or(corrupt(offset, "a record does not decode"))?;
            if self
                .base_offset
                .saturating_add(i64::from(record.offset_delta))
                >= offset
            {
                break;
            }
            rest = after;
            self.left = self.left.saturating_sub(1);
        }
        self.at = self.end.saturating_sub(rest.len());
        Ok(())
    }

    /// Places a record in the partition; `None` when its offset is below `floor` or beyond the batch.
    #[inline]
    fn absolute<'a>(&self, record: RelativeRecord<'a>, floor: i64) -> Option<Record<'a>> {
        let offset = self
            .base_offset
            .wrapping_add(i64::from(record.offset_delta));
        if offset < floor || offset > self.last_offset {
            return None;
        }
        let (timestamp, timestamp_type) = match self.timestamps {
            // Why wrapping: so do producers, when timestamps lie further apart than the delta holds.
            Timestamps::Create(base) => (
                base.wrapping_add(record.timestamp_delta),
                TimestampType::CreateTime,
            ),
            Timestamps::Append(time) => (time, TimestampType::LogAppendTime),
        };
        Some(Record {
            offset,
            timestamp,
            timestamp_type,
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
    }
}

fn corrupt(offset: i64, what: &'static str) -> RecordError {
    RecordError::Corrupt { offset, what }
}
