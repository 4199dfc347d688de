//! A group coordinator as small as it can be while a member cannot tell the difference: Java's
//! GroupMetadataManager, classic protocol, one group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    GroupMember, GroupProtocol, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupResponse, Request, Response, SyncGroupRequest, SyncGroupResponse,
};
use crate::time::Instant;

/// Names one request until its answer.
pub(super) type Ticket = u64;

#[derive(Debug, Default)]
pub(super) struct Coordinator {
    pub(super) generation: i32,
    state: State,
    members: BTreeMap<String, Member>,
    pending_ids: BTreeSet<String>,
    leader: String,
    protocol: String,
    ids_given: u32,
    /// Answers that are ready.
    outbox: Vec<(Ticket, Response)>,
    /// What it says instead of working: it moved away, or loads the group.
    pub(super) refusing: Option<ErrorCode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Empty,
    Preparing {
        since: Instant,
    },
    Completing {
        since: Instant,
    },
    Stable,
}

#[derive(Debug)]
struct Member {
    instance_id: Option<String>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<GroupProtocol>,
    heard: Instant,
    awaiting_join: Option<Ticket>,
    awaiting_sync: Option<Ticket>,
    synced: bool,
    assignment: Bytes,
}

impl Coordinator {
    /// Takes a request; its answer comes from `poll_answer`, perhaps much later.
    pub(super) fn handle(&mut self, ticket: Ticket, request: &Request, now: Instant) {
        let error = self.refusing;
        let answer = match (request, error) {
            (Request::JoinGroup(_), Some(error)) => Some(join_error("", error)),
            (Request::SyncGroup(_), Some(error)) => Some(sync_error(error)),
            (Request::Heartbeat(_), Some(error)) => Some(heartbeat_answer(error)),
            (Request::LeaveGroup(_), Some(error)) => Some(leave_answer(error)),
            (Request::JoinGroup(request), None) => self.join(ticket, request, now),
            (Request::SyncGroup(request), None) => self.sync(ticket, request, now),
            (Request::Heartbeat(request), None) => {
                let error = self.heartbeat(&request.member_id, request.generation_id, now);
                Some(heartbeat_answer(error))
            }
            (Request::LeaveGroup(request), None) => {
                self.pending_ids.remove(&request.member_id);
                let known = self.members.remove(&request.member_id).is_some();
                if known {
                    self.prepare_rebalance(now);
                }
                let error = if known {
                    ErrorCode::NONE
                } else {
                    ErrorCode::UNKNOWN_MEMBER_ID
                };
                Some(leave_answer(error))
            }
            (other, _) => panic!("a member does not send {other:?}"),
        };
        self.outbox.extend(answer.map(|answer| (ticket, answer)));
        self.tick(now);
    }

    pub(super) fn poll_answer(&mut self) -> Option<(Ticket, Response)> {
        self.outbox.pop()
    }

    /// What a commit would be answered.
    pub(super) fn commit(&self, member: &str, generation: i32) -> ErrorCode {
        match (self.refusing, self.members.get(member)) {
            (Some(error), _) => error,
            (None, None) => ErrorCode::UNKNOWN_MEMBER_ID,
            (None, Some(_)) if generation != self.generation => ErrorCode::ILLEGAL_GENERATION,
            (None, Some(_)) if matches!(self.state, State::Completing { .. }) => {
                ErrorCode::REBALANCE_IN_PROGRESS
            }
            (None, Some(_)) => ErrorCode::NONE,
        }
    }

    /// Lets time pass: members that were not heard of go, a rebalance that waited long enough ends.
    pub(super) fn tick(&mut self, now: Instant) {
        let silent = |member: &Member| {
            let waits = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
            !waits && now.saturating_since(member.heard) >= member.session_timeout
        };
        let before = self.members.len();
        self.members.retain(|_, member| !silent(member));
        if self.members.len() < before {
            self.prepare_rebalance(now);
        }
        match self.state {
            State::Preparing { since } => {
                let all = self
                    .members
                    .values()
                    .all(|member| member.awaiting_join.is_some());
                if all || now.saturating_since(since) >= self.rebalance_timeout() {
                    self.complete_join(now);
                }
            }
            State::Completing { since } => {
                if now.saturating_since(since) >= self.rebalance_timeout() {
                    self.members.retain(|_, member| member.synced);
                    self.prepare_rebalance(now);
                }
            }
            State::Empty | State::Stable => {}
        }
    }

