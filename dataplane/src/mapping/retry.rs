//! How often, and how long, a mapping's records are tried (contract 4.2; decisions 9 and 10).
//!
//! Invariant: -1 and a member that is left out mean the same: without end, or ten times where a destination stands.

use std::time::Duration;

use forebay_protocol::delivery::RetryPolicy;
use toml::Spanned;

use super::constraint::{integer, length_constraint, list, violation};
use super::file::MappingFile;
use crate::config::Findings;

const ATTEMPTS_MAX: i64 = 10_000;
const AGE_SECONDS_MIN: i64 = 60;
const AGE_SECONDS_MAX: i64 = 604_800;
const REPORT_ITEM_FAILURES: &str = "ReportBatchItemFailures";

/// With a destination no record is tried without end: it waits for them (decision 10).
const ATTEMPTS_WITH_DESTINATION: u32 = 10;

/// What the file says of it.
pub(super) fn policy(
    file: &MappingFile,
    has_destination: bool,
    findings: &mut Findings<'_>,
) -> RetryPolicy {
    let attempts = file.maximum_retry_attempts.as_ref();
    let attempts = integer(
        "MaximumRetryAttempts",
        attempts,
        -1..=ATTEMPTS_MAX,
        findings,
    );
    let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok());
    RetryPolicy {
        max_attempts: attempts.or(has_destination.then_some(ATTEMPTS_WITH_DESTINATION)),
        max_age: max_age(file.maximum_record_age_in_seconds.as_ref(), findings),
        bisect: file.bisect_batch_on_function_error.unwrap_or(false),
        report_item_failures: reports(file.function_response_types.as_ref(), findings),
    }
}

fn max_age(given: Option<&Spanned<i64>>, findings: &mut Findings<'_>) -> Option<Duration> {
    let member = "MaximumRecordAgeInSeconds";
    let seconds = integer(member, given, -1..=AGE_SECONDS_MAX, findings)?;
    // The bounds of the model let these pass; the service does not.
    if let (0..AGE_SECONDS_MIN, Some(given)) = (seconds, given) {
        let message = format!("must be -1 (no limit) or {AGE_SECONDS_MIN} to {AGE_SECONDS_MAX}");
        findings.at(given.span(), member, seconds, message);
    }
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn reports(given: Option<&Spanned<Vec<String>>>, findings: &mut Findings<'_>) -> bool {
    let Some(given) = given else {
        return false;
    };
    let (types, path) = (given.get_ref(), "functionResponseTypes");
    let constraint = match types.as_slice() {
        [] => return false,
        [one] if one == REPORT_ITEM_FAILURES => return true,
        [_] => format!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{REPORT_ITEM_FAILURES}]]"
        ),
        more => length_constraint(more.len(), 0, 1),
    };
    let text = list(types);
    let message = violation(&text, path, &constraint);
    findings.at(given.span(), "FunctionResponseTypes", text, message);
    false
}
