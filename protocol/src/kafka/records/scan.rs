//! The walk over a record set's batches by their headers alone.
//!
//! Invariant: record bytes are not touched; only whole batches count, and a cut tail is the end.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::RecordError;
use super::codec::Codec;
use super::input::Input;
use super::v2;

/// Bytes in front of what a batch's length counts: its offset and the length.
const LENGTH_OVERHEAD: usize = 12;
/// Where every format keeps its magic.
const MAGIC_OFFSET: usize = 16;
/// Where a batch has the low byte of its attributes,
const ATTRIBUTES_OFFSET: usize = 22;
/// and a message its one.
const MESSAGE_ATTRIBUTES_OFFSET: usize = 17;
/// A message of format v0 with null key and value: the shortest entry there is.
const ENTRY_BYTES_MIN: usize = 26;

/// What a record set holds, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetScan {
    /// Whole batches (or messages of the formats before v2).
    pub batches: usize,
    /// The offset after the last whole batch; `None` when there is none.
    pub next_offset: Option<i64>,
    /// The leader's epoch in the last whole batch; -1 when it has none.
    pub leader_epoch: i32,
    /// How the last whole batch is compressed.
    pub codec: Option<Codec>,
    /// When even the first batch is cut: the least bytes that a fetch must ask for to get it whole.
    pub cut_first_bytes: Option<usize>,
}

/// Walks the headers of `records`, without a look at what is in the batches.
///
/// # Errors
///
/// When the first header makes no sense; the walk ends before a later one that does not. The checksums are not looked
/// at: what this says is a forecast, and the reader has the last word.
pub fn scan(records: &Bytes) -> Result<SetScan, RecordError> {
    let mut found = SetScan {
        batches: 0,
        next_offset: None,
        leader_epoch: -1,
        codec: None,
        cut_first_bytes: None,
    };
    match walk(records, &mut found) {
        Err(error) if found.batches == 0 => Err(error),
        Ok(()) | Err(_) => Ok(found),
    }
}

/// Walks as far as headers make sense.
fn walk(records: &[u8], found: &mut SetScan) -> Result<(), RecordError> {
    let mut rest = records;
    loop {
        let offset = found.next_offset.unwrap_or(-1);
        let entry = match Entry::first(rest) {
            Ok(First::Whole(entry)) => entry,
            Ok(First::Cut { bytes }) => {
                if found.batches == 0 && !rest.is_empty() {
                    found.cut_first_bytes = Some(bytes);
                }
                return Ok(());
            }
            Err(what) => return Err(RecordError::Corrupt { offset, what }),
        };
        let (last_offset, leader_epoch) = match entry.magic {
            0 | 1 => (entry.offset, -1),
            2 => v2::last_offset_and_epoch(entry.bytes).ok_or(RecordError::Corrupt {
                offset,
                what: "its header makes no sense",
            })?,
            magic => return Err(RecordError::UnsupportedMagic { offset, magic }),
        };
        found.batches = found.batches.saturating_add(1);
        found.next_offset = Some(last_offset.saturating_add(1));
        found.leader_epoch = leader_epoch;
        found.codec = entry.codec();
        rest = entry.after;
    }
}

/// One entry of a record set: a batch of format v2, or a message of an older one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// The base offset of a batch; the offset of a message (a wrapper's: its last message's).
    pub(super) offset: i64,
    /// The format.
    pub(super) magic: i8,
    /// All of it, offset and length included.
    pub(super) bytes: &'a [u8],
    /// What follows it.
    pub(super) after: &'a [u8],
}

/// What stands first in a record set.
#[derive(Clone, Copy, Debug)]
pub(super) enum First<'a> {
    /// An entry that is all there.
    Whole(Entry<'a>),
    /// Nothing, or an entry's beginning; it has at least so many bytes in all.
    Cut { bytes: usize },
}

impl<'a> Entry<'a> {
    /// How it is compressed, as far as its header tells.
    fn codec(&self) -> Option<Codec> {
        let at = match self.magic {
            2 => ATTRIBUTES_OFFSET,
            _ => MESSAGE_ATTRIBUTES_OFFSET,
        };
        let attributes = self.bytes.get(at)?;
        Codec::of_attributes(*attributes).ok().flatten()
    }

    /// The last offset that it accounts for, as its header tells.
    pub(super) fn last_offset(&self) -> Option<i64> {
        match self.magic {
            0 | 1 => Some(self.offset),
            2 => v2::last_offset_and_epoch(self.bytes).map(|(offset, _)| offset),
            _ => None,
        }
    }

    /// The first offset that it may account for; a message's wrapper tells its last alone.
    pub(super) fn first_offset(&self) -> Option<i64> {
        (self.magic == 2).then_some(self.offset)
    }

    /// Takes the first entry of `set`; an error says what is wrong with its header.
    pub(super) fn first(set: &'a [u8]) -> Result<First<'a>, &'static str> {
        let mut input = Input::new(set);
        let (Some(offset), Some(length)) = (input.i64(), input.i32()) else {
            return Ok(First::Cut {
                bytes: ENTRY_BYTES_MIN,
            });
        };
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let bytes = length.saturating_add(LENGTH_OVERHEAD);
        if bytes < ENTRY_BYTES_MIN {
            return Err("its length is less than any header");
        }
        let Some((entry, after)) = set.split_at_checked(bytes) else {
            return Ok(First::Cut { bytes });
        };
        let magic = entry
            .get(MAGIC_OFFSET)
            .ok_or("its length is less than any header")?
            .cast_signed();
        if !(0..i64::MAX).contains(&offset) {
            return Err("its offset is negative, or has none after it");
        }
        Ok(First::Whole(Self {
            offset,
            magic,
            bytes: entry,
            after,
        }))
    }
}
