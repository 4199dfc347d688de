//! An event that was sent before, taken apart by its records: to send the rest of it, or to write its records to a topic
//! again.
//!
//! Source: the AWS Lambda Developer Guide, "Using Lambda with self-managed Apache Kafka".
//!
//! Invariant: what is left of an event has the bytes that it had; an event that does not hold together is an error.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::kafka::records::write::NewRecord;

/// An event, and where its records are.
#[derive(Clone, Debug)]
pub struct EventText {
    text: String,
    /// The members in their order, as JSON; those without a value are the place of the records.
    members: Vec<(String, Option<Box<RawValue>>)>,
    records: Vec<EventRecord>,
}

/// A record of an event, as its text.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    text: Box<RawValue>,
}

/// Why a text is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoEvent(String);

impl EventText {
    /// Takes an event apart.
    pub fn read(text: String) -> Result<Self, NoEvent> {
        let whole: Members<Box<RawValue>> = parse(&text)?;
        let mut members = Vec::with_capacity(whole.0.len());
        let mut records = Vec::new();
        for (name, value) in whole.0 {
            if name != "records" {
                members.push((name, Some(value)));
                continue;
            }
            let lanes: Members<Vec<Box<RawValue>>> = parse(value.get())?;
            for (lane, texts) in lanes.0 {
                for text in texts {
                    records.push(EventRecord::read(&lane, text)?);
                }
            }
            members.push((name, None));
        }
        if records.is_empty() {
            return Err(NoEvent("it has no records".to_owned()));
        }
        Ok(Self {
            text,
            members,
            records,
        })
    }

    /// The event, as it was.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its records, in its order; one at least.
    pub fn records(&self) -> &[EventRecord] {
        &self.records
    }

    /// The event of those records alone for which `stays` holds; the very same, if that are all, and `None` without any.
    pub fn only(&self, mut stays: impl FnMut(&EventRecord) -> bool) -> Option<Self> {
        let records: Vec<_> = self
            .records
            .iter()
            .filter(|it| stays(it))
            .cloned()
            .collect();
        if records.len() == self.records.len() {
            return Some(self.clone());
        }
        if records.is_empty() {
            return None;
        }
        let mut rest = Self {
            text: String::with_capacity(self.text.len()),
            members: self.members.clone(),
            records,
        };
        rest.text = rest.framed();
        Some(rest)
    }

    /// The same bytes that [`frame_event`](super::frame_event) would have made.
    fn framed(&self) -> String {
        let mut text = String::from("{");
        for (at, (name, value)) in self.members.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.extend([&quoted(name), ":"]);
            match value {
                Some(value) => text.push_str(value.get()),
                None => self.frame_records(&mut text),
            }
        }
        text.push('}');
        text
    }

    fn frame_records(&self, text: &mut String) {
        text.push('{');
        let mut open: Option<&EventRecord> = None;
        for record in &self.records {
            match open {
                Some(before) if before.is_beside(record) => text.push(','),
                other => {
                    text.push_str(if other.is_some() { "]," } else { "" });
                    text.push_str(&quoted(&record.lane()));
                    text.push_str(":[");
                }
            }
            text.push_str(record.text.get());
            open = Some(record);
        }
        text.push_str("]}");
    }
}

impl EventRecord {
    fn read(lane: &str, text: Box<RawValue>) -> Result<Self, NoEvent> {
        let place: Place<'_> = parse(text.get())?;
        let named = format!("{}-{}", place.topic, place.partition);
        if named != lane {
            let message = format!("among the records of {lane:?} is one of {named:?}");
            return Err(NoEvent(message));
        }
        Ok(Self {
            topic: place.topic.into_owned(),
            partition: place.partition,
            offset: place.offset,
            text,
        })
    }

    /// As the event and a function's answer name its partition: `topic-partition`.
    pub fn lane(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    /// The record itself, to be written to a topic. What the event does not tell is lost: a header without a value has
    /// an empty one.
    pub fn record(&self) -> Result<NewRecord, NoEvent> {
        let content: Content<'_> = parse(self.text.get())?;
        Ok(NewRecord {
            timestamp: content.timestamp,
            key: decoded("key", content.key)?,
            value: decoded("value", content.value)?,
            headers: content
                .headers
                .into_iter()
                .flat_map(BTreeMap::into_iter)
                .map(|(name, value)| (Bytes::from(name), Some(value.0)))
                .collect(),
        })
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.partition == other.partition && self.topic == other.topic
    }
}

/// What every record has.
#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
}

