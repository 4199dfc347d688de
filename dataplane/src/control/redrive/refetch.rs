//! Records of which a document has the offsets alone, read again from the mapping's topic and made into events as a shard
//! makes them.
//!
//! Invariant: what is not there any more is told, and records that a filter passes over stay out, as they never failed.

use std::collections::VecDeque;

use forebay_protocol::filter::{Scratch, Subject};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::records::{Decompressor, Record, RecordReader};
use forebay_protocol::lambda::event::{
    Buffer, EventShape, EventText, Fragment, Push, Sealed, frame_event, framed_bytes,
};
use forebay_protocol::lambda::failure::{LaneRange, iso_utc};
use forebay_protocol::limits::{BATCH_SIZE_MAX, OVERSIZED_EVENT_BYTES_MAX};

use super::brokers::{Asking, Brokers, BrokersError};
use super::progress::Offsets;
use crate::mapping::Mapping;

/// Of one document no more bytes of records are held than this: a batch has less, unless
/// filters have changed since.
const RECORD_BYTES_MAX: usize = 2 * OVERSIZED_EVENT_BYTES_MAX;

/// What came of a document's offsets.
#[derive(Debug, Default)]
pub(super) struct Refetched {
    /// What is to be sent, in this order.
    pub(super) events: Vec<EventText>,
    /// Offsets that retention has taken.
    pub(super) taken: Vec<Span>,
    /// Offsets without a record: compacted, or markers of transactions.
    pub(super) gaps: Vec<Span>,
    /// Records that no call may carry.
    pub(super) oversized: Vec<Span>,
    /// Records that are there and no filter passes over.
    pub(super) found: u64,
    /// What is in their keys and values.
    pub(super) bytes: usize,
}

/// Offsets of one partition: the first and the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) partition: i32,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// What is read, and how events are made of it.
pub(super) struct Refetch<'a> {
    pub(super) brokers: &'a mut Brokers,
    pub(super) mapping: &'a Mapping,
    /// Whether events go to the function, which takes no larger one.
    pub(super) calls: bool,
    /// What was sent before.
    pub(super) sent: &'a Offsets,
}

/// Why nothing can be made of a document.
#[derive(Debug)]
pub(super) enum RefetchError {
    /// Of this document.
    Document(String),
    /// The cluster cannot be asked: of any.
    Brokers(String),
}

/// One partition's records on their way into events.
struct Lane<'a> {
    range: &'a LaneRange,
    shape: &'a EventShape,
    open: Option<Fragment>,
    sealed: Vec<Sealed>,
    /// The next offset that is looked for.
    next: i64,
}

