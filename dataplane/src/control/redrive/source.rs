//! Where failed records are taken from: a bucket, a queue, or a topic of the mapping's own cluster.
//!
//! Invariant: its text names the same place again, whoever gave it.

use std::fmt;

use forebay_protocol::lambda::failure::folder;

use crate::config::Config;
use crate::mapping::{Bucket, Destination, Mapping, Queue, destination_named};

const FORMS: &str = "write s3://BUCKET/PREFIX, arn:aws:sqs:REGION:ACCOUNT:QUEUE or kafka://TOPIC";
const OF_NOTIFICATIONS: &str = "is a topic of SNS, which keeps nothing: name the queue that is subscribed to it \
     (--from arn:aws:sqs:REGION:ACCOUNT:QUEUE)";

/// The place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Objects of a bucket whose keys begin so.
    Bucket(Bucket, String),
    /// A queue, which may be subscribed to a topic of SNS.
    Queue(Queue),
    /// A topic of the cluster.
    Topic(String),
}

impl Source {
    /// What was given, else the mapping's own destination.
    pub(super) fn of(
        given: Option<&str>,
        mapping: &Mapping,
        config: &Config,
    ) -> Result<Self, String> {
        let Some(text) = given else {
            let own = mapping.destination.clone();
            let own = own.ok_or_else(|| {
                format!("the mapping has no DestinationConfig to take failed records from; name one with --from: {FORMS}")
            })?;
            let named = own.to_string();
            return Self::at(own, mapping, None).map_err(|what| format!("{named} {what}"));
        };
        let refuse = |what: String| format!("--from {text}: {what}");
        let (arn, prefix) = match text.strip_prefix("s3://").map(|it| it.split_once('/')) {
            Some(Some((bucket, prefix))) => (format!("arn:aws:s3:::{bucket}"), Some(prefix)),
            Some(None) => (text.replacen("s3://", "arn:aws:s3:::", 1), None),
            None => (text.to_owned(), None),
        };
        if !(arn.starts_with("arn:") || arn.starts_with("kafka://")) {
            return Err(refuse(FORMS.to_owned()));
        }
        let named = destination_named(&arn, mapping, config).map_err(refuse)?;
        Self::at(named, mapping, prefix).map_err(refuse)
    }

    fn at(named: Destination, mapping: &Mapping, prefix: Option<&str>) -> Result<Self, String> {
        match named {
            Destination::Bucket(bucket) => {
                let prefix = prefix.map_or_else(|| folder(mapping.uuid), str::to_owned);
                Ok(Self::Bucket(bucket, prefix))
            }
            Destination::Queue(queue) => Ok(Self::Queue(queue)),
            Destination::Topic(topic) => Ok(Self::Topic(topic)),
            Destination::Notifications(_) => Err(OF_NOTIFICATIONS.to_owned()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(bucket, prefix) => write!(f, "s3://{}/{prefix}", bucket.name),
            Self::Queue(queue) => f.write_str(&queue.arn),
            Self::Topic(topic) => write!(f, "kafka://{topic}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, mapping};
    use super::*;

    fn read(given: Option<&str>, destination: &str) -> Result<String, String> {
        let (_dir, config) = config();
        let mapping = mapping(&config, destination);
        let source = Source::of(given, &mapping, &config)?;
        let again = source.to_string();
        assert_eq!(Source::of(Some(&again), &mapping, &config), Ok(source));
        Ok(again.replace(&mapping.uuid.to_string(), "UUID"))
    }

    #[track_caller]
    fn check(given: &str, expected: &str) {
        assert_eq!(read(Some(given), ""), Ok(expected.to_owned()));
    }

    const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:failed";

    #[test]
    fn a_place_is_named_as_people_name_it() {
        check("s3://failed", "s3://failed/aws/lambda/UUID/");
        check("arn:aws:s3:::failed", "s3://failed/aws/lambda/UUID/");
        check("s3://failed/", "s3://failed/");
        check("s3://failed/a/b", "s3://failed/a/b");
        check(QUEUE, QUEUE);
        check("kafka://failed", "kafka://failed");
    }

    #[test]
    fn the_mappings_own_destination_is_the_default() {
        assert_eq!(read(None, QUEUE), Ok(QUEUE.to_owned()));
        let bucket = read(None, "arn:aws:s3:::failed");
        assert_eq!(bucket, Ok("s3://failed/aws/lambda/UUID/".to_owned()));
    }

    #[test]
    fn what_keeps_nothing_is_refused_with_what_to_name() {
        let sns = "arn:aws:sns:eu-west-1:123456789012:failed";
        for said in [read(None, sns), read(Some(sns), "")] {
            let said = said.unwrap_err();
            assert!(
                said.contains("name the queue that is subscribed to it"),
                "{said}"
            );
        }
        let said = read(None, "").unwrap_err();
        assert!(
            said.contains("has no DestinationConfig") && said.contains("--from"),
            "{said}"
        );
        for given in ["", "failed", "http://x/failed", "s3:failed"] {
            let said = read(Some(given), "").unwrap_err();
            assert!(said.contains(FORMS), "{said}");
        }
        for given in [
            "s3://",
            "s3:///a",
            "kafka://",
            "kafka://orders",
            "arn:aws:sqs:eu-west-1:1:q",
        ] {
            read(Some(given), "").unwrap_err();
        }
    }
}
