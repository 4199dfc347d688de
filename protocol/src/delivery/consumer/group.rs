//! Being a member: moves requests between the membership and the coordinator, and turns what the membership
//! says into lanes that begin, that are given up, and that are lost.
//!
//! Decision 34. A lane that is revoked finishes its call, commits, and only then is released; a lane that
//! is lost ends at once, and nothing of that ownership starts a call or commits any more.

use super::super::lane::Lane;
use super::super::links::Role;
use super::super::{ConsumerConfig, Fault, GroupProtocol, Severity};
use super::{Consumer, Ticket};
use crate::kafka::membership::{
    ConsumerMembership, Member, Membership, MembershipConfig, MembershipEvent, MembershipFault,
};
use crate::kafka::messages::{ApiKey, Response};

impl Consumer {
    /// Whether anything needs the coordinator.
    pub(super) fn needs_coordinator(&self) -> bool {
        // Without the topic there is nothing to be a member for; when ending, only what is owned matters.
        if self.ending.is_running() {
            self.cluster.partitions() > 0
        } else {
            !self.lanes.is_empty()
        }
    }

    pub(super) fn pump_group(&mut self) {
        self.drain_membership_events();
        let waits = !self.declaring.is_done() && self.ending.is_running();
        if (self.needs_coordinator() && !waits) || self.ending.is_leaving() {
            self.send_group_requests();
        }
        self.drain_membership_events();
    }

    fn send_group_requests(&mut self) {
        let Some(coordinator) = self.coordinator.endpoint() else {
            return;
        };
        let api = ApiKey::ConsumerGroupHeartbeat;
        if self.membership.is_consumer()
            && self.is_ready(Role::Coordinator, &coordinator)
            && self.links.version(Role::Coordinator, api).is_none()
        {
            self.become_classic();
        }
        // Asked for both, so that both are made at once; heartbeats do not wait for the other.
        let joins = !self.ending.is_leaving() && !self.membership.is_consumer();
        let may_join = joins && self.is_ready(Role::Join, &coordinator);
        if !self.is_ready(Role::Coordinator, &coordinator) {
            return;
        }
        // Why: epoch 0 tells the coordinator that we own nothing, and one that fenced us without having
        // expelled us gives our partitions away at once. What we lost may have a call open still.
        let rejoins = self.membership.is_consumer() && self.membership.generation() < 0;
        if rejoins && self.ending.is_running() && !self.called_partitions.is_empty() {
            return;
        }
        while let Some(request) = self.membership.poll_request(may_join, self.now) {
            let api = request.api();
            let role = match api {
                ApiKey::JoinGroup | ApiKey::SyncGroup => Role::Join,
                _ => Role::Coordinator,
            };
            if !self.send(role, &request, Ticket::Membership(api)) {
                return;
            }
        }
    }

    /// The coordinator does not serve consumer groups. A member that is only to say goodbye is gone.
    fn become_classic(&mut self) {
        if let Member::Consumer(member) = &mut self.membership {
            member.abandon();
        }
        self.drain_membership_events();
        if !self.ending.is_running() {
            return;
        }
        self.notice(
            Severity::Warn,
            "Coordinator does not serve consumer groups; the classic protocol is used",
            format!("group={}", self.config.group_id),
        );
        self.membership = classic(&self.config);
    }

    pub(super) fn handle_group_answer(&mut self, response: &Response) {
        self.membership.handle_response(response, self.now);
    }

    pub(super) fn drain_membership_events(&mut self) {
        while let Some(event) = self.membership.poll_event() {
            match event {
                MembershipEvent::Joined { generation } => {
                    self.counters.rebalances += 1;
                    self.faults.group = None;
                    self.notice(
                        Severity::Info,
                        "Joined the group",
                        format!("generation={generation}"),
                    );
                }
                MembershipEvent::Assigned { partitions } => self.begin_lanes(&partitions),
                MembershipEvent::Revoke { partitions } => self.revoke_lanes(&partitions),
                MembershipEvent::Lost { partitions } => self.lose_lanes(&partitions),
                MembershipEvent::CoordinatorStale => self.drop_coordinator(),
                MembershipEvent::NeedPartitionCounts { topics } => {
                    self.counts_wanted = topics;
                    self.counts_asked = false;
                }
                MembershipEvent::ConsumerProtocolUnsupported => self.become_classic(),
                MembershipEvent::Halt(fault) => self.group_fault(&fault),
            }
        }
    }

