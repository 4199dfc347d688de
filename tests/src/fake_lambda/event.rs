//! The event as a function reads it: every record taken apart, by serde_json so that Forebay's encoder
//! does not check itself.
//!
//! Invariant: a body that is not AWS's shape is an error that says where; nothing is guessed.

use serde::Deserialize;

/// One record of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// `topic`.
    pub topic: String,
    /// `partition`.
    pub partition: i32,
    /// `offset`.
    pub offset: i64,
    /// `timestamp`.
    pub timestamp: i64,
    /// `timestampType`.
    pub timestamp_type: String,
    /// `key`, decoded; `None` when the member is absent.
    pub key: Option<Vec<u8>>,
    /// `value`, decoded; `None` when the member is absent.
    pub value: Option<Vec<u8>>,
    /// `headers`, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Event {
    event_source: String,
    #[serde(rename = "bootstrapServers")]
    _bootstrap_servers: String,
    records: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    timestamp_type: String,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// The records of an event, in the order in which they stand.
pub fn read(body: &[u8]) -> Result<Vec<SeenRecord>, String> {
    let event: Event = serde_json::from_slice(body).map_err(|error| format!("event: {error}"))?;
    if event.event_source != "SelfManagedKafka" {
        return Err(format!("eventSource is {}", event.event_source));
    }
    let mut seen = Vec::new();
    for (name, records) in event.records {
        let records: Vec<Record> =
            serde_json::from_value(records).map_err(|error| format!("{name}: {error}"))?;
        if records.is_empty() {
            return Err(format!("{name} holds no record"));
        }
        for record in records {
            if name != format!("{}-{}", record.topic, record.partition) {
                return Err(format!(
                    "{name} holds a record of partition {}",
                    record.partition
                ));
            }
            seen.push(record.read()?);
        }
    }
    if seen.is_empty() {
        return Err("the event holds no record".to_owned());
    }
    Ok(seen)
}

impl Record {
    fn read(self) -> Result<SeenRecord, String> {
        let decode = |text: Option<String>| {
            let bytes = text.map(|text| base64_simd::STANDARD.decode_to_vec(text.as_bytes()));
            bytes
                .transpose()
                .map_err(|error| format!("offset {}: {error}", self.offset))
        };
        let mut headers = Vec::new();
        for header in self.headers {
            if header.len() != 1 {
                return Err(format!(
                    "offset {}: a header has {} members",
                    self.offset,
                    header.len()
                ));
            }
            for (key, value) in header {
                let bytes: Vec<i8> = serde_json::from_value(value)
                    .map_err(|error| format!("offset {}: {error}", self.offset))?;
                headers.push((key, bytes.into_iter().map(|byte| byte as u8).collect()));
            }
        }
        Ok(SeenRecord {
            key: decode(self.key)?,
            value: decode(self.value)?,
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            timestamp_type: self.timestamp_type,
            headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(records: &str) -> Vec<u8> {
        let head = r#"{"eventSource":"SelfManagedKafka","bootstrapServers":"b:1","records":"#;
        format!("{head}{records}}}").into_bytes()
    }

    #[test]
    fn records_are_taken_apart() {
        let body = event(
            r#"{"t-3":[{"topic":"t","partition":3,"offset":7,"timestamp":5,"timestampType":"CREATE_TIME","key":"aw==","headers":[{"h":[1,-1]},{"h":[]}]}]}"#,
        );
        let seen = read(&body).unwrap();
        assert_eq!(seen[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(seen[0].value, None);
        assert_eq!(seen[0].headers[0].1, [1, 255]);
        assert_eq!(seen[0].headers.len(), 2);
    }

    #[test]
    fn event_of_another_shape_is_an_error() {
        for records in ["{}", r#"{"t-0":[]}"#, r#"{"t-0":[{"topic":"t"}]}"#] {
            assert!(read(&event(records)).is_err(), "{records}");
        }
    }
}
