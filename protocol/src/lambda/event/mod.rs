//! The event that a function is called with, byte for byte (contract section 1, decisions 1 to 5).
//!
//! A lane's records are encoded into a [`Fragment`] as they arrive; sealed, it is the body of a call of
//! its own. [`frame_event`] makes the event of any records of any lanes out of sealed fragments, without
//! encoding again: for joint batches, halves and partial retries. [`EventText`] is the way back, from an event to its
//! records.
//!
//! Source: the AWS Lambda Developer Guide, "Using Lambda with self-managed Apache Kafka".
//!
//! Invariant: the same records in the same order give the same bytes, however they were framed; nothing
//! is allocated per record.

mod fragment;
mod key;
mod prefix;
mod reading;
mod text;
mod trailing;

use std::ops::Range;

use bytes::Bytes;

use crate::sigv4::PayloadDigest;

pub use fragment::{Buffer, Fragment, Push};
pub use reading::{EventRecord, EventText, NoEvent};

/// What ends every event.
const TAIL: &[u8; 3] = b"]}}";

/// Between two lanes, after the first one's records.
const LANE_CLOSE: &[u8; 2] = b"],";

/// A piece shorter than this is copied together with its neighbours: a piece that is sent by itself costs
/// about as much as copying that many bytes.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// What the events of one mapping have in common.
#[derive(Clone, Debug)]
pub struct EventShape {
    /// `{"eventSource":"SelfManagedKafka","bootstrapServers":"..","records":{`
    head: Bytes,
    /// The topic's name, escaped for JSON.
    topic: Vec<u8>,
}

impl EventShape {
    /// `bootstrap_servers` are the configured endpoints in their order, joined by `,` (decision 2).
    pub fn new(bootstrap_servers: &str, topic: &str) -> Self {
        let mut head = br#"{"eventSource":"SelfManagedKafka","bootstrapServers":""#.to_vec();
        head.extend(text::escaped(bootstrap_servers));
        head.extend_from_slice(br#"","records":{"#);
        Self {
            head: Bytes::from(head),
            topic: text::escaped(topic),
        }
    }

    /// What a joint event has beside the [`lane_bytes`](Fragment::lane_bytes) of its lanes.
    pub fn envelope_bytes(&self) -> usize {
        // Each lane is counted with the comma before it, which the first does without.
        self.head.len() + b"}}".len() - b",".len()
    }

    fn head(&self) -> &[u8] {
        &self.head
    }

    fn topic(&self) -> &[u8] {
        &self.topic
    }

    /// `"topic-partition":[`
    fn opening(&self, partition: i32) -> Vec<u8> {
        let mut opening = Vec::with_capacity(self.topic.len() + 16);
        opening.push(b'"');
        opening.extend_from_slice(&self.topic);
        opening.push(b'-');
        text::append_decimal(&mut opening, i64::from(partition));
        opening.extend_from_slice(br#"":["#);
        opening
    }
}

/// Where a record lies, and what the delivery core asks about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMark {
    /// Its offset in the partition.
    pub offset: i64,
    /// Unix milliseconds; -1 when there is none.
    pub timestamp: i64,
    start: u32,
    end: u32,
}

impl RecordMark {
    /// Where its JSON lies in [`Sealed::body`], commas not included.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Records of one partition, encoded: the event of them all, and where each lies in it.
#[derive(Debug)]
pub struct Sealed {
    /// The whole buffer; the event is its beginning.
    buffer: Bytes,
    body_len: usize,
    marks: Vec<RecordMark>,
    partition: i32,
    head_len: usize,
    opening_len: usize,
    replaced_bytes: usize,
    digest: Option<PayloadDigest>,
}

impl Sealed {
    /// The records, in offset order.
    pub fn records(&self) -> &[RecordMark] {
        &self.marks
    }

    /// The partition that they are of.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The event of all of its records.
    pub fn body(&self) -> Bytes {
        self.buffer.slice(..self.body_len)
    }

    /// The hash of the event of those records, if it is known already.
    pub fn digest(&self, range: &Range<usize>) -> Option<PayloadDigest> {
        self.digest.filter(|_| *range == (0..self.marks.len()))
    }

    /// Memory that it holds.
    pub fn capacity_bytes(&self) -> usize {
        fragment::memory_bytes(&self.buffer, &self.marks)
    }

    /// What the records of `range` add to a joint event; see [`EventShape::envelope_bytes`].
    pub fn lane_bytes(&self, range: Range<usize>) -> usize {
        lane_bytes(self.opening_len, self.span(&range).len())
    }

    /// Bytes of header keys that were not UTF-8 and stand as U+FFFD now (decision 1).
    pub fn replaced_bytes(&self) -> usize {
        self.replaced_bytes
    }

