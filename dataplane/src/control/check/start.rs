//! What `check` finds of a start AT_TIMESTAMP: a topic of message format v0 has no timestamps to look for.
//!
//! Source: KIP-79.
//!
//! Invariant: it asks what the node would ask, and a group that has all of its commits does not ask any more.

use std::collections::BTreeSet;

use forebay_protocol::delivery::{Endpoint, StartingPosition};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::messages::{
    ListOffsetsPartition, ListOffsetsRequest, MetadataResponse, OffsetFetchRequest, Request,
    Response,
};

use super::{Report, Severity, Way, coordinator, led};
use crate::control::probe::Probe;
use crate::control::verdict::NO_TIMESTAMPS;
use crate::mapping::Mapping;

/// Whether the topic can be searched for the mapping's time, if it starts at one.
pub(super) async fn at_timestamp(
    mapping: &Mapping,
    way: Way<'_>,
    probe: &mut Probe,
    metadata: &MetadataResponse,
    report: &mut Report,
) {
    let StartingPosition::AtTimestamp(timestamp) = mapping.starting_position else {
        return;
    };
    let subject = format!("start of topic {}", mapping.topic);
    match listed(mapping, way, metadata, timestamp).await {
        // What keeps its leaders from being asked has a line of its own.
        None => {}
        Some(Ok(ErrorCode::NONE)) => report.add(Severity::Right, subject, "is found by its time"),
        Some(Ok(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT)) => {
            if is_committed(mapping, way, probe, metadata).await {
                let message = "the group has its commits, so no time is looked for";
                report.add(Severity::Right, subject, message);
                return;
            }
            let message = format!("has no timestamps: {NO_TIMESTAMPS}");
            report.add(Severity::Problem, subject, message);
        }
        Some(Ok(error)) => {
            let message = format!("the broker says {error}; it is asked again by the node");
            report.add(Severity::Note, subject, message);
        }
        Some(Err(error)) => report.add(Severity::Problem, subject, error),
    }
}

/// What the leader of a partition says to the time. All partitions have the topic's format, so one speaks for all.
async fn listed(
    mapping: &Mapping,
    way: Way<'_>,
    metadata: &MetadataResponse,
    timestamp: i64,
) -> Option<Result<ErrorCode, String>> {
    let (partition, leader) = led(metadata, &mapping.topic)?;
    let mut probe = way.open(&leader).await.ok()?;
    let request = Request::ListOffsets(ListOffsetsRequest {
        read_committed: mapping.kafka.read_committed,
        topic: mapping.topic.clone(),
        partitions: vec![ListOffsetsPartition {
            partition: partition.partition,
            current_leader_epoch: partition.leader_epoch,
            timestamp,
        }],
    });
    Some(match probe.ask(&request).await {
        Ok(Response::ListOffsets(listed)) => match listed.partitions.first() {
            Some(listed) => Ok(listed.error),
            None => Err("the broker says nothing of the partition".to_owned()),
        },
        Ok(_) => Err("another answer than ListOffsets".to_owned()),
        Err(error) => Err(error),
    })
}

/// Whether every partition has a commit of the group. What keeps us from knowing that is said of the group.
async fn is_committed(
    mapping: &Mapping,
    way: Way<'_>,
    probe: &mut Probe,
    metadata: &MetadataResponse,
) -> bool {
    let topics = metadata.topics.iter();
    let own = topics.filter(|it| it.name == mapping.topic);
    let partitions: BTreeSet<i32> = own
        .flat_map(|it| &it.partitions)
        .map(|it| it.partition)
        .collect();
    let found = match coordinator(mapping, probe).await {
        Ok(found) if found.error.is_ok() => found,
        Ok(_) | Err(_) => return false,
    };
    let endpoint = Endpoint {
        host: found.host,
        port: found.port,
    };
    let Ok(mut probe) = way.open(&endpoint).await else {
        return false;
    };
    let request = Request::OffsetFetch(OffsetFetchRequest {
        group_id: mapping.group_id.clone(),
        topic: mapping.topic.clone(),
        partitions: partitions.iter().copied().collect(),
        require_stable: false,
    });
    let Ok(Response::OffsetFetch(fetched)) = probe.ask(&request).await else {
        return false;
    };
    let committed = fetched.partitions.iter();
    let committed = committed.filter(|it| it.error.is_ok() && it.committed_offset >= 0);
    committed.map(|it| it.partition).collect::<BTreeSet<_>>() == partitions
}
