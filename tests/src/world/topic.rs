//! A topic of the same cluster as the destination: brokers refuse what is written, answers get lost, and what stands there
//! has ended.

use std::collections::BTreeMap;

use forebay_protocol::delivery::{Destination, TopicDestination};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::random::Random;
use kafka_protocol::messages::ApiKey;

use super::endings::Ending;
use super::function::parse;
use super::{Delivered, Violation, World};
use crate::fake_kafka::Fault;

/// The topic of failed records.
const FAILED: &str = "orders.failed";

/// Its partitions.
const PARTITIONS: i32 = 2;

/// What a broker says instead of writing. In calm schedules only the first two: a broker that has written a batch, and says
/// then that it is too large or of somebody unknown, gets it twice.
const REFUSALS: [ErrorCode; 4] = [
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::MESSAGE_TOO_LARGE,
    ErrorCode::UNKNOWN_PRODUCER_ID,
];

/// How much of each partition has been seen.
pub(super) type Seen = BTreeMap<i32, usize>;

impl World {
    pub(super) fn destination(&self) -> Option<Destination> {
        let giving_up = self.schedule.giving_up.as_ref()?;
        Some(match giving_up.to_topic {
            true => Destination::Topic(TopicDestination {
                topic: FAILED.to_owned(),
                function_arn: "arn:aws:lambda:eu-west-1:111122223333:function:f".to_owned(),
            }),
            false => Destination::Service,
        })
    }

    fn writes_to_topic(&self) -> bool {
        let giving_up = self.schedule.giving_up.as_ref();
        giving_up.is_some_and(|it| it.to_topic)
    }

    /// The topic stands, and its brokers do as they like.
    pub(super) fn prepare_topic(&mut self) {
        if !self.writes_to_topic() {
            return;
        }
        self.kafka.create_topic(FAILED, PARTITIONS);
        let fails_one_in = self.giving_up().destination_fails_one_in;
        let refusals = match self.schedule.is_calm {
            true => &REFUSALS[..2],
            false => &REFUSALS,
        };
        let mut random = Random::new(self.schedule.seed ^ 0x70_91c5);
        self.kafka.set_hook(Some(Box::new(move |seen| {
            if seen.api != ApiKey::Produce || random.below(fails_one_in) != 0 {
                return Fault::Serve;
            }
            match random.below(4) {
                0 => Fault::Drop,
                1 => Fault::DropAnswer,
                2 => Fault::Silence,
                _ => {
                    let refusal = random.below(refusals.len() as u64);
                    Fault::Error(refusals[usize::try_from(refusal).unwrap_or(0)].0)
                }
            }
        })));
    }

    pub(super) fn heal_topic(&mut self) {
        if !self.writes_to_topic() {
            return;
        }
        for partition in 0..PARTITIONS {
            if self.kafka.leader(FAILED, partition).0.is_none() {
                self.kafka.move_leader(FAILED, partition, Some(1));
            }
        }
    }

    /// What stands in the topic has ended, whoever hears of it.
    pub(super) fn observe_topic(&mut self) -> Result<(), Violation> {
        if !self.writes_to_topic() {
            return Ok(());
        }
        for partition in 0..PARTITIONS {
            let seen = self.topic_seen.get(&partition).copied().unwrap_or(0);
            if self.kafka.bounds(FAILED, partition).1 as usize <= seen {
                continue;
            }
            let records = self.kafka.records(FAILED, partition);
            for record in &records[seen..] {
                let written = [self.record_of(record.value.as_deref().unwrap_or_default())?];
                self.begun(&written)?;
                self.told(&written, Ending::Diverted);
                self.report.diverted += 1;
                self.ledger.ended(&written);
            }
            self.topic_seen.insert(partition, records.len());
        }
        Ok(())
    }

    /// The one record that a document is of: its event has it, where there is one.
    fn record_of(&self, document: &[u8]) -> Result<Delivered, Violation> {
        let wrong = || Violation::WrongDocument {
            document: String::from_utf8_lossy(document).into_owned(),
        };
        let parsed: serde_json::Value = serde_json::from_slice(document).map_err(|_| wrong())?;
        let retry = &self.giving_up().retry;
        let is_due = match parsed["requestContext"]["condition"].as_str() {
            Some("RetriesExhausted") => retry.max_attempts.is_some(),
            Some("RecordAgeExceeded") => retry.max_age.is_some() || self.schedule.retention,
            Some("MaximumPayloadSizeExceeded") => true,
            Some("SkippedByOperator") => self.schedule.has_operator,
            _ => false,
        };
        let offset = &parsed["KafkaBatchInfo"]["recordInfo"]["offset"];
        let offset: Option<i64> = offset.as_str().and_then(|it| it.parse().ok());
        let (true, Some(offset)) = (is_due, offset) else {
            return Err(wrong());
        };
        let Some(payload) = parsed.get("payload") else {
            // The topic was too narrow for its event.
            let lanes = parsed["KafkaBatchInfo"]["recordsInfo"].as_object();
            let lane = lanes.and_then(|lanes| lanes.keys().next());
            let partition = lane.and_then(|lane| lane.rsplit('-').next()?.parse().ok());
            return Ok(Delivered {
                partition: partition.ok_or_else(wrong)?,
                offsets: vec![offset],
            });
        };
        match &parse(payload.to_string().as_bytes())[..] {
            [one] if one.offsets == [offset] => Ok(one.clone()),
            _ => Err(wrong()),
        }
    }
}
