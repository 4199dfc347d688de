//! JoinGroup (key 11), v0 to v9. v1 the rebalance timeout (KIP-62), v4 a member id is required before
//! joining (KIP-394), v5 static members (KIP-345), v7 protocol type and nullable name, v8 the reason
//! (KIP-800), v9 a static leader may skip the assignment (KIP-814).

use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::time::Instant;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::events::GroupChange;
use super::group::{Group, GroupAnswer, Member, State};
use super::{Call, FakeKafka};

pub(super) fn refuse(_: &JoinGroupRequest, version: i16, code: i16) -> JoinGroupResponse {
    refusal(version, code)
}

pub(super) fn refusal(version: i16, code: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(-1)
        .with_protocol_name((version < 7).then(StrBytes::new))
}

/// A request taken apart.
struct Asked {
    call: Call,
    member_id: StrBytes,
    instance: Option<StrBytes>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    kind: StrBytes,
    protocols: Vec<(StrBytes, Bytes)>,
}

impl FakeKafka {
    pub(super) fn join_group(&mut self, call: Call, request: JoinGroupRequest) {
        let code = self.check_group(&call, &request.group_id.0);
        let bounds = self.config.session_timeout_bounds;
        let session_timeout = millis(request.session_timeout_ms);
        if code.is_ok() && !(bounds.0..=bounds.1).contains(&session_timeout) {
            let refused = refusal(call.version, ErrorCode::INVALID_SESSION_TIMEOUT.0);
            return self.answer(&call, &refused);
        }
        if !code.is_ok() {
            let refused = refusal(call.version, code.0);
            return self.answer(&call, &refused);
        }
        self.member_sequence += 1;
        let prefix = request
            .group_instance_id
            .as_deref()
            .unwrap_or(&call.client_id);
        let new_id = StrBytes::from_string(format!("{prefix}-{:032x}", self.member_sequence));
        let asked = Asked {
            member_id: request.member_id,
            instance: request.group_instance_id,
            session_timeout,
            // Before v1 the session timeout bounded the rebalance too.
            rebalance_timeout: if call.version >= 1 {
                millis(request.rebalance_timeout_ms)
            } else {
                session_timeout
            },
            kind: request.protocol_type,
            protocols: request
                .protocols
                .into_iter()
                .map(|protocol| (protocol.name, protocol.metadata))
                .collect(),
            call,
        };
        let now = self.now;
        let group = self.group(&request.group_id.0);
        group.join(asked, new_id, now);
        self.flush_group(&request.group_id.0);
    }
}

impl Group {
    fn join(&mut self, asked: Asked, new_id: StrBytes, now: Instant) {
        if !self.supports(&asked.kind, &asked.protocols) {
            return self.refuse_join(asked, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if !asked.member_id.is_empty() {
            return self.join_known(asked, now);
        }
        if let Some(instance) = &asked.instance
            && let Some(old) = self.instance(instance)
        {
            let old_id = old.id.clone();
            return self.replace_static(asked, &old_id, new_id, now);
        }
        if asked.call.version >= 4 && asked.instance.is_none() {
            self.pending
                .insert(new_id.clone(), now + asked.session_timeout);
            let version = asked.call.version;
            let refused = refusal(version, ErrorCode::MEMBER_ID_REQUIRED.0).with_member_id(new_id);
            self.answers.push(GroupAnswer::Join(asked.call, refused));
            return;
        }
        self.add_member(asked, new_id, now);
    }

    fn join_known(&mut self, asked: Asked, now: Instant) {
        let id = asked.member_id.clone();
        if asked.instance.is_none() && self.pending.remove(&id).is_some() {
            return self.add_member(asked, id, now);
        }
        let code = self.validate(&id, asked.instance.as_ref());
        if !code.is_ok() {
            return self.refuse_join(asked, code);
        }
        let is_leader = self.is_leader(&id);
        let member = self.member(&id).expect("validated above");
        let same = member.protocols == asked.protocols;
        let rebalance = match self.state {
            State::Preparing { .. } | State::Empty => true,
            // A member whose answer was lost asks again, and gets it again.
            State::Completing { .. } => !same,
            State::Stable => is_leader || !same,
        };
        if rebalance {
            self.park_join(asked, &id, now);
            self.prepare("a member joins again", now);
            self.try_complete_join(now);
            return;
        }
        self.touch(&id, now);
        let response = self.join_response(&id);
        self.answers.push(GroupAnswer::Join(asked.call, response));
    }

    fn add_member(&mut self, asked: Asked, id: StrBytes, now: Instant) {
        self.changes.push(GroupChange::Joined {
            member: id.to_string(),
            instance: asked.instance.as_ref().map(|instance| instance.to_string()),
        });
        self.protocol_type = Some(asked.kind.clone());
        self.members.push(Member {
            id: id.clone(),
            instance: asked.instance.clone(),
            client_id: asked.call.client_id.clone(),
            session_timeout: asked.session_timeout,
            rebalance_timeout: asked.rebalance_timeout,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            expires: now + asked.session_timeout,
        });
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.park_join(asked, &id, now);
        self.prepare("a member joins", now);
        self.try_complete_join(now);
    }

    fn park_join(&mut self, asked: Asked, id: &StrBytes, now: Instant) {
        let member = self.member(id).expect("the caller knows it");
        member.session_timeout = asked.session_timeout;
        member.rebalance_timeout = asked.rebalance_timeout;
        member.protocols = asked.protocols;
        member.expires = now + asked.session_timeout;
        // The connection of an earlier attempt is gone: nobody waits for that answer.
        member.joining = Some(asked.call);
    }

    /// A static member came back without its id: it takes its old place, and whoever held it is fenced.
    fn replace_static(&mut self, asked: Asked, old_id: &StrBytes, new_id: StrBytes, now: Instant) {
        let was_leader = self.is_leader(old_id);
        let old_leader = self.leader.clone().unwrap_or_default();
        let member = self.member(old_id).expect("the caller found it");
        member.id = new_id.clone();
        member.protocols = asked.protocols.clone();
        member.expires = now + asked.session_timeout;
        let (joining, syncing) = (member.joining.take(), member.syncing.take());
        if let Some(call) = joining {
            let refused = refusal(call.version, ErrorCode::FENCED_INSTANCE_ID.0);
            self.answers.push(GroupAnswer::Join(call, refused));
        }
        if let Some(call) = syncing {
            let refused = super::sync_group::refusal(ErrorCode::FENCED_INSTANCE_ID.0);
            self.answers.push(GroupAnswer::Sync(call, refused));
        }
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        self.changes.push(GroupChange::Replaced {
            old: old_id.to_string(),
            new: new_id.to_string(),
        });
        let keeps = self.state == State::Stable && self.select_protocol() == self.protocol;
        if !keeps {
            self.park_join(asked, &new_id, now);
            self.prepare("a static member came back", now);
            self.try_complete_join(now);
            return;
        }
        let mut response = self.join_response(&new_id);
        if was_leader && asked.call.version >= 9 {
            response.skip_assignment = true;
        } else {
            // Without that flag it must not believe that it leads: there is nothing to assign.
            response.leader = old_leader;
            response.members.clear();
        }
        self.answers.push(GroupAnswer::Join(asked.call, response));
    }

    fn refuse_join(&mut self, asked: Asked, code: ErrorCode) {
        let refused = refusal(asked.call.version, code.0).with_member_id(asked.member_id);
        self.answers.push(GroupAnswer::Join(asked.call, refused));
    }
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}
