//! The simulated operator: he has records passed over that are in the way, and some that are not.
//!
//! Invariant: what he wants draws nothing from the schedule's own chances, so that schedules without him are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay_protocol::delivery::{Input, Skip, SkipId, SkipStatus};
use forebay_protocol::random::Random;

use super::endings::Ending;
use super::{Delivered, Event, NodeRef, Violation, World};

/// What he has wanted.
#[derive(Debug)]
pub(super) struct Operator {
    random: Random,
    next: u64,
    /// What nodes have not answered yet. A frozen one hears of it late, and answers what it heard before.
    open: BTreeMap<(NodeRef, SkipId), Skip>,
    /// All that he ever wanted: partition and offset.
    wanted: BTreeSet<(i32, i64)>,
}

impl Operator {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0x5c1b),
            next: 0,
            open: BTreeMap::new(),
            wanted: BTreeSet::new(),
        }
    }

    /// Whether these are one record, and he wanted it passed over.
    pub(super) fn has_wanted(&self, records: &[Delivered]) -> bool {
        match records {
            [part] => match part.offsets[..] {
                [offset] => self.wanted.contains(&(part.partition, offset)),
                _ => false,
            },
            _ => false,
        }
    }
}

impl World {
    /// He looks at a node, and mostly wants something passed over; he looks again later.
    pub(super) fn operate(&mut self) -> Result<(), Violation> {
        if self.healed {
            return Ok(());
        }
        let pause = self.operator.random.jitter(Duration::from_secs(6));
        self.after(pause + Duration::from_millis(200), Event::Skip);
        let nodes = self.nodes.len() as u64;
        let node = usize::try_from(self.operator.random.below(nodes)).unwrap_or(0);
        let of = NodeRef {
            node,
            life: self.nodes[node].life,
        };
        let Some(consumer) = self.living(of) else {
            return Ok(());
        };
        let partitions = consumer.status().partitions.into_iter();
        let places = partitions.map(|it| {
            let retry = it.retry.map(|retry| (retry.offset, retry.last_offset));
            let processed = it.processed_offset;
            let (first, last) = retry.unwrap_or((processed - 1, processed + 1));
            (it.partition, first.max(0), last)
        });
        let places: Vec<(i32, i64, i64)> = places.collect();
        let random = &mut self.operator.random;
        let at = random.below(places.len().max(1) as u64);
        let place = places.get(usize::try_from(at).unwrap_or(0));
        let Some((partition, first, last)) = place.copied() else {
            return Ok(());
        };
        let length = u64::try_from(last - first + 1).unwrap_or(1).max(1);
        let offset = first + i64::try_from(random.below(length)).unwrap_or(0);
        let skip = Skip {
            id: SkipId(self.operator.next),
            partition,
            offset,
            discard: random.below(2) == 0,
        };
        self.operator.next += 1;
        self.operator.wanted.insert((partition, offset));
        self.operator.open.insert((of, skip.id), skip);
        self.hand_to_node(of, Input::Skips(vec![skip]))
    }

    /// What a node has discarded as he wanted has ended.
    pub(super) fn note_skips(&mut self, of: NodeRef) {
        let all = (of, SkipId(0))..=(of, SkipId(u64::MAX));
        if self.operator.open.range(all).next().is_none() {
            return;
        }
        let Some(consumer) = self.living(of) else {
            return;
        };
        for (id, status) in consumer.status().skips {
            if !status.is_final() {
                continue;
            }
            let answered = self.operator.open.remove(&(of, id));
            if let (Some(skip), SkipStatus::Discarded { .. }) = (answered, status) {
                let records = [Delivered {
                    partition: skip.partition,
                    offsets: vec![skip.offset],
                }];
                self.report.skipped += 1;
                self.ledger.ended(&records);
                self.told(&records, Ending::Skipped);
            }
        }
    }
}
