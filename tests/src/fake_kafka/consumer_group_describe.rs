//! ConsumerGroupDescribe (key 69), v0 to v1: who is in a group of the consumer protocol, and what is whose (KIP-848).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId,
};

use kafka_protocol::protocol::StrBytes;

use super::describe_groups::HOST;
use super::{Call, FakeKafka};

pub(super) fn refuse(
    request: &ConsumerGroupDescribeRequest,
    _: i16,
    code: i16,
) -> ConsumerGroupDescribeResponse {
    let refused = |id: &GroupId| {
        DescribedGroup::default()
            .with_group_id(id.clone())
            .with_error_code(code)
    };
    let groups = request.group_ids.iter().map(refused);
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}

impl FakeKafka {
    pub(super) fn consumer_group_describe(
        &mut self,
        call: Call,
        request: ConsumerGroupDescribeRequest,
    ) {
        let groups = request.group_ids.iter();
        let groups = groups.map(|id| self.describe_consumers(&call, id));
        let response = ConsumerGroupDescribeResponse::default().with_groups(groups.collect());
        self.answer(&call, &response);
    }

    fn describe_consumers(&self, call: &Call, id: &GroupId) -> DescribedGroup {
        let described = DescribedGroup::default().with_group_id(id.clone());
        let code = self.check_group(call, &id.0);
        let known = self.consumer_groups.get(&id.0);
        let Some(group) = known.filter(|_| code.is_ok()) else {
            let code = match code.is_ok() {
                true => ErrorCode::GROUP_ID_NOT_FOUND,
                false => code,
            };
            return described.with_error_code(code.0);
        };
        let members = group.members.iter().map(|member| {
            let topics = member.assigned.iter().map(|(topic, partition)| {
                let name = self.topic_names.get(topic).cloned().unwrap_or_default();
                TopicPartitions::default()
                    .with_topic_id(*topic)
                    .with_topic_name(StrBytes::from_string(name).into())
                    .with_partitions(vec![*partition])
            });
            Member::default()
                .with_member_id(member.id.clone())
                .with_instance_id(member.instance.clone())
                .with_member_epoch(member.epoch)
                .with_client_id(StrBytes::from_string(member.client_id.clone()))
                .with_client_host(StrBytes::from_static_str(HOST))
                .with_assignment(Assignment::default().with_topic_partitions(topics.collect()))
        });
        described
            .with_group_state(StrBytes::from_static_str("Stable"))
            .with_group_epoch(group.epoch)
            .with_members(members.collect())
    }
}
