//! Documents in a queue of Amazon SQS.
//!
//! A message that was received is invisible to others, and to us, until it is let go: all that are not removed are, once
//! the queue has no more to give. A process that is killed lets go of what it holds when their time is over.
//!
//! Source: Amazon SQS API Reference, "ReceiveMessage", "ChangeMessageVisibility" and "DeleteMessage" (the JSON protocol).
//!
//! Invariant: no message is given twice by one redrive, and none is removed that was not handed out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::store::{Found, StoreError, Text};
use crate::config::Service;
use crate::control::aws::Call;
use crate::control::destinations::refused::{Action, Refused};
use crate::control::destinations::{Way, queue};
use crate::control::http::Answer;
use crate::mapping::Queue;

/// Messages of one answer: SQS's own bound where nothing is done with them; else one, so that none waits unseen.
const LOOKED_AT: u32 = 10;

/// How long SQS looks for messages, in all of its servers: an answer without any means that there are none.
const WAIT_SECONDS: u64 = 2;

/// How long a message is held at least; SQS allows twelve hours.
const HELD_MIN: Duration = Duration::from_secs(120);
const HELD_MAX: Duration = Duration::from_secs(43_200);

/// Ten messages of 1 MiB, as JSON strings.
const ANSWER_BYTES_MAX: usize = 24 << 20;

/// How long a request may take: it waits on purpose.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How many messages are held by anybody, about.
const NOT_VISIBLE: &str = "ApproximateNumberOfMessagesNotVisible";

/// The messages of a queue.
pub(super) struct QueueStore {
    queue: Queue,
    /// How long a message is held while it is worked on.
    held_for: Duration,
    /// Whether messages are only looked at.
    looks: bool,
    waiting: VecDeque<Message>,
    /// By their ids: what lets go of them.
    held: BTreeMap<String, String>,
    /// Messages in a row that came once more: SQS has let them go meanwhile.
    again: usize,
    is_empty: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    message_id: String,
    receipt_handle: String,
    body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    #[serde(default)]
    messages: Vec<Message>,
}

impl QueueStore {
    /// `held_for` is how long one message may take.
    pub(super) fn new(queue: Queue, held_for: Duration, looks: bool) -> Self {
        Self {
            queue,
            held_for: held_for.clamp(HELD_MIN, HELD_MAX),
            looks,
            waiting: VecDeque::new(),
            held: BTreeMap::new(),
            again: 0,
            is_empty: false,
        }
    }

    pub(super) async fn next(&mut self, way: Way<'_>) -> Result<Option<Found>, StoreError> {
        while self.waiting.is_empty() && !self.is_empty {
            self.receive(way).await?;
        }
        Ok(self.waiting.pop_front().map(|message| Found {
            place: format!("message {}", message.message_id),
            id: message.message_id,
            text: Text::Read(message.body),
        }))
    }

    async fn receive(&mut self, way: Way<'_>) -> Result<(), StoreError> {
        let body = json!({
            "QueueUrl": queue::url(way, &self.queue),
            "MaxNumberOfMessages": if self.looks { LOOKED_AT } else { 1 },
            "WaitTimeSeconds": WAIT_SECONDS,
            "VisibilityTimeout": self.held_for.as_secs(),
        });
        let answer = self.ask(way, "AmazonSQS.ReceiveMessage", &body).await?;
        if answer.status != 200 {
            return Err(refused("sqs:ReceiveMessage", &answer, way));
        }
        let stranger = |_| Refused::stranger(Service::Sqs, "ReceiveMessage");
        let received: Received = serde_json::from_slice(&answer.body).map_err(stranger)?;
        self.is_empty = received.messages.is_empty();
        for message in received.messages {
            let id = message.message_id.clone();
            let receipt = message.receipt_handle.clone();
            // Of one that comes again the newer receipt counts.
            if self.held.insert(id, receipt).is_none() {
                self.again = 0;
                self.waiting.push_back(message);
            } else {
                self.again += 1;
            }
        }
        self.is_empty |= self.again > self.held.len();
        Ok(())
    }

    /// The message is worked on for longer: it stays held from now on for as long as one may take.
    pub(super) async fn hold(&self, way: Way<'_>, id: &str) -> Result<(), StoreError> {
        self.change(way, id, self.held_for).await
    }

    pub(super) async fn remove(&mut self, way: Way<'_>, id: &str) -> Result<(), StoreError> {
        let Some(receipt) = self.held.get(id) else {
            return Ok(());
        };
        let body = json!({ "QueueUrl": queue::url(way, &self.queue), "ReceiptHandle": receipt });
        let answer = self.ask(way, "AmazonSQS.DeleteMessage", &body).await?;
        if answer.status != 200 {
            return Err(refused("sqs:DeleteMessage", &answer, way));
        }
        self.held.remove(id);
        Ok(())
    }

    /// Messages that somebody else holds, as far as SQS tells.
    pub(super) async fn held_elsewhere(&self, way: Way<'_>) -> u64 {
        let body = json!({
            "QueueUrl": queue::url(way, &self.queue),
            "AttributeNames": [NOT_VISIBLE],
        });
        let asked = self.ask(way, "AmazonSQS.GetQueueAttributes", &body).await;
        // Who may not ask does without.
        let told: Value = match asked {
            Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
            Err(_) => Value::Null,
        };
        let count = told["Attributes"][NOT_VISIBLE].as_str();
        let count: u64 = count.and_then(|it| it.parse().ok()).unwrap_or(0);
        count.saturating_sub(self.held.len() as u64)
    }

    /// Lets go of all that was not removed.
    pub(super) async fn close(&mut self, way: Way<'_>) -> Result<(), StoreError> {
        let held: Vec<String> = self.held.keys().cloned().collect();
        for id in held {
            self.change(way, &id, Duration::ZERO).await?;
            self.held.remove(&id);
        }
        Ok(())
    }

    async fn change(&self, way: Way<'_>, id: &str, visible_in: Duration) -> Result<(), StoreError> {
        let Some(receipt) = self.held.get(id) else {
            return Ok(());
        };
        let body = json!({
            "QueueUrl": queue::url(way, &self.queue),
            "ReceiptHandle": receipt,
            "VisibilityTimeout": visible_in.as_secs(),
        });
        let target = "AmazonSQS.ChangeMessageVisibility";
        let answer = self.ask(way, target, &body).await?;
        match answer.status {
            200 => Ok(()),
            // SQS has let it go already: that is what was wanted, or it comes again and is known.
            400 if matches!(
                answer.refusal().kind(),
                "MessageNotInflight" | "ReceiptHandleIsInvalid" | "InvalidParameterValue"
            ) =>
            {
                Ok(())
            }
            _ => Err(refused("sqs:ChangeMessageVisibility", &answer, way)),
        }
    }

    async fn ask(&self, way: Way<'_>, target: &str, body: &Value) -> Result<Answer, StoreError> {
        let body = Bytes::from(body.to_string());
        let call = Call {
            service: Service::Sqs,
            region: &self.queue.region,
            role_arn: way.role_arn,
            headers: &queue::headers(target),
            body: &body,
            timeout: TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answered = way.aws.post(call).await;
        Ok(answered.map_err(Refused::unanswered)?)
    }
}

fn refused(permission: &'static str, answer: &Answer, way: Way<'_>) -> StoreError {
    Refused::of(Action::reading(Service::Sqs, permission), answer, way).into()
}
