//! The two blobs of the `consumer` protocol type: what a member wants and holds, and what it gets.
//!
//! Sources: ConsumerProtocolSubscription.json and ConsumerProtocolAssignment.json, versions 0 to 3;
//! both are prefixed by their version, and a newer version may only append. The user data of
//! cooperative-sticky is the generation alone in Java's client, and a previous assignment with its
//! generation in librdkafka's.
//!
//! Invariant: a count from the wire is believed only as far as bytes have arrived for it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::ARRAY_ELEMENTS_MAX;

/// The version that we write: with owned partitions, generation and rack.
const SUBSCRIPTION_VERSION: i16 = 3;

/// All versions have the same form; the first is the one that every client reads.
const ASSIGNMENT_VERSION: i16 = 0;

/// What a member tells the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it wants.
    pub topics: Vec<String>,
    /// What its assignor adds; empty for nothing.
    pub user_data: Bytes,
    /// What it holds (v1).
    pub owned: Vec<TopicPartitions>,
    /// The generation in which it came to hold that (v2); `None` when it has none or does not say.
    pub generation: Option<i32>,
    /// Where it runs (v3); empty for unknown.
    pub rack_id: String,
}

/// What the leader tells a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// What it gets.
    pub partitions: Vec<TopicPartitions>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: String,
    /// As they came: neither sorted nor checked.
    pub partitions: Vec<i32>,
}

/// Why a blob cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerProtocolError {
    /// It ends too early, or a length in it reaches behind its end.
    #[error("the consumer protocol's {0} is cut short")]
    Truncated(&'static str),
    /// A version below zero.
    #[error("the consumer protocol's version {0} does not exist")]
    Version(i16),
    /// An array claims more elements than any group has.
    #[error("the consumer protocol's {what} claims {count} elements")]
    TooMany {
        /// The array.
        what: &'static str,
        /// Its count.
        count: usize,
    },
    /// A name is not UTF-8.
    #[error("the consumer protocol's {0} is not UTF-8")]
    NotText(&'static str),
}

impl Subscription {
    /// Writes it for the broker to carry.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(SUBSCRIPTION_VERSION);
        put_count(&mut out, self.topics.len());
        for topic in &self.topics {
            put_text(&mut out, topic);
        }
        put_bytes(&mut out, &self.user_data);
        put_topics(&mut out, &self.owned);
        out.put_i32(self.generation.unwrap_or(-1));
        put_text(&mut out, &self.rack_id);
        out.freeze()
    }

    /// Reads what another member wrote.
    pub fn decode(blob: &Bytes) -> Result<Self, ConsumerProtocolError> {
        let mut reader = Reader(blob);
        let version = reader.version()?;
        let mut subscription = Self {
            topics: reader.list("topic", Reader::text)?,
            user_data: Bytes::copy_from_slice(reader.bytes("user data")?),
            ..Self::default()
        };
        if version >= 1 {
            subscription.owned = reader.list("owned partitions", Reader::topic_partitions)?;
        }
        if version >= 2 {
            let generation = reader.i32("generation")?;
            subscription.generation = (generation >= 0).then_some(generation);
        }
        if version >= 3 {
            subscription.rack_id = reader.text("rack id")?;
        }
        Ok(subscription)
    }

    /// The user data of cooperative-sticky as Java's client has it: the generation alone.
    pub fn generation_as_user_data(generation: i32) -> Bytes {
        Bytes::copy_from_slice(&generation.to_be_bytes())
    }

    /// The generation of the owned partitions: the field, or before v2 the user data.
    pub fn claimed_generation(&self) -> Option<i32> {
        self.generation
            .or_else(|| read_user_data(&self.user_data).ok())
            .filter(|generation| *generation >= 0)
    }
}

impl Assignment {
    /// The assignment of those partitions.
    pub fn of(share: BTreeMap<String, BTreeSet<i32>>) -> Self {
        let partitions = share
            .into_iter()
            .filter(|(_, partitions)| !partitions.is_empty())
            .map(|(topic, partitions)| TopicPartitions {
                topic,
                partitions: partitions.into_iter().collect(),
            })
            .collect();
        Self { partitions }
    }

