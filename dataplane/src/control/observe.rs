//! What the shards' statuses add up to: totals that outlive a consumer, and each mapping's verdict.
//!
//! Invariant: a total never goes down, whatever the mapping's consumers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::{error, info};
use uuid::Uuid;

use super::verdict::Verdict;
use crate::contract::ShardStatus;
use crate::mapping::Mapping;
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

    /// Forgets what is not declared any more.
    pub(super) fn retain(&mut self, declared: &BTreeSet<Uuid>) {
        self.verdicts.retain(|uuid, _| declared.contains(uuid));
    }
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
