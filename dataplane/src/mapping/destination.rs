//! Where a mapping's failed records go: DestinationConfig, checked (contract 5.1, decisions 16 to 18).
//!
//! Invariant: what can never be written to is refused when it is declared: a FIFO queue, a part of a bucket, the source
//! topic itself.

use std::fmt;

use super::Mapping;
use super::constraint::{length_constraint, violation};
use super::file::DestinationsFile;
use crate::config::{Config, Findings, Region, Service};

const MEMBER: &str = "DestinationConfig.OnFailure.Destination";
const PATH: &str = "destinationConfig.onFailure.destination";

/// AWS's bounds.
const LENGTH_MAX: usize = 350;
const PATTERN: &str = "Member must satisfy regular expression pattern: $|kafka://([^.]([a-zA-Z0-9\\-_.]{0,248}))|\
     arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1})?:(\\d{12})?:(.*)";

const TOPIC_LENGTH_MAX: usize = 249;
const QUEUE_NAME_MAX: usize = 80;
const NOTIFICATIONS_NAME_MAX: usize = 256;
const BUCKET_NAME_MAX: usize = 255;

/// Requests to S3 are signed for it where an endpoint of one's own stands in, and nobody names a region.
const REGION_ANYWHERE: &str = "us-east-1";

const ON_SUCCESS: &str =
    "Unsupported DestinationConfig parameter for given event source mapping type.";
const OTHER_SERVICE: &str = "cannot be a failure destination; name a queue (arn:aws:sqs:REGION:ACCOUNT:NAME), a topic \
     of SNS (arn:aws:sns:REGION:ACCOUNT:NAME), a bucket (arn:aws:s3:::NAME) or a topic of the same cluster (kafka://NAME)";
const QUEUE: &str = "is no queue; write arn:aws:sqs:REGION:ACCOUNT:NAME";
const NOTIFICATIONS: &str = "is no topic; write arn:aws:sns:REGION:ACCOUNT:NAME";
const BUCKET: &str =
    "is no bucket; write arn:aws:s3:::NAME, without a prefix: the keys begin with aws/lambda/";
const FIFO: &str =
    "is FIFO, which no failure destination can be, at AWS either; name a standard one";
const NO_REGION: &str =
    "has no region to be asked in; set region in forebay.toml or AWS_REGION or in the AWS profile";
const SOURCE_TOPIC: &str = "is the mapping's own topic; name another one";

/// Where failed records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A queue of Amazon SQS.
    Queue(Queue),
    /// A topic of Amazon SNS.
    Notifications(Notifications),
    /// A bucket of Amazon S3.
    Bucket(Bucket),
    /// A topic of the same cluster.
    Topic(String),
}

/// A queue of Amazon SQS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its ARN.
    pub arn: String,
    /// The region that stands in that,
    pub region: String,
    /// the account,
    pub account: String,
    /// and the name.
    pub name: String,
}

/// A topic of Amazon SNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifications {
    /// Its ARN.
    pub arn: String,
    /// The region that stands in that.
    pub region: String,
}

/// A bucket of Amazon S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Where it is asked for: its ARN does not tell.
    pub region: String,
}

impl Destination {
    /// The service that is written to; `None` for a topic of the cluster, which is the consumer's own affair.
    pub(crate) fn service(&self) -> Option<Service> {
        match self {
            Self::Queue(_) => Some(Service::Sqs),
            Self::Notifications(_) => Some(Service::Sns),
            Self::Bucket(_) => Some(Service::S3),
            Self::Topic(_) => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(Queue { arn, .. })
            | Self::Notifications(Notifications { arn, .. })
            | Self::Bucket(Bucket { arn, .. }) => f.write_str(arn),
            Self::Topic(topic) => write!(f, "kafka://{topic}"),
        }
    }
}

/// What it is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'a> {
    pub(super) config: &'a Config,
    /// The topic that the mapping reads.
    pub(super) topic: Option<&'a str>,
    /// The region of the function, or else of the node.
    pub(super) region: Option<&'a str>,
}