impl Refetch<'_> {
    /// Reads all of a document's offsets.
    pub(super) async fn run(&mut self, ranges: &[LaneRange]) -> Result<Refetched, RefetchError> {
        let shape = EventShape::new(&self.mapping.bootstrap_servers, &self.mapping.topic);
        let mut refetched = Refetched::default();
        let mut sealed = Vec::new();
        for range in ranges {
            let mut lane = Lane {
                range,
                shape: &shape,
                open: None,
                sealed: Vec::new(),
                next: range.first_offset,
            };
            self.read(&mut lane, &mut refetched).await?;
            lane.seal();
            sealed.append(&mut lane.sealed);
        }
        refetched.events = self.events(&shape, sealed)?;
        Ok(refetched)
    }

    /// Reads one partition from its first offset to its last.
    async fn read(
        &mut self,
        lane: &mut Lane<'_>,
        into: &mut Refetched,
    ) -> Result<(), RefetchError> {
        self.begin(lane, into).await?;
        let (mut decompressor, mut scratch) = (Decompressor::new(), Scratch::default());
        let mut asking = Asking::new();
        while lane.next <= lane.range.last_offset {
            let (topic, partition) = (&self.mapping.topic, lane.range.partition);
            let fetched = match self
                .brokers
                .fetch(topic, partition, lane.next, asking.bytes)
                .await
            {
                // Retention has overtaken us.
                Err(BrokersError::Refused(ErrorCode::OFFSET_OUT_OF_RANGE, _)) => {
                    self.begin(lane, into).await?;
                    continue;
                }
                fetched => fetched.map_err(of_brokers)?,
            };
            let (before, has_part) = (lane.next, !fetched.records.is_empty());
            let aborted = fetched.aborted_transactions;
            let committed = self.mapping.kafka.read_committed;
            let mut reader = RecordReader::new(fetched.records, lane.next, aborted, committed);
            loop {
                match reader.next(&mut decompressor) {
                    Ok(Some(record)) if record.offset <= lane.range.last_offset => {
                        self.take(lane, &record, &mut scratch, into)?;
                    }
                    Ok(Some(_)) => {
                        lane.pass_to(lane.range.last_offset.saturating_add(1), into);
                        break;
                    }
                    Ok(None) => {
                        lane.pass_to(reader.next_offset(), into);
                        break;
                    }
                    Err(error) => return Err(RefetchError::Document(error.to_string())),
                }
            }
            reader.close(&mut decompressor);
            if lane.next > before {
                continue;
            }
            if !asking.goes_on(has_part) {
                let what = format!(
                    "{topic}-{partition} gives no record from offset {} on",
                    lane.next
                );
                return Err(RefetchError::Document(what));
            }
        }
        Ok(())
    }

    /// Passes over what is not there any more.
    async fn begin(
        &mut self,
        lane: &mut Lane<'_>,
        into: &mut Refetched,
    ) -> Result<(), RefetchError> {
        let (topic, partition) = (&self.mapping.topic, lane.range.partition);
        let start = self.brokers.start(topic, partition).await;
        let start = start.map_err(of_brokers)?;
        if start > lane.next {
            let last = lane.range.last_offset.min(start - 1);
            into.taken.push(Span {
                partition,
                first: lane.next,
                last,
            });
            lane.next = last + 1;
        }
        let end = self.brokers.end(topic, partition).await;
        let end = end.map_err(of_brokers)?;
        if lane.next <= lane.range.last_offset && end <= lane.range.last_offset {
            let what = format!(
                "{topic}-{partition} ends before offset {end}, and the document speaks of {}: was the topic made anew?",
                lane.range.last_offset
            );
            return Err(RefetchError::Document(what));
        }
        Ok(())
    }

    /// Takes a record that lies within the lane's offsets.
    fn take(
        &self,
        lane: &mut Lane<'_>,
        record: &Record<'_>,
        scratch: &mut Scratch,
        into: &mut Refetched,
    ) -> Result<(), RefetchError> {
        lane.pass_to(record.offset, into);
        lane.next = record.offset + 1;
        lane.check_time(record)?;
        if self.filters_out(lane.range.partition, record, scratch) {
            return Ok(());
        }
        into.found += 1;
        into.bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if into.found > u64::from(BATCH_SIZE_MAX) || into.bytes > RECORD_BYTES_MAX {
            let what = "its offsets hold more records than a batch can have; have FilterCriteria changed since?";
            return Err(RefetchError::Document(what.to_owned()));
        }
        let sent = self.sent.get(&lane.range.partition);
        if sent.is_some_and(|sent| sent.contains(&record.offset)) {
            return Ok(());
        }
        let batch_size = usize::try_from(self.mapping.batch_size).unwrap_or(usize::MAX);
        if !lane.push(record, self.limit(), batch_size) {
            into.oversized.push(Span {
                partition: lane.range.partition,
                first: record.offset,
                last: record.offset,
            });
        }
        Ok(())
    }

    fn limit(&self) -> usize {
        match self.calls {
            true => self.mapping.body_limit,
            false => OVERSIZED_EVENT_BYTES_MAX,
        }
    }

    fn filters_out(&self, partition: i32, record: &Record<'_>, scratch: &mut Scratch) -> bool {
        let subject = Subject {
            topic: &self.mapping.topic,
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: record.timestamp_type.name(),
            key: record.key,
            value: record.value,
        };
        let filters = &self.mapping.filters;
        !filters.is_empty() && !filters.passes(&subject, scratch)
    }

    /// Partitions go together as far as BatchSize and the cap allow; one is split only where it does not fit alone.
    fn events(
        &self,
        shape: &EventShape,
        sealed: Vec<Sealed>,
    ) -> Result<Vec<EventText>, RefetchError> {
        let batch_size = usize::try_from(self.mapping.batch_size).unwrap_or(usize::MAX);
        let whole = |it| (it, 0..Sealed::records(it).len());
        let mut waiting: VecDeque<&Sealed> = sealed.iter().collect();
        let mut events = Vec::new();
        while let Some(first) = waiting.pop_front() {
            let mut parts = vec![whole(first)];
            while let Some(next) = waiting.front() {
                parts.push(whole(next));
                let records: usize = parts.iter().map(|(_, range)| range.len()).sum();
                if records > batch_size || framed_bytes(shape, &parts) >= self.limit() {
                    parts.pop();
                    break;
                }
                waiting.pop_front();
            }
            let text = frame_event(shape, &parts).concat();
            let text = String::from_utf8(text).expect("an event is ASCII (decision 3)");
            let event = EventText::read(text);
            events.push(event.map_err(|error| RefetchError::Document(error.to_string()))?);
        }
        Ok(events)
    }
}

impl Lane<'_> {
    /// Whether the record fits any event.
    fn push(&mut self, record: &Record<'_>, limit: usize, batch_size: usize) -> bool {
        loop {
            let open = self.open.get_or_insert_with(|| {
                Fragment::new(self.shape, self.range.partition, Buffer::default())
            });
            match open.push(record, limit) {
                Push::Appended => {
                    if open.records() >= batch_size {
                        self.seal();
                    }
                    return true;
                }
                Push::Full => self.seal(),
                Push::Oversized { .. } => return false,
            }
        }
    }

    fn seal(&mut self) {
        let open = self.open.take().filter(|open| open.records() > 0);
        self.sealed.extend(open.map(Fragment::seal));
    }

    /// Between the offset that is looked for and that one there is no record.
    fn pass_to(&mut self, offset: i64, into: &mut Refetched) {
        let last = self.range.last_offset.min(offset - 1);
        if last >= self.next {
            into.gaps.push(Span {
                partition: self.range.partition,
                first: self.next,
                last,
            });
        }
        self.next = self.next.max(offset);
    }

    /// A topic that was made anew has other records at the same offsets: mostly their times tell.
    fn check_time(&self, record: &Record<'_>) -> Result<(), RefetchError> {
        let told = [
            (self.range.first_offset, &self.range.first_time),
            (self.range.last_offset, &self.range.last_time),
        ];
        let found = iso_utc(record.timestamp);
        let differs = |(offset, time): &(i64, &String)| {
            *offset == record.offset && time.len() == found.len() && **time != found
        };
        match told.iter().find(|it| differs(it)) {
            Some((offset, time)) => Err(RefetchError::Document(format!(
                "the record at offset {offset} of partition {} is of {found}, and the one that failed was of {time}: was \
                 the topic made anew?",
                self.range.partition
            ))),
            None => Ok(()),
        }
    }
}

fn of_brokers(error: BrokersError) -> RefetchError {
    match error {
        BrokersError::Unreachable(reason) => RefetchError::Brokers(reason),
        error => RefetchError::Document(error.to_string()),
    }
}
