//! What is produced, and what goes wrong.

use std::time::Duration;

use forebay_protocol::delivery::{GroupProtocol, Input};
use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::ApiKey;

use super::{Event, NodeRef, TOPIC, Violation, World};
use crate::fake_kafka::Fault;
use crate::fake_kafka::batch::{BatchOptions, Codec, NewRecord, Producer};

impl World {
    /// Appends a batch, sometimes in a transaction; more come later.
    pub(super) fn produce(&mut self) {
        if self.schedule.produced_batches == 0 {
            return;
        }
        self.schedule.produced_batches -= 1;
        let partition =
            i32::try_from(self.random.below(self.schedule.partitions as u64)).unwrap_or(0);
        let count = 1 + self.random.below(5);
        let value = usize::try_from(self.random.below(300)).unwrap_or(0);
        let wanted: Vec<bool> = (0..count).map(|_| self.draw_wanted()).collect();
        let mut records: Vec<NewRecord> = wanted
            .iter()
            .map(|wanted| NewRecord::value(self.record_value(*wanted, value)))
            .collect();
        if self.schedule.giving_up.is_some() {
            self.make_troublesome(&mut records);
        }
        match self.random.below(6) {
            0 => self.produce_transaction(partition, &records, &wanted),
            kind => {
                let codec = if kind == 1 { Codec::Gzip } else { Codec::None };
                let options = BatchOptions {
                    codec,
                    ..BatchOptions::default()
                };
                let base = self.kafka.append_with(TOPIC, partition, &records, options);
                self.note(partition, base, &wanted);
            }
        }
        let gap = self.random_micros(1_000, 1_500_000);
        self.after(gap, Event::Produce);
    }

    /// Some are old, and some are too large for any call.
    fn make_troublesome(&mut self, records: &mut [NewRecord]) {
        let now = i64::try_from(self.now.as_micros() / 1000).unwrap_or(0);
        for record in records {
            let age = i64::try_from(self.random.below(70_000)).unwrap_or(0);
            record.timestamp = super::UNIX_ORIGIN_MS + now - age;
            let may_be_large = self.schedule.body_limit < 100_000 && !self.schedule.is_filtered;
            if may_be_large && self.chance(20) {
                record.value = Some(vec![b'x'; self.schedule.body_limit].into());
            }
        }
    }

    /// Whether the next record is one that the filters want; without filters all are.
    fn draw_wanted(&mut self) -> bool {
        !self.schedule.is_filtered || self.chance(2)
    }

