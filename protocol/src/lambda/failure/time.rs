//! UTC as documents show it: ISO 8601 with milliseconds.
//!
//! Source: ISO 8601; the days of the civil calendar by Howard Hinnant's "chrono-compatible low-level date algorithms".
//!
//! Invariant: every Unix time has one text, also those that no sane clock tells: a record's timestamp may be any number.

use std::fmt;

use serde::{Serialize, Serializer};

const DAY_MS: i64 = 86_400_000;

/// A moment, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UtcTime {
    year: i64,
    month: i64,
    day: i64,
    /// Since midnight.
    ms: i64,
}

impl UtcTime {
    pub(super) fn of_unix_ms(unix_ms: i64) -> Self {
        // Years begin in March here, so that the leap day is a year's last.
        let days = unix_ms.div_euclid(DAY_MS) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months = (5 * day_of_year + 2) / 153;
        let month = if months < 10 { months + 3 } else { months - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * months + 2) / 5 + 1,
            ms: unix_ms.rem_euclid(DAY_MS),
        }
    }

    /// `YYYY/MM/DD`.
    pub(super) fn day_path(self) -> String {
        format!("{:04}/{:02}/{:02}", self.year, self.month, self.day)
    }

    /// `YYYY-MM-DDTHH.MM.SS`.
    pub(super) fn second_name(self) -> String {
        let (hour, minute, second) = self.clock();
        format!(
            "{:04}-{:02}-{:02}T{hour:02}.{minute:02}.{second:02}",
            self.year, self.month, self.day
        )
    }

    fn clock(self) -> (i64, i64, i64) {
        let seconds = self.ms / 1000;
        (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A year that has not four digits bears a sign, as ISO 8601 and Java have it.
        match self.year {
            0..=9999 => write!(f, "{:04}", self.year)?,
            _ => write!(f, "{:+05}", self.year)?,
        }
        let (hour, minute, second) = self.clock();
        write!(
            f,
            "-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            self.month,
            self.day,
            self.ms % 1000
        )
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix_ms: i64, expected: &str) {
        assert_eq!(UtcTime::of_unix_ms(unix_ms).to_string(), expected);
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_709_287_200_123, "2024-03-01T10:00:00.123Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn no_timestamp_is_the_millisecond_before_1970() {
        check(-1, "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn no_number_is_without_a_text() {
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
        check(253_402_300_800_000, "+10000-01-01T00:00:00.000Z");
        check(-62_167_219_200_000, "0000-01-01T00:00:00.000Z");
        check(-62_167_219_200_001, "-0001-12-31T23:59:59.999Z");
        check(i64::MAX, "+292278994-08-17T07:12:55.807Z");
        check(i64::MIN, "-292275055-05-16T16:47:04.192Z");
    }

    #[test]
    fn a_bucket_has_folders_by_day() {
        let at = UtcTime::of_unix_ms(1_709_287_200_123);
        assert_eq!(at.day_path(), "2024/03/01");
        assert_eq!(at.second_name(), "2024-03-01T10.00.00");
    }
}
