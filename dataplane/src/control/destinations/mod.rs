//! Writes failed records to what their mappings name: queues of SQS, topics of SNS, buckets of S3 (contract 5.2).
//!
//! [`Writer`] writes one failure, as the node or as the role of the mapping's function; `Destinations` is the line
//! in which those of all shards wait. Whoever asked asks again after a failure: nothing is tried twice here.
//!
//! Invariant: a failure counts as written only once the service has acknowledged all of it.

pub(super) mod bucket;
mod line;
mod notifications;
pub(super) mod queue;
pub(super) mod refused;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{Diversion, Taken, Undelivered};
use forebay_protocol::lambda::failure::{self, Failure, Origin};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use uuid::Uuid;

use super::aws::{Aws, Call, Keys, Settings};
use super::http::{ANSWER_BYTES_MAX, Answer};
use crate::clock;
use crate::config::{Config, Service};
use crate::contract::Credentials;
use crate::mapping::{Bucket, Destination, Mapping, Notifications, Queue};
pub(super) use line::{Destinations, Order};
use refused::{Action, Cause, Refused};

/// Documents that have an event in them take no more memory than this, over all mappings: two of the largest. More
/// wait for room.
const PAYLOADS_KIB_MAX: u32 = 32 << 10;

/// How long a service may take over one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a whole writing may take: it may be in parts, and wait for room and for the keys of a role.
const WRITING_TIMEOUT: Duration = Duration::from_secs(120);

const NONE: &str = "the mapping has no destination that a service keeps";

/// Writes to destinations.
#[derive(Debug)]
pub struct Writer {
    aws: Arc<Aws>,
    /// Room for documents with an event, in KiB.
    payloads: Semaphore,
}

/// What reading tells of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is there.
    There,
    /// We may not look: the service's words.
    Denied(String),
    /// It cannot be written to as it is.
    Unfit(String),
}

impl Writer {
    /// As a node of that configuration with those keys.
    pub fn new(config: &Config, keys: Option<Credentials>) -> Self {
        let aws = Aws::new(Settings::of(config), Keys::fixed(keys));
        Self::over(Arc::new(aws))
    }

    pub(super) fn over(aws: Arc<Aws>) -> Self {
        Self {
            aws,
            payloads: Semaphore::new(PAYLOADS_KIB_MAX as usize),
        }
    }

    /// Writes what failed to the mapping's destination.
    pub async fn write(
        &self,
        mapping: &Mapping,
        diversion: &Diversion,
    ) -> Result<Taken, Undelivered> {
        let written = in_time(self.carry(mapping, diversion)).await;
        let taken = written.map_err(|reason| Undelivered {
            reason: match &mapping.destination {
                Some(destination) => format!("{destination}: {reason}"),
                None => reason,
            },
        })?;
        let Failure { condition, .. } = diversion.failure;
        debug!(
            mapping = %mapping.uuid,
            destination = mapping.destination.as_ref().map(tracing::field::display),
            condition = condition.as_str(),
            records = diversion.failure.records(),
            "Failed records are written to the destination"
        );
        Ok(taken)
    }

    /// Writes a document there that tells of no record, and says so.
    pub(super) async fn probe(&self, mapping: &Mapping) -> Result<(), String> {
        in_time(async {
            let now = unix_ms();
            let id = Uuid::new_v4();
            let text = failure::probe(origin(mapping), &id.to_string(), now);
            match &mapping.destination {
                Some(Destination::Bucket(bucket)) => {
                    let key = failure::probe_key(mapping.uuid, now, id);
                    bucket::put(self.way(mapping), bucket, &key, &Bytes::from(text)).await
                }
                Some(Destination::Queue(queue)) => {
                    Mailbox::Queue(queue).send(self.way(mapping), &text).await
                }
                Some(Destination::Notifications(topic)) => {
                    let mailbox = Mailbox::Notifications(topic);
                    mailbox.send(self.way(mapping), &text).await
                }
                Some(Destination::Topic(_)) | None => Err(Refused::Otherwise(NONE.to_owned())),
            }
        })
        .await
    }

    /// Reads whether it is there; nothing is written.
    pub(super) async fn look(&self, mapping: &Mapping) -> Seen {
        let way = self.way(mapping);
        let looked = match &mapping.destination {
            Some(Destination::Bucket(bucket)) => bucket::head(way, bucket).await,
            Some(Destination::Queue(queue)) => queue::attributes(way, queue).await,
            Some(Destination::Notifications(topic)) => notifications::attributes(way, topic).await,
            Some(Destination::Topic(_)) | None => Err(Refused::Otherwise(NONE.to_owned())),
        };
        let (service, answer) = match looked {
            Ok(found) => found,
            Err(refused) => return Seen::Unfit(refused.to_string()),
        };
        match Cause::of(&answer) {
            _ if answer.status == 200 => Seen::There,
            Cause::Denied => Seen::Denied(answer.said()),
            _ => Seen::Unfit(Refused::of(Action::writing(service), &answer, way).to_string()),
        }
    }

