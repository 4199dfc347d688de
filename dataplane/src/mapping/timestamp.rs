//! `StartingPositionTimestamp` as TOML can say it: seconds since 1970, or a date-time with an offset.
//!
//! Invariant: a date-time without an offset is never guessed at.

use toml::Value;
use toml::value::{Datetime, Offset};

/// Milliseconds since 1970; `None` if the value is neither form.
pub(super) fn unix_millis(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => seconds.checked_mul(1000),
        Value::Float(seconds) if seconds.is_finite() && seconds.abs() < 1e12 => {
            Some((seconds * 1000.0).round() as i64)
        }
        Value::Datetime(datetime) => of_datetime(datetime),
        _ => None,
    }
}

fn of_datetime(datetime: &Datetime) -> Option<i64> {
    let (date, time) = (datetime.date?, datetime.time?);
    let offset_minutes = match datetime.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let minutes = (days * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - offset_minutes;
    let millis = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    Some((minutes * 60 + i64::from(time.second.unwrap_or(0))) * 1000 + millis)
}

/// Howard Hinnant's `days_from_civil`, for the proleptic Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str, expected: Option<i64>) {
        let table: toml::Table = toml::from_str(&format!("at = {toml}")).unwrap();
        assert_eq!(unix_millis(&table["at"]), expected, "{toml}");
    }

    #[test]
    fn seconds_and_date_times_are_read() {
        check("1700000000", Some(1_700_000_000_000));
        check("1700000000.25", Some(1_700_000_000_250));
        check("2023-11-14T22:13:20Z", Some(1_700_000_000_000));
        check("2023-11-14T23:13:20.5+01:00", Some(1_700_000_000_500));
        check("1970-01-01T00:00:00Z", Some(0));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
    }

    #[test]
    fn a_date_time_without_an_offset_is_refused() {
        check("2023-11-14T22:13:20", None);
        check("2023-11-14", None);
        check("\"2023-11-14T22:13:20Z\"", None);
    }
}
