//! The text of `/metrics`, made of a snapshot when it is asked for.
//!
//! Invariant: a series of a partition exists only while a consumer of ours owns the partition.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_protocol::delivery::{PartitionStatus, Phase};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use uuid::Uuid;

use super::expiry::{self, Use};
use super::snapshot::{MappingSnapshot, Moment, ShardSnapshot, Snapshot};
use super::standing::State;
use crate::mapping::Mapping;
use crate::metrics::{self, COUNTERS, HistogramSnapshot, Kind, Series};

/// A snapshot, as Prometheus is told of it.
#[derive(Debug)]
struct Scrape(Snapshot);

type Labels = Vec<(&'static str, String)>;

/// The text in OpenMetrics' format.
pub(super) fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut out = String::new();
    // Writing into a string cannot fail; an error would be a bug in a label.
    text::encode(&mut out, &registry).expect("a string takes every line");
    out
}

impl Scrape {
    /// Those that are declared: a series ends with its file.
    fn mappings(&self) -> impl Iterator<Item = &MappingSnapshot> {
        let all = self.0.mappings.iter();
        all.filter(|it| it.state != State::Deleting)
    }

    fn partitions(&self, read: fn(&PartitionStatus, Moment) -> Option<f64>) -> Vec<(Labels, f64)> {
        let mappings = self
            .0
            .mappings
            .iter()
            .map(|it| (it.mapping.uuid, &it.mapping));
        let mappings: BTreeMap<Uuid, &Arc<Mapping>> = mappings.collect();
        let mut values = Vec::new();
        for (shard, of) in self.0.shards.iter().enumerate() {
            for consumer in &of.status.consumers {
                let Some(mapping) = mappings.get(&consumer.uuid) else {
                    continue;
                };
                for partition in &consumer.status.partitions {
                    let Some(value) = read(partition, self.0.at) else {
                        continue;
                    };
                    let labels = vec![
                        ("mapping", mapping.uuid.to_string()),
                        ("topic", mapping.topic.clone()),
                        ("partition", partition.partition.to_string()),
                        ("shard", shard.to_string()),
                    ];
                    values.push((labels, value));
                }
            }
        }
        values
    }

    /// The lags of each topic's partitions, taken together.
    fn lags(&self, together: fn(f64, f64) -> f64) -> Vec<(Labels, f64)> {
        let mut topics: BTreeMap<Labels, f64> = BTreeMap::new();
        for (mut labels, lag) in self.partitions(lag) {
            labels.retain(|(name, _)| matches!(*name, "mapping" | "topic"));
            let whole = topics.entry(labels).or_default();
            *whole = together(*whole, lag);
        }
        topics.into_iter().collect()
    }

    fn consumers(&self, of: &Mapping, faulty: bool) -> usize {
        let shards = self.0.shards.iter();
        let all = shards.flat_map(|shard| &shard.status.consumers);
        let own = all.filter(|it| it.uuid == of.uuid);
        match faulty {
            true => own.filter(|it| it.status.fault.is_some()).count(),
            // One that keeps a place consumes nothing.
            false => own
                .filter(|it| it.status.phase != Phase::KeepingPlace)
                .count(),
        }
    }

    /// A mapping may have a problem that none of its consumers knows.
    fn faults(&self, of: &MappingSnapshot) -> usize {
        let known = usize::from(of.has_problem());
        self.consumers(&of.mapping, true).max(known)
    }

    fn by_shard<T>(&self, read: impl Fn(&ShardSnapshot) -> T) -> Vec<(Labels, T)> {
        let shards = self.0.shards.iter().enumerate();
        shards
            .map(|(shard, of)| (vec![("shard", shard.to_string())], read(of)))
            .collect()
    }

    fn by_mapping(&self, read: impl Fn(&MappingSnapshot) -> f64) -> Vec<(Labels, f64)> {
        let mappings = self.mappings();
        mappings
            .map(|of| (vec![("mapping", of.mapping.uuid.to_string())], read(of)))
            .collect()
    }

    /// When the first certificate of each kind ends.
    fn certificates(&self) -> Vec<(Labels, f64)> {
        let mappings = self.mappings();
        let each = mappings.flat_map(|of| {
            Use::ALL.into_iter().filter_map(|used_as| {
                let first = expiry::first(&of.certificates, used_as)?;
                let labels = vec![
                    ("mapping", of.mapping.uuid.to_string()),
                    ("kind", used_as.label().to_owned()),
                ];
                Some((labels, first.not_after as f64))
            })
        });
        each.collect()
    }

