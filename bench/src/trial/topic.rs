//! The topic of a trial, asked of its own brokers: where its partitions begin and end, and what a value weighs.
//!
//! Source: Kafka protocol guide, Metadata 4 (which makes no topic), ListOffsets 2, Fetch 4; all of them are spoken
//! from Kafka 0.11 to 4.
//!
//! Invariant: a topic is written to by [`Topic::fill`] alone.

use std::collections::BTreeMap;

use forebay_protocol::kafka::records::{Decompressor, RecordReader};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};

use crate::stage;
use crate::wire::{Wire, topic_name};

const METADATA_VERSION: i16 = 4;
const LIST_OFFSETS_VERSION: i16 = 2;
const FETCH_VERSION: i16 = 4;

/// What stands for a partition's beginning and end where a timestamp is asked for.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// What is below every open transaction.
const READ_COMMITTED: i8 = 1;

/// What of a partition is read to weigh its values.
const SAMPLE_BYTES: i32 = 1 << 20;

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    name: String,
    brokers: BTreeMap<String, Wire>,
    pub(super) partitions: Vec<Partition>,
}

/// One of its partitions; its number is its place.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// `host:port` of its leader.
    leader: String,
    /// The first offset that is there.
    pub(super) start: i64,
    /// Behind the last offset that can be read.
    pub(super) end: i64,
}

/// What values weigh, of some that were read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weighed {
    pub(super) records: u64,
    pub(super) value_bytes: u64,
}

impl Topic {
    /// Asks the first broker that can be reached.
    pub(super) fn find(bootstrap: &[String], name: &str) -> Result<Self, String> {
        let mut wire = Wire::connect_any(bootstrap)?;
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        let answer = wire.ask(METADATA_VERSION, &request)?;
        let topic = answer.topics.first().ok_or("the broker names no topic")?;
        if topic.error_code != 0 {
            return Err(format!("topic {name}: error {}", topic.error_code));
        }
        let mut leaders = vec![String::new(); topic.partitions.len()];
        for partition in &topic.partitions {
            let mut brokers = answer.brokers.iter();
            let leader = brokers.find(|broker| broker.node_id == partition.leader_id);
            let leader = leader.ok_or_else(|| {
                format!("{name}-{}: no leader just now", partition.partition_index)
            })?;
            let at = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
            let place = leaders.get_mut(at).ok_or("partitions are not numbered")?;
            *place = address(&leader.host, leader.port);
        }
        let mut topic = Self {
            name: name.to_owned(),
            brokers: BTreeMap::new(),
            partitions: leaders
                .into_iter()
                .map(|leader| Partition {
                    leader,
                    start: 0,
                    end: 0,
                })
                .collect(),
        };
        topic.look()?;
        Ok(topic)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads beginnings and ends again.
    pub(super) fn look(&mut self) -> Result<(), String> {
        for at in 0..self.partitions.len() {
            self.partitions[at].start = self.offset(at, EARLIEST)?;
            self.partitions[at].end = self.offset(at, LATEST)?;
        }
        Ok(())
    }

    /// Offsets between the beginnings and the ends.
    pub(super) fn offsets(&self) -> i64 {
        self.partitions.iter().map(|it| it.end - it.start).sum()
    }

    /// Writes noise, round the partitions; how many records.
    pub(super) fn fill(&mut self, megabytes: usize, value_bytes: usize) -> Result<u64, String> {
        let (batch, per_batch) = stage::batch(value_bytes);
        let records = megabytes * 1_000_000 / value_bytes.max(1);
        let batches = records.div_ceil(per_batch);
        let name = self.name.clone();
        let partitions = 0..self.partitions.len();
        for (_, at) in (0..batches).zip(partitions.cycle()) {
            let number = number(at)?;
            self.leader(at)?.produce(&name, number, &batch)?;
        }
        self.look()?;
        Ok((batches * per_batch) as u64)
    }

    /// What values weigh at the beginning of each partition, below those offsets.
    pub(super) fn weigh(&mut self, below: &[i64]) -> Result<Weighed, String> {
        let mut weighed = Weighed::default();
        for (at, below) in below.iter().enumerate().take(self.partitions.len()) {
            if *below > self.partitions[at].start {
                self.weigh_one(at, *below, &mut weighed)?;
            }
        }
        Ok(weighed)
    }

    fn weigh_one(&mut self, at: usize, below: i64, weighed: &mut Weighed) -> Result<(), String> {
        let start = self.partitions[at].start;
        let partition = FetchPartition::default()
            .with_partition(number(at)?)
            .with_fetch_offset(start)
            .with_partition_max_bytes(SAMPLE_BYTES);
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.name))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(1_000)
            .with_min_bytes(1)
            .with_max_bytes(SAMPLE_BYTES)
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![topic]);
        let answer = self.leader(at)?.ask(FETCH_VERSION, &request)?;
        let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let partition = partitions.next().ok_or("the broker tells no records")?;
        if partition.error_code != 0 {
            return Err(format!(
                "{}-{at}: error {}",
                self.name, partition.error_code
            ));
        }
        let set = partition.records.clone().unwrap_or_default();
        let mut decompressor = Decompressor::new();
        // Aborted records may be among them: they weigh what others do.
        let mut reader = RecordReader::new(set, start, Vec::new(), false);
        while let Some(record) = reader
            .next(&mut decompressor)
            .map_err(|error| format!("{}-{at}: {error}", self.name))?
        {
            if record.offset >= below {
                break;
            }
            weighed.records += 1;
            weighed.value_bytes += record.value.map_or(0, <[u8]>::len) as u64;
        }
        Ok(())
    }

    fn offset(&mut self, at: usize, timestamp: i64) -> Result<i64, String> {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(number(at)?)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(&self.name))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![topic]);
        let answer = self.leader(at)?.ask(LIST_OFFSETS_VERSION, &request)?;
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let told = partitions.next().ok_or("the broker tells no offset")?;
        match told.error_code {
            0 => Ok(told.offset),
            code => Err(format!("the offsets of {}-{at}: error {code}", self.name)),
        }
    }

    fn leader(&mut self, at: usize) -> Result<&mut Wire, String> {
        let leader = &self.partitions[at].leader;
        if !self.brokers.contains_key(leader) {
            self.brokers.insert(leader.clone(), Wire::connect(leader)?);
        }
        let wire = self.brokers.get_mut(leader);
        wire.ok_or_else(|| "a leader is missing".to_owned())
    }
}

impl Weighed {
    /// Of a record, if there was any.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.records > 0).then(|| self.value_bytes as f64 / self.records as f64)
    }
}

/// As one connects to it.
pub(super) fn address(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn number(at: usize) -> Result<i32, String> {
    i32::try_from(at).map_err(|error| error.to_string())
}
