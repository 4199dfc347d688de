//! What operators want passed over, from when they ask until they are answered.
//!
//! ```text
//!  asked --> in the plans of the mapping's consumers --> answered by the one that owns the partition --> out of them
//!                     |                                  or by all: it is not ours
//!                     +--who asked waits no longer--> out of them
//! ```
//!
//! Plans are snapshots, so no wish is lost, and none is carried out twice: consumers look at the record, not at
//! the wish.
//!
//! Invariant: a wish is in the plans as long as somebody waits for its end, and no longer.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay_protocol::delivery::{Phase, Skip, SkipId, SkipStatus};
use uuid::Uuid;

use super::Control;
use crate::command::{self, Outcome};
use crate::contract::{Access, RunningConsumer, ShardStatus, watch};
use crate::mapping::Mapping;

/// Names that an unknown mapping is answered with at most.
const NAMES_MAX: usize = 20;

/// Wishes that wait for their end.
#[derive(Debug, Default)]
pub(super) struct Skips {
    next: u64,
    wishes: Vec<Wish>,
}

#[derive(Debug)]
struct Wish {
    mapping: Uuid,
    skip: Skip,
    progress: watch::Sender<Progress>,
}

/// How a wish stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// As the mapping's consumers say.
    pub(super) status: SkipStatus,
    /// Nothing more comes of it.
    pub(super) has_ended: bool,
}

/// A wish that consumers are told of.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) mapping: Arc<Mapping>,
    /// How its brokers are reached; `None` while they cannot be.
    pub(super) access: Option<Arc<Access>>,
    pub(super) progress: watch::Receiver<Progress>,
}

impl Skips {
    /// What is wanted of a mapping.
    pub(super) fn of(&self, mapping: Uuid) -> Arc<[Skip]> {
        let own = self.wishes.iter().filter(|wish| wish.mapping == mapping);
        own.map(|wish| wish.skip).collect()
    }

    fn add(&mut self, mapping: Uuid, of: &command::Skip) -> watch::Receiver<Progress> {
        let id = SkipId(self.next);
        self.next += 1;
        let skip = Skip {
            id,
            partition: of.partition,
            offset: of.offset,
            discard: of.discard,
        };
        let progress = watch::Sender::new(Progress {
            status: SkipStatus::Looking,
            has_ended: false,
        });
        let receiver = progress.subscribe();
        self.wishes.push(Wish {
            mapping,
            skip,
            progress,
        });
        receiver
    }

    /// Takes what consumers say; whether any wish has ended, or is wanted no longer.
    fn settle(&mut self, statuses: &[Arc<ShardStatus>]) -> bool {
        let before = self.wishes.len();
        self.wishes.retain(|wish| {
            let progress = wish.progress_of(statuses);
            let has_ended = progress.has_ended;
            wish.progress.send_if_modified(|old| {
                let is_new = *old != progress;
                *old = progress;
                is_new
            });
            !has_ended && !wish.progress.is_closed()
        });
        self.wishes.len() != before
    }
}

impl Wish {
    fn progress_of(&self, statuses: &[Arc<ShardStatus>]) -> Progress {
        let all = statuses.iter().flat_map(|status| &status.consumers);
        let own: Vec<&RunningConsumer> = all.filter(|it| it.uuid == self.mapping).collect();
        let said = |of: &RunningConsumer| {
            let mut skips = of.status.skips.iter();
            let found = skips.find(|(id, _)| *id == self.skip.id);
            found.map(|(_, status)| status.clone())
        };
        let mut told = own.iter().filter_map(|it| said(it));
        let status = told.find(|status| *status != SkipStatus::NotOwned);
        if let Some(status) = status {
            let has_ended = status.is_final();
            return Progress { status, has_ended };
        }
        // One that joins may be about to own it.
        let denies = |it: &&RunningConsumer| {
            it.status.phase == Phase::Stable && said(it) == Some(SkipStatus::NotOwned)
        };
        match !own.is_empty() && own.iter().all(denies) {
            true => Progress {
                status: SkipStatus::NotOwned,
                has_ended: true,
            },
            false => Progress {
                status: SkipStatus::Looking,
                has_ended: false,
            },
        }
    }
}

