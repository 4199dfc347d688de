//! One consumer group at its coordinator, after Kafka's GroupCoordinator: what the four membership
//! APIs and commits have in common.
//!
//! ```text
//! Empty -> Preparing (members join) -> Completing (the leader assigns) -> Stable -> Preparing ...
//! ```
//!
//! Sources: KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member id required),
//! KIP-814 (a static leader skips the assignment).
//!
//! Invariant: a member has at most one parked request, and a parked member's session does not end.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::time::Instant;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::events::GroupChange;
use super::offset_commit::Committed;
use super::{Call, join_group, sync_group};

/// A group at its coordinator.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<StrBytes>,
    pub(super) protocol: Option<StrBytes>,
    pub(super) leader: Option<StrBytes>,
    /// In the order in which they joined.
    pub(super) members: Vec<Member>,
    /// Ids that were handed out with MEMBER_ID_REQUIRED, and when they lapse.
    pub(super) pending: BTreeMap<StrBytes, Instant>,
    pub(super) offsets: BTreeMap<(String, i32), Committed>,
    pub(super) answers: Vec<GroupAnswer>,
    pub(super) changes: Vec<GroupChange>,
    pub(super) initial_delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// Members join until all are there or the deadline. The first rebalance of an empty group waits
    /// for company until the deadline.
    Preparing {
        deadline: Instant,
        waits_for_company: bool,
    },
    /// The leader assigns.
    Completing {
        deadline: Instant,
    },
    Stable,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: StrBytes,
    pub(super) instance: Option<StrBytes>,
    pub(super) client_id: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(StrBytes, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) joining: Option<Call>,
    pub(super) syncing: Option<Call>,
    pub(super) expires: Instant,
}

/// An answer to a request that may have been parked.
#[derive(Debug)]
pub(super) enum GroupAnswer {
    Join(Call, JoinGroupResponse),
    Sync(Call, SyncGroupResponse),
}

