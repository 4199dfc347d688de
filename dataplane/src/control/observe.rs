//! What the shards' statuses add up to: totals that outlive a consumer, and each mapping's verdict.
//!
//! Invariant: a total never goes down while its mapping is declared, whatever its consumers do.

use std::collections::{BTreeMap, BTreeSet};

use forebay_protocol::delivery::status::Counters;
use tracing::{error, info};
use uuid::Uuid;

use super::verdict::Verdict;
use crate::contract::ShardStatus;
use crate::mapping::Mapping;
use crate::metrics::{self, Series};

/// How one counter is read.
type Read = fn(&Counters) -> u64;

/// The counters and the series that show them.
pub(super) const COUNTERS: [(Series, Read); 15] = [
    (metrics::RECORDS_POLLED, |it| it.records_polled),
    (metrics::BYTES_FETCHED, |it| it.bytes_fetched),
    (metrics::RECORDS_INVOKED, |it| it.records_invoked),
    (metrics::RECORDS_FAILED, |it| it.records_failed),
    (metrics::RECORDS_SUCCEEDED, |it| it.records_succeeded),
    (metrics::RECORDS_DROPPED, |it| it.records_dropped),
    (metrics::RECORDS_LOST, |it| it.records_lost_to_retention),
    (metrics::OFFSETS_COMMITTED, |it| it.offsets_committed),
    (metrics::CALLS, |it| it.calls),
    (metrics::FUNCTION_ERRORS, |it| it.function_errors),
    (metrics::THROTTLES, |it| it.throttles),
    (metrics::CALL_FAILURES, |it| it.call_failures),
    (metrics::FETCH_ERRORS, |it| it.fetch_errors),
    (metrics::COMMIT_ERRORS, |it| it.commit_errors),
    (metrics::REBALANCES, |it| it.rebalances),
];

/// One value for each of [`COUNTERS`].
pub(super) type Totals = [u64; COUNTERS.len()];

/// Remembers between statuses.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// The counters as each consumer last told them.
    last: BTreeMap<(usize, Uuid, u32), Totals>,
    totals: BTreeMap<Uuid, Totals>,
    verdicts: BTreeMap<Uuid, Verdict>,
}

impl Observer {
    /// Takes a shard's newest status into the totals.
    pub(super) fn note(&mut self, shard: usize, status: &ShardStatus) {
        let there: BTreeSet<(Uuid, u32)> = status
            .consumers
            .iter()
            .map(|it| (it.uuid, it.ordinal))
            .collect();
        self.last
            .retain(|(of, uuid, ordinal), _| *of != shard || there.contains(&(*uuid, *ordinal)));
        for consumer in &status.consumers {
            let told = COUNTERS.map(|(_, read)| read(&consumer.status.counters));
            let key = (shard, consumer.uuid, consumer.ordinal);
            let before = self.last.insert(key, told).unwrap_or_default();
            // A count below the last one is a new consumer's.
            let anew = told.iter().zip(&before).any(|(now, then)| now < then);
            let before = if anew { Totals::default() } else { before };
            let totals = self.totals.entry(consumer.uuid).or_default();
            for ((total, now), then) in totals.iter_mut().zip(told).zip(before) {
                *total += now - then;
            }
        }
    }

    /// Judges a mapping, and says so if the verdict has changed.
    pub(super) fn judge(&mut self, mapping: &Mapping, verdict: Verdict) {
        let (uuid, function, topic) = (mapping.uuid, &mapping.function.name, &mapping.topic);
        if self.verdicts.get(&uuid) == Some(&verdict) {
            return;
        }
        let Verdict {
            result,
            reason,
            detail,
        } = &verdict;
        if verdict.is_problem() {
            error!(mapping = %uuid, function, topic, result, reason, detail, "Mapping has a problem");
        } else {
            info!(mapping = %uuid, function, topic, result, "Mapping is well");
        }
        self.verdicts.insert(uuid, verdict);
    }

    /// Forgets what is not declared any more.
    pub(super) fn retain(&mut self, declared: &BTreeSet<Uuid>) {
        self.totals.retain(|uuid, _| declared.contains(uuid));
        self.verdicts.retain(|uuid, _| declared.contains(uuid));
    }

    /// A mapping's totals.
    pub(super) fn totals(&self, uuid: Uuid) -> Totals {
        self.totals.get(&uuid).copied().unwrap_or_default()
    }
}
