//! Record batches of format v2 (magic 2), KIP-98.
//!
//! Invariant: a record is read from its own bytes only, and fills them exactly.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::codec::Codec;
use super::input::Input;
use super::{Headers, TimestampType};

/// Where the checksummed part begins: at the attributes, behind the checksum.
const CHECKED_FROM: usize = 21;

/// A batch's header, and its records as they are on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    /// Records' offsets count from here.
    pub(super) base_offset: i64,
    /// The last offset it ever had; compaction may have taken that record.
    pub(super) last_offset: i64,
    /// The epoch of the leader that appended it; -1 when unknown.
    pub(super) leader_epoch: i32,
    /// Records' timestamps count from here.
    pub(super) base_timestamp: i64,
    /// The time of the append, with [`TimestampType::LogAppendTime`].
    pub(super) max_timestamp: i64,
    /// The idempotent or transactional producer; negative when there is none.
    pub(super) producer_id: i64,
    /// How many records are in it.
    pub(super) count: u32,
    /// The records, compressed or not.
    pub(super) payload: &'a [u8],
    /// Compression and flags.
    attributes: u16,
}

impl<'a> Batch<'a> {
    /// Reads the header of a whole batch and compares its checksum.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let checked = bytes.get(CHECKED_FROM..).unwrap_or_default();
        let batch = Self::read_header(bytes, checked).ok_or("it is shorter than its header")?;
        if crc32c::crc32c(checked) != batch.0 {
            return Err("its checksum does not match");
        }
        batch.1.ok_or("its header makes no sense")
    }

    /// How the records are compressed, if they are; an error is the number of an unknown type.
    pub(super) fn codec(&self) -> Result<Option<Codec>, u8> {
        let [_, low] = self.attributes.to_be_bytes();
        Codec::of_attributes(low)
    }

    /// Whether it belongs to a transaction.
    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether it holds a marker, and not records.
    pub(super) fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// What the records' timestamps mean.
    pub(super) fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 0x08 == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The checksum that it should have, and the header, unless that contradicts itself.
    fn read_header(bytes: &'a [u8], checked: &'a [u8]) -> Option<(u32, Option<Self>)> {
        let mut front = Input::new(bytes);
        let base_offset = front.i64()?;
        let _length = front.i32()?;
        let leader_epoch = front.i32()?;
        let _magic = front.i8()?;
        let checksum = front.u32()?;

        let mut input = Input::new(checked);
        let attributes = input.u16()?;
        let last_offset_delta = input.i32()?;
        let base_timestamp = input.i64()?;
        let max_timestamp = input.i64()?;
        let producer_id = input.i64()?;
        let _producer_epoch = input.i16()?;
        let _base_sequence = input.i32()?;
        let count = input.i32()?;
        let payload = input.rest();

        let header = || {
            Some(Self {
                base_offset,
                last_offset: last_offset(base_offset, last_offset_delta)?,
                leader_epoch,
                base_timestamp,
                max_timestamp,
                producer_id,
                count: u32::try_from(count).ok()?,
                payload,
                attributes,
            })
        };
        Some((checksum, header()))
    }
}

/// One record, relative to its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct RelativeRecord<'a> {
    pub(super) offset_delta: i32,
    pub(super) timestamp_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Reads one record.
#[inline(always)]
pub(super) fn read_record<'a>(input: &mut Input<'a>) -> Option<RelativeRecord<'a>> {
    let length = input.length()??;
    let mut body = input.take_input(length)?;
    let _attributes = body.u8()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let key = body.nullable()?;
    let value = body.nullable()?;
    let headers = match body.length()?? {
        0 if body.is_empty() => Headers::default(),
        count => read_headers(count, &body)?,
    };
    Some(RelativeRecord {
        offset_delta,
        timestamp_delta,
        key,
        value,
        headers,
    })
}

#[inline(never)]
fn read_headers<'a>(count: usize, body: &Input<'a>) -> Option<Headers<'a>> {
    Headers::check(u32::try_from(count).ok()?, body.rest())
}

/// Whether the marker with that key ends a transaction by aborting it; `None` for a key that is no
/// marker's. Version (int16), type (int16): 0 is ABORT, 1 is COMMIT, and others may come.
pub(super) fn is_abort(key: Option<&[u8]>) -> Option<bool> {
    let mut input = Input::new(key?);
    let version = input.i16()?;
    let kind = input.i16()?;
    (version >= 0).then_some(kind == 0)
}

/// Last offset and leader epoch, for a walk over headers only.
pub(super) fn last_offset_and_epoch(bytes: &[u8]) -> Option<(i64, i32)> {
    let (_, header) = Batch::read_header(bytes, bytes.get(CHECKED_FROM..)?)?;
    header.map(|batch| (batch.last_offset, batch.leader_epoch))
}

/// `None` when the delta is negative, or leaves no room for an offset after it.
fn last_offset(base_offset: i64, delta: i32) -> Option<i64> {
    let last_offset = base_offset.checked_add(i64::from(delta))?;
    (delta >= 0 && base_offset >= 0 && last_offset < i64::MAX).then_some(last_offset)
}
