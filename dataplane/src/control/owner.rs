//! Which member of a group has a partition, asked of the group's coordinator when an operator asks the wrong node.
//!
//! Invariant: it only asks, and within a time limit.

use std::time::Duration;

use forebay_protocol::delivery::Endpoint;
use forebay_protocol::kafka::assignor::Assignment;
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::messages::{
    ApiKey, ConsumerGroupDescribeRequest, DescribeGroupsRequest, Request, Response,
};

use super::check;
use super::probe::Probe;
use crate::command::Owner;
use crate::contract::Access;
use crate::mapping::Mapping;

/// Whoever waits for it has been told the most important thing by then.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The member that owns the partition, or why that cannot be told.
pub(super) async fn of(
    mapping: &Mapping,
    access: &Access,
    partition: i32,
) -> Result<Owner, String> {
    let found = tokio::time::timeout(TIMEOUT, ask(mapping, access, partition)).await;
    found.unwrap_or_else(|_| Err(format!("its brokers did not tell within {TIMEOUT:?}")))
}

async fn ask(mapping: &Mapping, access: &Access, partition: i32) -> Result<Owner, String> {
    let timeout = mapping.kafka.request_timeout;
    let mut last = "it has no brokers".to_owned();
    for endpoint in &mapping.bootstrap {
        let mut probe = match Probe::open(endpoint, access, timeout).await {
            Ok(probe) => probe,
            Err(error) => {
                last = format!("{}:{}: {error}", endpoint.host, endpoint.port);
                continue;
            }
        };
        let metadata = probe.metadata(&mapping.topic).await?;
        let mut topics = metadata.topics.iter();
        if let Some(topic) = topics.find(|it| it.name == mapping.topic && it.error.is_ok())
            && topic.partitions.iter().all(|it| it.partition != partition)
        {
            return Err(format!(
                "topic {} has {} partitions and none of that number",
                mapping.topic,
                topic.partitions.len()
            ));
        }
        let found = check::coordinator(mapping, &mut probe).await?;
        if !found.error.is_ok() {
            return Err(format!(
                "of its coordinator the broker says {}",
                found.error
            ));
        }
        let coordinator = Endpoint {
            host: found.host,
            port: found.port,
        };
        let probe = Probe::open(&coordinator, access, timeout).await;
        let mut probe = probe.map_err(|error| format!("its coordinator: {error}"))?;
        return member(mapping, &mut probe, partition).await;
    }
    Err(last)
}

/// A group is of either kind, and a coordinator knows nothing of it by the other's question.
async fn member(mapping: &Mapping, probe: &mut Probe, partition: i32) -> Result<Owner, String> {
    let nobody = || {
        format!(
            "no member of group {} has it at this moment",
            mapping.group_id
        )
    };
    if probe.version(ApiKey::ConsumerGroupDescribe).is_some() {
        let request = Request::ConsumerGroupDescribe(ConsumerGroupDescribeRequest {
            group_id: mapping.group_id.clone(),
        });
        let Response::ConsumerGroupDescribe(group) = probe.ask(&request).await? else {
            return Err("another answer than ConsumerGroupDescribe".to_owned());
        };
        match group.error {
            ErrorCode::NONE => {
                let has = |topics: &[(String, Vec<i32>)]| {
                    let mut topics = topics.iter();
                    topics
                        .any(|(topic, owned)| *topic == mapping.topic && owned.contains(&partition))
                };
                let mut members = group.members.into_iter();
                let owner = members.find(|it| has(&it.assignment)).map(|it| Owner {
                    client_id: it.client_id,
                    host: it.client_host,
                    instance_id: it.instance_id,
                });
                return owner.ok_or_else(nobody);
            }
            ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION => {}
            error => return Err(format!("of its group the coordinator says {error}")),
        }
    }
    if probe.version(ApiKey::DescribeGroups).is_none() {
        return Err("its coordinator cannot describe groups".to_owned());
    }
    let request = Request::DescribeGroups(DescribeGroupsRequest {
        group_id: mapping.group_id.clone(),
    });
    let Response::DescribeGroups(group) = probe.ask(&request).await? else {
        return Err("another answer than DescribeGroups".to_owned());
    };
    if !group.error.is_ok() {
        return Err(format!("of its group the coordinator says {}", group.error));
    }
    let mut members = group.members.into_iter();
    // What a member of another kind was assigned may be written in another way.
    let has = |assignment: &bytes::Bytes| {
        let read = Assignment::decode(assignment);
        read.is_ok_and(|it| it.of_topic(&mapping.topic).contains(&partition))
    };
    let owner = members.find(|it| has(&it.assignment)).map(|it| Owner {
        client_id: it.client_id,
        host: it.client_host,
        instance_id: it.group_instance_id,
    });
    owner.ok_or_else(nobody)
}
