//! OffsetForLeaderEpoch (key 23), v2 to v4: where an epoch ended (KIP-101, KIP-320).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Call, FakeKafka};

pub(super) fn refuse(
    request: &OffsetForLeaderEpochRequest,
    _: i16,
    code: i16,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(code)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

impl FakeKafka {
    pub(super) fn offset_for_leader_epoch(
        &mut self,
        call: Call,
        request: OffsetForLeaderEpochRequest,
    ) {
        let mut response = refuse(&request, call.version, 0);
        for (topic, answer) in request.topics.iter().zip(&mut response.topics) {
            for (asked, answer) in topic.partitions.iter().zip(&mut answer.partitions) {
                let Some(partition) = self.find_partition(&topic.topic, asked.partition) else {
                    answer.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                    continue;
                };
                let code = partition.check(call.node, asked.current_leader_epoch);
                answer.error_code = code.0;
                if code.is_ok() {
                    let end = partition.log.epoch_end(asked.leader_epoch, partition.epoch);
                    (answer.leader_epoch, answer.end_offset) = end;
                }
            }
        }
        self.answer(&call, &response);
    }
}