    /// Writes it for the broker to carry.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(ASSIGNMENT_VERSION);
        put_topics(&mut out, &self.partitions);
        put_bytes(&mut out, &[]);
        out.freeze()
    }

    /// Reads what a leader wrote. A blob of no bytes is an empty assignment: that is how a broker
    /// answers a member whom the leader left out.
    pub fn decode(blob: &Bytes) -> Result<Self, ConsumerProtocolError> {
        if blob.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader(blob);
        reader.version()?;
        let partitions = reader.list("assignment", Reader::topic_partitions)?;
        reader.bytes("user data")?;
        Ok(Self { partitions })
    }

    /// The partitions of one topic, without those that no topic can have.
    pub fn of_topic(&self, topic: &str) -> BTreeSet<i32> {
        self.partitions
            .iter()
            .filter(|entry| entry.topic == topic)
            .flat_map(|entry| entry.partitions.iter().copied())
            .filter(|partition| *partition >= 0)
            .collect()
    }
}

/// A cursor over another member's bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<&'a [u8], ConsumerProtocolError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(ConsumerProtocolError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self, what: &'static str) -> Result<i16, ConsumerProtocolError> {
        let taken = self.take(2, what)?;
        let raw = taken.try_into().expect("two bytes were taken");
        Ok(i16::from_be_bytes(raw))
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, ConsumerProtocolError> {
        let taken = self.take(4, what)?;
        let raw = taken.try_into().expect("four bytes were taken");
        Ok(i32::from_be_bytes(raw))
    }

    fn version(&mut self) -> Result<i16, ConsumerProtocolError> {
        match self.i16("version")? {
            version if version < 0 => Err(ConsumerProtocolError::Version(version)),
            version => Ok(version),
        }
    }

    /// A string; null reads as empty.
    fn text(&mut self, what: &'static str) -> Result<String, ConsumerProtocolError> {
        let length = usize::try_from(self.i16(what)?).unwrap_or(0);
        let text = std::str::from_utf8(self.take(length, what)?);
        text.map(str::to_owned)
            .map_err(|_| ConsumerProtocolError::NotText(what))
    }

    /// Bytes; null reads as empty.
    fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], ConsumerProtocolError> {
        let length = usize::try_from(self.i32(what)?).unwrap_or(0);
        self.take(length, what)
    }

    /// An array; null reads as empty. It grows as elements are read: no element is shorter than two
    /// bytes, so what it takes is bounded by what has arrived.
    fn list<T>(
        &mut self,
        what: &'static str,
        read: fn(&mut Self, &'static str) -> Result<T, ConsumerProtocolError>,
    ) -> Result<Vec<T>, ConsumerProtocolError> {
        let count = usize::try_from(self.i32(what)?).unwrap_or(0);
        if count > ARRAY_ELEMENTS_MAX {
            return Err(ConsumerProtocolError::TooMany { what, count });
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(read(self, what)?);
        }
        Ok(elements)
    }

    fn topic_partitions(
        &mut self,
        what: &'static str,
    ) -> Result<TopicPartitions, ConsumerProtocolError> {
        Ok(TopicPartitions {
            topic: self.text(what)?,
            partitions: self.list(what, Self::i32)?,
        })
    }
}

/// The generation in the user data of cooperative-sticky, in either form.
fn read_user_data(user_data: &[u8]) -> Result<i32, ConsumerProtocolError> {
    let mut reader = Reader(user_data);
    if user_data.len() > 4 {
        reader.list("previous assignment", Reader::topic_partitions)?;
    }
    reader.i32("generation")
}