    fn encode_partitions(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let partitions = [
            (metrics::PARTITION_LAG, self.partitions(lag)),
            (
                metrics::PARTITION_FETCHED,
                self.partitions(|it, _| known(it.fetched_offset)),
            ),
            (
                metrics::PARTITION_PROCESSED,
                self.partitions(|it, _| known(it.processed_offset)),
            ),
            (
                metrics::PARTITION_COMMITTED,
                self.partitions(|it, _| known(it.committed_offset)),
            ),
            (
                metrics::PARTITION_HALTED,
                self.partitions(|it, _| Some(f64::from(u8::from(it.halted.is_some())))),
            ),
            (
                metrics::PARTITION_RETRY_AGE,
                self.partitions(|it, at| {
                    let since = it.retry.as_ref()?.since;
                    Some(at.since_boot.saturating_since(since).as_secs_f64())
                }),
            ),
            (
                metrics::PARTITION_RETRY_CALLS,
                self.partitions(|it, _| Some(f64::from(it.retry.as_ref()?.failed_calls))),
            ),
            (metrics::TOPIC_LAG, self.lags(|one, other| one + other)),
            (metrics::TOPIC_LAG_MAX, self.lags(f64::max)),
        ];
        for (series, values) in partitions {
            numbers(to, series, values)?;
        }
        Ok(())
    }
}

fn lag(of: &PartitionStatus, _: Moment) -> Option<f64> {
    Some(of.lag_records()? as f64)
}

fn known(offset: i64) -> Option<f64> {
    (offset >= 0).then_some(offset as f64)
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_partitions(&mut to)?;
        for (index, (series, _)) in COUNTERS.iter().enumerate() {
            let totals = self.by_mapping(|it| it.totals[index] as f64);
            numbers(&mut to, *series, totals)?;
        }
        let consumers = self.by_mapping(|it| self.consumers(&it.mapping, false) as f64);
        numbers(&mut to, metrics::MAPPING_CONSUMERS, consumers)?;
        let faults = self.by_mapping(|it| self.faults(it) as f64);
        numbers(&mut to, metrics::MAPPING_FAULTS, faults)?;
        let unreadable = self.by_mapping(|it| it.unreadable.len() as f64);
        numbers(&mut to, metrics::MAPPING_UNREADABLE_SECRETS, unreadable)?;
        numbers(&mut to, metrics::CERTIFICATE_EXPIRY, self.certificates())?;
        let success = f64::from(u8::from(self.0.reload_success));
        let of_node = |value| vec![(Labels::new(), value)];
        numbers(&mut to, metrics::RELOAD_SUCCESS, of_node(success))?;
        let at = of_node(self.0.reload_succeeded_at.as_secs_f64());
        numbers(&mut to, metrics::RELOAD_TIMESTAMP, at)?;
        let used = self.by_shard(|it| it.status.memory_bytes() as f64);
        numbers(&mut to, metrics::MEMORY_USED, used)?;
        let budget = of_node(self.0.memory_bytes as f64);
        numbers(&mut to, metrics::MEMORY_BUDGET, budget)?;
        let turns = self.by_shard(|it| it.metrics.turns.snapshot());
        histograms(&mut to, metrics::TURN_DURATION, turns)?;
        let calls = self.by_shard(|it| it.metrics.calls.snapshot());
        histograms(&mut to, metrics::CALL_DURATION, calls)?;
        let bodies = self.by_shard(|it| it.metrics.bodies.snapshot());
        histograms(&mut to, metrics::BODY_SIZE, bodies)
    }
}

fn numbers(
    to: &mut DescriptorEncoder<'_>,
    series: Series,
    values: Vec<(Labels, f64)>,
) -> Result<(), fmt::Error> {
    let (name, kind) = match series.kind {
        // The encoder puts the suffix back.
        Kind::Counter => (series.name.trim_end_matches("_total"), MetricType::Counter),
        Kind::Gauge | Kind::Histogram => (series.name, MetricType::Gauge),
    };
    let mut family = to.encode_descriptor(name, series.help, None, kind)?;
    for (labels, value) in values {
        let mut one = family.encode_family(&labels)?;
        match series.kind {
            Kind::Counter => one.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            Kind::Gauge | Kind::Histogram => one.encode_gauge(&value)?,
        }
    }
    Ok(())
}

fn histograms(
    to: &mut DescriptorEncoder<'_>,
    series: Series,
    values: Vec<(Labels, HistogramSnapshot)>,
) -> Result<(), fmt::Error> {
    let mut family = to.encode_descriptor(series.name, series.help, None, MetricType::Histogram)?;
    for (labels, value) in values {
        let count = value.buckets.iter().map(|(_, count)| count).sum();
        family
            .encode_family(&labels)?
            .encode_histogram::<NoLabelSet>(value.sum, count, &value.buckets, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_series_of_the_table_is_exported_and_no_other() {
        let snapshot = Snapshot {
            at: Moment::now(),
            started: Moment::now(),
            lifecycle: "running",
            node_id: None,
            memory_bytes: 7,
            reload_success: true,
            reload_problems: Arc::default(),
            reload_succeeded_at: Duration::from_secs(9),
            shards: vec![ShardSnapshot {
                status: Arc::default(),
                metrics: Arc::default(),
                planned: 1,
            }],
            mappings: Vec::new(),
        };
        let text = render(snapshot);
        let exported: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let named: Vec<&str> = metrics::ALL
            .iter()
            .map(|it| it.name.trim_end_matches("_total"))
            .collect();
        assert_eq!(exported, named);
        let budget =
            |line: &str| line.starts_with("forebay_memory_budget_bytes") && line.ends_with(" 7.0");
        assert!(text.lines().any(budget), "{text}");
        assert!(text.contains("le=\"+Inf\""), "{text}");
    }
}
