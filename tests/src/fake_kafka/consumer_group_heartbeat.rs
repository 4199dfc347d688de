//! ConsumerGroupHeartbeat (key 68), v0 and v1: one topic, one server-side assignor that spreads evenly and
//! keeps what it can. v1 wants ids of the members' making (KIP-1082).
//!
//! Subscriptions by regular expression and members of the classic protocol in the same group are not served.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;

use super::consumer_group::{AWAY_EPOCH, ConsumerMember, Place};
use super::events::{GroupChange, GroupEvent};
use super::{Call, FakeKafka};

pub(super) fn refuse(
    _: &ConsumerGroupHeartbeatRequest,
    _: i16,
    code: i16,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code)
}

impl FakeKafka {
    pub(super) fn consumer_group_heartbeat(
        &mut self,
        call: Call,
        request: ConsumerGroupHeartbeatRequest,
    ) {
        let mut code = self.check_group(&call, &request.group_id.0);
        if code.is_ok() {
            code = self.check_heartbeat(&request);
        }
        let answer = if !code.is_ok() {
            Err(code)
        } else if request.member_epoch < 0 {
            self.leave_consumer_group(&request)
        } else {
            self.beat_in_consumer_group(&call, &request)
        };
        let answer = answer.unwrap_or_else(|code| refuse(&request, call.version, code.0));
        self.answer(&call, &answer);
        self.flush_consumer_group(&request.group_id.0);
    }

    /// What is refused whatever the group is like.
    fn check_heartbeat(&self, request: &ConsumerGroupHeartbeatRequest) -> ErrorCode {
        let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
        let joins = request.member_epoch == 0;
        let says_all = request.rebalance_timeout_ms >= 0
            && request.topic_partitions.as_ref().is_some_and(Vec::is_empty)
            && request
                .subscribed_topic_names
                .as_ref()
                .is_some_and(|names| !names.is_empty());
        if request.member_id.is_empty()
            || is_empty(&request.instance_id)
            || is_empty(&request.rack_id)
            || request.member_epoch < AWAY_EPOCH
            || (joins && !says_all)
        {
            return ErrorCode::INVALID_REQUEST;
        }
        if request.server_assignor.is_some() {
            return ErrorCode::UNSUPPORTED_ASSIGNOR;
        }
        let classic = self.groups.get(&request.group_id.0);
        if classic.is_some_and(|group| !group.members.is_empty()) {
            return ErrorCode::GROUP_ID_NOT_FOUND;
        }
        ErrorCode::NONE
    }