impl Group {
    pub(super) fn new(initial_delay: Duration) -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Vec::new(),
            pending: BTreeMap::new(),
            offsets: BTreeMap::new(),
            answers: Vec::new(),
            changes: Vec::new(),
            initial_delay,
        }
    }

    pub(super) fn member(&mut self, id: &StrBytes) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == *id)
    }

    pub(super) fn instance(&mut self, instance: &StrBytes) -> Option<&mut Member> {
        self.members
            .iter_mut()
            .find(|member| member.instance.as_ref() == Some(instance))
    }

    pub(super) fn is_leader(&self, id: &StrBytes) -> bool {
        self.leader.as_ref() == Some(id)
    }

    /// Whether `id` (with that instance, where it has one) is a member: the check that every request
    /// of a member begins with.
    pub(super) fn validate(&mut self, id: &StrBytes, instance: Option<&StrBytes>) -> ErrorCode {
        if let Some(instance) = instance {
            return match self.instance(instance) {
                None => ErrorCode::UNKNOWN_MEMBER_ID,
                Some(known) if known.id != *id => ErrorCode::FENCED_INSTANCE_ID,
                Some(_) => ErrorCode::NONE,
            };
        }
        match self.member(id) {
            Some(_) => ErrorCode::NONE,
            None => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    /// Whether someone who speaks those protocols fits in.
    pub(super) fn supports(&self, kind: &StrBytes, names: &[(StrBytes, Bytes)]) -> bool {
        if self.members.is_empty() {
            return !kind.is_empty() && !names.is_empty();
        }
        self.protocol_type.as_ref() == Some(kind)
            && names.iter().any(|(name, _)| self.all_speak(name))
    }

    /// Heard from: its session begins anew.
    pub(super) fn touch(&mut self, id: &StrBytes, now: Instant) {
        if let Some(member) = self.member(id) {
            member.expires = now + member.session_timeout;
        }
    }

    /// Begins a rebalance, unless one is already gathering.
    pub(super) fn prepare(&mut self, reason: &'static str, now: Instant) {
        if matches!(self.state, State::Preparing { .. }) {
            return;
        }
        self.fail_parked_syncs(ErrorCode::REBALANCE_IN_PROGRESS, now);
        let waits_for_company = self.state == State::Empty;
        let wait = if waits_for_company {
            self.initial_delay
        } else {
            self.rebalance_timeout()
        };
        self.state = State::Preparing {
            deadline: now + wait,
            waits_for_company,
        };
        self.changes.push(GroupChange::Rebalancing { reason });
        self.try_complete_join(now);
    }

    /// Ends the gathering when everyone is there.
    pub(super) fn try_complete_join(&mut self, now: Instant) {
        let State::Preparing {
            deadline,
            waits_for_company,
        } = self.state
        else {
            return;
        };
        if waits_for_company && now < deadline {
            return;
        }
        let all = self.members.iter().all(|member| member.joining.is_some());
        if all && self.pending.is_empty() {
            self.complete_join(now);
        }
    }

    /// A member is gone, by its own will or not.
    pub(super) fn remove(&mut self, id: &StrBytes, reason: &'static str, now: Instant) {
        let Some(at) = self.members.iter().position(|member| member.id == *id) else {
            return;
        };
        let gone = self.members.remove(at);
        self.changes.push(GroupChange::Left {
            member: gone.id.to_string(),
            reason,
        });
        if let Some(call) = gone.joining {
            let refused = join_group::refusal(call.version, ErrorCode::UNKNOWN_MEMBER_ID.0);
            self.answers.push(GroupAnswer::Join(call, refused));
        }
        if let Some(call) = gone.syncing {
            let refused = sync_group::refusal(ErrorCode::UNKNOWN_MEMBER_ID.0);
            self.answers.push(GroupAnswer::Sync(call, refused));
        }
        if self.is_leader(id) {
            self.leader = self.members.first().map(|member| member.id.clone());
        }
        match self.state {
            State::Stable | State::Completing { .. } => self.prepare(reason, now),
            State::Preparing { .. } => self.try_complete_join(now),
            State::Empty => {}
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Preparing { deadline, .. } | State::Completing { deadline } => Some(deadline),
            State::Empty | State::Stable => None,
        };
        let sessions = self
            .members
            .iter()
            .filter(|member| !member.is_parked())
            .map(|member| member.expires);
        own.into_iter()
            .chain(sessions)
            .chain(self.pending.values().copied())
            .min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let before = self.pending.len();
        self.pending.retain(|_, lapses| *lapses > now);
        if self.pending.len() != before {
            self.try_complete_join(now);
        }
        while let Some(expired) = self
            .members
            .iter()
            .find(|member| !member.is_parked() && member.expires <= now)
            .map(|member| member.id.clone())
        {
            self.remove(&expired, "session timed out", now);
        }
        match self.state {
            State::Preparing { deadline, .. } if deadline <= now => self.complete_join(now),
            State::Completing { deadline } if deadline <= now => self.drop_unsynced(now),
            _ => {}
        }
    }

    /// The answer to a member's JoinGroup in the present generation.
    pub(super) fn join_response(&self, id: &StrBytes) -> JoinGroupResponse {
        let mut response = JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_member_id(id.clone());
        if self.is_leader(id) {
            response.members = self.roster();
        }
        response
    }

    /// Everyone's metadata for the chosen protocol, as the leader is told.
    pub(super) fn roster(&self) -> Vec<JoinGroupResponseMember> {
        let chosen = self.protocol.clone().unwrap_or_default();
        let metadata = |member: &Member| {
            let found = member.protocols.iter().find(|(name, _)| *name == chosen);
            found
                .map(|(_, bytes)| Bytes::clone(bytes))
                .unwrap_or_default()
        };
        self.members
            .iter()
            .map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(member.id.clone())
                    .with_group_instance_id(member.instance.clone())
                    .with_metadata(metadata(member))
            })
            .collect()
    }

    /// The protocol that everyone speaks and most would rather.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let mut votes: Vec<(StrBytes, usize)> = Vec::new();
        for member in &self.members {
            let choice = member.protocols.iter().map(|(name, _)| name);
            let Some(choice) = choice.into_iter().find(|name| self.all_speak(name)) else {
                continue;
            };
            match votes.iter_mut().find(|(name, _)| name == choice) {
                Some((_, count)) => *count += 1,
                None => votes.push((choice.clone(), 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name)
    }

    pub(super) fn fail_parked_syncs(&mut self, code: ErrorCode, now: Instant) {
        for member in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(call) = member.syncing.take() {
                member.expires = now + member.session_timeout;
                let refused = sync_group::refusal(code.0);
                self.answers.push(GroupAnswer::Sync(call, refused));
            }
        }
    }

    fn complete_join(&mut self, now: Instant) {
        let absent: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.joining.is_none() && member.instance.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in absent {
            self.members.retain(|member| member.id != id);
            self.changes.push(GroupChange::Left {
                member: id.to_string(),
                reason: "did not rejoin in time",
            });
        }
        if self.members.is_empty() {
            self.generation += 1;
            self.state = State::Empty;
            self.leader = None;
            self.protocol = None;
            self.changes.push(GroupChange::Emptied);
            return;
        }
        let Some(first) = self.members.iter().find(|member| member.joining.is_some()) else {
            // Only static members that stay away: wait on, as Kafka does.
            self.state = State::Preparing {
                deadline: now + self.rebalance_timeout(),
                waits_for_company: false,
            };
            return;
        };
        let first = first.id.clone();
        let leader_is_here = self.leader.clone().is_some_and(|leader| {
            self.member(&leader)
                .is_some_and(|member| member.joining.is_some())
        });
        if !leader_is_here {
            self.leader = Some(first);
        }
        self.generation += 1;
        self.protocol = self.select_protocol();
        self.state = State::Completing {
            deadline: now + self.rebalance_timeout(),
        };
        self.changes.push(GroupChange::Generation {
            generation: self.generation,
            protocol: self.protocol.clone().unwrap_or_default().to_string(),
            members: self
                .members
                .iter()
                .map(|member| member.id.to_string())
                .collect(),
        });
        self.answer_joins(now);
    }

    fn answer_joins(&mut self, now: Instant) {
        for at in 0..self.members.len() {
            let id = self.members[at].id.clone();
            let member = &mut self.members[at];
            member.expires = now + member.session_timeout;
            if let Some(call) = member.joining.take() {
                let response = self.join_response(&id);
                self.answers.push(GroupAnswer::Join(call, response));
            }
        }
    }

    fn drop_unsynced(&mut self, now: Instant) {
        let late: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.syncing.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in &late {
            self.members.retain(|member| member.id != *id);
            self.changes.push(GroupChange::Left {
                member: id.to_string(),
                reason: "did not sync in time",
            });
        }
        self.prepare("a member did not sync in time", now);
    }

    fn all_speak(&self, name: &StrBytes) -> bool {
        self.members
            .iter()
            .all(|member| member.protocols.iter().any(|(known, _)| known == name))
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members
            .iter()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }
}

impl Member {
    pub(super) fn is_parked(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}
