//! AWS's constraints of members, and its words for one that is violated (contract 7.8).
//!
//! Invariant: the texts are AWS's, letter by letter: clients compare them.

use std::ops::RangeInclusive;

use toml::Spanned;

use crate::config::Findings;

/// The value, if it is within its bounds.
pub(super) fn integer(
    member: &str,
    given: Option<&Spanned<i64>>,
    range: RangeInclusive<i64>,
    findings: &mut Findings<'_>,
) -> Option<i64> {
    let given = given?;
    let value = *given.get_ref();
    let constraint = match value {
        value if value < *range.start() => {
            format!(
                "Member must have value greater than or equal to {}",
                range.start()
            )
        }
        value if value > *range.end() => {
            format!(
                "Member must have value less than or equal to {}",
                range.end()
            )
        }
        value => return Some(value),
    };
    let message = violation(&value.to_string(), &lower_camel(member), &constraint);
    findings.at(given.span(), member, value, message);
    None
}

/// AWS's text for one violated constraint (contract 7.8).
pub(super) fn violation(value: &str, path: &str, constraint: &str) -> String {
    format!(
        "1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"
    )
}

/// AWS's text for a member that is missing.
pub(super) fn null(path: &str) -> String {
    format!(
        "1 validation error detected: Value null at '{path}' failed to satisfy constraint: Member must not be null."
    )
}

/// The constraint that a length violates.
pub(super) fn length_constraint(length: usize, min: usize, max: usize) -> String {
    match length < min {
        true => format!("Member must have length greater than or equal to {min}"),
        false => format!("Member must have length less than or equal to {max}"),
    }
}

/// A list as AWS's messages show it.
pub(super) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|it| it.as_ref().to_owned()).collect();
    format!("[{}]", items.join(", "))
}

/// `ProvisionedPollerConfig.MinimumPollers` as AWS's messages spell it.
fn lower_camel(member: &str) -> String {
    let mut path = String::with_capacity(member.len());
    let mut start = true;
    for c in member.chars() {
        path.push(if start { c.to_ascii_lowercase() } else { c });
        start = c == '.';
    }
    path
}
