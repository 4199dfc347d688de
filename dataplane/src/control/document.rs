//! The status document, made of a snapshot.
//!
//! Invariant: made away from the control task and from every shard: ten thousand partitions hold up nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_protocol::delivery::{ConsumerStatus, PartitionStatus, Phase, StartingPosition};
use uuid::Uuid;

use super::snapshot::{MappingSnapshot, Moment, Snapshot};
use crate::contract::RunningConsumer;
use crate::mapping;
use crate::metrics::COUNTERS;
use crate::status::{
    Call, Certificate, Consumer, Document, Endpoints, FORMAT, Halted, JOINING, Mapping, Node,
    Partition, Reload, Retry, Secret, Shard, Source,
};

/// What a snapshot says, in the document's words.
pub(super) fn of(snapshot: &Snapshot) -> Document {
    let consumers = by_mapping(snapshot);
    let none = Vec::new();
    let mappings = snapshot.mappings.iter().map(|mapping| {
        let own = consumers.get(&mapping.mapping.uuid).unwrap_or(&none);
        of_mapping(mapping, own, snapshot.at)
    });
    Document {
        format: FORMAT,
        time: seconds(snapshot.at.since_1970),
        node: of_node(snapshot),
        mappings: mappings.collect(),
    }
}

/// A consumer and the shard that it runs on.
type Placed<'a> = (usize, &'a RunningConsumer);

fn by_mapping(snapshot: &Snapshot) -> BTreeMap<Uuid, Vec<Placed<'_>>> {
    let mut consumers: BTreeMap<Uuid, Vec<Placed<'_>>> = BTreeMap::new();
    for (shard, of) in snapshot.shards.iter().enumerate() {
        for consumer in &of.status.consumers {
            let own = consumers.entry(consumer.uuid).or_default();
            own.push((shard, consumer));
        }
    }
    consumers
}

fn of_node(snapshot: &Snapshot) -> Node {
    let shards = snapshot.shards.iter().enumerate().map(|(shard, of)| Shard {
        shard,
        generation: of.status.generation,
        planned_generation: of.planned,
        consumers: of.status.consumers.len(),
        memory_used_bytes: of.status.memory_bytes() as u64,
    });
    let shards: Vec<Shard> = shards.collect();
    let up = snapshot
        .at
        .since_boot
        .saturating_since(snapshot.started.since_boot);
    Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        node_id: snapshot.node_id.clone(),
        lifecycle: snapshot.lifecycle.to_owned(),
        started: seconds(snapshot.started.since_1970),
        uptime_seconds: seconds(up),
        memory_budget_bytes: snapshot.memory_bytes as u64,
        memory_used_bytes: shards.iter().map(|it| it.memory_used_bytes).sum(),
        reload: Reload {
            success: snapshot.reload_success,
            problems: snapshot.reload_problems.to_vec(),
            succeeded: seconds(snapshot.reload_succeeded_at),
        },
        shards,
    }
}

fn of_mapping(of: &MappingSnapshot, consumers: &[Placed<'_>], at: Moment) -> Mapping {
    let mapping = &of.mapping;
    let counters = COUNTERS.iter().zip(of.totals);
    let mut details: Vec<&str> = [Some(of.verdict.detail.as_str()), of.trouble.as_deref()]
        .into_iter()
        .flatten()
        .filter(|detail| !detail.is_empty())
        .collect();
    // A mapping that cannot run for its secrets has them as its verdict too.
    details.dedup();
    let mut partitions: Vec<Partition> = consumers
        .iter()
        .flat_map(|(_, consumer)| {
            let owned = consumer.status.partitions.iter();
            owned.map(|it| of_partition(it, consumer.ordinal, at))
        })
        .collect();
    partitions.sort_by_key(|it| it.partition);
    Mapping {
        uuid: mapping.uuid.to_string(),
        function_arn: mapping.function.arn.clone(),
        source: Some(Source {
            endpoints: Endpoints {
                kafka_bootstrap_servers: servers(mapping),
            },
        }),
        topics: vec![mapping.topic.clone()],
        starting_position: Some(starting_position(mapping).to_owned()),
        starting_position_timestamp: starting_time(mapping),
        consumer_group_id: mapping.group_id.clone(),
        state: of.state.name().to_owned(),
        state_transition_reason: of.verdict.reason.to_owned(),
        last_processing_result: of.verdict.result.clone(),
        last_modified: seconds(of.modified),
        name: of.name.clone(),
        file: of.file.display().to_string(),
        detail: (!details.is_empty()).then(|| details.join("; ")),
        counters: counters
            .map(|((series, _), total)| (series.bare_name().to_owned(), total))
            .collect(),
        consumers: consumers.iter().map(of_consumer).collect(),
        partitions,
        certificates: certificates(of, at),
        secrets: of
            .unreadable
            .iter()
            .map(|(source, failing)| Secret {
                secret: source.to_string(),
                error: failing.error.to_string(),
                since: seconds(failing.since),
            })
            .collect(),
    }
}

/// The configured brokers.
pub(super) fn servers(of: &mapping::Mapping) -> Vec<String> {
    let servers = of.bootstrap_servers.split(',');
    servers.map(str::to_owned).collect()
}

/// In AWS's words.
pub(super) fn starting_position(of: &mapping::Mapping) -> &'static str {
    match of.starting_position {
        StartingPosition::TrimHorizon => "TRIM_HORIZON",
        StartingPosition::Latest => "LATEST",
        StartingPosition::AtTimestamp(_) => "AT_TIMESTAMP",
    }
}