/// Checks the member. An empty destination is none.
pub(super) fn destination(
    file: Option<&DestinationsFile>,
    beside: Beside<'_>,
    findings: &mut Findings<'_>,
) -> Option<Destination> {
    let file = file?;
    if let Some(given) = &file.on_success {
        let value = given.get_ref().to_string();
        findings.at(
            given.span(),
            "DestinationConfig.OnSuccess",
            value,
            ON_SUCCESS,
        );
    }
    let given = file.on_failure.as_ref()?.destination.as_ref()?;
    let text = given.get_ref().as_str();
    if text.is_empty() {
        return None;
    }
    let parsed = match text.len() > LENGTH_MAX {
        true => {
            let constraint = length_constraint(text.len(), 0, LENGTH_MAX);
            Err(violation(text, PATH, &constraint))
        }
        false => parse(text, beside),
    };
    let refuse = |message: String| findings.at(given.span(), MEMBER, text, message);
    parsed.map_err(refuse).ok()
}

/// The same of a text that stands in no file: one that such a mapping could have.
pub(crate) fn named(text: &str, mapping: &Mapping, config: &Config) -> Result<Destination, String> {
    let beside = Beside {
        config,
        topic: Some(&mapping.topic),
        region: mapping.function.key.region.as_deref(),
    };
    parse(text, beside)
}

fn parse(text: &str, beside: Beside<'_>) -> Result<Destination, String> {
    if let Some(topic) = text.strip_prefix("kafka://") {
        return match is_topic(topic) {
            false => Err(violation(text, PATH, PATTERN)),
            true if beside.topic == Some(topic) => Err(SOURCE_TOPIC.to_owned()),
            true => Ok(Destination::Topic(topic.to_owned())),
        };
    }
    // The address of a queue or a bucket is what many have at hand.
    if text.starts_with("http") {
        return Err(OTHER_SERVICE.to_owned());
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, service, region, account, name] = parts[..] else {
        return Err(violation(text, PATH, PATTERN));
    };
    if !partition.starts_with("aws") {
        return Err(violation(text, PATH, PATTERN));
    }
    let place = Place {
        arn: text,
        region,
        account,
        name,
    };
    match service {
        "sqs" => place.queue(),
        "sns" => place.notifications(),
        "s3" => place.bucket(beside),
        _ => Err(OTHER_SERVICE.to_owned()),
    }
}

/// An ARN, taken apart.
#[derive(Clone, Copy)]
struct Place<'a> {
    arn: &'a str,
    region: &'a str,
    account: &'a str,
    name: &'a str,
}

impl Place<'_> {
    fn queue(self) -> Result<Destination, String> {
        let region = self
            .named(QUEUE_NAME_MAX)
            .map_err(|wrong| wrong.unwrap_or(QUEUE))?;
        Ok(Destination::Queue(Queue {
            arn: self.arn.to_owned(),
            region,
            account: self.account.to_owned(),
            name: self.name.to_owned(),
        }))
    }

    fn notifications(self) -> Result<Destination, String> {
        let region = self.named(NOTIFICATIONS_NAME_MAX);
        Ok(Destination::Notifications(Notifications {
            arn: self.arn.to_owned(),
            region: region.map_err(|wrong| wrong.unwrap_or(NOTIFICATIONS))?,
        }))
    }

    /// The region of a queue or a topic of SNS, which have the same form; or what is wrong, if it is not the form.
    fn named(self, length_max: usize) -> Result<String, Option<&'static str>> {
        if self.name.ends_with(".fifo") {
            return Err(Some(FIFO));
        }
        let is_account =
            self.account.len() == 12 && self.account.bytes().all(|b| b.is_ascii_digit());
        let is_name = (1..=length_max).contains(&self.name.len())
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let region = Region::parse(self.region, "the destination's ARN").ok_or(None)?;
        (is_account && is_name).then_some(region.name).ok_or(None)
    }

    fn bucket(self, beside: Beside<'_>) -> Result<Destination, String> {
        let is_name = (3..=BUCKET_NAME_MAX).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            // A path made of dots would be normalised away on its way.
            && !self.name.starts_with('.');
        if !(is_name && self.region.is_empty() && self.account.is_empty()) {
            return Err(BUCKET.to_owned());
        }
        let stands_in = beside.config.endpoint_urls.contains_key(&Service::S3);
        let anywhere = stands_in.then_some(REGION_ANYWHERE);
        Ok(Destination::Bucket(Bucket {
            arn: self.arn.to_owned(),
            name: self.name.to_owned(),
            region: beside.region.or(anywhere).ok_or(NO_REGION)?.to_owned(),
        }))
    }
}

