//! Queues of Amazon SQS.
//!
//! Source: Amazon SQS API Reference, "SendMessage" and "GetQueueAttributes" (the JSON protocol).
//!
//! Invariant: a queue's URL is made of its ARN: to ask for it (GetQueueUrl) takes a permission of its own.

use serde_json::{Value, json};

use super::{Action, Refused, Way};
use crate::config::{Flavour, Service};
use crate::control::http::Answer;
use crate::mapping::Queue;

/// A message has no more bytes than this; a queue may allow fewer.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_048_576;

/// Sends a message.
pub(super) async fn send(way: Way<'_>, queue: &Queue, text: &str) -> Result<(), Refused> {
    let body = json!({ "QueueUrl": url(way, queue), "MessageBody": text });
    let answer = ask(way, queue, "AmazonSQS.SendMessage", &body).await?;
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, &told["MessageId"]) {
        (200, Value::String(_)) => Ok(()),
        (200, _) => Err(Refused::stranger(Service::Sqs, "SendMessage")),
        _ => Err(Refused::of(Action::writing(Service::Sqs), &answer, way)),
    }
}

/// Asks for what the queue is like.
pub(super) async fn attributes(way: Way<'_>, queue: &Queue) -> Result<(Service, Answer), Refused> {
    let body = json!({ "QueueUrl": url(way, queue), "AttributeNames": ["QueueArn"] });
    let answer = ask(way, queue, "AmazonSQS.GetQueueAttributes", &body).await?;
    Ok((Service::Sqs, answer))
}

async fn ask(way: Way<'_>, queue: &Queue, target: &str, body: &Value) -> Result<Answer, Refused> {
    let headers = headers(target);
    way.post(Service::Sqs, &queue.region, &headers, body.to_string())
        .await
}

/// What the JSON protocol has beside the body.
pub(in crate::control) fn headers(target: &str) -> [(&str, &str); 2] {
    [
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", target),
    ]
}

/// How requests name the queue.
pub(in crate::control) fn url(way: Way<'_>, queue: &Queue) -> String {
    // Why: its name has neither FIPS nor IPv6 in it, whichever endpoint is asked.
    let own = || Service::Sqs.endpoint(&queue.region, Flavour::default());
    let endpoint = way.aws.stand_in(Service::Sqs).cloned().unwrap_or_else(own);
    format!("{}/{}/{}", endpoint.url(), queue.account, queue.name)
}
