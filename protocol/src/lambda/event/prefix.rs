//! What stands before a record's key: constant for a partition, but for two numbers and a name.
//!
//! The text of the last record is kept and mended: the next offset is mostly the last one plus one, the
//! next timestamp mostly differs in its last digits. That takes a quarter of the time of formatting.
//!
//! Invariant: `text` is always the prefix of `offset`, `timestamp` and `timestamp_type`.

use std::ops::Range;

use super::text::{self, BLOCK_BYTES};
use crate::kafka::records::{Record, TimestampType};

/// The prefix of the record last set.
#[derive(Debug)]
pub(super) struct Prefix {
    /// The prefix, then zeros to a whole block.
    text: Vec<u8>,
    /// Without the zeros.
    len: usize,
    /// `,{"topic":"..","partition":..,"offset":`
    lead_len: usize,
    offset: Number,
    timestamp: Number,
    timestamp_type: TimestampType,
}

impl Prefix {
    /// `topic` is escaped already.
    pub(super) fn new(topic: &[u8], partition: i32) -> Self {
        let mut text = Vec::with_capacity(topic.len() + 4 * BLOCK_BYTES);
        text.extend_from_slice(br#",{"topic":""#);
        text.extend_from_slice(topic);
        text.extend_from_slice(br#"","partition":"#);
        text::append_decimal(&mut text, i64::from(partition));
        text.extend_from_slice(br#","offset":"#);
        let mut prefix = Self {
            lead_len: text.len(),
            text,
            len: 0,
            offset: Number::default(),
            timestamp: Number::default(),
            timestamp_type: TimestampType::CreateTime,
        };
        prefix.rebuild(0, 0, TimestampType::CreateTime);
        prefix
    }

    /// Makes it the prefix of `record`.
    #[inline]
    pub(super) fn set(&mut self, record: &Record<'_>) {
        let mended = record.timestamp_type == self.timestamp_type
            && self.offset.mend(&mut self.text, record.offset)
            && self.timestamp.mend(&mut self.text, record.timestamp);
        if !mended {
            self.rebuild(record.offset, record.timestamp, record.timestamp_type);
        }
    }

    /// The prefix, comma first, then zeros to a whole block.
    #[inline]
    pub(super) fn padded(&self) -> &[u8] {
        &self.text
    }

    /// The prefix's length, with the comma.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cold]
    fn rebuild(&mut self, offset: i64, timestamp: i64, timestamp_type: TimestampType) {
        self.text.truncate(self.lead_len);
        self.offset = Number::append(&mut self.text, offset);
        self.text.extend_from_slice(br#","timestamp":"#);
        self.timestamp = Number::append(&mut self.text, timestamp);
        self.timestamp_type = timestamp_type;
        self.text.extend_from_slice(match timestamp_type {
            TimestampType::NoTimestamp => br#","timestampType":"NO_TIMESTAMP_TYPE""#,
            TimestampType::CreateTime => br#","timestampType":"CREATE_TIME""#,
            TimestampType::LogAppendTime => br#","timestampType":"LOG_APPEND_TIME""#,
        });
        self.len = self.text.len();
        self.text.resize(self.len.next_multiple_of(BLOCK_BYTES), 0);
    }
}

/// A decimal inside the text.
#[derive(Debug, Default)]
struct Number {
    value: i64,
    digits: Range<usize>,
    /// What has as many digits. None for a negative number: that is never mended.
    same_length: Range<i64>,
}

impl Number {
    fn append(text: &mut Vec<u8>, value: i64) -> Self {
        let start = text.len();
        text::append_decimal(text, value);
        let digits = start..text.len();
        let same_length = match value {
            ..0 => 0..0,
            0..=9 => 0..10,
            _ => {
                let least = 10_i64.pow(value.ilog10());
                least..least.saturating_mul(10)
            }
        };
        Self {
            value,
            digits,
            same_length,
        }
    }

    /// Makes it `value`, if that has as many digits.
    #[inline]
    fn mend(&mut self, text: &mut [u8], value: i64) -> bool {
        if value == self.value {
            return true;
        }
        if !self.same_length.contains(&value) {
            return false;
        }
        let digits = &mut text[self.digits.clone()];
        let step = value.wrapping_sub(self.value);
        if step == 1 {
            text::increment_digits(digits);
        } else {
            /// Digits that are written when the others stay.
            const LOW_DIGITS: usize = 4;
            const LOW: i64 = 10_000;
            let low = digits.len().saturating_sub(LOW_DIGITS);
            let stays = value / LOW == self.value / LOW;
            let from = if stays { low } else { 0 };
            text::write_digits(&mut digits[from..], value.unsigned_abs());
        }
        self.value = value;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::records::Headers;

    fn record(offset: i64, timestamp: i64, timestamp_type: TimestampType) -> Record<'static> {
        Record {
            offset,
            timestamp,
            timestamp_type,
            key: None,
            value: None,
            headers: Headers::default(),
        }
    }

    #[track_caller]
    fn check_sequence(sequence: &[(i64, i64)]) {
        let mut prefix = Prefix::new(b"t", 7);
        for &(offset, timestamp) in sequence {
            prefix.set(&record(offset, timestamp, TimestampType::CreateTime));
            let expected = format!(
                r#",{{"topic":"t","partition":7,"offset":{offset},"timestamp":{timestamp},"timestampType":"CREATE_TIME""#
            );
            let text = &prefix.padded()[..prefix.len()];
            assert_eq!(String::from_utf8_lossy(text), expected);
            assert_eq!(prefix.padded().len() % BLOCK_BYTES, 0);
        }
    }

    #[test]
    fn numbers_that_grow_by_one_carry_and_lengthen() {
        let sequence: Vec<_> = (0..2500).map(|n| (n, 9_000 + n)).collect();
        check_sequence(&sequence);
    }

    #[test]
    fn numbers_may_jump_either_way() {
        check_sequence(&[
            (5, 1_700_000_000_123),
            (7, 1_700_000_000_999),
            (8, 1_700_000_010_000),
            (1_000_000, 1_699_999_999_999),
            (999_999, 999),
            (i64::MAX - 1, -1),
            (i64::MAX, i64::MIN),
            (0, i64::MAX),
            (-3, 0),
            (-2, 1),
            (-1, 2),
            (0, 3),
        ]);
    }

    #[test]
    fn a_change_of_timestamp_type_shows() {
        let mut prefix = Prefix::new(b"t", 0);
        for (kind, name) in [
            (TimestampType::LogAppendTime, "\"LOG_APPEND_TIME\""),
            (TimestampType::NoTimestamp, "\"NO_TIMESTAMP_TYPE\""),
            (TimestampType::CreateTime, "\"CREATE_TIME\""),
        ] {
            prefix.set(&record(1, -1, kind));
            assert!(prefix.padded()[..prefix.len()].ends_with(name.as_bytes()));
        }
    }
}