    fn beat_in_consumer_group(
        &mut self,
        call: &Call,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, ErrorCode> {
        let (now, session) = (self.now, self.config.consumer_session_timeout);
        let interval = self.config.consumer_heartbeat_interval;
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let places = |topic: &_| -> Vec<Place> { places_of(topic) };
            topics.iter().flat_map(places).collect::<BTreeSet<Place>>()
        });
        let is_new = self.admit(call, request, owned.as_ref())?;
        let names = request.subscribed_topic_names.iter().flatten();
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let group = self
            .consumer_groups
            .entry(request.group_id.0.clone())
            .or_default();
        group.subscribed.extend(names);
        let places = self.places(&request.group_id.0);
        let group = self
            .consumer_groups
            .entry(request.group_id.0.clone())
            .or_default();
        group.retarget(places, is_new);
        let before = group
            .member(&request.member_id)
            .map(|member| member.assigned.clone());
        group.reconcile(&request.member_id, owned.as_ref(), now);
        let member = group
            .member(&request.member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        member.expires = now + session;
        let says_all = request.rebalance_timeout_ms >= 0
            && request.subscribed_topic_names.is_some()
            && owned.is_some();
        let changed = before.as_ref() != Some(&member.assigned);
        let interval = i32::try_from(interval.as_millis()).unwrap_or(i32::MAX);
        let mut answer = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(member.id.clone()))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(interval);
        if says_all || is_new || changed {
            answer.assignment = Some(assignment(&member.assigned));
        }
        Ok(answer)
    }

    /// Whether that is a member, and lets it in if it joins; true if it is new.
    fn admit(
        &mut self,
        call: &Call,
        request: &ConsumerGroupHeartbeatRequest,
        owned: Option<&BTreeSet<Place>>,
    ) -> Result<bool, ErrorCode> {
        let (now, session) = (self.now, self.config.consumer_session_timeout);
        let group = self
            .consumer_groups
            .entry(request.group_id.0.clone())
            .or_default();
        let id = &request.member_id;
        if let Some(instance) = &request.instance_id
            && let Some(known) = group.instance(instance)
        {
            let (old, epoch) = (known.id.clone(), known.epoch);
            if request.member_epoch > 0 && old != *id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
            if request.member_epoch == 0 {
                if epoch != AWAY_EPOCH {
                    return Err(ErrorCode::UNRELEASED_INSTANCE_ID);
                }
                group.replace(&old, id);
                return Ok(false);
            }
        }
        if let Some(member) = group.member(id) {
            let is_subset = owned.is_some_and(|owned| owned.is_subset(&member.assigned));
            let is_previous = request.member_epoch == member.previous_epoch && is_subset;
            if request.member_epoch != member.epoch && !is_previous {
                return Err(ErrorCode::FENCED_MEMBER_EPOCH);
            }
            return Ok(false);
        }
        if request.member_epoch > 0 {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        let timeout = u64::try_from(request.rebalance_timeout_ms).unwrap_or(0);
        group.members.push(ConsumerMember {
            id: id.clone(),
            instance: request.instance_id.clone(),
            client_id: call.client_id.clone(),
            epoch: 0,
            previous_epoch: -1,
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            rebalance_timeout: Duration::from_millis(timeout),
            expires: now + session,
            revoke_by: None,
        });
        group.changes.push(GroupChange::Joined {
            member: id.to_string(),
            instance: request.instance_id.as_ref().map(ToString::to_string),
        });
        Ok(true)
    }

    fn leave_consumer_group(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, ErrorCode> {
        let group = self
            .consumer_groups
            .entry(request.group_id.0.clone())
            .or_default();
        let member = group
            .member(&request.member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if request.member_epoch == AWAY_EPOCH {
            member.epoch = AWAY_EPOCH;
            member.revoking.clear();
            member.revoke_by = None;
        } else {
            group.remove(&request.member_id, "left");
        }
        Ok(ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(request.member_id.clone()))
            .with_member_epoch(request.member_epoch))
    }

    /// All partitions of what the group subscribes to.
    fn places(&self, group: &StrBytes) -> BTreeSet<Place> {
        let subscribed = self.consumer_groups.get(group).into_iter();
        subscribed
            .flat_map(|group| &group.subscribed)
            .filter_map(|name| self.topics.get(name))
            .flat_map(|topic| {
                let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                (0..count).map(|partition| (topic.id, partition))
            })
            .collect()
    }

    pub(super) fn expire_consumer_groups(&mut self) {
        let ids: Vec<StrBytes> = self.consumer_groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.consumer_groups.get_mut(&id) {
                group.handle_timeout(self.now);
            }
            self.flush_consumer_group(&id);
        }
    }

    /// Keeps what happened to a group.
    pub(super) fn flush_consumer_group(&mut self, id: &StrBytes) {
        let Some(group) = self.consumer_groups.get_mut(id) else {
            return;
        };
        for change in std::mem::take(&mut group.changes) {
            self.events.push(GroupEvent {
                at: self.now,
                group: id.to_string(),
                change,
            });
        }
    }
}

fn places_of(
    topic: &kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions,
) -> Vec<Place> {
    let id = topic.topic_id;
    topic
        .partitions
        .iter()
        .map(|partition| (id, *partition))
        .collect()
}

fn assignment(places: &BTreeSet<Place>) -> Assignment {
    let ids: BTreeSet<_> = places.iter().map(|(id, _)| *id).collect();
    let topics = ids.into_iter().map(|id| {
        let partitions = places.iter().filter(|(of, _)| *of == id);
        TopicPartitions::default()
            .with_topic_id(id)
            .with_partitions(partitions.map(|(_, partition)| *partition).collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
