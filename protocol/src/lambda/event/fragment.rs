//! One lane's growing part of an event, written once and sent from where it was written.
//!
//! ```text
//! {"eventSource":..,"records":{   "orders-0":[   {..},{..},{..}   ]}}
//! |------- the shape's head ---|  |-- opening --|  |- records --|  |- tail, at the seal
//! ```
//!
//! Invariant: the exact size of a record is known before a byte of it is written; the buffer always has
//! room for the tail and for the slack that block-wise copying needs.

use bytes::{Bytes, BytesMut};

use super::prefix::Prefix;
use super::text::{self, Output, SLACK_BYTES};
use super::trailing::TrailingHash;
use super::{EventShape, RecordMark, Sealed, TAIL};
use crate::kafka::records::Record;
use crate::kernels::base64;
use crate::limits;

const KEY_OPEN: &[u8; 8] = br#","key":""#;
const VALUE_OPEN: &[u8; 10] = br#","value":""#;
const QUOTE: &[u8; 1] = b"\"";

/// The sizes that buffers come in. A buffer that is outgrown is copied into the next one; all the
/// copies on the way to a full body together are little more than that body.
const SIZE_CLASSES: [usize; 8] = [
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    limits::BODY_BYTES_LIMIT + (4 << 10),
];

const _: () = assert!(SIZE_CLASSES[7] >= limits::BODY_BYTES_LIMIT + TAIL.len() + SLACK_BYTES);

/// Records of one partition on their way into an event.
#[derive(Debug)]
pub struct Fragment {
    /// Initialised to its end; what is written ends at `used`.
    bytes: Vec<u8>,
    used: usize,
    marks: Vec<RecordMark>,
    prefix: Prefix,
    base64: base64::Encoder,
    hash: Option<TrailingHash>,
    partition: i32,
    head_len: usize,
    opening_len: usize,
    replaced_bytes: usize,
}

/// What became of a pushed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// It is in.
    Appended,
    /// With it the body would reach the limit. Nothing changed.
    Full,
    /// Even alone it would reach the limit. Nothing changed.
    Oversized {
        /// The event's size with that record alone.
        body_bytes: usize,
    },
}

impl Fragment {
    /// Begins the part of `partition` in a new or a recycled buffer.
    pub fn new(shape: &EventShape, partition: i32, buffer: impl Into<Buffer>) -> Self {
        let opening = shape.opening(partition);
        let head_len = shape.head().len();
        let used = head_len + opening.len();
        let mut buffer: Buffer = buffer.into();
        if room_for(used) > buffer.room_bytes() {
            buffer = Buffer::with_capacity(room_for(used));
        }
        let Buffer { bytes, mut marks } = buffer;
        marks.clear();
        let mut fragment = Self {
            bytes,
            used,
            marks,
            prefix: Prefix::new(shape.topic(), partition),
            base64: base64::Encoder::new(),
            hash: None,
            partition,
            head_len,
            opening_len: opening.len(),
            replaced_bytes: 0,
        };
        fragment.bytes[..head_len].copy_from_slice(shape.head());
        fragment.bytes[head_len..used].copy_from_slice(&opening);
        fragment
    }

    /// Hashes the body while it is written, where the CPU has time for it; see [`Sealed::digest`].
    pub fn hash_along(&mut self) {
        self.hash = TrailingHash::new();
    }