    async fn carry(&self, mapping: &Mapping, diversion: &Diversion) -> Result<Taken, Refused> {
        let way = self.way(mapping);
        let mailbox = match &mapping.destination {
            Some(Destination::Queue(queue)) => Mailbox::Queue(queue),
            Some(Destination::Notifications(topic)) => Mailbox::Notifications(topic),
            Some(Destination::Bucket(bucket)) => {
                return self.put(way, bucket, mapping, diversion).await;
            }
            Some(Destination::Topic(_)) | None => {
                return Err(Refused::Otherwise(NONE.to_owned()));
            }
        };
        mailbox.take(way, mapping, diversion).await?;
        Ok(Taken::Whole)
    }

    /// Puts the document with the event into a bucket; without it, where it is refused for its size alone.
    async fn put(
        &self,
        way: Way<'_>,
        bucket: &Bucket,
        mapping: &Mapping,
        diversion: &Diversion,
    ) -> Result<Taken, Refused> {
        let (failure, origin) = (&diversion.failure, origin(mapping));
        let key = failure.object_key(mapping.uuid, Uuid::new_v4());
        let bare = failure.invocation_record(origin);
        let kib = (bare.len() + failure::text_bytes(&diversion.event)).div_ceil(1024);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX).min(PAYLOADS_KIB_MAX);
        let room = self.payloads.acquire_many(kib).await;
        let room = room.expect("nobody closes it");
        let whole = Bytes::from(failure.invocation_record_with(origin, &diversion.event));
        let written = bucket::put(way, bucket, &key, &whole).await;
        drop((whole, room));
        let Err(Refused::TooLarge(reason)) = written else {
            return written.map(|()| Taken::Whole);
        };
        bucket::put(way, bucket, &key, &Bytes::from(bare)).await?;
        warn!(
            mapping = %mapping.uuid,
            destination = bucket.arn,
            key,
            reason,
            "Failed records are written without their payload, for which the destination has no room"
        );
        Ok(Taken::WithoutEvent)
    }

    fn way<'a>(&'a self, mapping: &'a Mapping) -> Way<'a> {
        Way {
            aws: &self.aws,
            role_arn: mapping.function.role_arn.as_deref(),
        }
    }
}

/// Who takes documents as messages, without the event.
#[derive(Clone, Copy)]
enum Mailbox<'a> {
    Queue(&'a Queue),
    Notifications(&'a Notifications),
}

impl Mailbox<'_> {
    /// Sends the document in as many parts as it takes: by partitions, each part a document of its own.
    async fn take(
        self,
        way: Way<'_>,
        mapping: &Mapping,
        diversion: &Diversion,
    ) -> Result<(), Refused> {
        let mut waiting = vec![diversion.failure.clone()];
        while let Some(part) = waiting.pop() {
            let text = part.invocation_record(origin(mapping));
            let sent = match text.len() > self.bytes_max() {
                true => Err(Refused::TooLarge(format!(
                    "its document has {} bytes, and a message may have {}",
                    text.len(),
                    self.bytes_max()
                ))),
                false => self.send(way, &text).await,
            };
            match (sent, part.halves()) {
                (Ok(()), _) => {}
                (Err(Refused::TooLarge(_)), Some([first, second])) => {
                    waiting.extend([second, first]);
                }
                (Err(refused), _) => return Err(refused),
            }
        }
        Ok(())
    }

    async fn send(self, way: Way<'_>, text: &str) -> Result<(), Refused> {
        match self {
            Self::Queue(queue) => queue::send(way, queue, text).await,
            Self::Notifications(topic) => notifications::publish(way, topic, text).await,
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Queue(_) => queue::MESSAGE_BYTES_MAX,
            Self::Notifications(_) => notifications::MESSAGE_BYTES_MAX,
        }
    }
}

/// How a service is asked.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) aws: &'a Aws,
    pub(super) role_arn: Option<&'a str>,
}

impl<'a> Way<'a> {
    async fn post(
        self,
        service: Service,
        region: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, Refused> {
        let body = Bytes::from(body);
        let call = self.call(service, region, headers, &body);
        self.aws.post(call).await.map_err(Refused::unanswered)
    }

    fn call<'b>(
        self,
        service: Service,
        region: &'b str,
        headers: &'b [(&'b str, &'b str)],
        body: &'b Bytes,
    ) -> Call<'b>
    where
        'a: 'b,
    {
        Call {
            service,
            region,
            role_arn: self.role_arn,
            headers,
            body,
            timeout: REQUEST_TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    /// Whose request it is.
    fn who(self) -> &'a str {
        self.role_arn.unwrap_or("the node's principal")
    }
}

/// What comes of a writing in the time that it has.
async fn in_time<T>(writing: impl Future<Output = Result<T, Refused>>) -> Result<T, String> {
    match timeout(WRITING_TIMEOUT, writing).await {
        Ok(written) => written.map_err(|refused| refused.to_string()),
        Err(_) => {
            let seconds = WRITING_TIMEOUT.as_secs();
            Err(format!("it was not written within {seconds} s"))
        }
    }
}

pub(super) fn origin(mapping: &Mapping) -> Origin<'_> {
    Origin {
        function_arn: &mapping.function.arn,
        bootstrap_servers: &mapping.bootstrap_servers,
    }
}

pub(super) fn unix_ms() -> i64 {
    i64::try_from(clock::unix_now().as_millis()).unwrap_or(i64::MAX)
}
