//! OffsetFetch (key 9), v1 to v9. v2 null for all topics, v5 leader epochs, v8 several groups at once
//! (KIP-709), v9 the member asks (KIP-848; its epoch is not checked here).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::offset_commit::Committed;
use super::{Call, FakeKafka};

pub(super) fn refuse(request: &OffsetFetchRequest, version: i16, code: i16) -> OffsetFetchResponse {
    if version >= 8 {
        let groups = request.groups.iter().map(|group| {
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id.clone())
                .with_error_code(code)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(*index)
                .with_committed_offset(-1)
                .with_metadata(Some(StrBytes::new()))
                .with_error_code(code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default()
        .with_topics(topics.collect())
        .with_error_code(if version >= 2 { code } else { 0 })
}

impl FakeKafka {
    pub(super) fn offset_fetch(&mut self, call: Call, request: OffsetFetchRequest) {
        let response = if call.version >= 8 {
            let groups = request.groups.into_iter().map(|group| {
                let code = self.check_group(&call, &group.group_id.0);
                let asked = group.topics.map(|topics| {
                    let pairs = topics.into_iter();
                    pairs
                        .map(|topic| (topic.name, topic.partition_indexes))
                        .collect()
                });
                let answer = OffsetFetchResponseGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_error_code(code.0);
                if !code.is_ok() {
                    return answer;
                }
                let found = self.look_up(&group.group_id.0, asked);
                answer.with_topics(found.into_iter().map(new_topic).collect())
            });
            OffsetFetchResponse::default().with_groups(groups.collect())
        } else {
            let code = self.check_group(&call, &request.group_id.0);
            if !code.is_ok() {
                return self.answer(&call, &refuse(&request, call.version, code.0));
            }
            let asked = request.topics.map(|topics| {
                let pairs = topics.into_iter();
                pairs
                    .map(|topic| (topic.name, topic.partition_indexes))
                    .collect()
            });
            let found = self.look_up(&request.group_id.0, asked);
            OffsetFetchResponse::default().with_topics(found.into_iter().map(old_topic).collect())
        };
        self.answer(&call, &response);
    }

    fn look_up(&mut self, group: &StrBytes, asked: Option<Vec<(TopicName, Vec<i32>)>>) -> Found {
        let offsets = &self.group(group).offsets;
        let Some(asked) = asked else {
            let mut found: Found = Vec::new();
            for ((topic, partition), committed) in offsets {
                let name = TopicName(StrBytes::from_string(topic.clone()));
                if found.last().is_none_or(|(last, _)| *last != name) {
                    found.push((name, Vec::new()));
                }
                let (_, partitions) = found.last_mut().expect("pushed above");
                partitions.push((*partition, Some(committed.clone())));
            }
            return found;
        };
        let one = |(name, partitions): (TopicName, Vec<i32>)| {
            let found = partitions.into_iter().map(|partition| {
                let key = (name.to_string(), partition);
                (partition, offsets.get(&key).cloned())
            });
            (name.clone(), found.collect())
        };
        asked.into_iter().map(one).collect()
    }
}

type Found = Vec<(TopicName, Vec<(i32, Option<Committed>)>)>;

const NONE: Committed = Committed {
    offset: -1,
    leader_epoch: -1,
    metadata: String::new(),
};

fn old_topic(
    (name, found): (TopicName, Vec<(i32, Option<Committed>)>),
) -> OffsetFetchResponseTopic {
    let partitions = found.into_iter().map(|(partition, committed)| {
        let committed = committed.unwrap_or(NONE);
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(committed.metadata)))
            .with_error_code(ErrorCode::NONE.0)
    });
    OffsetFetchResponseTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

fn new_topic(
    (name, found): (TopicName, Vec<(i32, Option<Committed>)>),
) -> OffsetFetchResponseTopics {
    let partitions = found.into_iter().map(|(partition, committed)| {
        let committed = committed.unwrap_or(NONE);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(partition)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(committed.metadata)))
            .with_error_code(ErrorCode::NONE.0)
    });
    OffsetFetchResponseTopics::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}