    pub(super) fn is_stable(&self) -> bool {
        self.state == State::Stable
    }

    fn join(
        &mut self,
        ticket: Ticket,
        request: &JoinGroupRequest,
        now: Instant,
    ) -> Option<Response> {
        let offers = |member: &Member, name: &str| member.protocols.iter().any(|p| p.name == name);
        let shared = |protocol: &GroupProtocol| {
            let others = self
                .members
                .iter()
                .filter(|(id, _)| **id != request.member_id);
            others
                .into_iter()
                .all(|(_, member)| offers(member, &protocol.name))
        };
        if !request.protocols.iter().any(shared) {
            let error = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            return Some(join_error(&request.member_id, error));
        }
        if request.member_id.is_empty() {
            self.ids_given += 1;
            let id = format!("member-{}", self.ids_given);
            if let Some(instance) = &request.group_instance_id {
                return self.join_static(ticket, instance, id, request, now);
            }
            self.pending_ids.insert(id.clone());
            return Some(join_error(&id, ErrorCode::MEMBER_ID_REQUIRED));
        }
        if self.pending_ids.remove(&request.member_id) {
            self.add(ticket, request.member_id.clone(), request, now);
            return None;
        }
        let leads = self.leader == request.member_id;
        let Some(member) = self.members.get_mut(&request.member_id) else {
            let error = ErrorCode::UNKNOWN_MEMBER_ID;
            return Some(join_error(&request.member_id, error));
        };
        if member.instance_id != request.group_instance_id {
            let error = ErrorCode::FENCED_INSTANCE_ID;
            return Some(join_error(&request.member_id, error));
        }
        let same = member.protocols == request.protocols;
        match self.state {
            State::Completing { .. } if same => {
                member.heard = now;
                return Some(self.joined(&request.member_id));
            }
            State::Stable if same && !leads => {
                member.heard = now;
                return Some(self.joined(&request.member_id));
            }
            _ => {}
        }
        member.protocols.clone_from(&request.protocols);
        self.await_join(ticket, &request.member_id.clone(), now);
        None
    }

    /// A static member that comes back without its id takes the place of its former self.
    fn join_static(
        &mut self,
        ticket: Ticket,
        instance: &str,
        id: String,
        request: &JoinGroupRequest,
        now: Instant,
    ) -> Option<Response> {
        let former = self
            .members
            .iter()
            .find(|(_, member)| member.instance_id.as_deref() == Some(instance));
        let Some(former) = former.map(|(id, _)| id.clone()) else {
            self.add(ticket, id, request, now);
            return None;
        };
        let mut member = self.members.remove(&former).expect("it was just found");
        member.heard = now;
        member.protocols.clone_from(&request.protocols);
        for fenced in [member.awaiting_join.take(), member.awaiting_sync.take()] {
            let error = ErrorCode::FENCED_INSTANCE_ID;
            self.outbox
                .extend(fenced.map(|ticket| (ticket, join_error(&former, error))));
        }
        self.members.insert(id.clone(), member);
        if self.leader == former {
            self.leader.clone_from(&id);
        }
        if self.state != State::Stable {
            self.await_join(ticket, &id, now);
            return None;
        }
        let mut answer = self.joined(&id);
        if let Response::JoinGroup(answer) = &mut answer
            && answer.leader == id
        {
            answer.skip_assignment = true;
        }
        Some(answer)
    }

    fn add(&mut self, ticket: Ticket, id: String, request: &JoinGroupRequest, now: Instant) {
        let millis = |millis: i32| Duration::from_millis(u64::try_from(millis).unwrap());
        let member = Member {
            instance_id: request.group_instance_id.clone(),
            session_timeout: millis(request.session_timeout_ms),
            rebalance_timeout: millis(request.rebalance_timeout_ms),
            protocols: request.protocols.clone(),
            heard: now,
            awaiting_join: None,
            awaiting_sync: None,
            synced: false,
            assignment: Bytes::new(),
        };
        self.members.insert(id.clone(), member);
        self.await_join(ticket, &id, now);
    }

    fn await_join(&mut self, ticket: Ticket, id: &str, now: Instant) {
        if !matches!(self.state, State::Preparing { .. }) {
            self.prepare_rebalance(now);
        }
        let member = self.members.get_mut(id).expect("it was just added");
        member.awaiting_join = Some(ticket);
    }

