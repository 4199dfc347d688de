//! Topics and their partitions, and what a test may do to them.
//!
//! Invariant: a leader is one of the partition's replicas; an epoch only grows while the topic lives.

use bytes::Bytes;
use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::records::Record;
use uuid::Uuid;

use super::FakeKafka;
use super::batch::{BatchOptions, NewRecord, encode, marker};
use super::log::{Log, Offsets};

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: Uuid,
    pub(super) partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) leader: Option<i32>,
    pub(super) epoch: i32,
    pub(super) replicas: Vec<i32>,
    pub(super) log: Log,
}

impl Partition {
    /// Whether `node` leads, and whether the client's idea of the epoch is right.
    pub(super) fn check(&self, node: i32, epoch: i32) -> ErrorCode {
        if epoch >= 0 && epoch < self.epoch {
            ErrorCode::FENCED_LEADER_EPOCH
        } else if epoch > self.epoch {
            ErrorCode::UNKNOWN_LEADER_EPOCH
        } else if self.leader != Some(node) {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        } else {
            ErrorCode::NONE
        }
    }
}

impl FakeKafka {
    /// Creates a topic; partition leaders go round the brokers, every broker is a replica.
    pub fn create_topic(&mut self, name: &str, partitions: i32) {
        self.topic_sequence += 1;
        let id = Uuid::from_u64_pair(0x00fa_4e00_0000_4000, self.topic_sequence);
        let topic = Topic {
            id,
            partitions: Vec::new(),
        };
        self.topics.insert(name.to_owned(), topic);
        self.topic_names.insert(id, name.to_owned());
        self.add_partitions(name, partitions);
    }

    /// Lets a topic grow to that many partitions.
    pub fn add_partitions(&mut self, name: &str, total: i32) {
        let nodes: Vec<i32> = self.config.brokers.iter().map(|broker| broker.id).collect();
        let topic = self.topics.get_mut(name).expect("the topic was created");
        for index in topic.partitions.len()..usize::try_from(total).unwrap_or(0) {
            topic.partitions.push(Partition {
                leader: Some(nodes[index % nodes.len()]),
                epoch: 0,
                replicas: nodes.clone(),
                log: Log::default(),
            });
        }
    }

    /// Deletes a topic with all its records. Commits of groups remain, as they do for a while in Kafka.
    pub fn delete_topic(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            self.topic_names.remove(&topic.id);
        }
        self.dirty = true;
    }

    /// Deletes a topic and creates it anew: another id, empty logs, epochs from 0.
    pub fn recreate_topic(&mut self, name: &str) {
        let partitions = self.partition_count(name);
        self.delete_topic(name);
        self.create_topic(name, partitions);
    }

    /// Appends records as one batch; their first offset.
    pub fn append(&mut self, topic: &str, partition: i32, records: &[NewRecord]) -> i64 {
        self.append_with(topic, partition, records, BatchOptions::default())
    }

    /// Appends records as one batch with those options; their first offset.
    pub fn append_with(
        &mut self,
        topic: &str,
        partition: i32,
        records: &[NewRecord],
        options: BatchOptions,
    ) -> i64 {
        self.append_raw(topic, partition, encode(records, options), Offsets::Assign)
    }

    /// Ends a producer's transaction; the marker's offset.
    pub fn append_marker(
        &mut self,
        topic: &str,
        partition: i32,
        producer_id: i64,
        committed: bool,
    ) -> i64 {
        let raw = marker(producer_id, 0, committed, 0);
        self.append_raw(topic, partition, raw, Offsets::Assign)
    }

    /// Appends whole batches, or legacy messages with [`Offsets::Keep`]; the first one's base offset.
    pub fn append_raw(&mut self, topic: &str, partition: i32, raw: Bytes, offsets: Offsets) -> i64 {
        self.dirty = true;
        let partition = self.partition(topic, partition);
        let epoch = partition.epoch;
        let base = partition.log.append(raw, epoch, offsets);
        base.expect("whole batches were given")
    }

    /// Retention, or DeleteRecords: everything below `offset` is gone.
    pub fn delete_before(&mut self, topic: &str, partition: i32, offset: i64) {
        self.dirty = true;
        self.partition(topic, partition).log.delete_before(offset);
    }

    /// An unclean election: everything from `offset` on is gone (whole batches), the epoch grows.
    pub fn truncate(&mut self, topic: &str, partition: i32, offset: i64) {
        self.dirty = true;
        let partition = self.partition(topic, partition);
        partition.log.truncate(offset);
        partition.epoch += 1;
    }

    /// Another leader, or none; the epoch grows.
    pub fn move_leader(&mut self, topic: &str, partition: i32, leader: Option<i32>) {
        self.dirty = true;
        let partition = self.partition(topic, partition);
        assert!(leader.is_none_or(|node| partition.replicas.contains(&node)));
        partition.leader = leader;
        partition.epoch += 1;
    }

    /// How many partitions a topic has; 0 when it does not exist.
    pub fn partition_count(&self, topic: &str) -> i32 {
        let count = self
            .topics
            .get(topic)
            .map_or(0, |topic| topic.partitions.len());
        i32::try_from(count).expect("a topic's partitions are few")
    }

    /// The log's start and end.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        let log = &self.topics[topic].partitions[partition as usize].log;
        (log.start(), log.end())
    }

    /// Every record that a partition holds, as it was sent.
    pub fn records(&self, topic: &str, partition: i32) -> Vec<Record> {
        let found = self.find_partition(topic, partition);
        found.map(|it| it.log.records()).unwrap_or_default()
    }

    /// `max.message.bytes` of a topic.
    pub fn set_max_message_bytes(&mut self, topic: &str, bytes: usize) {
        for partition in 0..self.partition_count(topic) {
            self.partition(topic, partition).log.max_message_bytes = Some(bytes);
        }
    }

    /// A topic's id.
    pub fn topic_id(&self, topic: &str) -> Uuid {
        self.topics[topic].id
    }

    /// The leader and its epoch.
    pub fn leader(&self, topic: &str, partition: i32) -> (Option<i32>, i32) {
        let partition = &self.topics[topic].partitions[partition as usize];
        (partition.leader, partition.epoch)
    }

    fn partition(&mut self, topic: &str, partition: i32) -> &mut Partition {
        let topic = self.topics.get_mut(topic).expect("the topic was created");
        &mut topic.partitions[usize::try_from(partition).expect("partitions count from 0")]
    }

    /// The topic of that id, with its name.
    pub(super) fn topic_by_id(&self, id: Uuid) -> Option<(&String, &Topic)> {
        let found = self.topics.get_key_value(self.topic_names.get(&id)?);
        found.filter(|(_, topic)| topic.id == id)
    }

    /// A partition that a request names, if it exists.
    pub(super) fn find_partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        let topic = self.topics.get(topic)?;
        topic.partitions.get(usize::try_from(partition).ok()?)
    }
}