    /// As [`push_growing`](Self::push_growing), where need be into a new buffer.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>, body_limit: usize) -> Push {
        self.push_growing(record, body_limit, |fragment, bytes| {
            fragment.move_to(Buffer::with_capacity(bytes));
        })
    }

    /// Appends `record`, unless the event of these records alone would then have `body_limit` bytes or
    /// more (at most [`OVERSIZED_EVENT_BYTES_MAX`](limits::OVERSIZED_EVENT_BYTES_MAX)). Where its buffer is too small, `grow`
    /// [moves it](Self::move_to) to one with room for the bytes that it is told.
    #[inline]
    pub fn push_growing(
        &mut self,
        record: &Record<'_>,
        body_limit: usize,
        grow: impl FnOnce(&mut Self, usize),
    ) -> Push {
        debug_assert!(body_limit <= limits::OVERSIZED_EVENT_BYTES_MAX);
        self.prefix.set(record);
        let (headers_len, replaced) = text::headers_len(&record.headers);
        let key_len = member_len(KEY_OPEN, record.key);
        let value_len = member_len(VALUE_OPEN, record.value);
        // The prefix begins with a comma, which the first record does without.
        let record_len = self.prefix.len() - 1 + key_len + value_len + headers_len;
        let body_bytes = self.head_len + self.opening_len + record_len + TAIL.len();
        if body_bytes >= body_limit {
            return Push::Oversized { body_bytes };
        }
        let first = self.marks.is_empty();
        let start = self.used + usize::from(!first);
        let end = start + record_len;
        if end + TAIL.len() >= body_limit {
            return Push::Full;
        }
        let needed = room_for(end);
        if needed > self.bytes.len() {
            grow(self, size_class(needed));
        }
        self.write(record, first, end);
        self.marks.push(RecordMark {
            offset: record.offset,
            timestamp: record.timestamp,
            start: narrow(start),
            end: narrow(end),
        });
        self.replaced_bytes += replaced;
        Push::Appended
    }

    /// Goes on in `larger`, and gives the buffer back that it was in.
    ///
    /// # Panics
    /// If `larger` does not hold what is there.
    #[cold]
    pub fn move_to(&mut self, larger: Buffer) -> Buffer {
        let Buffer { bytes, mut marks } = larger;
        let mut outgrown = Buffer {
            bytes: std::mem::replace(&mut self.bytes, bytes),
            marks: Vec::new(),
        };
        self.bytes[..self.used].copy_from_slice(&outgrown.bytes[..self.used]);
        marks.clear();
        marks.extend_from_slice(&self.marks);
        outgrown.marks = std::mem::replace(&mut self.marks, marks);
        outgrown
    }

    /// Ends it: nothing is added any more.
    pub fn seal(mut self) -> Sealed {
        self.bytes[self.used..self.used + TAIL.len()].copy_from_slice(TAIL);
        let body_len = self.used + TAIL.len();
        let digest = self.hash.map(|hash| hash.finish(&self.bytes[..body_len]));
        Sealed {
            digest,
            buffer: Bytes::from(self.bytes),
            body_len,
            marks: self.marks,
            partition: self.partition,
            head_len: self.head_len,
            opening_len: self.opening_len,
            replaced_bytes: self.replaced_bytes,
        }
    }

    /// Gives the buffer back for another fragment; the records are gone.
    pub fn into_buffer(self) -> Buffer {
        Buffer {
            bytes: self.bytes,
            marks: self.marks,
        }
    }

    /// Records in it.
    pub fn records(&self) -> usize {
        self.marks.len()
    }

    /// The partition that they are of.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Its size as an event of its own.
    pub fn body_bytes(&self) -> usize {
        self.used + TAIL.len()
    }

    /// What it adds to a joint event: the event has [`EventShape::envelope_bytes`] and this of each lane.
    pub fn lane_bytes(&self) -> usize {
        super::lane_bytes(
            self.opening_len,
            self.used - self.head_len - self.opening_len,
        )
    }

    /// Memory that it holds.
    pub fn capacity_bytes(&self) -> usize {
        memory_bytes(&self.bytes, &self.marks)
    }

    /// Bytes of header keys that were not UTF-8 and stand as U+FFFD now (decision 1).
    pub fn replaced_bytes(&self) -> usize {
        self.replaced_bytes
    }

    #[inline]
    fn write(&mut self, record: &Record<'_>, first: bool, end: usize) {
        // Why here: between this and the value lies about as much work as between the value and the next record.
        if let Some(hash) = &mut self.hash {
            hash.follow(&self.bytes[..self.used]);
        }
        let mut out = Output::new(&mut self.bytes, self.used, self.base64, self.hash.as_mut());
        if first {
            out.put_slice(&self.prefix.padded()[1..self.prefix.len()]);
        } else {
            out.put_blocks(self.prefix.padded(), self.prefix.len());
        }
        if let Some(key) = record.key {
            out.put(KEY_OPEN);
            out.put_base64(key);
            out.put(QUOTE);
        }
        if let Some(value) = record.value {
            out.put(VALUE_OPEN);
            out.put_base64(value);
            out.put(QUOTE);
        }
        out.put_headers(&record.headers);
        assert!(out.at() == end, "a record has the size that was foretold");
        self.used = end;
    }
}

/// What a fragment is built in; kept and used again, it spares the kernel's clearing of fresh pages.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    marks: Vec<RecordMark>,
}

impl Buffer {
    /// A buffer of the smallest size class that holds `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: vec![0; size_class(bytes)],
            marks: Vec::new(),
        }
    }

    /// Memory that it holds.
    pub fn capacity_bytes(&self) -> usize {
        memory_bytes(&self.bytes, &self.marks)
    }

    /// Bytes that can be written.
    pub fn room_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn recycle(bytes: Vec<u8>, marks: Vec<RecordMark>) -> Self {
        Self { bytes, marks }
    }
}

impl From<BytesMut> for Buffer {
    fn from(bytes: BytesMut) -> Self {
        let mut bytes = Vec::from(bytes);
        bytes.resize(bytes.capacity(), 0);
        Self {
            bytes,
            marks: Vec::new(),
        }
    }
}

pub(super) fn memory_bytes(bytes: &[u8], marks: &Vec<RecordMark>) -> usize {
    bytes.len() + marks.capacity() * size_of::<RecordMark>()
}

#[inline]
fn member_len(open: &[u8], bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, |bytes| {
        open.len() + base64::encoded_len(bytes.len()) + QUOTE.len()
    })
}

/// The least buffer for `end` bytes: the tail and the slack come behind them.
#[inline]
fn room_for(end: usize) -> usize {
    end + TAIL.len() + SLACK_BYTES
}

fn size_class(bytes: usize) -> usize {
    let class = SIZE_CLASSES.iter().find(|class| **class >= bytes);
    class.copied().unwrap_or(bytes)
}

/// A position inside a body.
#[inline]
fn narrow(position: usize) -> u32 {
    u32::try_from(position).expect("a body stays below its limit, which is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::records::{Headers, TimestampType};

    #[test]
    fn a_buffer_grows_by_classes() {
        let value = [7; 3000];
        let record = Record {
            offset: 0,
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            key: None,
            value: Some(&value),
            headers: Headers::default(),
        };
        let shape = EventShape::new("k:9092", "t");
        let mut fragment = Fragment::new(&shape, 0, Buffer::default());
        let mut sizes = vec![fragment.bytes.len()];
        assert_eq!(sizes, [4 << 10], "a lane with little holds little");
        while fragment.push(&record, limits::BODY_BYTES_LIMIT) == Push::Appended {
            sizes.push(fragment.bytes.len());
        }
        sizes.dedup();
        assert_eq!(sizes, SIZE_CLASSES);
        let copied: usize = sizes[..7].iter().sum();
        assert!(copied < limits::BODY_BYTES_LIMIT * 5 / 4);
    }
}
