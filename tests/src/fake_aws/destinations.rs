//! Queues of SQS, topics of SNS and buckets of S3, as far as failed records are written to them and read there again.
//!
//! Messages of a queue are told apart by what they say, and stay received until they are let go or deleted.
//!
//! Invariant: what is kept was signed by someone who may write it, and is what the request's body says.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::{Account, refused};
use crate::fake_lambda::Head;

/// What they hold.
#[derive(Debug, Default)]
pub struct Destinations {
    /// The messages of each queue, by the path of its URL: `/123456789012/failed`.
    pub queues: BTreeMap<String, Vec<String>>,
    /// Those of them that somebody has received: path and message, by receipt.
    pub received: BTreeMap<String, (String, String)>,
    /// The messages of each topic, by its ARN.
    pub topics: BTreeMap<String, Vec<String>>,
    /// The objects of each bucket, by their keys: content type and body.
    pub buckets: BTreeMap<String, BTreeMap<String, (String, String)>>,
    /// A queue takes no longer messages, if it has such a limit.
    pub message_bytes_max: Option<usize>,
    /// Answers in place of the next ones that were due: status and body.
    pub refusals: VecDeque<(u16, String)>,
}

/// Which of the services a request is signed for.
pub(super) fn service(head: &Head) -> Option<&'static str> {
    let signature = head.header("authorization")?;
    let services = ["sqs", "sns", "s3"].into_iter();
    let mut signed = services.filter(|it| signature.contains(&format!("/{it}/aws4_request")));
    signed.next()
}

impl Account {
    /// Answers a request that is signed for one of them.
    pub(super) fn written(&mut self, service: &str, head: &Head, body: &Bytes) -> Response {
        let keys = match self.caller(head, body, service) {
            Ok(keys) => keys,
            Err(message) => return wrong(403, "SignatureDoesNotMatch", &message),
        };
        let (arn, written) = match service {
            "sqs" => self.destinations.queue(head, body),
            "sns" => self.destinations.topic(body),
            _ => self.destinations.bucket(head, body),
        };
        self.note(head, keys, &arn);
        match self.destinations.refusals.pop_front() {
            Some((status, body)) => {
                let status = StatusCode::from_u16(status).expect("a status");
                (status, body).into_response()
            }
            None => written(&mut self.destinations),
        }
    }
}

/// What a request does once nothing is in its way.
type Written = Box<dyn FnOnce(&mut Destinations) -> Response>;

impl Destinations {
    /// The JSON protocol of SQS.
    fn queue(&self, head: &Head, body: &Bytes) -> (String, Written) {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let url = json["QueueUrl"].as_str().unwrap_or_default();
        let own = format!("http://{}", head.header("host").unwrap_or_default());
        let path = url.strip_prefix(&own).unwrap_or_default().to_owned();
        let target = head.header("x-amz-target").unwrap_or_default().to_owned();
        let text = json["MessageBody"].as_str().map(str::to_owned);
        let queue = path.clone();
        let written = move |all: &mut Self| {
            if let Some(answer) = all.reading(&target, &queue, &json) {
                return answer;
            }
            let allowed = all.message_bytes_max.unwrap_or(1_048_576);
            let Some(messages) = all.queues.get_mut(&queue) else {
                let message = "The specified queue does not exist.";
                return refused("com.amazonaws.sqs#QueueDoesNotExist", message);
            };
            match (target.as_str(), text) {
                ("AmazonSQS.GetQueueAttributes", None) => "{\"Attributes\":{}}".into_response(),
                ("AmazonSQS.SendMessage", Some(text)) if text.len() > allowed => {
                    let message = format!(
                        "One or more parameters are invalid. Reason: Message must be shorter than {allowed} bytes."
                    );
                    refused("com.amazonaws.sqs#InvalidParameterValueException", &message)
                }
                ("AmazonSQS.SendMessage", Some(text)) => {
                    messages.push(text);
                    "{\"MessageId\":\"0b1\"}".into_response()
                }
                _ => refused("com.amazonaws.sqs#UnsupportedOperation", &target),
            }
        };
        (path, Box::new(written))
    }

    /// What reads a queue; `None` if the request does not.
    fn reading(&mut self, target: &str, path: &str, json: &serde_json::Value) -> Option<Response> {
        let receipt = json["ReceiptHandle"].as_str().unwrap_or_default();
        match target {
            "AmazonSQS.ReceiveMessage" => {
                let most = json["MaxNumberOfMessages"].as_u64().unwrap_or(1);
                let most = usize::try_from(most).expect("a small number");
                let messages = self.queues.get_mut(path)?;
                let some: Vec<String> = messages.drain(..most.min(messages.len())).collect();
                let told: Vec<_> = some
                    .into_iter()
                    .map(|text| {
                        let id = hash(text.as_bytes());
                        let message = serde_json::json!({
                            "MessageId": id, "ReceiptHandle": format!("receipt-{id}"), "Body": text,
                        });
                        let receipt = format!("receipt-{id}");
                        self.received.insert(receipt, (path.to_owned(), text));
                        message
                    })
                    .collect();
                let answer = match told.is_empty() {
                    true => serde_json::json!({}),
                    false => serde_json::json!({ "Messages": told }),
                };
                Some(answer.to_string().into_response())
            }
            "AmazonSQS.DeleteMessage" => {
                self.received.remove(receipt);
                Some("{}".into_response())
            }
            "AmazonSQS.ChangeMessageVisibility" => {
                if json["VisibilityTimeout"].as_u64() == Some(0)
                    && let Some((path, text)) = self.received.remove(receipt)
                {
                    self.queues.entry(path).or_default().push(text);
                }
                Some("{}".into_response())
            }
            _ => None,
        }
    }

