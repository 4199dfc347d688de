//! What `check` finds of a topic of the same cluster that failed records go to.
//!
//! Invariant: a record is written by [`try_out`] alone, which is asked for.

use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::messages::{
    MetadataResponse, ProducePartition, ProduceRequest, Request, Response,
};
use forebay_protocol::kafka::records::write::{NewRecord, ProducerStamp};
use forebay_protocol::lambda::failure;
use uuid::Uuid;

use super::{Report, Severity, Way, destination, led};
use crate::control::access;
use crate::control::aws::Aws;
use crate::control::destinations::{origin, unix_ms};
use crate::control::probe::Probe;
use crate::mapping::{Destination, Mapping};

/// Reads whether it is there.
pub(super) async fn look(mapping: &Mapping, probe: &mut Probe, report: &mut Report) {
    let Some(Destination::Topic(topic)) = &mapping.destination else {
        return;
    };
    let (severity, message) = match probe.metadata(topic).await {
        Err(error) => (Severity::Problem, format!("is not told of ({error})")),
        Ok(metadata) => match error_of(&metadata, topic) {
            Some(error) => (Severity::Problem, words(error)),
            None => (
                Severity::Right,
                "exists; forebay check --probe shows whether it can be written to".to_owned(),
            ),
        },
    };
    report.add(severity, destination::subject(mapping), message);
}

/// Writes a document to it that tells of no record.
pub(super) async fn try_out(aws: &Aws, mapping: &Mapping, topic: &str, report: &mut Report) {
    let read = access::read(mapping, aws).await;
    let written = match access::of_brokers(mapping, &read) {
        Err(_) => Err("was not written to, for want of a secret".to_owned()),
        Ok(access) => {
            let way = Way {
                access: &access,
                timeout: mapping.kafka.request_timeout,
            };
            write(mapping, topic, way).await
        }
    };
    let (severity, message) = match written {
        Ok(()) => (Severity::Right, destination::TAKEN.to_owned()),
        Err(reason) => (Severity::Problem, reason),
    };
    report.add(severity, destination::subject(mapping), message);
}

async fn write(mapping: &Mapping, topic: &str, way: Way<'_>) -> Result<(), String> {
    let mut last = String::new();
    let mut found = None;
    for endpoint in &mapping.bootstrap {
        match way.open(endpoint).await {
            Ok(mut probe) => {
                found = Some(probe.metadata(topic).await?);
                break;
            }
            Err(error) => last = format!("no broker can be reached ({error})"),
        }
    }
    let metadata = found.ok_or(last)?;
    if let Some(error) = error_of(&metadata, topic) {
        return Err(words(error));
    }
    let (partition, leader) = led(&metadata, topic).ok_or("none of its partitions has a leader")?;
    let mut probe = way.open(&leader).await.map_err(|error| {
        format!(
            "its leader {} cannot be reached ({error})",
            super::broker(&leader)
        )
    })?;
    let request = Request::Produce(ProduceRequest {
        topic: topic.to_owned(),
        timeout_ms: i32::try_from(mapping.kafka.request_timeout.as_millis()).unwrap_or(i32::MAX),
        partitions: vec![ProducePartition {
            partition: partition.partition,
            stamp: ProducerStamp::NONE,
            codec: None,
            records: vec![document(mapping)],
        }],
    });
    let Response::Produce(answer) = probe.ask(&request).await? else {
        return Err("the broker gives another answer than Produce".to_owned());
    };
    let answer = answer.partitions.first();
    let answer = answer.ok_or("the broker's answer names no partition")?;
    match answer.error {
        ErrorCode::NONE => Ok(()),
        error => Err(words(error)),
    }
}

fn document(mapping: &Mapping) -> NewRecord {
    let (now, id) = (unix_ms(), Uuid::new_v4().to_string());
    let text = failure::probe(origin(mapping), &id, now);
    NewRecord {
        timestamp: now,
        // A topic that is compacted takes none without a key.
        key: Some(id.into()),
        value: Some(text.into()),
        headers: Vec::new(),
    }
}

fn error_of(metadata: &MetadataResponse, topic: &str) -> Option<ErrorCode> {
    let found = metadata.topics.iter().find(|it| it.name == topic);
    let error = found.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |it| it.error);
    (!error.is_ok()).then_some(error)
}

fn words(error: ErrorCode) -> String {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            "does not exist; create it or correct DestinationConfig".to_owned()
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            "is not allowed; grant Describe and Write on that topic to the mapping's user"
                .to_owned()
        }
        error => format!("the broker says {error}"),
    }
}
