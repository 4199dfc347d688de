//! Fetch (key 1), v4 to v18. v5 log start, v7 sessions (KIP-227: none is ever granted, which every
//! client takes), v9 leader epochs, v11 nearest replica (KIP-392), v12 diverging epochs (KIP-595) and the
//! leader by now, v13 topic ids (KIP-516), v16 the new leader's address (KIP-951).
//!
//! An answer waits for `min_bytes` or `max_wait`; the first batch comes however large it is (KIP-74).

use std::time::Duration;

use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::time::Instant;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use kafka_protocol::protocol::StrBytes;

use super::topic::{Partition, Topic};
use super::{Call, FakeKafka};

/// A fetch that waits for bytes.
#[derive(Debug)]
pub(super) struct ParkedFetch {
    pub(super) call: Call,
    pub(super) request: FetchRequest,
    pub(super) deadline: Instant,
}

pub(super) fn refuse(request: &FetchRequest, version: i16, code: i16) -> FetchResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| empty(asked.partition, code));
        FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    FetchResponse::default()
        .with_error_code(if version >= 7 { code } else { 0 })
        .with_responses(topics.collect())
}

impl FakeKafka {
    pub(super) fn fetch(&mut self, call: Call, request: FetchRequest) {
        if request.session_id != 0 {
            let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
            let refused = FetchResponse::default().with_error_code(code);
            return self.answer(&call, &refused);
        }
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let parked = ParkedFetch {
            deadline: self.now + wait,
            call,
            request,
        };
        if wait.is_zero() || self.is_worth_an_answer(&parked) {
            self.answer_fetch(parked);
        } else {
            self.fetches.push(parked);
        }
    }

    /// Answers the parked fetches whose time or bytes have come.
    pub(super) fn settle_fetches(&mut self) {
        self.answer_parked(|kafka, parked| {
            parked.deadline <= kafka.now || kafka.is_worth_an_answer(parked)
        });
    }

    /// Answers the parked fetches whose time has come. Bytes come only with a change of the cluster, and
    /// looking for them at each deadline would be quadratic in a thousand consumers.
    pub(super) fn expire_fetches(&mut self) {
        self.answer_parked(|kafka, parked| parked.deadline <= kafka.now);
    }

    fn answer_parked(&mut self, is_due: impl Fn(&Self, &ParkedFetch) -> bool) {
        let mut at = 0;
        while at < self.fetches.len() {
            if is_due(self, &self.fetches[at]) {
                let parked = self.fetches.remove(at);
                self.answer_fetch(parked);
            } else {
                at += 1;
            }
        }
    }

    /// Whether there is an error to tell or enough to bring.
    fn is_worth_an_answer(&self, parked: &ParkedFetch) -> bool {
        let enough = u64::try_from(parked.request.min_bytes).unwrap_or(0);
        let mut found = 0;
        for topic in &parked.request.topics {
            let Ok(known) = self.fetched_topic(parked.call.version, topic) else {
                return true;
            };
            for asked in &topic.partitions {
                let Some(partition) = partition_of(known, asked) else {
                    return true;
                };
                if self
                    .look(&parked.call, &parked.request, partition, asked)
                    .is_err()
                {
                    return true;
                }
                let limit = limit_of(partition, &parked.request);
                let max = u64::try_from(asked.partition_max_bytes).unwrap_or(0);
                found += partition
                    .log
                    .available(asked.fetch_offset, limit)
                    .min(max.max(1));
                if found >= enough {
                    return true;
                }
            }
        }
        found >= enough
    }