fn is_topic(name: &str) -> bool {
    (1..=TOPIC_LENGTH_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, Surroundings};

    fn config(keys: &str) -> Config {
        let around = Surroundings::without_environment(Machine::here());
        Config::parse(keys, Path::new("/etc/forebay.toml"), &around).unwrap()
    }

    fn parsed(text: &str) -> Result<Destination, String> {
        let config = config("");
        let beside = Beside {
            config: &config,
            topic: Some("orders"),
            region: Some("eu-west-1"),
        };
        parse(text, beside)
    }

    #[track_caller]
    fn check(text: &str, service: Service, region: &str) {
        let destination = parsed(text).unwrap_or_else(|said| panic!("{text} {said}"));
        let found = match &destination {
            Destination::Queue(queue) => &queue.region,
            Destination::Notifications(notifications) => &notifications.region,
            Destination::Bucket(bucket) => &bucket.region,
            Destination::Topic(topic) => panic!("{topic}"),
        };
        assert_eq!(
            (destination.service(), found.as_str()),
            (Some(service), region)
        );
        assert_eq!(destination.to_string(), text);
    }

    #[test]
    fn queues_topics_and_buckets_are_known_by_their_arns() {
        check(
            "arn:aws:sqs:eu-central-1:123456789012:failed_orders-1",
            Service::Sqs,
            "eu-central-1",
        );
        check(
            "arn:aws-cn:sns:cn-north-1:123456789012:failed",
            Service::Sns,
            "cn-north-1",
        );
        check("arn:aws:s3:::failed.orders", Service::S3, "eu-west-1");
    }

    #[test]
    fn a_queue_has_its_account_and_name() {
        let queue = Queue {
            arn: "arn:aws:sqs:eu-central-1:123456789012:failed".to_owned(),
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            name: "failed".to_owned(),
        };
        assert_eq!(parsed(&queue.arn), Ok(Destination::Queue(queue.clone())));
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let said = parsed(text).unwrap_err();
        assert!(said.contains(expected), "{text} {said}");
    }

    #[test]
    fn what_can_never_be_written_to_is_refused() {
        for fifo in [
            "sqs:eu-central-1:123456789012:f.fifo",
            "sns:eu-central-1:123456789012:f.fifo",
        ] {
            check_refused(&format!("arn:aws:{fifo}"), FIFO);
        }
        for queue in [
            "eu-central-1:123456789012:",
            "eu-central-1::f",
            ":123456789012:f",
            "eu-central-1:12:f",
        ] {
            check_refused(&format!("arn:aws:sqs:{queue}"), QUEUE);
        }
        check_refused("arn:aws:sns:eu-central-1:123456789012:f:0b1", NOTIFICATIONS);
        for bucket in ["::failed/orders", "eu-central-1::failed", "::..", "::"] {
            check_refused(&format!("arn:aws:s3:{bucket}"), BUCKET);
        }
        check_refused(
            "arn:aws:lambda:eu-central-1:123456789012:function:f",
            OTHER_SERVICE,
        );
        check_refused("kafka://orders", SOURCE_TOPIC);
    }

    #[test]
    fn other_texts_are_refused_in_awss_words() {
        let said = "1 validation error detected: Value 'here' at 'destinationConfig.onFailure.destination' failed to \
                    satisfy constraint: Member must satisfy regular expression pattern: $|kafka://";
        check_refused("here", said);
        for text in [
            "arn:aws:sqs",
            "arn:gcp:sqs:eu-central-1:123456789012:f",
            "kafka://",
            "kafka://.f",
            "kafka://a/b",
        ] {
            check_refused(text, "Member must satisfy regular expression pattern");
        }
    }

    #[test]
    fn a_topic_of_the_cluster_is_understood() {
        let topic = Destination::Topic("failed.orders".to_owned());
        assert_eq!(topic.service(), None);
        assert_eq!(parsed(&topic.to_string()), Ok(topic));
    }

    #[test]
    fn a_bucket_is_asked_for_somewhere() {
        let region = |keys: &str, region| {
            let config = config(keys);
            let beside = Beside {
                config: &config,
                topic: None,
                region,
            };
            match parse("arn:aws:s3:::failed", beside) {
                Ok(Destination::Bucket(bucket)) => Ok(bucket.region),
                Ok(other) => panic!("{other}"),
                Err(said) => Err(said),
            }
        };
        let own = "endpoint_urls.s3 = \"http://127.0.0.1:9000\"";
        assert_eq!(region("", None), Err(NO_REGION.to_owned()));
        assert_eq!(region(own, None), Ok(REGION_ANYWHERE.to_owned()));
        assert_eq!(region(own, Some("eu-west-1")), Ok("eu-west-1".to_owned()));
    }
}
