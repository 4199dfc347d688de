//! One partition's log: batches as they were sent, with base offset and leader epoch patched in.
//!
//! Those two fields lie outside the crc, so a batch's checksum is the producer's own.
//!
//! Invariant: batches are in offset order and do not overlap; `start <= end`.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::records::{Record, RecordBatchDecoder};

use super::batch::{BatchHead, marker_commits};

/// One partition's log.
#[derive(Debug, Default)]
pub(super) struct Log {
    batches: VecDeque<Stored>,
    start: i64,
    end: i64,
    /// Bytes ever appended; each batch remembers where it ends.
    position: u64,
    epochs: Vec<(i32, i64)>,
    /// First offset of each open transaction, by producer.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
    /// Each producer's last batch.
    sequences: BTreeMap<i64, LastBatch>,
    /// `max.message.bytes`, if it is bounded.
    pub(super) max_message_bytes: Option<usize>,
}

/// The numbers of a producer's last batch, and where it stands.
#[derive(Clone, Copy, Debug)]
struct LastBatch {
    first: i32,
    records: i32,
    base: i64,
}

#[derive(Debug)]
struct Stored {
    base: i64,
    last: i64,
    max_timestamp: i64,
    epoch: i32,
    /// Where it ends in the sum of all bytes.
    position: u64,
    bytes: Bytes,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// Whether appended batches get the log's next offsets or keep their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// The next offsets, as for a producer.
    Assign,
    /// Their own, which must not go back: how gaps of compaction are made.
    Keep,
}