fn put_topics(out: &mut BytesMut, topics: &[TopicPartitions]) {
    put_count(out, topics.len());
    for entry in topics {
        put_text(out, &entry.topic);
        put_count(out, entry.partitions.len());
        for partition in &entry.partitions {
            out.put_i32(*partition);
        }
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("Kafka's names are shorter than 32 kB"));
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).expect("a blob holds far fewer than 2^31 elements"));
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::consumer_protocol_assignment as oracle_assignment;
    use kafka_protocol::messages::consumer_protocol_subscription as oracle;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    fn topic(name: &str, partitions: &[i32]) -> TopicPartitions {
        TopicPartitions {
            topic: name.to_owned(),
            partitions: partitions.to_vec(),
        }
    }

    fn sample() -> Subscription {
        Subscription {
            topics: vec!["orders".to_owned(), "returns".to_owned()],
            user_data: Subscription::generation_as_user_data(7),
            owned: vec![topic("orders", &[0, 3])],
            generation: Some(7),
            rack_id: "eu-1a".to_owned(),
        }
    }

    fn encoded_by_the_oracle(version: i16) -> Bytes {
        let mut owned = oracle::TopicPartition::default();
        owned.topic = StrBytes::from_static_str("orders").into();
        owned.partitions = vec![0, 3];
        let mut message = ConsumerProtocolSubscription::default();
        message.topics = vec!["orders".into(), "returns".into()];
        message.user_data = Some(Subscription::generation_as_user_data(7));
        if version >= 1 {
            message.owned_partitions = vec![owned];
        }
        message.generation_id = if version >= 2 { 7 } else { -1 };
        message.rack_id = (version >= 3).then(|| "eu-1a".into());
        let mut out = BytesMut::new();
        out.put_i16(version);
        message.encode(&mut out, version).unwrap();
        out.freeze()
    }

    #[test]
    fn what_we_write_is_what_the_schema_says() {
        assert_eq!(sample().encode(), encoded_by_the_oracle(3));
    }

    #[test]
    fn every_version_of_a_subscription_is_read() {
        for version in 0..=3 {
            let read = Subscription::decode(&encoded_by_the_oracle(version)).unwrap();
            let mut expected = sample();
            if version < 3 {
                expected.rack_id.clear();
            }
            if version < 2 {
                expected.generation = None;
            }
            if version < 1 {
                expected.owned.clear();
            }
            assert_eq!(read, expected, "version {version}");
            assert_eq!(read.claimed_generation(), Some(7), "version {version}");
        }
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_we_know_it() {
        let mut blob = BytesMut::from(&[0, 9][..]);
        blob.put_slice(&encoded_by_the_oracle(3).slice(2..));
        blob.put_slice(b"something appended");
        assert_eq!(Subscription::decode(&blob.freeze()), Ok(sample()));
    }

    #[test]
    fn user_data_of_librdkafka_tells_its_generation() {
        let mut user_data = BytesMut::new();
        put_topics(&mut user_data, &[topic("orders", &[1, 2])]);
        user_data.put_i32(11);
        let subscription = Subscription {
            user_data: user_data.freeze(),
            ..Subscription::default()
        };
        assert_eq!(subscription.claimed_generation(), Some(11));
    }

    #[test]
    fn user_data_that_says_nothing_is_no_generation() {
        for user_data in [&b""[..], &[0xff; 4], &[0, 0], &[0x7f; 40]] {
            let subscription = Subscription {
                user_data: Bytes::copy_from_slice(user_data),
                ..Subscription::default()
            };
            assert_eq!(subscription.claimed_generation(), None, "{user_data:?}");
        }
    }

    #[test]
    fn assignments_are_written_and_read_as_the_schema_says() {
        let ours = Assignment {
            partitions: vec![topic("orders", &[4, 5])],
        };
        let mut entry = oracle_assignment::TopicPartition::default();
        entry.topic = StrBytes::from_static_str("orders").into();
        entry.partitions = vec![4, 5];
        let mut message = ConsumerProtocolAssignment::default();
        message.assigned_partitions = vec![entry];
        for version in 0..=3 {
            let mut out = BytesMut::new();
            out.put_i16(version);
            message.encode(&mut out, version).unwrap();
            assert_eq!(Assignment::decode(&out.freeze()).as_ref(), Ok(&ours));
        }
        let mut written = ours.encode().slice(2..);
        let read = ConsumerProtocolAssignment::decode(&mut written, 0).unwrap();
        assert_eq!(read.assigned_partitions, message.assigned_partitions);
    }

    #[test]
    fn no_bytes_are_an_empty_assignment() {
        assert_eq!(Assignment::decode(&Bytes::new()), Ok(Assignment::default()));
    }

    #[test]
    fn a_count_that_nothing_stands_behind_is_refused() {
        let blob = Bytes::from_static(&[0, 3, 0, 0, 0xff, 0xff]);
        assert_eq!(
            Subscription::decode(&blob),
            Err(ConsumerProtocolError::Truncated("topic"))
        );
        assert_eq!(
            Assignment::decode(&blob),
            Err(ConsumerProtocolError::Truncated("assignment"))
        );
    }

    #[test]
    fn a_count_beyond_all_groups_is_refused() {
        let blob = Bytes::from_static(&[0, 3, 0x7f, 0xff, 0xff, 0xff]);
        let (what, count) = ("topic", 0x7fff_ffff);
        assert_eq!(
            Subscription::decode(&blob),
            Err(ConsumerProtocolError::TooMany { what, count })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(blob in proptest::collection::vec(any::<u8>(), 0..200)) {
            let blob = Bytes::from(blob);
            let _either = (Subscription::decode(&blob), Assignment::decode(&blob));
            let _generation = Subscription { user_data: blob, ..Subscription::default() }.claimed_generation();
        }

        #[test]
        fn a_cut_subscription_is_refused(cut in 0usize..70) {
            let whole = sample().encode();
            prop_assume!(cut < whole.len());
            prop_assert!(Subscription::decode(&whole.slice(..cut)).is_err());
        }
    }
}