impl Control {
    /// Has the mapping's consumers pass over what is in the way.
    pub(super) fn begin_skip(&mut self, of: &command::Skip) -> Result<Begun, Outcome> {
        let refused = |reason: String| Err(Outcome::Refused { reason });
        let all = self.store.declared();
        let is_meant = |mapping: &Mapping, name: String| {
            name == of.mapping || mapping.uuid.to_string() == of.mapping
        };
        let mut found = all.iter().filter(|it| is_meant(&it.mapping, it.name()));
        let Some(declared) = found.next() else {
            let names: BTreeSet<String> = all.iter().map(|it| it.name()).collect();
            return refused(unknown(&of.mapping, &names));
        };
        let mapping = Arc::clone(&declared.mapping);
        if mapping.topic != of.topic {
            let (name, topic) = (&of.mapping, &mapping.topic);
            return refused(format!(
                "mapping {name} reads topic {topic}, not {}: name the partition as {topic}-{}",
                of.topic, of.partition
            ));
        }
        if !mapping.enabled {
            return refused(format!(
                "mapping {} is not enabled, so nothing of it is in the way; set Enabled = true",
                of.mapping
            ));
        }
        let secrets = Arc::clone(&self.secrets.borrow());
        let access = self.accesses.of(&mapping, &secrets);
        let progress = self.skips.add(mapping.uuid, of);
        self.publish();
        Ok(Begun {
            mapping,
            access,
            progress,
        })
    }

    /// Tells who waits how his wish stands, and takes out of the plans what has ended.
    pub(super) fn settle_skips(&mut self) {
        if self.skips.settle(&self.shards.statuses()) {
            self.publish();
        }
    }
}

fn unknown(name: &str, names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return format!("the node has no mapping {name}; it has none at all");
    }
    let mut told: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    if names.len() > NAMES_MAX {
        told.push("and more");
    }
    format!("the node has no mapping {name}; it has {}", told.join(", "))
}

#[cfg(test)]
mod tests {
    use forebay_protocol::delivery::ConsumerStatus;

    use super::*;

    const MAPPING: Uuid = Uuid::from_u128(7);

    fn status(phase: Phase, said: Option<SkipStatus>) -> RunningConsumer {
        let skips = said.into_iter().map(|status| (SkipId(0), status));
        RunningConsumer {
            uuid: MAPPING,
            ordinal: 0,
            status: ConsumerStatus {
                phase,
                fault: None,
                processed_any: false,
                generation: 1,
                topic_partitions: None,
                partitions: Vec::new(),
                skips: skips.collect(),
                memory_bytes: 0,
                counters: Default::default(),
            },
        }
    }

    fn settled(skips: &mut Skips, consumers: Vec<RunningConsumer>) -> bool {
        let status = ShardStatus {
            consumers,
            ..ShardStatus::default()
        };
        skips.settle(&[Arc::new(status)])
    }

    fn wish() -> (Skips, watch::Receiver<Progress>) {
        let mut skips = Skips::default();
        let of = command::Skip {
            mapping: "orders".to_owned(),
            topic: "orders".to_owned(),
            partition: 3,
            offset: 41,
            discard: false,
            wait_seconds: 1,
        };
        let progress = skips.add(MAPPING, &of);
        (skips, progress)
    }

    #[test]
    fn the_owner_of_the_partition_answers_and_nobody_else() {
        let (mut skips, progress) = wish();
        let denies = || status(Phase::Stable, Some(SkipStatus::NotOwned));
        assert_eq!(skips.of(MAPPING).len(), 1);
        assert!(skips.of(Uuid::nil()).is_empty());
        assert!(!settled(
            &mut skips,
            vec![denies(), status(Phase::Stable, None)]
        ));
        assert!(!settled(
            &mut skips,
            vec![denies(), status(Phase::Joining, Some(SkipStatus::NotOwned))]
        ));
        assert_eq!(progress.borrow().status, SkipStatus::Looking);
        let sent = status(Phase::Stable, Some(SkipStatus::Sent));
        assert!(settled(&mut skips, vec![denies(), sent]));
        let told = progress.borrow().clone();
        assert_eq!((told.status, told.has_ended), (SkipStatus::Sent, true));
        assert!(skips.of(MAPPING).is_empty());
    }

    #[test]
    fn where_all_deny_it_it_is_not_ours() {
        let (mut skips, progress) = wish();
        assert!(!settled(&mut skips, Vec::new()), "none runs");
        let denies = status(Phase::Stable, Some(SkipStatus::NotOwned));
        assert!(settled(&mut skips, vec![denies]));
        assert_eq!(progress.borrow().status, SkipStatus::NotOwned);
    }

    #[test]
    fn what_nobody_waits_for_is_wanted_no_longer() {
        let (mut skips, progress) = wish();
        drop(progress);
        assert!(settled(&mut skips, Vec::new()));
        assert!(skips.of(MAPPING).is_empty());
    }
}
