//! What a consumer says of itself.

use super::super::Duty;
use super::super::batch::Batch;
use super::super::status::{ConsumerStatus, Fault, HaltStatus, PartitionStatus, Phase};
use super::{Consumer, Faults};

impl Consumer {
    /// How it stands.
    pub fn status(&self) -> ConsumerStatus {
        let joined = self.membership.generation() >= 0;
        let phase = match self.config.duty {
            Duty::KeepPlace => Phase::KeepingPlace,
            Duty::Serve if joined => Phase::Stable,
            Duty::Serve => Phase::Joining,
        };
        let phase = self.ending.phase().unwrap_or(phase);
        ConsumerStatus {
            phase,
            fault: self.fault(),
            processed_any: self.counters.records_succeeded > 0,
            generation: self.membership.generation(),
            partitions: self.partitions(),
            skips: self.skip_statuses(),
            topic_partitions: u32::try_from(self.cluster.partitions())
                .ok()
                .filter(|n| *n > 0),
            memory_bytes: self.fetched.held() + self.bodies.held(),
            counters: self.counters,
        }
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let lanes = self.lanes.values();
        let mut partitions: Vec<_> = lanes
            .map(|lane| PartitionStatus {
                partition: lane.partition,
                fetched_offset: lane.fetched(),
                processed_offset: lane.processed(),
                committed_offset: lane.committed,
                high_watermark: lane.high_watermark,
                high_watermark_at: lane.high_watermark_at,
                log_start_offset: lane.log_start,
                call: None,
                halted: lane.halted.as_ref().map(|halt| HaltStatus {
                    offset: halt.offset,
                    last_offset: halt.last_offset(),
                    reason: halt.reason.clone(),
                    next_try: halt.retry_at,
                }),
                retry: None,
            })
            .collect();
        // The lanes are in the order of their partitions. One that was lost is not among them.
        let place = |partitions: &[PartitionStatus], partition| {
            let found = partitions.binary_search_by_key(&partition, |it| it.partition);
            found.ok()
        };
        for (partition, call) in self.batches.values().flat_map(Batch::open_call) {
            if let Some(at) = place(&partitions, partition) {
                partitions[at].call = Some(call);
            }
        }
        for (partition, retry) in self.batches.values().flat_map(Batch::retries) {
            if let Some(at) = place(&partitions, partition) {
                partitions[at].retry = Some(retry);
            }
        }
        partitions
    }

    /// Whether a fault is shown that holds every lane.
    pub(super) fn is_cluster_at_fault(&self) -> bool {
        let Faults {
            cluster,
            topic,
            group,
            start,
            function: _,
            destination: _,
        } = &self.faults;
        self.links.refusal(self.now).is_some()
            || [cluster, topic, group, start]
                .into_iter()
                .any(Option::is_some)
    }

    /// The fault to show: what keeps most from working comes first.
    fn fault(&self) -> Option<Fault> {
        let halted = self.lanes.values().find_map(|lane| {
            let halt = lane.halted.as_ref()?;
            let (partition, offset) = (lane.partition, halt.offset);
            Some(Fault::LaneHalted(format!(
                "partition {partition} at offset {offset}: {}",
                halt.reason
            )))
        });
        let faults = &self.faults;
        let broker = self.broker_fault();
        if let Some(refusal) = self.links.refusal(self.now) {
            return Some(refusal.clone());
        }
        [
            &faults.cluster,
            &broker,
            &faults.topic,
            &faults.start.clone().filter(|_| self.looks_for_time()),
            &faults.group,
            &halted,
            &faults.destination,
            &faults.function,
        ]
        .into_iter()
        .flatten()
        .next()
        .cloned()
    }
}