/// The time to start at, if it is one.
pub(super) fn starting_time(of: &mapping::Mapping) -> Option<f64> {
    match of.starting_position {
        StartingPosition::AtTimestamp(millis) => Some(millis as f64 / 1000.0),
        StartingPosition::TrimHorizon | StartingPosition::Latest => None,
    }
}

fn certificates(of: &MappingSnapshot, at: Moment) -> Vec<Certificate> {
    let now = at.since_1970.as_secs_f64();
    let all = of.certificates.iter().map(|it| Certificate {
        kind: it.used_as.words().to_owned(),
        secret: it.source.to_string(),
        subject: it.subject.clone(),
        not_after: it.not_after as f64,
        expires_in_seconds: rounded(it.not_after as f64 - now),
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by(|one, other| one.not_after.total_cmp(&other.not_after));
    all
}

fn of_consumer((shard, consumer): &Placed<'_>) -> Consumer {
    let ConsumerStatus {
        phase,
        fault,
        generation,
        partitions,
        memory_bytes,
        ..
    } = &consumer.status;
    Consumer {
        consumer: consumer.ordinal,
        shard: *shard,
        phase: words(*phase).to_owned(),
        generation: Some(*generation).filter(|it| *it >= 0),
        partitions: partitions.len(),
        memory_bytes: *memory_bytes as u64,
        fault: fault.as_ref().map(ToString::to_string),
    }
}

fn of_partition(of: &PartitionStatus, consumer: u32, at: Moment) -> Partition {
    let known = |offset: i64| (offset >= 0).then_some(offset);
    let unix = |it| rounded(at.unix_seconds(it));
    Partition {
        partition: of.partition,
        consumer,
        committed_offset: known(of.committed_offset),
        processed_offset: of.processed_offset,
        fetched_offset: of.fetched_offset,
        high_watermark: known(of.high_watermark),
        high_watermark_age_seconds: of
            .high_watermark_at
            .map(|it| seconds(at.since_boot.saturating_since(it))),
        log_start_offset: known(of.log_start_offset),
        lag_records: of.lag_records(),
        in_flight: of.call.is_some(),
        call: of.call.map(|call| Call {
            since: unix(call.since),
            age_seconds: seconds(at.since_boot.saturating_since(call.since)),
            deadline: unix(call.deadline),
        }),
        halted: of.halted.as_ref().map(|halted| Halted {
            offset: halted.offset,
            reason: halted.reason.clone(),
            next_try: unix(halted.next_try),
        }),
        retry: of.retry.as_ref().map(|retry| Retry {
            offset: retry.offset,
            last_offset: retry.last_offset,
            attempts: retry.attempts,
            function_errors: retry.function_errors,
            failed_calls: retry.failed_calls,
            error: retry.error.to_string(),
            leaving: retry.leaving.map(|condition| condition.as_str().to_owned()),
            since: unix(retry.since),
            age_seconds: seconds(at.since_boot.saturating_since(retry.since)),
            next_try: retry.next_try.map(unix),
        }),
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Joining => JOINING,
        Phase::Stable => "stable",
        Phase::KeepingPlace => "keeping place",
        Phase::Draining => "draining",
        Phase::Stopped => "stopped",
    }
}

fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

/// As AWS has times: to the millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use forebay_protocol::time::Instant;

    use super::*;

    #[test]
    fn moments_of_the_machine_are_told_since_1970() {
        let at = Moment {
            since_1970: Duration::from_secs(1000),
            since_boot: Instant::from_micros(50_000_000),
        };
        assert_eq!(at.unix_seconds(Instant::from_micros(48_500_000)), 998.5);
        assert_eq!(at.unix_seconds(Instant::from_micros(51_000_000)), 1001.0);
        assert_eq!(rounded(1.234_56), 1.235);
    }
}
