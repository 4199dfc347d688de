//! Produce (key 0), v3 to v13. Batches are stored as sent; a batch that an idempotent producer sends
//! again gets its first offset again, and one whose numbers do not follow is refused. v13 topics by id. `acks=0` has no answer.

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::log::Offsets;
use super::{Call, FakeKafka};

pub(super) fn refuse(request: &ProduceRequest, _: i16, code: i16) -> ProduceResponse {
    let topics = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_base_offset(-1)
                .with_error_code(code)
        });
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions.collect())
    });
    ProduceResponse::default().with_responses(topics.collect())
}

impl FakeKafka {
    pub(super) fn produce(&mut self, call: Call, request: ProduceRequest) {
        let mut response = refuse(&request, call.version, 0);
        for (topic, answer) in request.topic_data.into_iter().zip(&mut response.responses) {
            let found = if call.version >= 13 {
                self.topics
                    .values_mut()
                    .find(|known| known.id == topic.topic_id)
            } else {
                self.topics.get_mut(topic.name.as_str())
            };
            let Some(known) = found else {
                let code = if call.version >= 13 {
                    ErrorCode::UNKNOWN_TOPIC_ID
                } else {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                };
                for answer in &mut answer.partition_responses {
                    answer.error_code = code.0;
                }
                continue;
            };
            let data = topic.partition_data.into_iter();
            for (data, answer) in data.zip(&mut answer.partition_responses) {
                let index = usize::try_from(data.index).unwrap_or(usize::MAX);
                let Some(partition) = known.partitions.get_mut(index) else {
                    answer.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                    continue;
                };
                let code = partition.check(call.node, -1);
                answer.error_code = code.0;
                if !code.is_ok() {
                    continue;
                }
                let epoch = partition.epoch;
                let raw = data.records.unwrap_or_default();
                let code = partition.log.refuses(&raw);
                answer.error_code = code.0;
                if !code.is_ok() {
                    continue;
                }
                match partition.log.append(raw, epoch, Offsets::Assign) {
                    Some(base) => answer.base_offset = base,
                    None => answer.error_code = ErrorCode::CORRUPT_MESSAGE.0,
                }
                answer.log_start_offset = partition.log.start();
            }
        }
        self.dirty = true;
        if request.acks == 0 {
            self.finish(&call);
        } else {
            self.answer(&call, &response);
        }
    }
}
