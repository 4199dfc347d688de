//! One group of the consumer protocol at its coordinator, after Kafka's GroupMetadataManager and
//! CurrentAssignmentBuilder (KIP-848).
//!
//! ```text
//!            a new target takes something away
//! Settled ---------------------------------------> Unrevoked --the owner says it is gone--> Settled
//!    (what the target adds is taken as soon as nobody owns it)
//! ```
//!
//! Invariant: a partition is assigned to one member at most, those that it has yet to give up among them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::time::Instant;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::events::GroupChange;

/// A topic's id and a partition.
pub(super) type Place = (Uuid, i32);

/// A static member that said that it will be back.
pub(super) const AWAY_EPOCH: i32 = -2;

/// A group at its coordinator.
#[derive(Debug, Default)]
pub(super) struct ConsumerGroup {
    pub(super) epoch: i32,
    pub(super) members: Vec<ConsumerMember>,
    target: BTreeMap<StrBytes, BTreeSet<Place>>,
    /// The topics that its members have ever subscribed to.
    pub(super) subscribed: BTreeSet<String>,
    /// All there is to assign.
    places: BTreeSet<Place>,
    pub(super) changes: Vec<GroupChange>,
}

/// A member of it.
#[derive(Clone, Debug)]
pub(super) struct ConsumerMember {
    pub(super) id: StrBytes,
    pub(super) instance: Option<StrBytes>,
    pub(super) client_id: String,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) assigned: BTreeSet<Place>,
    /// What it must say that it owns no more.
    pub(super) revoking: BTreeSet<Place>,
    pub(super) rebalance_timeout: Duration,
    pub(super) expires: Instant,
    /// When it must have given up what is being revoked.
    pub(super) revoke_by: Option<Instant>,
}

impl ConsumerGroup {
    pub(super) fn member(&mut self, id: &StrBytes) -> Option<&mut ConsumerMember> {
        self.members.iter_mut().find(|member| member.id == *id)
    }

    pub(super) fn instance(&mut self, instance: &StrBytes) -> Option<&mut ConsumerMember> {
        self.members
            .iter_mut()
            .find(|member| member.instance.as_ref() == Some(instance))
    }

    pub(super) fn check_commit(&self, id: &StrBytes, epoch: i32, version: i16) -> ErrorCode {
        match self.members.iter().find(|member| member.id == *id) {
            None => ErrorCode::UNKNOWN_MEMBER_ID,
            Some(_) if version < 9 => ErrorCode::UNSUPPORTED_VERSION,
            Some(member) if member.epoch != epoch => ErrorCode::STALE_MEMBER_EPOCH,
            Some(_) => ErrorCode::NONE,
        }
    }

    /// Shares out anew if somebody came or went or what there is to assign has changed.
    pub(super) fn retarget(&mut self, places: BTreeSet<Place>, has_new_member: bool) {
        if has_new_member || places != self.places {
            self.places = places;
            self.bump();
        }
    }

    pub(super) fn remove(&mut self, id: &StrBytes, reason: &'static str) {
        self.members.retain(|member| member.id != *id);
        self.changes.push(GroupChange::Left {
            member: id.to_string(),
            reason,
        });
        self.bump();
    }

    /// A static member comes back under another id, with all that it had.
    pub(super) fn replace(&mut self, old: &StrBytes, new: &StrBytes) {
        if let Some(member) = self.member(old) {
            member.id = new.clone();
            member.epoch = 0;
            member.previous_epoch = 0;
        }
        if let Some(target) = self.target.remove(old) {
            self.target.insert(new.clone(), target);
        }
        self.changes.push(GroupChange::Replaced {
            old: old.to_string(),
            new: new.to_string(),
        });
    }

    /// Brings a member nearer to its target, by what it says that it owns.
    pub(super) fn reconcile(
        &mut self,
        id: &StrBytes,
        owned: Option<&BTreeSet<Place>>,
        now: Instant,
    ) {
        let Some(at) = self.members.iter().position(|member| member.id == *id) else {
            return;
        };
        let member = self.members[at].clone();
        let owns = |places: &BTreeSet<Place>| owned.is_none_or(|owned| !owned.is_disjoint(places));
        if !member.revoking.is_empty() && owns(&member.revoking) {
            return;
        }
        let target = self.target.get(id).cloned().unwrap_or_default();
        let taken: BTreeSet<Place> = self
            .members
            .iter()
            .flat_map(|member| member.assigned.union(&member.revoking))
            .copied()
            .collect();
        let (kept, gone): (BTreeSet<Place>, BTreeSet<Place>) = member
            .assigned
            .iter()
            .partition(|place| target.contains(place));
        let mut next = member.clone();
        if !gone.is_empty() && owns(&gone) {
            next.assigned = kept;
            next.revoking = gone;
        } else {
            let free = target.difference(&taken).copied();
            next.assigned = kept.iter().copied().chain(free).collect();
            next.revoking.clear();
            if next.epoch != self.epoch {
                next.previous_epoch = next.epoch;
                next.epoch = self.epoch;
            }
        }
        let begins = !next.revoking.is_empty() && next.revoking != member.revoking;
        if begins {
            next.revoke_by = Some(now + next.rebalance_timeout);
        } else if next.revoking.is_empty() {
            next.revoke_by = None;
        }
        self.members[at] = next;
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.iter().map(|member| member.expires);
        let revocations = self.members.iter().filter_map(|member| member.revoke_by);
        sessions.chain(revocations).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let overdue = |member: &ConsumerMember| {
            if member.expires <= now {
                return Some("session timed out");
            }
            let late = member.revoke_by.is_some_and(|by| by <= now);
            late.then_some("did not revoke in time")
        };
        while let Some((id, reason)) = self
            .members
            .iter()
            .find_map(|member| Some((member.id.clone(), overdue(member)?)))
        {
            self.remove(&id, reason);
        }
    }

    /// A new epoch, and its target: everyone keeps of the last what its share allows.
    fn bump(&mut self) {
        self.epoch += 1;
        let count = self.members.len();
        if count == 0 {
            self.target.clear();
            self.changes.push(GroupChange::Emptied);
            return;
        }
        let (share, extra) = (self.places.len() / count, self.places.len() % count);
        let mut left = self.places.clone();
        let mut target = BTreeMap::new();
        for (at, member) in self.members.iter().enumerate() {
            let size = share + usize::from(at < extra);
            let before = self.target.get(&member.id).cloned().unwrap_or_default();
            let kept: BTreeSet<Place> = before
                .into_iter()
                .filter(|p| left.contains(p))
                .take(size)
                .collect();
            left.retain(|place| !kept.contains(place));
            target.insert(member.id.clone(), (size, kept));
        }
        self.target = target
            .into_iter()
            .map(|(id, (size, mut kept))| {
                while kept.len() < size
                    && let Some(place) = left.pop_first()
                {
                    kept.insert(place);
                }
                (id, kept)
            })
            .collect();
        self.changes.push(GroupChange::Generation {
            generation: self.epoch,
            protocol: "consumer".to_owned(),
            members: self
                .members
                .iter()
                .map(|member| member.id.to_string())
                .collect(),
        });
    }
}
