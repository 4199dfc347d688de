//! One partition: its records are delivered in order, a call at a time.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use futures::{FutureExt, StreamExt};
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{Consumer, MessageStream};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tokio::sync::oneshot;

use crate::{Context, Encoder, Kafka, Settings};

/// Between two calls for the same records.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// More than the text around the records, and around the values of each.
const EVENT_BYTES: usize = 1024;
const RECORD_BYTES: usize = 160;

/// The most that a byte of a header's value, or of its escaped name, takes.
const HEADER_BYTES: usize = 6;

/// What a lane works with.
pub(crate) struct Lane<E> {
    pub(crate) settings: Arc<Settings>,
    pub(crate) kafka: Arc<Kafka>,
    pub(crate) functions: Client,
    pub(crate) encoder: E,
}

/// A running lane.
pub(crate) struct Handle {
    quit: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// The end of a lane that was told to quit.
pub(crate) struct End(mpsc::Receiver<()>);

impl Handle {
    pub(crate) fn start<E: Encoder>(
        mut lane: Lane<E>,
        queue: StreamPartitionQueue<Context>,
    ) -> Self {
        let (quit, mut told) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        tokio::spawn(async move {
            let _end = end;
            let mut records = queue.stream();
            let mut rest = None;
            loop {
                tokio::select! {
                    biased;
                    _ = &mut told => return,
                    Some(first) = next(&mut rest, &mut records) => match first {
                        Ok(first) => rest = lane.deliver(first, &mut records, &mut told).await,
                        Err(error) => eprintln!("{error}"),
                    },
                }
            }
        });
        Self { quit, ended }
    }

    /// Lets the call in flight end, and no other begin.
    pub(crate) fn quit(self) -> End {
        // It may have ended by itself.
        self.quit.send(()).ok();
        End(self.ended)
    }
}

impl End {
    pub(crate) fn wait(self) {
        // Nothing is ever sent: the other side is dropped.
        self.0.recv().ok();
    }
}

/// What the last call had no room for, or what comes.
async fn next<'a>(
    rest: &mut Option<BorrowedMessage<'a>>,
    records: &mut MessageStream<'a, Context>,
) -> Option<Result<BorrowedMessage<'a>, KafkaError>> {
    match rest.take() {
        Some(record) => Some(Ok(record)),
        None => records.next().await,
    }
}

impl<E: Encoder> Lane<E> {
    /// One call with what waits, as far as there is room; the record for which there was none.
    async fn deliver<'a>(
        &mut self,
        first: BorrowedMessage<'a>,
        records: &mut MessageStream<'a, Context>,
        told: &mut oneshot::Receiver<()>,
    ) -> Option<BorrowedMessage<'a>> {
        let mut size = EVENT_BYTES + room(&first);
        let mut batch = vec![first];
        let mut rest = None;
        while batch.len() < self.settings.batch_size {
            let Some(Some(Ok(record))) = records.next().now_or_never() else {
                break;
            };
            size += room(&record);
            if size > self.settings.body_limit {
                rest = Some(record);
                break;
            }
            batch.push(record);
        }
        let body = match self.encoder.encode(&batch) {
            Ok(body) => Blob::new(body),
            Err(error) => panic!("an event does not encode: {error}"),
        };
        // The bodies are all that a call needs: the records' memory is given back.
        let last = batch.pop()?;
        let (topic, partition, offset) = (last.topic().to_owned(), last.partition(), last.offset());
        drop(last);
        drop(batch);
        while let Err(error) = self.invoke(body.clone()).await {
            eprintln!("{topic}-{partition} up to {offset}: {error}");
            tokio::select! {
                () = tokio::time::sleep(RETRY_DELAY) => {}
                _ = &mut *told => return None,
            }
        }
        if let Err(error) = self.kafka.store_offset(&topic, partition, offset) {
            eprintln!("{topic}-{partition}: {error}");
        }
        rest
    }

    async fn invoke(&self, body: Blob) -> Result<(), String> {
        let call = self
            .functions
            .invoke()
            .function_name(&self.settings.function)
            .payload(body);
        let answer = call
            .send()
            .await
            .map_err(|error| aws_sdk_lambda::error::DisplayErrorContext(error).to_string())?;
        match answer.function_error() {
            Some(error) => Err(error.to_owned()),
            None => Ok(()),
        }
    }
}

/// At least what a record takes in the event.
fn room(record: &BorrowedMessage<'_>) -> usize {
    let base64 = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| bytes.len().div_ceil(3) * 4);
    let headers = record.headers().map_or(0, |headers| {
        let sizes = headers
            .iter()
            .map(|it| it.key.len() + it.value.map_or(0, <[u8]>::len) + 2);
        sizes.sum::<usize>() * HEADER_BYTES
    });
    RECORD_BYTES + record.topic().len() + base64(record.key()) + base64(record.payload()) + headers
}