    /// Whoever we took for the coordinator is not: what was asked of it is void.
    fn drop_coordinator(&mut self) {
        self.coordinator.forget(self.now);
        for role in [Role::Join, Role::Coordinator] {
            let Some(broken) = self
                .links
                .close(role, "the coordinator moved", &mut self.effects)
            else {
                continue;
            };
            for ticket in broken.tickets {
                if !matches!(ticket, Ticket::Membership(_)) {
                    self.handle_unanswered(ticket);
                }
            }
        }
    }

    fn begin_lanes(&mut self, added: &[i32]) {
        self.notice(
            Severity::Info,
            "Partitions assigned",
            format!(
                "generation={} partitions={added:?}",
                self.membership.generation()
            ),
        );
        for &partition in added {
            if self.lanes.contains_key(&partition) {
                // It comes back before it was given up: the old ownership ends first.
                self.returning.insert(partition);
            } else {
                self.begin_lane(partition);
            }
        }
    }

    pub(super) fn begin_lane(&mut self, partition: i32) {
        self.ownerships += 1;
        self.lanes
            .insert(partition, Lane::new(partition, self.ownerships, self.now));
    }

    fn revoke_lanes(&mut self, partitions: &[i32]) {
        self.notice(
            Severity::Info,
            "Partitions are being given up",
            format!(
                "generation={} partitions={partitions:?}",
                self.membership.generation()
            ),
        );
        for partition in partitions {
            self.returning.remove(partition);
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.revoking = true;
            }
        }
        self.release_waiting_parts();
        for &partition in partitions {
            self.drop_unsent(partition);
        }
    }

    fn lose_lanes(&mut self, partitions: &[i32]) {
        self.notice(
            Severity::Warn,
            "Partitions were lost; what was in flight may come again",
            format!("partitions={partitions:?}"),
        );
        for partition in partitions {
            self.returning.remove(partition);
            self.end_lane(*partition);
        }
        self.release_waiting_parts();
    }

    /// Releases the revoked partitions whose call and commit have ended.
    pub(super) fn pump_release(&mut self) {
        let released: Vec<i32> = self
            .lanes
            .values()
            .filter(|lane| lane.revoking && !lane.busy && !self.awaits_commit(lane))
            .map(|lane| lane.partition)
            .collect();
        for partition in released {
            self.end_lane(partition);
            if self.returning.remove(&partition) {
                self.begin_lane(partition);
            } else {
                self.membership.released(partition, self.now);
            }
        }
    }

    /// Ends a lane and gives back what it holds; a part in an open call stays with its batch.
    pub(super) fn end_lane(&mut self, partition: i32) {
        self.drop_unsent(partition);
        if let Some(lane) = self.lanes.remove(&partition) {
            self.remember_place(&lane);
        }
    }

    fn group_fault(&mut self, fault: &MembershipFault) {
        let text = fault.to_string();
        match fault {
            MembershipFault::NotAuthorized(_) => self.group_denied(),
            _ => {
                let fault = Fault::InconsistentGroup(text.clone());
                if self.faults.group.as_ref() != Some(&fault) {
                    self.notice(Severity::Error, "Group membership is halted", text);
                    self.faults.group = Some(fault);
                }
            }
        }
    }
}

/// A member by the protocol that is configured.
pub(super) fn member(config: &ConsumerConfig) -> Member {
    match config.group_protocol {
        GroupProtocol::Classic => classic(config),
        GroupProtocol::Consumer => {
            // The broker's tools show it.
            let member_id = format!("{}-{:016x}", config.client_id, config.seed);
            let member = ConsumerMembership::new(membership_config(config), member_id, config.seed);
            Member::Consumer(Box::new(member))
        }
    }
}

fn classic(config: &ConsumerConfig) -> Member {
    let member = Membership::new(membership_config(config), config.seed);
    Member::Classic(Box::new(member))
}

fn membership_config(config: &ConsumerConfig) -> MembershipConfig {
    MembershipConfig {
        group_id: config.group_id.clone(),
        topic: config.topic.clone(),
        group_instance_id: config.group_instance_id.clone(),
        rack_id: config.rack_id.clone(),
        session_timeout: config.session_timeout,
        rebalance_timeout: config.rebalance_timeout,
        heartbeat_interval: config.heartbeat_interval,
        request_timeout: config.request_timeout,
    }
}
