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

use std::fmt;

use bytes::Bytes;

use super::codec::{Buffer, Codec, CodecError};
use super::input::Input;
use super::legacy::{self, Inner, Message};
use super::run::Run;
use super::scan::{Entry, First};
use super::transactions::Transactions;
use super::v2::{self, Batch};
use super::{Decompressor, Record, RecordError};
use crate::kafka::messages::AbortedTransaction;

/// Reads one [`FetchedPartition`](crate::kafka::messages::FetchedPartition)'s records, as many at a
/// time as its caller likes.
pub struct RecordReader {
    /// The record set; emptied at its end, so that the frame may go.
    records: Bytes,
    /// Where the first entry begins that was not entered yet.
    position: usize,
    /// What is left of the entered one.
    run: Run,
    /// Where the run's records are, when they were compressed.
    decompressed: Option<Buffer>,
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
            decompressed: None,
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
    #[inline(always)]
    pub fn next<'a>(
        &'a mut self,
        decompressor: &mut Decompressor,
    ) -> Result<Option<Record<'a>>, RecordError> {
        while self.run.left == 0 {
            if !self.advance(decompressor)? {
                return Ok(None);
            }
        }
        let source = match &self.decompressed {
            None => self.records.as_ref(),
            Some(buffer) => buffer.filled(),
        };
        let (at, next_offset) = (self.run.at, self.next_offset);
        let record = match self.run.read(source) {
            Ok(record) if record.offset >= next_offset && record.offset <= self.run.last_offset => {
                record
            }
            Ok(_) => {
                self.run.step_back(at);
                let what = "its records' offsets do not ascend";
                return Err(corrupt(next_offset, what));
            }
            Err(what) => return Err(corrupt(next_offset, what)),
        };
        self.given = Some(Given { at, next_offset });
        // An entry's last offset has a successor.
        self.next_offset = record.offset.wrapping_add(1);
        Ok(Some(record))
    }

    /// Passes over the next record, if there is one that can be read.
    #[inline(never)]
    pub fn skip(&mut self, decompressor: &mut Decompressor) -> bool {
        matches!(self.next(decompressor), Ok(Some(_)))
    }

    /// The record just given will be given again by `next`. Without one (at the beginning, at the end,
    /// after an error) nothing changes.
    pub fn unread(&mut self) {
        if let Some(before) = self.given.take() {
            self.run.step_back(before.at);
            self.next_offset = before.next_offset;
        }
    }

    /// Bytes passed over, checked or decompressed since this was asked last: what bounds a turn.
    pub fn turn_bytes(&mut self) -> usize {
        self.count_turn();
        std::mem::take(&mut self.turn_bytes)
    }

    /// Gives the buffer back that a reader which will not be read to its end may have borrowed.
    pub fn close(mut self, decompressor: &mut Decompressor) {
        self.give_back(decompressor);
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

    /// The offset behind the entry that could not be read on, as far as its header and that of the one after it tell.
    pub fn entry_end(&self) -> Option<i64> {
        let is_entered = self.run.left > 0 || self.run.at != self.run.end;
        let set = self.records.get(self.position..).unwrap_or_default();
        let (told, after) = match (is_entered, Entry::first(set)) {
            (true, _) => (Some(self.run.last_offset), set),
            (false, Ok(First::Whole(entry))) => (entry.last_offset(), entry.after),
            (false, _) => (None, set),
        };
        let next = match Entry::first(after) {
            Ok(First::Whole(entry)) => entry.first_offset(),
            _ => None,
        };
        let end = told?.saturating_add(1);
        let end = next.map_or(end, |next| next.min(end));
        (end > self.next_offset).then_some(end)
    }

    /// The memory that it holds: the record set (of which nothing can go before the end) and the
    /// buffer with what is decompressed of it. 0 at the end.
    pub fn remaining_bytes(&self) -> usize {
        self.records.len().saturating_add(self.decompressed_bytes())
    }

    /// The part of it that the buffer with decompressed records takes.
    pub fn decompressed_bytes(&self) -> usize {
        self.decompressed.as_ref().map_or(0, Buffer::held_bytes)
    }

    /// Leaves the current entry and enters the next; `false` at the end of the set. What it enters may
    /// have nothing to give.
    #[cold]
    #[inline(never)]
    fn advance(&mut self, decompressor: &mut Decompressor) -> Result<bool, RecordError> {
        self.given = None;
        self.leave(decompressor)?;
        let records = self.records.clone();
        let set = records.get(self.position..).unwrap_or_default();
        let first = Entry::first(set).map_err(|what| corrupt(self.next_offset, what))?;
        let First::Whole(entry) = first else {
            self.turn_bytes = self.turn_bytes.saturating_add(set.len());
            self.records = Bytes::new();
            self.position = 0;
            self.enter(Run::NONE);
            return Ok(false);
        };
        let run = match entry.magic {
            0 | 1 => self.enter_message(&entry, decompressor)?,
            2 => self.enter_batch(&entry, decompressor)?,
            magic => {
                let offset = self.next_offset;
                return Err(RecordError::UnsupportedMagic { offset, magic });
            }
        };
        let in_place = match self.decompressed {
            None => run.end.saturating_sub(run.at),
            Some(_) => 0,
        };
        // What is read in place is counted as it is passed.
        let passed = entry.bytes.len().saturating_sub(in_place);
        self.turn_bytes = self.turn_bytes.saturating_add(passed);
        self.position = self.position.saturating_add(entry.bytes.len());
        self.enter(run);
        Ok(true)
    }

    fn enter(&mut self, run: Run) {
        self.run = run;
        self.turn_at = run.at;
    }

    /// Goes behind the last offset of the current entry.
    fn leave(&mut self, decompressor: &mut Decompressor) -> Result<(), RecordError> {
        if self.run.at != self.run.end {
            let what = "it has more bytes than its records";
            return Err(corrupt(self.next_offset, what));
        }
        self.count_turn();
        let after = self.run.last_offset.saturating_add(1);
        self.next_offset = self.next_offset.max(after);
        self.give_back(decompressor);
        Ok(())
    }

    fn count_turn(&mut self) {
        let passed = self.run.at.saturating_sub(self.turn_at);
        self.turn_at = self.run.at;
        self.turn_bytes = self.turn_bytes.saturating_add(passed);
    }

    /// What there is to read of a v2 batch; nothing of one that is passed over.
    fn enter_batch(
        &mut self,
        entry: &Entry<'_>,
        decompressor: &mut Decompressor,
    ) -> Result<Run, RecordError> {
        let offset = self.next_offset;
        let batch = Batch::read(entry.bytes).map_err(|what| corrupt(offset, what))?;
        self.check_order(batch.base_offset)?;
        self.leader_epoch = batch.leader_epoch;
        let run = Run::batch(&batch, self.position.saturating_add(entry.bytes.len()));
        let fate = self.fate(&batch);
        let is_past = fate == Fate::Given && batch.last_offset < offset;
        let is_empty = batch.count == 0 && batch.codec() != Ok(None);
        if fate == Fate::Void || is_past || is_empty {
            return Ok(run.passed());
        }
        let codec = batch
            .codec()
            .map_err(|codec| RecordError::UnsupportedCodec { offset, codec })?;
        let mut opened = match codec {
            None => run,
            Some(codec) => run.decompressed(self.decompress(codec, batch.payload, decompressor)?),
        };
        if fate == Fate::Marker {
            self.end_transaction(&batch, opened)?;
            self.give_back(decompressor);
            return Ok(run.passed());
        }
        if batch.base_offset < offset {
            opened
                .skip_to(offset, self.source())
                .map_err(|what| corrupt(offset, what))?;
        }
        Ok(opened)
    }

    /// What there is to read of a message, or of a wrapper's messages; nothing of one that is passed
    /// over.
    fn enter_message(
        &mut self,
        entry: &Entry<'_>,
        decompressor: &mut Decompressor,
    ) -> Result<Run, RecordError> {
        let offset = self.next_offset;
        if !legacy::is_intact(entry.bytes) {
            return Err(corrupt(offset, "its checksum does not match"));
        }
        let message = Message::read(&mut Input::new(entry.bytes))
            .ok_or(corrupt(offset, "the message does not decode"))?;
        self.check_order(message.offset)?;
        self.leader_epoch = -1;
        let end = self.position.saturating_add(entry.bytes.len());
        let run = Run::message(&message, entry.bytes.len(), end);
        if message.offset < offset {
            return Ok(run.passed());
        }
        let codec = message
            .codec()
            .map_err(|codec| RecordError::UnsupportedCodec { offset, codec })?;
        let Some(codec) = codec else {
            return Ok(run);
        };
        let payload = message
            .value
            .ok_or(corrupt(offset, "it is a wrapper of nothing"))?;
        let length = self.decompress(codec, payload, decompressor)?;
        let inner = Inner::of(&message, self.source()).map_err(|what| corrupt(offset, what))?;
        let mut run = Run::wrapper(&message, inner, length);
        if offset == self.fetch_offset {
            run.skip_to(offset, self.source())
                .map_err(|what| corrupt(offset, what))?;
        }
        Ok(run)
    }

    /// Only what the fetch offset points into may begin before it.
    fn check_order(&self, offset: i64) -> Result<(), RecordError> {
        if offset < self.next_offset && self.next_offset > self.fetch_offset {
            let what = "its offsets overlap those before it";
            return Err(corrupt(self.next_offset, what));
        }
        Ok(())
    }

    /// What becomes of a batch's records.
    fn fate(&mut self, batch: &Batch<'_>) -> Fate {
        let transactions = match &mut self.transactions {
            Some(transactions) if batch.producer_id >= 0 => transactions,
            _ if batch.is_control() => return Fate::Void,
            _ => return Fate::Given,
        };
        transactions.begin_up_to(batch.last_offset);
        if batch.is_control() {
            return Fate::Marker;
        }
        if batch.is_transactional() && transactions.is_aborted(batch.producer_id) {
            return Fate::Void;
        }
        Fate::Given
    }

    /// Reads a transaction's marker, the first record of `run`. A batch without one is what compaction
    /// left of it.
    fn end_transaction(&mut self, batch: &Batch<'_>, mut run: Run) -> Result<(), RecordError> {
        if run.left == 0 {
            return Ok(());
        }
        let wrong = corrupt(self.next_offset, "its transaction marker does not decode");
        let marker = run.read_aside(self.source()).map_err(|_| wrong)?;
        let is_abort = v2::is_abort(marker.key).ok_or(wrong)?;
        if let Some(transactions) = &mut self.transactions
            && is_abort
        {
            transactions.end(batch.producer_id);
        }
        Ok(())
    }

    /// Makes `payload` the source, decompressed; gives its length.
    fn decompress(
        &mut self,
        codec: Codec,
        payload: &[u8],
        decompressor: &mut Decompressor,
    ) -> Result<usize, RecordError> {
        let offset = self.next_offset;
        let buffer = decompressor
            .decompress(codec, payload)
            .map_err(|error| match error {
                CodecError::Corrupt(what) => corrupt(offset, what),
                CodecError::TooLarge => RecordError::TooLarge {
                    offset,
                    limit_bytes: decompressor.limit_bytes(),
                },
            })?;
        let length = buffer.filled().len();
        self.turn_bytes = self.turn_bytes.saturating_add(length);
        self.decompressed = Some(buffer);
        Ok(length)
    }

    /// Where the entered records are.
    #[inline]
    fn source(&self) -> &[u8] {
        match &self.decompressed {
            None => &self.records,
            Some(buffer) => buffer.filled(),
        }
    }

    fn give_back(&mut self, decompressor: &mut Decompressor) {
        if let Some(buffer) = self.decompressed.take() {
            decompressor.take_back(buffer);
        }
    }
}

impl fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReader")
            .field("next_offset", &self.next_offset)
            .field("position", &self.position)
            .field("run", &self.run)
            .field("remaining_bytes", &self.remaining_bytes())
            .finish_non_exhaustive()
    }
}

/// What becomes of a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Given,
    /// They end a transaction.
    Marker,
    /// A control batch that says nothing to us, or one of an aborted transaction.
    Void,
}

/// Where a record began, and what `next_offset` was before it.
#[derive(Clone, Copy, Debug)]
struct Given {
    at: usize,
    next_offset: i64,
}

fn corrupt(offset: i64, what: &'static str) -> RecordError {
    RecordError::Corrupt { offset, what }
}
