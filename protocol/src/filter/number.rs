//! Numbers that are compared as numbers: those whose decimal a double carries.
//!
//! The reference engine (aws/event-ruler, `ComparableNumber`) takes a number for comparable if the shortest decimal
//! that stands for its double is that number. 0.1 is, 12345678901234567890 is not: such a number equals only what
//! is spelt alike, and satisfies no `numeric`.
//!
//! Invariant: nothing is allocated, and time is linear in the digits.

use std::io::Write;

/// A decimal has this many significant digits if the shortest that stands for its double does.
const SHORTEST_DIGITS_MAX: usize = 17;

/// Decimals of so many digits are all told apart by doubles, and are their shortest.
const CARRIED_DIGITS: usize = 15;

/// Powers of ten that a double is exact for, as far as short decimals need them.
const POWERS: [f64; CARRIED_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// The double that carries the number, which is spelt as JSON has it.
#[inline]
pub(super) fn carried(text: &[u8]) -> Option<f64> {
    short(text).or_else(|| any(text))
}

/// A decimal of a few digits and without an exponent: both the digits and the power of ten are exact doubles, so their
/// quotient is rounded once, as it should be.
#[inline]
fn short(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > CARRIED_DIGITS {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut point = digits.len();
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' => point = at + 1,
            _ => return None,
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "fifteen digits are exact")]
    let value = mantissa as f64 / POWERS.get(digits.len() - point)?;
    Some(if negative { -value } else { value })
}

fn any(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut digits = [0; SHORTEST_DIGITS_MAX];
    let (count, exponent) = significant(text.as_bytes(), &mut digits)?;
    if count == 0 {
        return Some(0.0);
    }
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() || value == 0.0 {
        return None;
    }
    if count <= CARRIED_DIGITS && value.is_normal() && exponent.unsigned_abs() < 290 {
        return Some(value);
    }
    let mut shown = [0; 40];
    let shortest = shortest(value, &mut shown)?;
    let mut own = [0; SHORTEST_DIGITS_MAX];
    let same = significant(shortest, &mut own)? == (count, exponent) && own == digits;
    same.then_some(value)
}

/// The whole number, where a double carries it.
pub(super) fn of_integer(number: i64) -> Option<f64> {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    #[expect(clippy::cast_precision_loss, reason = "there is none in that range")]
    let value = number as f64;
    (number.unsigned_abs() <= EXACT).then_some(value)
}

/// The shortest decimal for `value` as Java has it: of two digits at least, where two stand for it. Only the smallest
/// subnormal numbers tell the difference: 4.9e-324.
fn shortest(value: f64, shown: &mut [u8; 40]) -> Option<&[u8]> {
    let write = |shown: &mut [u8; 40], two_digits: bool| {
        let mut left = &mut shown[..];
        match two_digits {
            true => write!(left, "{value:.1e}").ok()?,
            false => write!(left, "{value:e}").ok()?,
        }
        let unused = left.len();
        Some(shown.len() - unused)
    };
    let length = write(shown, false)?;
    let has_one_digit = !shown[..length].contains(&b'.');
    let mut length = length;
    if has_one_digit && value.is_subnormal() {
        let mut two = [0; 40];
        let two_length = write(&mut two, true)?;
        let text = std::str::from_utf8(&two[..two_length]).ok()?;
        if text.parse() == Ok(value) {
            *shown = two;
            length = two_length;
        }
    }
    Some(&shown[..length])
}

/// Writes the digits from the first to the last that is not zero, and gives their number and the power of ten that the
/// first has with a point before it. `None` if they are too many to be the shortest of any double.
fn significant(text: &[u8], digits: &mut [u8; SHORTEST_DIGITS_MAX]) -> Option<(usize, i64)> {
    let mantissa_end = text.iter().position(|it| matches!(it, b'e' | b'E'));
    let (mantissa, exponent) = text.split_at(mantissa_end.unwrap_or(text.len()));
    let (mut count, mut zeros, mut place) = (0, 0, 0_i64);
    let (mut begun, mut fraction) = (false, false);
    for byte in mantissa {
        match byte {
            b'-' => {}
            b'.' => fraction = true,
            b'0' if !begun => place -= i64::from(fraction),
            digit => {
                begun = true;
                place += i64::from(!fraction);
                if *digit == b'0' {
                    zeros += 1;
                    continue;
                }
                let at = count + zeros;
                *digits.get_mut(at)? = *digit;
                (count, zeros) = (at + 1, 0);
            }
        }
    }
    for skipped in &mut digits[..count] {
        *skipped = (*skipped).max(b'0');
    }
    Some((count, place.saturating_add(power(exponent))))
}

/// The power of ten behind an `e`; one that is too large for anything stays so.
fn power(exponent: &[u8]) -> i64 {
    let (negative, digits) = match exponent {
        [_, b'-', digits @ ..] => (true, digits),
        [_, b'+', digits @ ..] | [_, digits @ ..] => (false, digits),
        [] => return 0,
    };
    let size = digits.iter().fold(0_i64, |size, digit| {
        size.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_carries_what_it_would_be_printed_as() {
        for (text, value) in [
            ("0", 0.0),
            ("-0", 0.0),
            ("0e99999999999999999999", 0.0),
            ("-0.000", 0.0),
            ("300", 300.0),
            ("300.0", 300.0),
            ("3.0e2", 300.0),
            ("0.3E+3", 300.0),
            ("30000000000000000000000e-20", 300.0),
            ("0.1", 0.1),
            ("-123.456", -123.456),
            ("9007199254740993e0", f64::NAN),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("0.10000000000000001", f64::NAN),
            ("0.30000000000000004", 0.300_000_000_000_000_04),
            ("12345678901234567890", f64::NAN),
            ("12345678901234567000", 12_345_678_901_234_567_000.0),
            ("1e308", 1e308),
            ("1.7976931348623157e308", f64::MAX),
            ("1.7976931348623158e308", f64::NAN),
            ("1e400", f64::NAN),
            ("1e99999999999999999999", f64::NAN),
            ("1e-400", f64::NAN),
            ("2.2250738585072014e-308", f64::MIN_POSITIVE),
            ("4.9e-324", 5e-324),
            ("49e-325", 5e-324),
            ("5e-324", f64::NAN),
            ("9.9e-324", 1e-323),
            ("1e-323", f64::NAN),
            ("1.5e-323", 1.5e-323),
            ("2e23", 2e23),
        ] {
            let expected = Some(value).filter(|it| !it.is_nan());
            assert_eq!(carried(text.as_bytes()), expected, "{text}");
            assert_eq!(any(text.as_bytes()), expected, "{text}, the long way");
        }
    }

    #[test]
    fn long_numbers_are_read_once() {
        let nines = "9".repeat(100_000);
        assert_eq!(carried(nines.as_bytes()), None);
        let exponent = format!("1e{nines}");
        assert_eq!(carried(exponent.as_bytes()), None);
        let one = format!("1.{}", "0".repeat(100_000));
        assert_eq!(carried(one.as_bytes()), Some(1.0));
        let small = format!("0.{}1e100001", "0".repeat(100_000));
        assert_eq!(carried(small.as_bytes()), Some(1.0));
    }

    #[test]
    fn whole_numbers_are_carried_as_far_as_doubles_count() {
        assert_eq!(of_integer(-1), Some(-1.0));
        assert_eq!(of_integer(1 << 53), Some(9_007_199_254_740_992.0));
        assert_eq!(of_integer((1 << 53) + 1), None);
        assert_eq!(of_integer(i64::MIN), None);
    }
}
