//! Just enough of a Kafka client to make a topic, to write to it and to read what a group has committed; it
//! blocks.
//!
//! Source: Kafka protocol guide; the messages are kafka-protocol's.
//!
//! Invariant: an error code of the broker's is an error here, never a short count.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_tests::clock;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use kafka_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use kafka_protocol::messages::{
    GroupId, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};

use crate::wait::{pause, since};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic that was just made may be unknown, or without a leader, for a moment.
const NOT_YET: [i16; 3] = [3, 5, 6];

// What Kafka 4 still speaks, before topics had ids on the wire.
const CREATE_TOPICS_VERSION: i16 = 5;
const PRODUCE_VERSION: i16 = 9;
const OFFSET_FETCH_VERSION: i16 = 5;

/// One connection to one broker.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    correlation: i32,
}

impl Wire {
    pub(crate) fn connect(bootstrap: &str) -> Result<Self, String> {
        let connect = || {
            let stream = TcpStream::connect(bootstrap)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: std::io::Error| format!("{bootstrap}: {error}"))?;
        Ok(Self {
            stream: BufReader::new(stream),
            correlation: 0,
        })
    }

    /// To the first of those brokers that can be reached; else the first one's error.
    pub(crate) fn connect_any(bootstrap: &[String]) -> Result<Self, String> {
        let mut brokers = bootstrap.iter().map(|broker| Self::connect(broker));
        let first = brokers.next().ok_or("there are no brokers")?;
        first.or_else(|error| brokers.find_map(Result::ok).ok_or(error))
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), String> {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let answer = self.ask(CREATE_TOPICS_VERSION, &request)?;
        match answer.topics.iter().find(|topic| topic.error_code != 0) {
            Some(topic) => Err(format!("topic {name} is refused: {}", topic.error_code)),
            None => Ok(()),
        }
    }

    /// Writes one batch, and waits until the broker has it.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
    ) -> Result<(), String> {
        let request = produce_request(topic, partition, batch.clone());
        let began = clock::monotonic_micros();
        loop {
            let answer = self.ask(PRODUCE_VERSION, &request)?;
            match error_of(&answer) {
                None => return Ok(()),
                Some(code) if NOT_YET.contains(&code) && since(began) < PATIENCE => {
                    pause(Duration::from_millis(100));
                }
                Some(code) => return Err(format!("{topic} takes no records: error {code}")),
            }
        }
    }

    /// Writes without waiting; [`Self::hear_produced`] takes the answers, in order.
    pub(crate) fn send_produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> Result<(), String> {
        self.send(PRODUCE_VERSION, &produce_request(topic, partition, batch))
    }

    /// One answer to [`Self::send_produce`].
    pub(crate) fn hear_produced(&mut self) -> Result<(), String> {
        let answer = self.hear::<ProduceRequest>(PRODUCE_VERSION)?;
        match error_of(&answer) {
            None => Ok(()),
            Some(code) => Err(format!("the broker takes no records: error {code}")),
        }
    }

    /// The same connection for another thread: one sends, the other hears.
    pub(crate) fn try_clone(&self) -> Result<Self, String> {
        let stream = self.stream.get_ref().try_clone();
        Ok(Self {
            stream: BufReader::new(stream.map_err(|error| error.to_string())?),
            correlation: self.correlation,
        })
    }

    /// What a group has committed of a topic, all partitions together.
    pub(crate) fn committed(
        &mut self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<i64, String> {
        let each = self.committed_each(group, topic, partitions)?;
        // -1 stands for nothing.
        Ok(each.into_iter().map(|committed| committed.max(0)).sum())
    }

    /// What a group has committed of each of a topic's partitions; -1 for nothing.
    pub(crate) fn committed_each(
        &mut self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<Vec<i64>, String> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes((0..partitions).collect());
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_topics(Some(vec![topic]));
        let answer = self.ask(OFFSET_FETCH_VERSION, &request)?;
        let told: Vec<_> = answer.topics.iter().flat_map(|it| &it.partitions).collect();
        let codes = told.iter().map(|it| it.error_code);
        let mut wrong = codes.chain([answer.error_code]).filter(|code| *code != 0);
        if let Some(code) = wrong.next() {
            return Err(format!("the offsets of group {group}: error {code}"));
        }
        let mut each = vec![-1; usize::try_from(partitions).unwrap_or_default()];
        for it in told {
            let at = usize::try_from(it.partition_index).unwrap_or(usize::MAX);
            if let Some(committed) = each.get_mut(at) {
                *committed = it.committed_offset;
            }
        }
        Ok(each)
    }

    /// Asks what has no method of its own.
    pub(crate) fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, String> {
        self.send(version, request)?;
        self.hear::<R>(version)
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), String> {
        let unwritten = |error| format!("a request does not encode: {error}");
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("forebay-bench")));
        let mut frame = BytesMut::zeroed(4);
        header
            .encode(&mut frame, R::header_version(version))
            .map_err(unwritten)?;
        request.encode(&mut frame, version).map_err(unwritten)?;
        let length = u32::try_from(frame.len() - 4).map_err(|error| error.to_string())?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream
            .get_mut()
            .write_all(&frame)
            .map_err(|error| format!("the broker cannot be reached: {error}"))
    }

    fn hear<R: Request>(&mut self, version: i16) -> Result<R::Response, String> {
        let unheard = |error| format!("the broker does not answer: {error}");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(unheard)?;
        let mut frame = BytesMut::zeroed(u32::from_be_bytes(length) as usize);
        self.stream.read_exact(&mut frame).map_err(unheard)?;
        let mut frame = frame.freeze();
        decode::<ResponseHeader>(&mut frame, R::Response::header_version(version))?;
        decode(&mut frame, version)
    }
}

fn decode<T: Decodable + Message>(frame: &mut Bytes, version: i16) -> Result<T, String> {
    T::decode(frame, version).map_err(|error| format!("the broker's answer: {error}"))
}

fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

fn error_of(answer: &ProduceResponse) -> Option<i16> {
    let partitions = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    partitions.map(|it| it.error_code).find(|code| *code != 0)
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