    fn answer_fetch(&mut self, parked: ParkedFetch) {
        let ParkedFetch { call, request, .. } = parked;
        let mut room = usize::try_from(request.max_bytes).unwrap_or(0);
        let mut is_empty = true;
        let mut moved = Vec::new();
        let mut responses = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut answer = FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id);
            let known = self.fetched_topic(call.version, topic);
            for asked in &topic.partitions {
                let found = known.map(|known| partition_of(known, asked));
                let data = match found {
                    Err(code) => empty(asked.partition, code.0),
                    Ok(None) => {
                        let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                        empty(asked.partition, code.0)
                    }
                    Ok(Some(partition)) => {
                        let data = self.read(&call, &request, partition, asked, room, is_empty);
                        let brought = data.records.as_ref().map_or(0, bytes::Bytes::len);
                        room = room.saturating_sub(brought);
                        is_empty &= brought == 0;
                        if data.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER.0 {
                            moved.extend(partition.leader);
                        }
                        data
                    }
                };
                answer.partitions.push(data);
            }
            responses.push(answer);
        }
        let mut response = FetchResponse::default().with_responses(responses);
        if call.version >= 16 {
            response.node_endpoints = self.endpoints(&moved);
        }
        self.answer(&call, &response);
    }

    fn read(
        &self,
        call: &Call,
        request: &FetchRequest,
        partition: &Partition,
        asked: &FetchPartition,
        room: usize,
        is_first: bool,
    ) -> PartitionData {
        let mut data = match self.look(call, request, partition, asked) {
            Ok(()) => empty(asked.partition, 0),
            Err(refusal) => return *refusal,
        };
        let log = &partition.log;
        data.high_watermark = log.end();
        data.last_stable_offset = log.last_stable_offset();
        data.log_start_offset = log.start();
        let max = usize::try_from(asked.partition_max_bytes)
            .unwrap_or(0)
            .min(room);
        let limit = limit_of(partition, request);
        let (records, next) = log.read(asked.fetch_offset, limit, max, is_first);
        if request.isolation_level == 1 {
            let aborted = log.aborted_within(asked.fetch_offset, next);
            let told = aborted.into_iter().map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(aborted.producer_id))
                    .with_first_offset(aborted.first)
            });
            data.aborted_transactions = Some(told.collect());
        }
        data.records = Some(records);
        data
    }

    /// Whether the partition may be read here; else the answer that says why not.
    fn look(
        &self,
        call: &Call,
        request: &FetchRequest,
        partition: &Partition,
        asked: &FetchPartition,
    ) -> Result<(), Box<PartitionData>> {
        let follower = call.version >= 11
            && self.config.follower_fetching
            && partition.replicas.contains(&call.node);
        let mut code = partition.check(call.node, asked.current_leader_epoch);
        if code == ErrorCode::NOT_LEADER_OR_FOLLOWER && follower {
            code = ErrorCode::NONE;
        }
        let mut data = Box::new(empty(asked.partition, code.0));
        if !code.is_ok() {
            if call.version >= 12 && code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
                data.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
                    .with_leader_epoch(partition.epoch);
            }
            return Err(data);
        }
        let log = &partition.log;
        data.high_watermark = log.end();
        data.last_stable_offset = log.last_stable_offset();
        data.log_start_offset = log.start();
        if call.version >= 12 && asked.last_fetched_epoch >= 0 {
            let (epoch, end) = log.epoch_end(asked.last_fetched_epoch, partition.epoch);
            if epoch < asked.last_fetched_epoch || end < asked.fetch_offset {
                data.diverging_epoch = EpochEndOffset::default()
                    .with_epoch(epoch)
                    .with_end_offset(end);
                return Err(data);
            }
        }
        if asked.fetch_offset < log.start() || asked.fetch_offset > log.end() {
            data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE.0;
            return Err(data);
        }
        if let Some(nearer) = self.nearer_replica(call, &request.rack_id, partition) {
            data.preferred_read_replica = BrokerId(nearer);
            return Err(data);
        }
        Ok(())
    }

    fn nearer_replica(&self, call: &Call, rack: &StrBytes, partition: &Partition) -> Option<i32> {
        let asked_leader = partition.leader == Some(call.node);
        if !self.config.follower_fetching || rack.is_empty() || !asked_leader {
            return None;
        }
        let in_rack = |node: &i32| {
            let broker = self.config.brokers.iter().find(|broker| broker.id == *node);
            broker.is_some_and(|broker| broker.is_up && broker.rack.as_deref() == Some(rack))
        };
        if in_rack(&call.node) {
            return None;
        }
        partition.replicas.iter().copied().find(in_rack)
    }

    fn fetched_topic(&self, version: i16, asked: &FetchTopic) -> Result<&Topic, ErrorCode> {
        if version >= 13 {
            return self
                .topic_by_id(asked.topic_id)
                .map(|(_, known)| known)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID);
        }
        let by_name = self.topics.get(asked.topic.as_str());
        by_name.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    fn endpoints(&self, nodes: &[i32]) -> Vec<NodeEndpoint> {
        let brokers = self.config.brokers.iter();
        brokers
            .filter(|broker| nodes.contains(&broker.id))
            .map(|broker| {
                NodeEndpoint::default()
                    .with_node_id(BrokerId(broker.id))
                    .with_host(StrBytes::from_string(broker.host.clone()))
                    .with_port(i32::from(broker.port))
                    .with_rack(broker.rack.clone().map(StrBytes::from_string))
            })
            .collect()
    }
}

fn partition_of<'a>(topic: &'a Topic, asked: &FetchPartition) -> Option<&'a Partition> {
    topic.partitions.get(usize::try_from(asked.partition).ok()?)
}

fn limit_of(partition: &Partition, request: &FetchRequest) -> i64 {
    if request.isolation_level == 1 {
        partition.log.last_stable_offset()
    } else {
        partition.log.end()
    }
}

fn empty(partition: i32, code: i16) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(code)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(bytes::Bytes::new()))
}
