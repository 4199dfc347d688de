//! The text of `/metrics`, made from the newest statuses when it is asked for.
//!
//! Invariant: a series of a partition exists only while a consumer of ours owns the partition.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::Phase;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use uuid::Uuid;

use crate::contract::ShardStatus;
use crate::mapping::Mapping;
use crate::metrics::{self, COUNTERS, HistogramSnapshot, Kind, Series, ShardMetrics, Totals};

/// Everything that a scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) shards: Vec<(Arc<ShardStatus>, Arc<ShardMetrics>)>,
    pub(super) mappings: Vec<(Arc<Mapping>, Totals)>,
    /// The mappings that have a problem.
    pub(super) problems: BTreeSet<Uuid>,
    pub(super) memory_bytes: usize,
    /// Whether the newest reading of the mappings had no problem, and when one last had none.
    pub(super) reload_success: bool,
    pub(super) reload_succeeded_at: Duration,
}

type Labels = Vec<(&'static str, String)>;

impl Scrape {
    /// The text in OpenMetrics' format.
    pub(super) fn render(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // Writing into a string cannot fail; an error would be a bug in a label.
        text::encode(&mut out, &registry).expect("a string takes every line");
        out
    }

    fn partitions(
        &self,
        read: fn(&forebay_protocol::delivery::PartitionStatus) -> Option<i64>,
    ) -> Vec<(Labels, f64)> {
        let mut values = Vec::new();
        for (shard, (status, _)) in self.shards.iter().enumerate() {
            for consumer in &status.consumers {
                let mapping = self
                    .mappings
                    .iter()
                    .find(|(it, _)| it.uuid == consumer.uuid);
                let Some((mapping, _)) = mapping else {
                    continue;
                };
                for partition in &consumer.status.partitions {
                    let Some(value) = read(partition) else {
                        continue;
                    };
                    let labels = vec![
                        ("mapping", mapping.uuid.to_string()),
                        ("topic", mapping.topic.clone()),
                        ("partition", partition.partition.to_string()),
                        ("shard", shard.to_string()),
                    ];
                    values.push((labels, value as f64));
                }
            }
        }
        values
    }

    fn consumers(&self, of: &Mapping, faulty: bool) -> usize {
        let all = self.shards.iter().flat_map(|(status, _)| &status.consumers);
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
    fn faults(&self, of: &Mapping) -> usize {
        let known = usize::from(self.problems.contains(&of.uuid));
        self.consumers(of, true).max(known)
    }

    fn by_shard<T>(&self, read: impl Fn(&ShardStatus, &ShardMetrics) -> T) -> Vec<(Labels, T)> {
        let shards = self.shards.iter().enumerate();
        shards
            .map(|(shard, (status, metrics))| {
                (vec![("shard", shard.to_string())], read(status, metrics))
            })
            .collect()
    }

    fn by_mapping(&self, read: impl Fn(&Mapping, &Totals) -> f64) -> Vec<(Labels, f64)> {
        let mappings = self.mappings.iter();
        mappings
            .map(|(mapping, totals)| {
                (
                    vec![("mapping", mapping.uuid.to_string())],
                    read(mapping, totals),
                )
            })
            .collect()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let partitions = [
            (
                metrics::PARTITION_LAG,
                self.partitions(|it| {
                    let known = it.high_watermark >= 0 && it.committed_offset >= 0;
                    known.then(|| (it.high_watermark - it.committed_offset).max(0))
                }),
            ),
            (
                metrics::PARTITION_FETCHED,
                self.partitions(|it| Some(it.fetched_offset)),
            ),
            (
                metrics::PARTITION_PROCESSED,
                self.partitions(|it| Some(it.processed_offset)),
            ),
            (
                metrics::PARTITION_COMMITTED,
                self.partitions(|it| Some(it.committed_offset)),
            ),
            (
                metrics::PARTITION_HALTED,
                self.partitions(|it| Some(i64::from(it.halted.is_some()))),
            ),
        ];
        for (series, values) in partitions {
            let values = values
                .into_iter()
                .filter(|(_, it)| known(*it as i64).is_some());
            numbers(&mut to, series, values.collect())?;
        }
        for (index, (series, _)) in COUNTERS.iter().enumerate() {
            numbers(
                &mut to,
                *series,
                self.by_mapping(|_, totals| totals[index] as f64),
            )?;
        }
        let consumers = self.by_mapping(|it, _| self.consumers(it, false) as f64);
        numbers(&mut to, metrics::MAPPING_CONSUMERS, consumers)?;
        let faults = self.by_mapping(|it, _| self.faults(it) as f64);
        numbers(&mut to, metrics::MAPPING_FAULTS, faults)?;
        let success = f64::from(u8::from(self.reload_success));
        let of_node = |value| vec![(Labels::new(), value)];
        numbers(&mut to, metrics::RELOAD_SUCCESS, of_node(success))?;
        let at = of_node(self.reload_succeeded_at.as_secs_f64());
        numbers(&mut to, metrics::RELOAD_TIMESTAMP, at)?;
        let used = self.by_shard(|status, _| {
            let held = status.consumers.iter().map(|it| it.status.memory_bytes);
            held.sum::<usize>() as f64
        });
        numbers(&mut to, metrics::MEMORY_USED, used)?;
        let budget = of_node(self.memory_bytes as f64);
        numbers(&mut to, metrics::MEMORY_BUDGET, budget)?;
        let turns = self.by_shard(|_, metrics| metrics.turns.snapshot());
        histograms(&mut to, metrics::TURN_DURATION, turns)?;
        let calls = self.by_shard(|_, metrics| metrics.calls.snapshot());
        histograms(&mut to, metrics::CALL_DURATION, calls)?;
        let bodies = self.by_shard(|_, metrics| metrics.bodies.snapshot());
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
    use super::*;

    #[test]
    fn every_series_of_the_table_is_exported_and_no_other() {
        let scrape = Scrape {
            shards: vec![(Arc::default(), Arc::default())],
            mappings: Vec::new(),
            problems: BTreeSet::new(),
            memory_bytes: 7,
            reload_success: true,
            reload_succeeded_at: Duration::from_secs(9),
        };
        let text = scrape.render();
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
