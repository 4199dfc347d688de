//! What the shards' statuses add up to: totals that outlive a consumer, and each mapping's verdict.
//!
//! Invariant: a total never goes down, whatever the mapping's consumers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forebay_protocol::delivery::Phase;
use tracing::{error, info};
use uuid::Uuid;

use super::verdict::Verdict;
use crate::contract::ShardStatus;
use crate::mapping::{Declared, Mapping};
use crate::metrics::{self, Totals};

/// Remembers each mapping's verdict between statuses.
#[derive(Debug, Default)]
pub(super) struct Observer {
    verdicts: BTreeMap<Uuid, Verdict>,
}

impl Observer {
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

    /// The newest verdict on a mapping; before the first it has done nothing.
    pub(super) fn verdict(&self, uuid: Uuid) -> Verdict {
        let known = self.verdicts.get(&uuid);
        known.cloned().unwrap_or_else(Verdict::idle)
    }

    /// Forgets what is not declared any more.
    pub(super) fn retain(&mut self, declared: &BTreeSet<Uuid>) {
        self.verdicts.retain(|uuid, _| declared.contains(uuid));
    }
}

/// The mappings that a reading took away, until the last of their consumers has ended.
#[derive(Debug, Default)]
pub(super) struct Removed(BTreeMap<Uuid, Declared>);

impl Removed {
    /// A reading has changed what is declared.
    pub(super) fn note(&mut self, before: &[Declared], now: &[Declared]) {
        let runs = |declared: &&Declared| declared.mapping.enabled;
        let now: BTreeSet<Uuid> = now.iter().filter(runs).map(|it| it.mapping.uuid).collect();
        self.0.retain(|uuid, _| !now.contains(uuid));
        for declared in before.iter().filter(runs) {
            let uuid = declared.mapping.uuid;
            if !now.contains(&uuid) {
                self.0.insert(uuid, declared.clone());
            }
        }
    }

    /// Those that are left.
    pub(super) fn declared(&self) -> impl Iterator<Item = &Declared> {
        self.0.values()
    }

    /// Those whose consumers have all ended, and where their groups stand.
    pub(super) fn ended(&mut self, statuses: &[Arc<ShardStatus>]) -> Vec<(Arc<Mapping>, String)> {
        let running: BTreeSet<Uuid> = statuses
            .iter()
            .flat_map(|status| &status.consumers)
            .filter(|consumer| consumer.status.phase != Phase::KeepingPlace)
            .map(|consumer| consumer.uuid)
            .collect();
        let ended = self.0.extract_if(.., |uuid, _| !running.contains(uuid));
        ended
            .map(|(uuid, declared)| (declared.mapping, committed(uuid, statuses)))
            .collect()
    }
}

/// `partition@offset` of each partition that a mapping's last consumers had.
fn committed(uuid: Uuid, statuses: &[Arc<ShardStatus>]) -> String {
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    for (&partition, &offset) in statuses
        .iter()
        .filter_map(|it| it.ended_at.get(&uuid))
        .flatten()
    {
        let known = offsets.entry(partition).or_insert(offset);
        *known = offset.max(*known);
    }
    if offsets.is_empty() {
        return "none".to_owned();
    }
    let each = offsets
        .iter()
        .map(|(partition, offset)| format!("{partition}@{offset}"));
    each.collect::<Vec<_>>().join(" ")
}

/// Every mapping's totals: what its consumers have counted, those that run and those that have ended.
pub(super) fn totals(statuses: &[Arc<ShardStatus>]) -> BTreeMap<Uuid, Totals> {
    let mut totals = BTreeMap::new();
    for status in statuses {
        for (uuid, counted) in &*status.ended {
            metrics::add(totals.entry(*uuid).or_default(), counted);
        }
        for consumer in &status.consumers {
            let counted = metrics::totals(&consumer.status.counters);
            metrics::add(totals.entry(consumer.uuid).or_default(), &counted);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_consumers_of_all_shards_tell_where_the_group_stands() {
        let uuid = Uuid::from_u128(1);
        let left = |offsets: &[(i32, i64)]| {
            let ended_at = BTreeMap::from([(uuid, offsets.iter().copied().collect())]);
            Arc::new(ShardStatus {
                ended_at: Arc::new(ended_at),
                ..ShardStatus::default()
            })
        };
        let statuses = [left(&[(0, 7), (2, 9)]), left(&[(1, 5), (2, 11)])];
        assert_eq!(committed(uuid, &statuses), "0@7 1@5 2@11");
        assert_eq!(committed(Uuid::nil(), &statuses), "none");
    }
}