/// What a record is made of.
#[derive(Deserialize)]
struct Content<'a> {
    timestamp: i64,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    /// Each with one name, so that order and duplicates are kept.
    #[serde(default)]
    headers: Vec<BTreeMap<String, HeaderBytes>>,
}

/// Bytes as the event has them in headers: numbers with a sign.
struct HeaderBytes(Bytes);

impl<'de> Deserialize<'de> for HeaderBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = Vec::<i16>::deserialize(deserializer)?;
        let byte = |number: i16| match number {
            -128..=-1 => i8::try_from(number).ok().map(i8::cast_unsigned),
            _ => u8::try_from(number).ok(),
        };
        let bytes: Option<Vec<u8>> = numbers.into_iter().map(byte).collect();
        let bytes =
            bytes.ok_or_else(|| D::Error::custom("a header of numbers that are no bytes"))?;
        Ok(Self(Bytes::from(bytes)))
    }
}

/// The members of an object, in their order; a name that comes twice is an error.
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut seen = BTreeSet::new();
                let mut found = Vec::new();
                while let Some((name, value)) = members.next_entry::<String, T>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom("a member that stands there twice"));
                    }
                    found.push((name, value));
                }
                Ok(Members(found))
            }
        }

        deserializer.deserialize_map(Object(std::marker::PhantomData))
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, NoEvent> {
    // What serde says may quote a record.
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        NoEvent(format!(
            "it does not read as an event of Kafka records (line {line}, column {column} of a part of it)"
        ))
    })
}

fn decoded(member: &str, base64: Option<Cow<'_, str>>) -> Result<Option<Bytes>, NoEvent> {
    let Some(base64) = base64 else {
        return Ok(None);
    };
    match base64_simd::STANDARD.decode_to_vec(base64.as_bytes()) {
        Ok(bytes) => Ok(Some(Bytes::from(bytes))),
        Err(_) => Err(NoEvent(format!("the {member} of a record is no base64"))),
    }
}

