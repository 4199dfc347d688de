//! What the appliance's `/metrics` says, as far as a trial wants to know it.
//!
//! Source: OpenMetrics 1.0, "Text format"; the names are in `systemd/README.md`.
//!
//! Invariant: a series that is missing counts as zero; a line that cannot be read is passed over.

use std::time::Duration;

/// Counts since the appliance has begun.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scrape {
    pub(super) succeeded: u64,
    pub(super) dropped: u64,
    pub(super) invoked: u64,
    pub(super) calls: u64,
    pub(super) function_errors: u64,
    pub(super) throttles: u64,
    pub(super) call_failures: u64,
    /// Whether the mapping has a problem.
    pub(super) has_fault: bool,
    /// Of all calls: each bucket's upper bound in seconds, and how many calls are at or below it.
    durations: Vec<(f64, u64)>,
}

impl Scrape {
    pub(super) fn read(text: &str) -> Self {
        let total = |name: &str| samples(text, name).map(|(_, value)| value).sum::<f64>();
        let count = |name: &str| total(name) as u64;
        let mut durations: Vec<(f64, u64)> = Vec::new();
        for (labels, value) in samples(text, "forebay_call_duration_seconds_bucket") {
            let bound = labels
                .split("le=\"")
                .nth(1)
                .and_then(|it| it.split('"').next());
            let Some(Ok(bound)) = bound.map(str::parse::<f64>) else {
                continue;
            };
            match durations.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, calls)) => *calls += value as u64,
                None => durations.push((bound, value as u64)),
            }
        }
        durations.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Self {
            succeeded: count("forebay_succeeded_records_total"),
            dropped: count("forebay_dropped_records_total"),
            invoked: count("forebay_invoked_records_total"),
            calls: count("forebay_calls_total"),
            function_errors: count("forebay_function_errors_total"),
            throttles: count("forebay_throttles_total"),
            call_failures: count("forebay_call_failures_total"),
            has_fault: total("forebay_mapping_faults") > 0.0,
            durations,
        }
    }

    /// Calls that did not succeed.
    pub(super) fn failed(&self) -> u64 {
        self.function_errors + self.throttles + self.call_failures
    }

    pub(super) fn records_per_call(&self) -> f64 {
        self.invoked as f64 / self.calls.max(1) as f64
    }

    /// Between which bounds that share of the calls ends, in milliseconds; no upper one beyond the last.
    pub(super) fn duration(&self, share: f64) -> Option<[Option<f64>; 2]> {
        let all = self.durations.last().map_or(0, |(_, calls)| *calls);
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let at = self
            .durations
            .iter()
            .position(|(_, calls)| *calls >= wanted)?;
        let bound = |at: usize| {
            let seconds = self.durations.get(at).map_or(f64::INFINITY, |it| it.0);
            seconds.is_finite().then_some(seconds * 1e3)
        };
        let below = at.checked_sub(1).map_or(Some(0.0), bound);
        Some([below, bound(at)])
    }
}

/// Labels and value of each sample of that name.
fn samples<'a>(text: &'a str, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(name));
    lines.filter_map(|rest| {
        let (labels, value) = rest.rsplit_once(' ')?;
        // Another series may have a name that begins with this one.
        let is_it = labels.is_empty() || labels.starts_with('{');
        let value = value.parse().ok();
        value.filter(|_| is_it).map(|value| (labels, value))
    })
}

/// How old the counts may be: a shard tells them once a second.
pub(super) const STALE: Duration = Duration::from_millis(2_500);

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE forebay_calls counter
forebay_calls_total{mapping=\"a\"} 4.0
forebay_invoked_records_total{mapping=\"a\"} 40.0
forebay_succeeded_records_total{mapping=\"a\"} 30.0
forebay_call_failures_total{mapping=\"a\"} 1.0
forebay_mapping_faults{mapping=\"a\"} 1.0
forebay_call_duration_seconds_bucket{le=\"0.001\",shard=\"0\"} 1
forebay_call_duration_seconds_bucket{le=\"0.003\",shard=\"0\"} 2
forebay_call_duration_seconds_bucket{le=\"+Inf\",shard=\"0\"} 2
forebay_call_duration_seconds_bucket{le=\"0.001\",shard=\"1\"} 0
forebay_call_duration_seconds_bucket{le=\"0.003\",shard=\"1\"} 1
forebay_call_duration_seconds_bucket{le=\"+Inf\",shard=\"1\"} 2
# EOF
";

    #[test]
    fn counts_are_of_their_own_series() {
        let scrape = Scrape::read(TEXT);
        assert_eq!(
            (scrape.calls, scrape.failed(), scrape.succeeded),
            (4, 1, 30)
        );
        assert!(scrape.has_fault);
        assert_eq!(scrape.records_per_call(), 10.0);
        assert_eq!(Scrape::read(""), Scrape::default());
    }

    #[test]
    fn durations_of_all_shards_are_one_distribution() {
        let scrape = Scrape::read(TEXT);
        assert_eq!(scrape.duration(0.25), Some([Some(0.0), Some(1.0)]));
        assert_eq!(scrape.duration(0.75), Some([Some(1.0), Some(3.0)]));
        assert_eq!(scrape.duration(0.99), Some([Some(3.0), None]));
        assert_eq!(Scrape::default().duration(0.5), None);
    }
}