    /// The query protocol of SNS.
    fn topic(&self, body: &Bytes) -> (String, Written) {
        let form = form(body);
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (arn, action) = (field("TopicArn"), field("Action"));
        let message = field("Message");
        let of = arn.clone();
        let written = move |all: &mut Self| {
            let Some(messages) = all.topics.get_mut(&of) else {
                return wrong(404, "NotFound", "Topic does not exist");
            };
            match action.as_str() {
                "GetTopicAttributes" => "<GetTopicAttributesResponse/>".into_response(),
                "Publish" => {
                    messages.push(message);
                    let id = "<MessageId>0b1</MessageId>";
                    let xml = format!(
                        "<PublishResponse><PublishResult>{id}</PublishResult></PublishResponse>"
                    );
                    xml.into_response()
                }
                other => wrong(400, "InvalidAction", other),
            }
        };
        (arn, Box::new(written))
    }

    /// S3, with the bucket in the path.
    fn bucket(&self, head: &Head, body: &Bytes) -> (String, Written) {
        let path = head.path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (of, key) = (bucket.to_owned(), key.to_owned());
        let is_hashed = head.header("x-amz-content-sha256") == Some(hash(body).as_str());
        let kind = head.header("content-type").unwrap_or_default().to_owned();
        let (method, text) = (
            head.method.clone(),
            String::from_utf8_lossy(body).into_owned(),
        );
        let query = form(&Bytes::from(head.query.clone()));
        let written = move |all: &mut Self| {
            let Some(objects) = all.buckets.get_mut(&of) else {
                return wrong(404, "NoSuchBucket", "The specified bucket does not exist");
            };
            match method.as_str() {
                _ if !is_hashed => wrong(400, "XAmzContentSHA256Mismatch", "The hash is another"),
                "HEAD" => StatusCode::OK.into_response(),
                "GET" if key.is_empty() => list(objects, &query),
                "GET" => match objects.get(&key) {
                    Some((_, text)) => text.clone().into_response(),
                    None => wrong(404, "NoSuchKey", "The specified key does not exist."),
                },
                "DELETE" => {
                    objects.remove(&key);
                    StatusCode::NO_CONTENT.into_response()
                }
                "PUT" => {
                    objects.insert(key, (kind, text));
                    ([("etag", "\"0b1\"")], "").into_response()
                }
                other => wrong(405, "MethodNotAllowed", other),
            }
        };
        (bucket.to_owned(), Box::new(written))
    }
}

/// Keys of one answer to ListObjectsV2: few, so that there are several.
const LISTED_MAX: usize = 3;

/// A page of ListObjectsV2.
fn list(
    objects: &BTreeMap<String, (String, String)>,
    query: &BTreeMap<String, String>,
) -> Response {
    let field = |name: &str| query.get(name).cloned().unwrap_or_default();
    let (prefix, after) = (field("prefix"), field("continuation-token"));
    let keys = objects.keys();
    let mut keys = keys.filter(|key| key.starts_with(&prefix) && **key > after);
    let page: Vec<&String> = keys.by_ref().take(LISTED_MAX).collect();
    let is_truncated = keys.next().is_some();
    let contents: String = page
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{}</Key></Contents>",
                key.replace('&', "&amp;")
            )
        })
        .collect();
    let token = match (is_truncated, page.last()) {
        (true, Some(last)) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
        _ => String::new(),
    };
    format!("<ListBucketResult>{contents}<IsTruncated>{is_truncated}</IsTruncated>{token}</ListBucketResult>")
        .into_response()
}

/// SHA-256, in hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error in XML, as SNS and S3 have it.
fn wrong(status: u16, code: &str, message: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let status = StatusCode::from_u16(status).expect("a status");
    (status, body).into_response()
}

/// The fields of a form.
fn form(body: &Bytes) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let fields = text.split('&').filter_map(|field| field.split_once('='));
    fields
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || {
            bytes
                .next()
                .and_then(|it| char::from(it).to_digit(16))
                .unwrap_or(0)
        };
        plain.push(match byte {
            b'%' => u8::try_from(digit() * 16 + digit()).expect("two digits are a byte"),
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}
