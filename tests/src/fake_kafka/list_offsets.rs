//! ListOffsets (key 2), v1 to v10. v2 isolation, v4 leader epochs, v7 the newest timestamp (KIP-734),
//! v8 the earliest local offset (KIP-405; here it is the log's start).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Call, FakeKafka};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

pub(super) fn refuse(request: &ListOffsetsRequest, _: i16, code: i16) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_offset(-1)
                .with_timestamp(-1)
                .with_error_code(code)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

impl FakeKafka {
    pub(super) fn list_offsets(&mut self, call: Call, request: ListOffsetsRequest) {
        let committed = request.isolation_level == 1;
        let mut response = refuse(&request, call.version, 0);
        for (topic, answer) in request.topics.iter().zip(&mut response.topics) {
            for (partition, answer) in topic.partitions.iter().zip(&mut answer.partitions) {
                self.list_one(&call, &topic.name, partition, committed, answer);
            }
        }
        self.answer(&call, &response);
    }

    fn list_one(
        &self,
        call: &Call,
        topic: &str,
        asked: &ListOffsetsPartition,
        committed: bool,
        answer: &mut ListOffsetsPartitionResponse,
    ) {
        let Some(partition) = self.find_partition(topic, asked.partition_index) else {
            answer.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
            return;
        };
        let code = partition.check(call.node, asked.current_leader_epoch);
        if !code.is_ok() {
            answer.error_code = code.0;
            return;
        }
        let log = &partition.log;
        let found = match asked.timestamp {
            LATEST if committed => Some((log.last_stable_offset(), -1, partition.epoch)),
            LATEST => Some((log.end(), -1, partition.epoch)),
            EARLIEST | EARLIEST_LOCAL => Some((log.start(), -1, log.epoch_at(log.start()))),
            MAX_TIMESTAMP => log.max_timestamp(),
            timestamp => log.find_timestamp(timestamp),
        };
        if let Some((offset, timestamp, epoch)) = found {
            answer.offset = offset;
            answer.timestamp = timestamp;
            answer.leader_epoch = if call.version >= 4 { epoch } else { -1 };
        }
    }
}