/// As a JSON string in ASCII, as the event has its own.
fn quoted(text: &str) -> String {
    let escaped = super::text::escaped(text);
    format!("\"{}\"", String::from_utf8_lossy(&escaped))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{EventShape, Fragment, Push, frame_event};
    use super::*;
    use crate::kafka::records::write::{ProducerStamp, write_batch};
    use crate::kafka::records::{Decompressor, RecordReader};
    use crate::limits::BODY_BYTES_LIMIT;

    prop_compose! {
        fn any_record()(
            timestamp in prop_oneof![0_i64..2_000_000_000_000, Just(-1)],
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            headers in proptest::collection::vec(
                ("[a-zé\"]{0,3}", proptest::collection::vec(any::<u8>(), 0..5)), 0..4),
        ) -> NewRecord {
            let header = |(name, value): (String, Vec<u8>)| (Bytes::from(name), Some(Bytes::from(value)));
            NewRecord {
                timestamp,
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers.into_iter().map(header).collect(),
            }
        }
    }

    /// Each partition's records, encoded.
    fn sealed(shape: &EventShape, lanes: &[Vec<NewRecord>]) -> Vec<super::super::Sealed> {
        let lane = |(partition, records): (i32, &Vec<NewRecord>)| {
            let mut set = bytes::BytesMut::new();
            write_batch(records, ProducerStamp::NONE, None, &mut set);
            let mut reader = RecordReader::new(set.freeze(), 0, Vec::new(), false);
            let mut decompressor = Decompressor::new();
            let mut fragment = Fragment::new(shape, partition, super::super::Buffer::default());
            while let Some(record) = reader.next(&mut decompressor).unwrap() {
                assert_eq!(fragment.push(&record, BODY_BYTES_LIMIT), Push::Appended);
            }
            fragment.seal()
        };
        (0..).zip(lanes).map(lane).collect()
    }

    fn framed(
        shape: &EventShape,
        parts: &[(&super::super::Sealed, std::ops::Range<usize>)],
    ) -> String {
        let pieces = frame_event(shape, parts).concat();
        String::from_utf8(pieces).unwrap()
    }

    proptest! {
        /// What the encoder writes is read back, and what is left of it is what the encoder writes of that.
        #[test]
        fn an_event_is_taken_apart_and_put_together(
            lanes in proptest::collection::vec(proptest::collection::vec(any_record(), 1..6), 1..4),
            cut in 0_usize..6,
        ) {
            let shape = EventShape::new("k1:9092,\u{e9}:9", "or\"ders-\u{1F600}");
            let sealed = sealed(&shape, &lanes);
            let parts = |from: usize| -> Vec<_> {
                let of = |it| { let len = super::super::Sealed::records(it).len(); (it, from.min(len)..len) };
                sealed.iter().map(of).collect()
            };
            let event = EventText::read(framed(&shape, &parts(0))).unwrap();
            let read: Vec<_> = event.records().iter().map(|it| it.record().unwrap()).collect();
            prop_assert_eq!(read, lanes.concat());
            let rest = event.only(|it| it.offset >= i64::try_from(cut).unwrap());
            match parts(cut).iter().any(|(_, range)| !range.is_empty()) {
                true => {
                    let rest = rest.expect("something is left");
                    prop_assert_eq!(rest.text(), framed(&shape, &parts(cut)));
                    let again = EventText::read(rest.text().to_owned()).unwrap();
                    prop_assert_eq!(again.records().len(), rest.records().len());
                }
                false => prop_assert!(rest.is_none()),
            }
        }
    }

    #[test]
    fn members_that_nobody_knows_stay_where_they_are() {
        let record = |offset: i64| {
            format!(r#"{{"topic":"t","partition":0,"offset":{offset},"timestamp":1,"more":[1]}}"#)
        };
        let (first, second) = (record(1), record(2));
        let text = format!(
            r#"{{"eventSource":"SelfManagedKafka","more":{{ "a":1 }},"records":{{"t-0":[{first},{second}]}},"last":null}}"#
        );
        let event = EventText::read(text.clone()).unwrap();
        assert_eq!(event.only(|_| true).unwrap().text(), text);
        let rest = event.only(|record| record.offset == 2).unwrap();
        assert_eq!(rest.text(), text.replace(&format!("{first},"), ""));
        let record = rest.records()[0].record().unwrap();
        assert_eq!(
            (record.key, record.value, record.headers.len()),
            (None, None, 0)
        );
    }

    #[test]
    fn bytes_of_headers_have_a_sign_or_none() {
        let event = |bytes: &str| {
            let text = format!(
                r#"{{"records":{{"t-0":[{{"topic":"t","partition":0,"offset":1,"timestamp":1,"headers":[{{"h":{bytes}}}]}}]}}}}"#
            );
            EventText::read(text).unwrap().records()[0].record()
        };
        let header = |bytes: &'static [u8]| vec![("h".into(), Some(Bytes::from_static(bytes)))];
        assert_eq!(
            event("[-128,-1,0,127,255]").unwrap().headers,
            header(&[128, 255, 0, 127, 255])
        );
        assert_eq!(event("[]").unwrap().headers, header(&[]));
        for wrong in ["[256]", "[-129]", "[1.5]", "\"h\"", "[99999999999]"] {
            event(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_text_that_does_not_hold_together_is_no_event() {
        let record = r#"{"topic":"t","partition":0,"offset":1,"timestamp":1}"#;
        let deep = format!(
            "{{\"records\":{}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        for text in [
            String::new(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"records":{}}"#.to_owned(),
            r#"{"records":{"t-0":[]}}"#.to_owned(),
            r#"{"records":{"t-0":[{}]}}"#.to_owned(),
            r#"{"records":{"t-0":[null]}}"#.to_owned(),
            format!(r#"{{"records":{{"t-1":[{record}]}}}}"#),
            format!(r#"{{"records":{{"t-0":[{record}],"t-0":[{record}]}}}}"#),
            format!(r#"{{"records":{{"t-0":[{record}]}},"records":{{}}}}"#),
            format!(r#"{{"records":{{"t-0":[{record}]}}}} more"#),
            deep,
        ] {
            EventText::read(text.clone()).expect_err(&text.chars().take(200).collect::<String>());
        }
        let wrong = record.replace('}', r#","value":"no base64"}"#);
        let event = EventText::read(format!(r#"{{"records":{{"t-0":[{wrong}]}}}}"#)).unwrap();
        assert_eq!(
            event.records()[0].record().unwrap_err().to_string(),
            "the value of a record is no base64"
        );
    }
}
