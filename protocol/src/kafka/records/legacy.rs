//! Message sets, the formats before record batches: v0 and v1 (magic 0 and 1), KIP-31, KIP-32.
//!
//! A message is an entry of its own, or a wrapper: its value is then a compressed set of messages of
//! the same format, with the wrapper's offset that of the last of them.
//!
//! Invariant: a message is read from its own bytes only, and fills them exactly; wrappers do not nest.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::TimestampType;
use super::codec::Codec;
use super::input::Input;

/// Where the checksum stands, and what it covers behind it.
const CHECKSUM_AT: usize = 12;

/// A message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// In the partition; in a wrapper of format v1, relative to its first message.
    pub(super) offset: i64,
    /// Its format.
    pub(super) magic: i8,
    /// -1 in format v0.
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    attributes: u8,
}

impl<'a> Message<'a> {
    /// Reads one message; `None` when it does not decode, or is cut.
    pub(super) fn read(input: &mut Input<'a>) -> Option<Self> {
        let offset = input.i64()?;
        let length = usize::try_from(input.i32()?).ok()?;
        let mut body = input.take_input(length)?;
        let _checksum = body.u32()?;
        let magic = body.i8()?;
        let attributes = body.u8()?;
        let timestamp = match magic {
            0 => -1,
            1 => body.i64()?,
            _ => return None,
        };
        let message = Self {
            offset,
            magic,
            timestamp,
            key: body.nullable_i32()?,
            value: body.nullable_i32()?,
            attributes,
        };
        body.is_empty().then_some(message)
    }

    /// How its value is compressed, if it is a wrapper; an error is the number of a type that its
    /// format does not have.
    pub(super) fn codec(&self) -> Result<Option<Codec>, u8> {
        match Codec::of_attributes(self.attributes) {
            // These formats have no zstd.
            Ok(Some(Codec::Zstd)) => Err(Codec::Zstd.number()),
            other => other,
        }
    }

    /// What the timestamp means.
    pub(super) fn timestamp_type(&self) -> TimestampType {
        match self.magic {
            0 => TimestampType::NoTimestamp,
            _ if self.attributes & 0x08 == 0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }
}

/// Whether the checksum of a message matches `bytes`, the whole of it. Only what stands in the record
/// set itself is compared: a wrapper's covers its messages.
pub(super) fn is_intact(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes.get(CHECKSUM_AT..).unwrap_or_default());
    input.u32() == Some(crc32fast::hash(input.rest()))
}

/// A wrapper's messages, looked through before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inner {
    /// How many they are.
    pub(super) count: u32,
    /// What to add to their offsets.
    pub(super) base_offset: i64,
}

impl Inner {
    /// Looks through `set`, what `wrapper` decompresses to; an error says what is wrong with it.
    pub(super) fn of(wrapper: &Message<'_>, set: &[u8]) -> Result<Self, &'static str> {
        let mut count = 0_u32;
        let mut last_offset = 0;
        let mut input = Input::new(set);
        while !input.is_empty() {
            let message =
                Message::read(&mut input).ok_or("a compressed message does not decode")?;
            if message.magic != wrapper.magic {
                return Err("a compressed message has another format than its wrapper");
            }
            if message.codec() != Ok(None) {
                return Err("a compressed message is a wrapper itself");
            }
            last_offset = message.offset;
            count = count.saturating_add(1);
        }
        // In format v0 they are the partition's own offsets.
        let base_offset = match wrapper.magic {
            0 => 0,
            _ => wrapper
                .offset
                .checked_sub(last_offset)
                .ok_or("a compressed message's offset makes no sense")?,
        };
        Ok(Self { count, base_offset })
    }
}
