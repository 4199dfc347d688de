//! Records as they lie in a fetched record set, read in place.

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