    fn prepare_rebalance(&mut self, now: Instant) {
        if !matches!(self.state, State::Preparing { .. }) {
            self.state = State::Preparing { since: now };
        }
        for member in self.members.values_mut() {
            let error = ErrorCode::REBALANCE_IN_PROGRESS;
            let waiting = member.awaiting_sync.take();
            self.outbox
                .extend(waiting.map(|ticket| (ticket, sync_error(error))));
            if waiting.is_some() {
                member.heard = now;
            }
        }
    }

    fn complete_join(&mut self, now: Instant) {
        self.members
            .retain(|_, member| member.awaiting_join.is_some());
        if self.members.is_empty() {
            self.state = State::Empty;
            return;
        }
        self.generation += 1;
        self.state = State::Completing { since: now };
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        let first = self.members.values().next().expect("there are members");
        self.protocol.clone_from(&first.protocols[0].name);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let member = self.members.get_mut(&id).expect("it is one of them");
            member.heard = now;
            member.synced = false;
            member.assignment = Bytes::new();
            let ticket = member.awaiting_join.take();
            self.outbox.extend(ticket.map(|ticket| (ticket, answer)));
        }
    }

    fn joined(&self, id: &str) -> Response {
        let told = |(id, member): (&String, &Member)| GroupMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.protocols[0].metadata.clone(),
        };
        let leads = self.leader == id;
        Response::JoinGroup(JoinGroupResponse {
            throttle_ms: 0,
            error: ErrorCode::NONE,
            generation_id: self.generation,
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            members: self.members.iter().filter(|_| leads).map(told).collect(),
            skip_assignment: false,
        })
    }

    fn sync(
        &mut self,
        ticket: Ticket,
        request: &SyncGroupRequest,
        now: Instant,
    ) -> Option<Response> {
        let leads = self.leader == request.member_id;
        let Some(member) = self.members.get_mut(&request.member_id) else {
            return Some(sync_error(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        if request.generation_id != self.generation {
            return Some(sync_error(ErrorCode::ILLEGAL_GENERATION));
        }
        member.heard = now;
        member.synced = true;
        match self.state {
            State::Empty => return Some(sync_error(ErrorCode::UNKNOWN_MEMBER_ID)),
            State::Preparing { .. } => return Some(sync_error(ErrorCode::REBALANCE_IN_PROGRESS)),
            State::Stable => return Some(synced(&member.assignment)),
            State::Completing { .. } => member.awaiting_sync = Some(ticket),
        }
        if leads {
            self.state = State::Stable;
            for share in &request.assignments {
                if let Some(member) = self.members.get_mut(&share.member_id) {
                    member.assignment = share.assignment.clone();
                }
            }
            for member in self.members.values_mut() {
                let ticket = member.awaiting_sync.take();
                if ticket.is_some() {
                    member.heard = now;
                }
                let answer = synced(&member.assignment);
                self.outbox.extend(ticket.map(|ticket| (ticket, answer)));
            }
        }
        None
    }

    fn heartbeat(&mut self, id: &str, generation: i32, now: Instant) -> ErrorCode {
        let Some(member) = self.members.get_mut(id) else {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        };
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        member.heard = now;
        match self.state {
            State::Preparing { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
            State::Completing { .. } | State::Stable => ErrorCode::NONE,
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }
}

/// A refused JoinGroup.
pub(super) fn join_error(member_id: &str, error: ErrorCode) -> Response {
    Response::JoinGroup(JoinGroupResponse {
        throttle_ms: 0,
        error,
        generation_id: -1,
        protocol_name: String::new(),
        leader: String::new(),
        member_id: member_id.to_owned(),
        members: Vec::new(),
        skip_assignment: false,
    })
}

/// An answered Heartbeat.
pub(super) fn heartbeat_answer(error: ErrorCode) -> Response {
    let throttle_ms = 0;
    Response::Heartbeat(HeartbeatResponse { throttle_ms, error })
}

/// An answered LeaveGroup.
pub(super) fn leave_answer(error: ErrorCode) -> Response {
    let throttle_ms = 0;
    Response::LeaveGroup(LeaveGroupResponse { throttle_ms, error })
}

/// A refused SyncGroup.
pub(super) fn sync_error(error: ErrorCode) -> Response {
    Response::SyncGroup(SyncGroupResponse {
        throttle_ms: 0,
        error,
        assignment: Bytes::new(),
    })
}

/// An answered SyncGroup.
pub(super) fn synced(assignment: &Bytes) -> Response {
    Response::SyncGroup(SyncGroupResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        assignment: assignment.clone(),
    })
}
