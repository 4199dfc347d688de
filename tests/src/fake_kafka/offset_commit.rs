//! OffsetCommit (key 8), v2 to v9. v6 leader epochs (KIP-320), v7 static members (KIP-345).
//!
//! Commits below v2 and topic ids (v10) are not in the crate.

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::events::Commit;
use super::group::State;
use super::{Call, FakeKafka};

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset.
    pub offset: i64,
    /// The epoch that went with it; -1 for none.
    pub leader_epoch: i32,
    /// The text that went with it.
    pub metadata: String,
}

pub(super) fn refuse(request: &OffsetCommitRequest, _: i16, code: i16) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

impl FakeKafka {
    pub(super) fn offset_commit(&mut self, call: Call, request: OffsetCommitRequest) {
        let mut code = self.check_group(&call, &request.group_id.0);
        if code.is_ok() {
            code = self.check_commit(&request, call.version);
        }
        let mut response = refuse(&request, call.version, code.0);
        if code.is_ok() {
            for (topic, answer) in request.topics.iter().zip(&mut response.topics) {
                for (partition, answer) in topic.partitions.iter().zip(&mut answer.partitions) {
                    let index = partition.partition_index;
                    if self.find_partition(&topic.name, index).is_none() {
                        answer.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                        continue;
                    }
                    self.keep_commit(Commit {
                        at: self.now,
                        group: request.group_id.to_string(),
                        member: request.member_id.to_string(),
                        generation: request.generation_id_or_member_epoch,
                        topic: topic.name.to_string(),
                        partition: index,
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition
                            .committed_metadata
                            .as_deref()
                            .unwrap_or("")
                            .to_owned(),
                    });
                }
            }
        }
        self.answer(&call, &response);
    }

    fn check_commit(&mut self, request: &OffsetCommitRequest, version: i16) -> ErrorCode {
        let now = self.now;
        let consumers = self.consumer_groups.get(&request.group_id.0);
        if let Some(group) = consumers.filter(|group| !group.members.is_empty()) {
            let epoch = request.generation_id_or_member_epoch;
            return group.check_commit(&request.member_id, epoch, version);
        }
        let group = self.group(&request.group_id.0);
        let generation = request.generation_id_or_member_epoch;
        if generation < 0 && group.state == State::Empty {
            return ErrorCode::NONE; // a consumer that only keeps offsets here
        }
        let code = group.validate(&request.member_id, request.group_instance_id.as_ref());
        if !code.is_ok() {
            return code;
        }
        if generation != group.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        match group.state {
            // The member joined this generation but has no assignment of it yet.
            State::Completing { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::Preparing { .. } | State::Stable => {
                group.touch(&request.member_id, now);
                ErrorCode::NONE
            }
        }
    }

    fn keep_commit(&mut self, commit: Commit) {
        let committed = Committed {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.clone(),
        };
        let key = (commit.topic.clone(), commit.partition);
        let group = kafka_protocol::protocol::StrBytes::from_string(commit.group.clone());
        self.group(&group).offsets.insert(key, committed);
        if self.config.forgets_committed {
            self.delete_before(&commit.topic, commit.partition, commit.offset);
        } else {
            self.commits.push(commit);
        }
    }
}
