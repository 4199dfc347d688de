//! What a function answers that reports which records failed (contract 4.4, decision 13).
//!
//! Source: the AWS Lambda Developer Guide, "Configuring error handling controls for Kafka event sources".
//!
//! Invariant: an answer that is not understood whole is an error, never "nothing failed".

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What an answer looks like.
const SHAPE: &str =
    r#"{"batchItemFailures": [{"itemIdentifier": {"partition": "TOPIC-N", "offset": N}}]}"#;

/// A record that failed, as the function names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemIdentifier {
    /// The member of the event's `records`: `topic-partition`.
    pub partition: String,
    /// The record's offset.
    pub offset: i64,
}

/// The records that failed, in the order in which the function names them; none if all went well.
///
/// # Errors
/// Why the answer is not one: the whole batch has failed then.
pub fn item_failures(body: &[u8]) -> Result<Vec<ItemIdentifier>, String> {
    match serde_json::from_slice::<Answer>(body) {
        Ok(Answer(failures)) => Ok(failures),
        // Positions alone: what it says may quote a record.
        Err(error) => Err(format!(
            "the function's answer cannot be read as {SHAPE} (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}

struct Answer(Vec<ItemIdentifier>);

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnswerVisitor).map(Answer)
    }
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Vec<ItemIdentifier>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("batchItemFailures, or nothing")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "" => Ok(Vec::new()),
            _ => Err(E::custom("text")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        match items.next_element::<IgnoredAny>()? {
            None => Ok(Vec::new()),
            Some(_) => Err(A::Error::custom("a list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut failures: Option<Option<Vec<Item>>> = None;
        while let Some(name) = members.next_key::<String>()? {
            if name != "batchItemFailures" {
                members.next_value::<IgnoredAny>()?;
            } else if failures.replace(members.next_value()?).is_some() {
                return Err(A::Error::custom("batchItemFailures twice"));
            }
        }
        let items = failures.flatten().unwrap_or_default();
        Ok(items
            .into_iter()
            .map(|item| item.item_identifier.into())
            .collect())
    }
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "itemIdentifier")]
    item_identifier: Identifier,
}

#[derive(Deserialize)]
struct Identifier {
    partition: String,
    offset: Offset,
}

impl From<Identifier> for ItemIdentifier {
    fn from(identifier: Identifier) -> Self {
        Self {
            partition: identifier.partition,
            offset: identifier.offset.0,
        }
    }
}

/// A number, or its digits: the documents of failed records have text where the event has a number.
struct Offset(i64);

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OffsetVisitor).map(Offset)
    }
}

struct OffsetVisitor;

impl Visitor<'_> for OffsetVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an offset")
    }

    fn visit_i64<E: Error>(self, offset: i64) -> Result<i64, E> {
        Ok(offset)
    }

    fn visit_u64<E: Error>(self, offset: u64) -> Result<i64, E> {
        i64::try_from(offset).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, digits: &str) -> Result<i64, E> {
        let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(offset) if is_decimal => Ok(offset),
            _ => Err(E::custom("an offset that is no number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Option<&[(&str, i64)]>) {
        let found = item_failures(body.as_bytes()).ok();
        let found = found.map(|failures| {
            let pairs = failures.into_iter().map(|it| (it.partition, it.offset));
            pairs.collect::<Vec<_>>()
        });
        let expected = expected.map(|pairs| {
            let pairs = pairs
                .iter()
                .map(|(name, offset)| ((*name).to_owned(), *offset));
            pairs.collect::<Vec<_>>()
        });
        assert_eq!(found, expected, "{body}");
    }

    /// The contract's table 4.4.
    #[test]
    fn an_answer_without_failures_is_a_success() {
        for body in [
            "{}",
            "null",
            r#""""#,
            "[]",
            " {} \n",
            r#"{"batchItemFailures":[]}"#,
            r#"{"batchItemFailures":null}"#,
            r#"{"statusCode":200,"body":{"deep":[[1]]}}"#,
        ] {
            check(body, Some(&[]));
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        check(&deep, Some(&[]));
    }

    #[test]
    fn failures_are_named_by_partition_and_offset() {
        check(
            r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"orders-0","offset":41}}]}"#,
            Some(&[("orders-0", 41)]),
        );
        check(
            r#"{"more":1,"batchItemFailures":[
                {"itemIdentifier":{"offset":"9007199254740993","partition":"a-b-1","more":[]},"more":{}},
                {"itemIdentifier":{"partition":"a-b-0","offset":0}}]}"#,
            Some(&[("a-b-1", 9_007_199_254_740_993), ("a-b-0", 0)]),
        );
    }

    #[test]
    fn an_answer_that_is_none_is_told_what_one_looks_like() {
        let answer = br#"{"batchItemFailures":[{"itemIdentifier":"5"}]}"#;
        let expected = "the function's answer cannot be read as {\"batchItemFailures\": [{\"itemIdentifier\": \
            {\"partition\": \"TOPIC-N\", \"offset\": N}}]} (line 1, column 43)";
        assert_eq!(item_failures(answer), Err(expected.to_owned()));
    }

    #[test]
    fn an_answer_that_is_not_understood_whole_is_none() {
        let item = |identifier: &str| {
            format!(r#"{{"batchItemFailures":[{{"itemIdentifier":{identifier}}}]}}"#)
        };
        for body in [
            "".to_owned(),
            "OK".to_owned(),
            "5".to_owned(),
            "true".to_owned(),
            r#""text""#.to_owned(),
            "[1]".to_owned(),
            "{} {}".to_owned(),
            r#"{"batchItemFailures":{}}"#.to_owned(),
            r#"{"batchItemFailures":"orders-0"}"#.to_owned(),
            r#"{"batchItemFailures":[null]}"#.to_owned(),
            r#"{"batchItemFailures":[{}]}"#.to_owned(),
            r#"{"batchItemFailures":[{"identifier":{"partition":"a-0","offset":1}}]}"#.to_owned(),
            r#"{"batchItemFailures":[],"batchItemFailures":[]}"#.to_owned(),
            item("null"),
            item(r#""""#),
            item("{}"),
            item(r#"{"partition":"a-0"}"#),
            item(r#"{"partition":null,"offset":1}"#),
            item(r#"{"partition":"a-0","offset":null}"#),
            item(r#"{"partition":"a-0","offset":1.5}"#),
            item(r#"{"partition":"a-0","offset":""}"#),
            item(r#"{"partition":"a-0","offset":"+1"}"#),
            item(r#"{"partition":"a-0","offset":"1e3"}"#),
            item(r#"{"partition":"a-0","offset":18446744073709551615}"#),
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            check(&body, None);
        }
    }
}
