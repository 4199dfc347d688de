//! As most would write it: rdkafka, serde_json, the AWS SDK.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use forebay_peers::Encoder;
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event_source: &'a str,
    bootstrap_servers: &'a str,
    records: BTreeMap<String, Vec<Record<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    timestamp_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    headers: Vec<HashMap<&'a str, Vec<i8>>>,
}

struct Idiomatic {
    bootstrap: String,
}

impl Encoder for Idiomatic {
    fn new(bootstrap: &str) -> Self {
        let bootstrap = bootstrap.to_owned();
        Self { bootstrap }
    }

    fn encode(&mut self, records: &[BorrowedMessage<'_>]) -> Result<Vec<u8>, serde_json::Error> {
        let lane = records
            .first()
            .map(|it| format!("{}-{}", it.topic(), it.partition()));
        let records = records.iter().map(record).collect();
        serde_json::to_vec(&Event {
            event_source: "SelfManagedKafka",
            bootstrap_servers: &self.bootstrap,
            records: lane.map(|lane| (lane, records)).into_iter().collect(),
        })
    }
}

fn record<'a>(record: &'a BorrowedMessage<'_>) -> Record<'a> {
    let (timestamp, timestamp_type) = match record.timestamp() {
        Timestamp::CreateTime(millis) => (millis, "CREATE_TIME"),
        Timestamp::LogAppendTime(millis) => (millis, "LOG_APPEND_TIME"),
        Timestamp::NotAvailable => (-1, "CREATE_TIME"),
    };
    let headers = record.headers().into_iter().flat_map(Headers::iter);
    let header = |name, value: &[u8]| {
        let bytes = value.iter().map(|byte| byte.cast_signed()).collect();
        HashMap::from([(name, bytes)])
    };
    Record {
        topic: record.topic(),
        partition: record.partition(),
        offset: record.offset(),
        timestamp,
        timestamp_type,
        key: record.key().map(|key| BASE64_STANDARD.encode(key)),
        value: record.payload().map(|value| BASE64_STANDARD.encode(value)),
        headers: headers
            .map(|it| header(it.key, it.value.unwrap_or_default()))
            .collect(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    forebay_peers::main::<Idiomatic>()
}