    /// Gives the buffer back for another fragment, if no piece of it is held elsewhere.
    pub fn into_buffer(self) -> Option<Buffer> {
        self.buffer
            .is_unique()
            .then(|| Buffer::recycle(Vec::from(self.buffer), self.marks))
    }

    /// Where the records of `range` lie, from the first one's beginning to the last one's end.
    fn span(&self, range: &Range<usize>) -> Range<usize> {
        match &self.marks[range.clone()] {
            [] => 0..0,
            [one] => one.range(),
            [first, .., last] => first.start as usize..last.end as usize,
        }
    }
}

/// The event of those records, as a short list of pieces: their concatenation is the body.
///
/// The parts of one partition stand next to one another, in offset order; a part without records adds
/// nothing. The parts together have at least one record.
pub fn frame_event(shape: &EventShape, parts: &[(&Sealed, Range<usize>)]) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    let mut open: Option<i32> = None;
    for (sealed, range) in parts {
        let span = sealed.span(range);
        if span.is_empty() {
            continue;
        }
        debug_assert_eq!(&sealed.buffer[..sealed.head_len], shape.head());
        match open {
            Some(partition) if partition == sealed.partition => pieces.copy(b","),
            Some(_) => {
                pieces.copy(LANE_CLOSE);
                pieces.add(sealed, sealed.head_len..sealed.records_start());
            }
            None => pieces.add(sealed, 0..sealed.records_start()),
        }
        open = Some(sealed.partition);
        pieces.add(sealed, span);
    }
    assert!(open.is_some(), "an event carries at least one record");
    pieces.end()
}

/// The size of the event that [`frame_event`] makes of the same parts.
pub fn framed_bytes(shape: &EventShape, parts: &[(&Sealed, Range<usize>)]) -> usize {
    let mut open = None;
    let lanes = parts.iter().map(|(sealed, range)| {
        let span = sealed.span(range).len();
        if span == 0 {
            return 0;
        }
        match open.replace(sealed.partition) {
            Some(partition) if partition == sealed.partition => b",".len() + span,
            _ => lane_bytes(sealed.opening_len, span),
        }
    });
    shape.envelope_bytes() + lanes.sum::<usize>()
}

impl Sealed {
    fn records_start(&self) -> usize {
        self.head_len + self.opening_len
    }
}

/// What a lane adds to an event: a comma, its opening, its records, the closing bracket.
fn lane_bytes(opening: usize, records: usize) -> usize {
    b",".len() + opening + records + b"]".len()
}

/// Pieces on their way: neighbours in one buffer are one piece, short pieces are copied together.
#[derive(Default)]
struct Pieces<'a> {
    done: Vec<Bytes>,
    /// Short pieces in a row. They are copied together once all of them are known, into just the room that they take:
    /// room that grows is memory that the kernel may have to clear first.
    short: Vec<&'a [u8]>,
    /// The last piece, not yet in either.
    last: Option<(&'a Sealed, Range<usize>)>,
}

impl<'a> Pieces<'a> {
    fn add(&mut self, sealed: &'a Sealed, range: Range<usize>) {
        if let Some((of, last)) = &mut self.last
            && std::ptr::eq(*of, sealed)
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.settle();
        self.last = Some((sealed, range));
    }

    fn copy(&mut self, text: &'static [u8]) {
        self.settle();
        self.short.push(text);
    }

    /// Ends the event, and with it the list.
    fn end(mut self) -> Vec<Bytes> {
        let tail = self.last.as_ref().map(|(sealed, range)| {
            let end = sealed.body_len - TAIL.len();
            (*sealed, end, range.end == end)
        });
        match tail {
            Some((sealed, end, true)) => self.add(sealed, end..sealed.body_len),
            _ => self.copy(TAIL),
        }
        // A piece that is alone is not copied, short as it may be.
        if self.done.is_empty() && self.short.is_empty() {
            return self
                .last
                .map_or_else(Vec::new, |(sealed, range)| vec![sealed.buffer.slice(range)]);
        }
        self.settle();
        self.flush();
        self.done
    }

    /// Puts the last piece where it belongs.
    fn settle(&mut self) {
        let Some((sealed, range)) = self.last.take() else {
            return;
        };
        if range.len() < PIECE_BYTES_MIN {
            self.short.push(&sealed.buffer[range]);
        } else {
            self.flush();
            self.done.push(sealed.buffer.slice(range));
        }
    }

    fn flush(&mut self) {
        if !self.short.is_empty() {
            self.done.push(Bytes::from(self.short.concat()));
            self.short.clear();
        }
    }
}

#[cfg(test)]
mod tests;