    /// A record's value: plain text, or JSON that the filters want or do not.
    fn record_value(&self, wanted: bool, bytes: usize) -> Vec<u8> {
        let padding = "x".repeat(bytes);
        match (wanted, self.schedule.is_filtered && bytes % 2 == 1) {
            (true, false) => padding.into_bytes(),
            (true, true) => format!(r#"{{"send":"yes","padding":"{padding}"}}"#).into_bytes(),
            (false, _) => format!(r#"{{"padding":"{padding}","send":"no"}}"#).into_bytes(),
        }
    }

    fn produce_transaction(&mut self, partition: i32, records: &[NewRecord], wanted: &[bool]) {
        let commits = self.chance(2);
        let producer = Producer {
            id: 7,
            epoch: 0,
            sequence: -1,
        };
        let options = BatchOptions {
            producer: Some(producer),
            transactional: true,
            ..BatchOptions::default()
        };
        let base = self.kafka.append_with(TOPIC, partition, records, options);
        let visible: Vec<bool> = wanted.iter().map(|it| *it && commits).collect();
        self.note(partition, base, &visible);
        let marker = self
            .kafka
            .append_marker(TOPIC, partition, producer.id, commits);
        self.note(partition, marker, &[false]);
    }

    /// Records from that offset on; what is not visible must never be delivered.
    fn note(&mut self, partition: i32, base: i64, visible: &[bool]) {
        for (offset, visible) in (base..).zip(visible) {
            self.ledger.produced(partition, offset, *visible);
            self.report.records += u64::from(*visible);
        }
    }

    /// One fault strikes; the next comes later.
    pub(super) fn chaos(&mut self) -> Result<(), Violation> {
        if self.healed || self.schedule.is_calm {
            return Ok(());
        }
        self.report.faults += 1;
        let node = usize::try_from(self.random.below(self.schedule.nodes as u64)).unwrap_or(0);
        let broker =
            1 + i32::try_from(self.random.below(self.schedule.brokers as u64)).unwrap_or(0);
        let kinds = if self.schedule.sasl.is_some() { 12 } else { 9 };
        match self.random.below(kinds) {
            0 => self.kill(node),
            1 => {
                let pause = self.random_micros(100_000, 30_000_000);
                self.nodes[node].frozen_until = self.now + pause;
            }
            2 => {
                let pause = self.random_micros(100_000, 30_000_000);
                self.nodes[node].cut_until = self.now + pause;
                self.break_links(node);
            }
            3 => self.drain(node)?,
            4 => self.break_links(node),
            5 => {
                if self.schedule.brokers > 1 {
                    self.kafka.stop_broker(broker);
                    self.kafka.start_broker(1 + broker % self.schedule.brokers);
                }
            }
            6 => {
                let partition =
                    i32::try_from(self.random.below(self.schedule.partitions as u64)).unwrap_or(0);
                self.kafka.move_leader(TOPIC, partition, Some(broker));
            }
            7 => self.kafka.move_coordinator(super::GROUP, broker),
            9 => self.change_password(),
            10 | 11 => self.shut(broker),
            _ => self.script_faults(),
        }
        let every = self.schedule.chaos_every;
        let wait = every / 2 + self.random.jitter(every);
        self.after(wait, Event::Chaos);
        Ok(())
    }

    /// Retention takes the beginning of a log, read or not; more comes later.
    pub(super) fn retain(&mut self) {
        if self.healed {
            return;
        }
        let partition =
            i32::try_from(self.random.below(self.schedule.partitions as u64)).unwrap_or(0);
        let (start, end) = self.kafka.bounds(TOPIC, partition);
        let length = u64::try_from(end - start).unwrap_or(0);
        let taken = i64::try_from(self.random.below(length + 1)).unwrap_or(0);
        self.kafka.delete_before(TOPIC, partition, start + taken);
        let (start, _) = self.kafka.bounds(TOPIC, partition);
        self.ledger.deleted_before(partition, start);
        let wait = self.random_micros(500_000, 10_000_000);
        self.after(wait, Event::Retention);
    }

    /// SIGKILL, and a start some time later.
    fn kill(&mut self, node: usize) {
        let life = &mut self.nodes[node];
        if life.consumer.take().is_none() {
            return;
        }
        life.life += 1;
        life.frozen_until = self.now;
        let links = std::mem::take(&mut life.links);
        for link in links.into_values() {
            self.forget_link(&link);
        }
        self.ledger.killed(node);
        let after = self.random_micros(10_000, 5_000_000);
        self.after(after, Event::Start { node });
    }

    /// SIGTERM, sometimes with too little patience.
    fn drain(&mut self, node: usize) -> Result<(), Violation> {
        let life = &mut self.nodes[node];
        if life.consumer.is_none() || std::mem::replace(&mut life.stopping, true) {
            return Ok(());
        }
        let of = NodeRef {
            node,
            life: life.life,
        };
        if self.chance(3) {
            let grace = self.random_micros(10_000, 500_000);
            self.after(
                grace,
                Event::ToNode {
                    node: of,
                    input: Input::Abort,
                },
            );
        }
        self.hand_to_node(of, Input::Stop)
    }

    fn script_faults(&mut self) {
        // Only errors that a broker answers without having served the request: one that serves a heartbeat
        // with REBALANCE_IN_PROGRESS has renewed the session.
        let apis = [
            (ApiKey::Fetch, 6),
            (ApiKey::OffsetCommit, 14),
            (ApiKey::Heartbeat, 16),
            (ApiKey::JoinGroup, 15),
            (ApiKey::SyncGroup, 16),
            (ApiKey::OffsetFetch, 16),
            (ApiKey::ListOffsets, 6),
            (ApiKey::Metadata, 5),
        ];
        let at = usize::try_from(self.random.below(apis.len() as u64)).unwrap_or(0);
        let (api, error) = match (apis[at], self.schedule.group_protocol) {
            ((ApiKey::Heartbeat, error), GroupProtocol::Consumer) => {
                (ApiKey::ConsumerGroupHeartbeat, error)
            }
            ((ApiKey::JoinGroup, _), GroupProtocol::Consumer) => {
                let fenced = ErrorCode::FENCED_MEMBER_EPOCH.0;
                (ApiKey::ConsumerGroupHeartbeat, fenced)
            }
            ((ApiKey::SyncGroup, _), GroupProtocol::Consumer) => {
                (ApiKey::OffsetCommit, ErrorCode::STALE_MEMBER_EPOCH.0)
            }
            (fault, _) => fault,
        };
        let fault = match self.random.below(5) {
            0 => Fault::Error(error),
            1 => Fault::Drop,
            2 => Fault::DropAnswer,
            3 => Fault::Delay(self.delay_a_little()),
            _ => Fault::Silence,
        };
        let times = 1 + usize::try_from(self.random.below(3)).unwrap_or(0);
        self.kafka.script(api, vec![fault; times]);
    }

    /// From now on everything works.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.healed = true;
        self.kafka.clear_faults();
        if self.schedule.sasl.is_some() {
            self.open_doors();
        }
        for broker in 1..=self.schedule.brokers {
            self.kafka.start_broker(broker);
        }
        for partition in 0..self.schedule.partitions {
            if self.kafka.leader(TOPIC, partition).0.is_none() {
                self.kafka.move_leader(TOPIC, partition, Some(1));
            }
        }
        self.heal_topic();
        for node in 0..self.schedule.nodes {
            self.nodes[node].cut_until = self.now;
            if self.nodes[node].consumer.is_none() {
                self.after(Duration::from_secs(1), Event::Start { node });
            }
        }
        Ok(())
    }
}
