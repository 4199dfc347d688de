//! Records as they lie in a fetched record set, read in place.
//!
//! [`RecordReader`] walks one partition's record set between bounded turns and lends record after
//! record; [`scan`] only looks at the batches' headers, so that the next fetch can be asked for before
//! this one is decoded. Uncompressed batches are read where they were received, compressed ones from
//! a buffer that [`Decompressor`] lends and takes back.
//!
//! Sources: Apache Kafka's "Message Format" page, KIP-31 and KIP-32 (message sets v1), KIP-57 (LZ4
//! framing), KIP-98 (record batches v2, transactions), KIP-110 (zstd), and `CompletedFetch` of the
//! Java consumer for what a reader passes over.
//!
//! Invariant: nothing is allocated per record, nor per batch once the buffers have grown; no count and
//! no size on the wire reserves memory by itself.

mod codec;
#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod compress;
#[cfg(test)]
mod encode;
mod input;
mod legacy;
#[cfg(test)]
mod legacy_tests;
#[cfg(test)]
mod property_tests;
mod reader;
#[cfg(test)]
mod reader_tests;
mod run;
mod scan;
mod transactions;
mod v2;
pub mod write;

pub use codec::{Codec, Decompressor};
pub use reader::RecordReader;
pub use scan::{SetScan, scan};

/// Where a record's timestamp comes from; the names in the event are Java's enum constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Format v0 has no timestamps.
    NoTimestamp,
    /// The producer's clock.
    CreateTime,
    /// The broker's clock, at append.
    LogAppendTime,
}

impl TimestampType {
    /// Its name in the event.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoTimestamp => "NO_TIMESTAMP_TYPE",
            Self::CreateTime => "CREATE_TIME",
            Self::LogAppendTime => "LOG_APPEND_TIME",
        }
    }
}

/// One record, borrowed from the fetched (or the decompressed) bytes.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Unix milliseconds; -1 when there is none.
    pub timestamp: i64,
    /// What the timestamp means.
    pub timestamp_type: TimestampType,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers, in wire order, duplicates kept.
    pub headers: Headers<'a>,
}

/// A record's headers, still encoded as in format v2 and already checked to decode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// How many there are.
    count: u32,
    /// Their bytes.
    encoded: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Takes over `encoded` as it stands at the end of a v2 record: the count, then the headers.
    /// `None` when it does not decode to its last byte.
    pub fn read(encoded: &'a [u8]) -> Option<Self> {
        let mut input = input::Input::new(encoded);
        let count = u32::try_from(input.varint()?).ok()?;
        Self::check(count, input.rest())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in wire order: key (any bytes) and value (`None` is null).
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter {
            left: self.count,
            input: input::Input::new(self.encoded),
        }
    }

    /// Checks that `encoded` is exactly `count` headers.
    fn check(count: u32, encoded: &'a [u8]) -> Option<Self> {
        let mut input = input::Input::new(encoded);
        // A header takes at least two bytes, so a false count ends with the bytes.
        for _ in 0..count {
            input.header()?;
        }
        input.is_empty().then_some(Self { count, encoded })
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Headers`].
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    left: u32,
    input: input::Input<'a>,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.input.header()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// Why a record set cannot be read on. A reader that gave an error gives the same error again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not what a broker wrote, or what it wrote makes no sense.
    #[error("corrupt record batch at offset {offset}: {what}")]
    Corrupt {
        /// The first offset that was not read.
        offset: i64,
        /// What is wrong.
        what: &'static str,
    },
    /// A batch decompresses to more than we are willing to hold.
    #[error("record batch at offset {offset} decompresses to more than {limit_bytes} bytes")]
    TooLarge {
        /// The first offset that was not read.
        offset: i64,
        /// The most that a batch may decompress to.
        limit_bytes: usize,
    },
    /// A batch is compressed with something that this format does not know.
    #[error("record batch at offset {offset} has the unsupported compression type {codec}")]
    UnsupportedCodec {
        /// The first offset that was not read.
        offset: i64,
        /// The type's number, from the batch's attributes.
        codec: u8,
    },
    /// A batch has a format that is newer than we know.
    #[error("record batch at offset {offset} has the unsupported format (magic) {magic}")]
    UnsupportedMagic {
        /// The first offset that was not read.
        offset: i64,
        /// The format's number.
        magic: i8,
    },
}
