//! The node as it stands, taken by the control task and made into words by others.
//!
//! There is one source for all that is published: `/metrics` (`scrape.rs`) and the status document
//! (`document.rs`) are made of the same snapshot, away from the control task, which only clones pointers.
//!
//! Invariant: to take one costs the control task no more than its number of mappings and shards.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::time::Instant;
use uuid::Uuid;

use super::Control;
use super::expiry::Watched;
use super::secrets::Unreadable;
use super::standing::State;
use super::verdict::Verdict;
use super::{access, observe};
use crate::clock;
use crate::contract::ShardStatus;
use crate::mapping::{Declared, Mapping};
use crate::metrics::{ShardMetrics, Totals};

/// A node at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// When it was taken, by the two clocks: statuses have times of the second.
    pub(super) at: Moment,
    /// When the node began, by both.
    pub(super) started: Moment,
    pub(super) lifecycle: &'static str,
    pub(super) node_id: Option<String>,
    pub(super) memory_bytes: usize,
    /// Whether the newest reading of the mappings had no problem, and when one last had none.
    pub(super) reload_success: bool,
    pub(super) reload_problems: Arc<[String]>,
    pub(super) reload_succeeded_at: Duration,
    pub(super) shards: Vec<ShardSnapshot>,
    /// In the order of their files; those that are being removed come last.
    pub(super) mappings: Vec<MappingSnapshot>,
}

/// The same moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) since_1970: Duration,
    pub(super) since_boot: Instant,
}

/// A shard.
#[derive(Debug)]
pub(super) struct ShardSnapshot {
    pub(super) status: Arc<ShardStatus>,
    pub(super) metrics: Arc<ShardMetrics>,
    /// The newest plan that it was sent.
    pub(super) planned: u64,
}

/// A mapping.
#[derive(Debug)]
pub(super) struct MappingSnapshot {
    pub(super) mapping: Arc<Mapping>,
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) state: State,
    pub(super) modified: Duration,
    pub(super) verdict: Verdict,
    /// What is wrong with its secrets, though it may run with what they held before.
    pub(super) trouble: Option<String>,
    pub(super) totals: Totals,
    pub(super) certificates: Arc<[Watched]>,
    /// Those of its secrets that cannot be read now.
    pub(super) unreadable: Unreadable,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            since_1970: clock::unix_now(),
            since_boot: clock::now(),
        }
    }

    /// Seconds since 1970 of another moment by the second clock.
    pub(super) fn unix_seconds(&self, at: Instant) -> f64 {
        let later = at.saturating_since(self.since_boot).as_secs_f64();
        let earlier = self.since_boot.saturating_since(at).as_secs_f64();
        self.since_1970.as_secs_f64() + later - earlier
    }
}

impl MappingSnapshot {
    /// Whether an operator should look.
    pub(super) fn has_problem(&self) -> bool {
        self.verdict.is_problem() || self.trouble.is_some()
    }
}

impl Control {
    /// The node as it stands.
    pub(super) fn snapshot(&self) -> Snapshot {
        let statuses = self.shards.statuses();
        let totals = observe::totals(&statuses);
        let totals = |uuid: Uuid| totals.get(&uuid).copied().unwrap_or_default();
        let declared = self.store.declared().iter();
        let declared = declared.map(|declared| {
            let (state, modified) = self.standings.of(declared);
            self.mapping_snapshot(declared, state, modified, totals(declared.mapping.uuid))
        });
        let removed = self.removed.declared().map(|declared| {
            let totals = totals(declared.mapping.uuid);
            self.mapping_snapshot(declared, State::Deleting, declared.modified, totals)
        });
        let mappings = declared.chain(removed).collect();
        let shards = statuses.into_iter().zip(self.shards.metrics()).enumerate();
        Snapshot {
            at: Moment::now(),
            started: self.started,
            lifecycle: self.lifecycle_name(),
            node_id: self.config.kafka.node_id.clone(),
            memory_bytes: self.config.memory_bytes,
            reload_success: self.readings.success,
            reload_problems: Arc::clone(&self.readings.problems),
            reload_succeeded_at: self.readings.succeeded_at,
            shards: shards
                .map(|(shard, (status, metrics))| ShardSnapshot {
                    status,
                    metrics,
                    planned: self.planner.generation(shard),
                })
                .collect(),
            mappings,
        }
    }

    fn mapping_snapshot(
        &self,
        declared: &Declared,
        state: State,
        modified: Duration,
        totals: Totals,
    ) -> MappingSnapshot {
        let mapping = &declared.mapping;
        let unreadable = self.unreadable.borrow();
        let own = access::sources(mapping).filter_map(|source| {
            let failing = unreadable.get(&source)?.clone();
            Some((source, failing))
        });
        let trouble = self.accesses.trouble(mapping.uuid);
        MappingSnapshot {
            mapping: Arc::clone(mapping),
            name: declared.name(),
            file: declared.file.clone(),
            state,
            modified,
            verdict: self.observer.verdict(mapping.uuid),
            trouble: trouble.map(|trouble| trouble.detail().to_owned()),
            totals,
            certificates: self.accesses.certificates(mapping.uuid),
            unreadable: own.collect(),
        }
    }

    fn lifecycle_name(&self) -> &'static str {
        let progress = *self.progress.borrow();
        match (progress.ending, progress.started) {
            (true, _) => "draining",
            (false, true) => "running",
            (false, false) => "starting",
        }
    }
}
