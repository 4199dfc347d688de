//! Single values of the file, each checked against what it may be.
//!
//! Invariant: a value that is refused leaves a finding, and its default in its place.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::Spanned;

use super::Findings;

const LISTEN_DEFAULT: &str = "127.0.0.1:9464";

pub(super) fn listen(value: Option<Spanned<String>>, findings: &mut Findings<'_>) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 9464));
    debug_assert_eq!(default.to_string(), LISTEN_DEFAULT);
    let Some(given) = value else { return default };
    given.get_ref().parse().unwrap_or_else(|_| {
        let message = format!("must be an address and a port, such as {LISTEN_DEFAULT}");
        findings.at(given.span(), "listen", given.get_ref(), message);
        default
    })
}

pub(super) fn account_id(
    value: Option<Spanned<String>>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let given = value?;
    let valid = given.get_ref().len() == 12 && given.get_ref().bytes().all(|b| b.is_ascii_digit());
    if !valid {
        let message = "must be the 12 digits of an AWS account, in quotes";
        findings.at(given.span(), "account_id", given.get_ref(), message);
    }
    valid.then(|| given.into_inner())
}

pub(super) fn node_id(
    value: Option<&Spanned<String>>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let given = value?;
    let valid = is_node_id(given.get_ref());
    if !valid {
        let message =
            "must be 1 to 128 of the characters a-z A-Z 0-9 . _ -, and differ between nodes";
        findings.at(given.span(), "node_id", given.get_ref(), message);
    }
    valid.then(|| given.get_ref().clone())
}

/// It becomes part of group.instance.id, which has a topic name's alphabet and 249 characters.
pub(super) fn is_node_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

pub(super) fn number(
    key: &str,
    value: Option<Spanned<u64>>,
    range: RangeInclusive<u64>,
    default: u64,
    findings: &mut Findings<'_>,
) -> u64 {
    let Some(given) = value else { return default };
    if range.contains(given.get_ref()) {
        return *given.get_ref();
    }
    let message = format!("must be between {} and {}", range.start(), range.end());
    findings.at(given.span(), key, given.get_ref(), message);
    default
}

/// The first of `options` is the default.
pub(super) fn choice<T: Copy>(
    key: &str,
    value: Option<Spanned<String>>,
    options: &[(&str, T)],
    findings: &mut Findings<'_>,
) -> T {
    let default = options[0].1;
    let Some(given) = value else { return default };
    if let Some((_, value)) = options.iter().find(|(name, _)| name == given.get_ref()) {
        return *value;
    }
    let names: Vec<_> = options.iter().map(|(name, _)| *name).collect();
    let message = format!("must be one of: {}", names.join(", "));
    findings.at(given.span(), key, given.get_ref(), message);
    default
}

pub(super) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