impl Log {
    /// Appends every batch in `raw`; the first one's base offset, or `None` where it is no batch.
    pub(super) fn append(&mut self, raw: Bytes, epoch: i32, offsets: Offsets) -> Option<i64> {
        let mut raw = raw
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let mut heads = Vec::new();
        let mut at = 0;
        while at < raw.len() {
            let mut head = BatchHead::parse(&raw[at..])?;
            if let Some(base) = self.duplicate(&head) {
                return Some(base);
            }
            if offsets == Offsets::Assign {
                head.base_offset = self.end;
                raw[at..at + 8].copy_from_slice(&self.end.to_be_bytes());
            }
            if head.magic >= 2 {
                raw[at + 12..at + 16].copy_from_slice(&epoch.to_be_bytes());
            }
            assert!(
                head.base_offset >= self.end,
                "kept offsets must not go back"
            );
            self.end = head.base_offset + i64::from(head.last_offset_delta) + 1;
            at += head.total_bytes;
            heads.push(head);
        }
        let first = heads.first()?.base_offset;
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, first));
        }
        let mut rest = raw.freeze();
        for head in heads {
            let bytes = rest.split_to(head.total_bytes);
            self.note_producer(&head, &bytes);
            self.position += bytes.len() as u64;
            self.batches.push_back(Stored {
                base: head.base_offset,
                last: head.base_offset + i64::from(head.last_offset_delta),
                max_timestamp: head.max_timestamp,
                epoch,
                position: self.position,
                bytes,
            });
        }
        Some(first)
    }

    /// Forgets everything below `offset`, as retention and DeleteRecords do.
    pub(super) fn delete_before(&mut self, offset: i64) {
        let offset = offset.min(self.end);
        self.start = self.start.max(offset);
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.last < self.start)
        {
            self.batches.pop_front();
        }
        self.aborted.retain(|aborted| aborted.last >= self.start);
    }

    /// Forgets everything from `offset` on, as an unclean election does. Whole batches only.
    pub(super) fn truncate(&mut self, offset: i64) {
        while self
            .batches
            .back()
            .is_some_and(|batch| batch.last >= offset)
        {
            self.batches.pop_back();
        }
        self.end = self.batches.back().map_or(offset, |batch| batch.last + 1);
        self.start = self.start.min(self.end);
        self.position = self
            .batches
            .back()
            .map_or(self.position, |batch| batch.position);
        let end = self.end;
        self.epochs.retain(|(_, start)| *start < end);
        self.open.retain(|_, first| *first < end);
        self.aborted.retain(|aborted| aborted.last < end);
        self.sequences.retain(|_, last| last.base < end);
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// The offset below which no transaction is open.
    pub(super) fn last_stable_offset(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// Bytes of batches that begin at or hold `offset` and lie below `limit`.
    pub(super) fn available(&self, offset: i64, limit: i64) -> u64 {
        let from = self.index_of(offset);
        let to = self.batches.partition_point(|batch| batch.last < limit);
        if from >= to {
            return 0;
        }
        let before = self.batches[from].position - self.batches[from].bytes.len() as u64;
        self.batches[to - 1].position - before
    }

    /// Batches from the one that holds `offset` on, below `limit`, whole ones up to `max_bytes`; with
    /// `at_least_one` the first comes however large it is (KIP-74).
    pub(super) fn read(
        &self,
        offset: i64,
        limit: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> (Bytes, i64) {
        let from = self.index_of(offset);
        let mut taken = Vec::new();
        let mut size = 0;
        let mut next = offset;
        for batch in self.batches.range(from..) {
            let first = taken.is_empty() && at_least_one;
            if batch.last >= limit || (!first && size + batch.bytes.len() > max_bytes) {
                break;
            }
            size += batch.bytes.len();
            next = batch.last + 1;
            taken.push(&batch.bytes);
        }
        match taken.as_slice() {
            [] => (Bytes::new(), next),
            [only] => (Bytes::clone(only), next),
            several => {
                let mut joined = Vec::with_capacity(size);
                for bytes in several {
                    joined.extend_from_slice(bytes);
                }
                (Bytes::from(joined), next)
            }
        }
    }

    /// Transactions that were aborted and touch `from..to`.
    pub(super) fn aborted_within(&self, from: i64, to: i64) -> Vec<Aborted> {
        self.aborted
            .iter()
            .filter(|aborted| aborted.first < to && aborted.last >= from)
            .copied()
            .collect()
    }

    /// Where an epoch ended: the newest epoch at or below it, and the offset after its last record.
    pub(super) fn epoch_end(&self, epoch: i32, current: i32) -> (i32, i64) {
        if epoch == current {
            return (epoch, self.end);
        }
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let Some((_, higher_start)) = self.epochs.get(after) else {
            // Older than the leader, yet nothing was written since: it ended here.
            return match self.epochs.last() {
                Some((last, _)) if epoch < current => (*last, self.end),
                _ => (-1, -1),
            };
        };
        let floor = after.checked_sub(1).and_then(|at| self.epochs.get(at));
        (floor.map_or(epoch, |(known, _)| *known), *higher_start)
    }

    /// The first record at or after that Unix time: offset, timestamp, epoch.
    pub(super) fn find_timestamp(&self, timestamp: i64) -> Option<(i64, i64, i32)> {
        let batch = self
            .batches
            .iter()
            .find(|batch| batch.last >= self.start && batch.max_timestamp >= timestamp)?;
        let decoded = RecordBatchDecoder::decode(&mut Bytes::clone(&batch.bytes)).ok();
        let found = decoded.and_then(|set| {
            set.records
                .iter()
                .find(|record| record.timestamp >= timestamp && record.offset >= self.start)
                .map(|record| (record.offset, record.timestamp, batch.epoch))
        });
        Some(found.unwrap_or((batch.base, batch.max_timestamp, batch.epoch)))
    }

    /// The newest timestamp and the last offset of the batch that has it.
    pub(super) fn max_timestamp(&self) -> Option<(i64, i64, i32)> {
        self.batches
            .iter()
            .max_by_key(|batch| batch.max_timestamp)
            .map(|batch| (batch.last, batch.max_timestamp, batch.epoch))
    }

    /// The epoch that `offset` lies in, even if its record is gone; -1 before the first.
    pub(super) fn epoch_at(&self, offset: i64) -> i32 {
        let after = self.epochs.partition_point(|(_, start)| *start <= offset);
        let found = after.checked_sub(1).and_then(|at| self.epochs.get(at));
        found.map_or(-1, |(epoch, _)| *epoch)
    }

    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.last < offset)
    }

    /// The base offset it got the first time, if this batch was sent before.
    fn duplicate(&self, head: &BatchHead) -> Option<i64> {
        if head.producer.id < 0 || head.producer.sequence < 0 {
            return None;
        }
        let last = self.sequences.get(&head.producer.id)?;
        (last.first == head.producer.sequence).then_some(last.base)
    }

    /// Why a producer's batch is not taken.
    pub(super) fn refuses(&self, raw: &[u8]) -> ErrorCode {
        let Some(head) = BatchHead::parse(raw) else {
            return ErrorCode::CORRUPT_MESSAGE;
        };
        if self.max_message_bytes.is_some_and(|max| raw.len() > max) {
            return ErrorCode::MESSAGE_TOO_LARGE;
        }
        let producer = head.producer;
        if producer.id < 0 || producer.sequence < 0 {
            return ErrorCode::NONE;
        }
        let is_next = match self.sequences.get(&producer.id) {
            None => producer.sequence == 0,
            Some(last) => {
                let again = (last.first, last.records) == (producer.sequence, head.records);
                again || last.first.wrapping_add(last.records) & i32::MAX == producer.sequence
            }
        };
        match is_next {
            true => ErrorCode::NONE,
            false => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        }
    }

    /// Every record that it holds, as it was sent.
    pub(super) fn records(&self) -> Vec<Record> {
        let batches = self.batches.iter();
        let sets = batches.map(|batch| RecordBatchDecoder::decode(&mut Bytes::clone(&batch.bytes)));
        sets.flat_map(|set| set.expect("a batch can be read").records)
            .collect()
    }

    fn note_producer(&mut self, head: &BatchHead, bytes: &[u8]) {
        let producer = head.producer;
        if producer.id < 0 {
            return;
        }
        if producer.sequence >= 0 {
            let last = LastBatch {
                first: producer.sequence,
                records: head.records,
                base: head.base_offset,
            };
            self.sequences.insert(producer.id, last);
        }
        if !head.is_control() {
            if head.is_transactional() {
                self.open.entry(producer.id).or_insert(head.base_offset);
            }
            return;
        }
        let Some(first) = self.open.remove(&producer.id) else {
            return;
        };
        if marker_commits(bytes) == Some(false) {
            self.aborted.push(Aborted {
                producer_id: producer.id,
                first,
                last: head.base_offset,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{BatchOptions, NewRecord, Producer, encode, marker};
    use super::*;

    fn batch(values: &[&'static str]) -> Bytes {
        let records: Vec<_> = values
            .iter()
            .map(|value| NewRecord::value(*value))
            .collect();
        encode(&records, BatchOptions::default())
    }

    fn log_of(batches: usize) -> Log {
        let mut log = Log::default();
        for _ in 0..batches {
            log.append(batch(&["a", "b"]), 0, Offsets::Assign);
        }
        log
    }

    #[test]
    fn first_batch_comes_however_large() {
        let log = log_of(3);
        let (bytes, next) = log.read(1, log.end(), 1, true);
        assert_eq!(next, 2);
        assert_eq!(BatchHead::parse(&bytes).unwrap().base_offset, 0);
        assert_eq!(log.read(1, log.end(), 1, false).0.len(), 0);
    }

    #[test]
    fn available_counts_from_the_batch_that_holds_the_offset() {
        let log = log_of(3);
        let one = batch(&["a", "b"]).len() as u64;
        assert_eq!(log.available(0, 6), 3 * one);
        assert_eq!(log.available(3, 6), 2 * one);
        assert_eq!(log.available(6, 6), 0);
    }

    #[test]
    fn aborted_transaction_is_told_and_holds_the_stable_offset() {
        let mut log = log_of(1);
        let options = BatchOptions {
            producer: Some(Producer {
                id: 9,
                epoch: 0,
                sequence: 0,
            }),
            transactional: true,
            ..BatchOptions::default()
        };
        log.append(
            encode(&[NewRecord::value("x")], options),
            0,
            Offsets::Assign,
        );
        assert_eq!(log.last_stable_offset(), 2);
        log.append(marker(9, 0, false, 0), 0, Offsets::Assign);
        assert_eq!(log.last_stable_offset(), 4);
        let told = log.aborted_within(0, 4);
        assert_eq!((told[0].first, told[0].last), (2, 3));
        assert!(log.aborted_within(0, 2).is_empty());
    }

    #[test]
    fn epoch_ends_where_the_next_began() {
        let mut log = log_of(1);
        log.append(batch(&["c"]), 3, Offsets::Assign);
        assert_eq!(log.epoch_end(0, 3), (0, 2));
        assert_eq!(log.epoch_end(1, 3), (0, 2));
        assert_eq!(log.epoch_end(3, 3), (3, 3));
        assert_eq!(log.epoch_end(9, 3), (-1, -1));
    }

    #[test]
    fn truncation_takes_whole_batches_and_epochs() {
        let mut log = log_of(2);
        log.append(batch(&["c"]), 3, Offsets::Assign);
        log.truncate(4);
        assert_eq!((log.end(), log.epoch_end(0, 5)), (4, (0, 4)));
    }

    #[test]
    fn batch_sent_twice_is_kept_once() {
        let mut log = Log::default();
        let options = BatchOptions {
            producer: Some(Producer {
                id: 9,
                epoch: 0,
                sequence: 5,
            }),
            ..BatchOptions::default()
        };
        let sent = encode(&[NewRecord::value("x")], options);
        assert_eq!(log.append(Bytes::clone(&sent), 0, Offsets::Assign), Some(0));
        assert_eq!(log.append(sent, 0, Offsets::Assign), Some(0));
        assert_eq!(log.end(), 1);
    }
}
