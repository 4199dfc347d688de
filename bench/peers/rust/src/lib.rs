//! Carries the records of a topic into a Lambda function, in order within each partition, at least once: one
//! call in flight per partition, an offset stored for commit after its call has succeeded.
//!
//! The two programs that use it differ in the [`Encoder`] (and the allocator) alone.

mod lane;
mod settings;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_lambda::Client;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use lane::{Handle, Lane};
pub use settings::Settings;

/// Writes records of one partition as an event.
pub trait Encoder: Send + Sync + 'static {
    /// For events that name those brokers.
    fn new(bootstrap: &str) -> Self;

    /// One event; there is at least one record.
    fn encode(&mut self, records: &[BorrowedMessage<'_>]) -> Result<Vec<u8>, serde_json::Error>;
}

type Kafka = StreamConsumer<Context>;
type Partition = (String, i32);

/// Tells what was assigned; waits for what is being revoked.
struct Context {
    assigned: UnboundedSender<Vec<Partition>>,
    lanes: Arc<Mutex<HashMap<Partition, Handle>>>,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(revoked) = rebalance else {
            return;
        };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: Vec<Handle> = partitions(revoked)
            .iter()
            .filter_map(|partition| lanes.remove(partition))
            .collect();
        drop(lanes);
        // All are told before one is waited for. librdkafka commits what they have stored when this returns.
        let ended: Vec<_> = ended.into_iter().map(Handle::quit).collect();
        for end in ended {
            end.wait();
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(assigned) = rebalance {
            // Nothing may come before each partition has a queue of its own.
            if let Err(error) = consumer.pause(assigned) {
                eprintln!("pause: {error}");
            }
            // The receiver lives as long as the consumer.
            self.assigned.send(partitions(assigned)).ok();
        }
    }
}

fn partitions(list: &rdkafka::TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    let named = elements.iter();
    named
        .map(|it| (it.topic().to_owned(), it.partition()))
        .collect()
}

/// Runs until a signal ends it.
pub fn main<E: Encoder>() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run::<E>())
}

async fn run<E: Encoder>() -> Result<(), Box<dyn Error>> {
    let settings = Arc::new(Settings::from_environment()?);
    let functions = functions(&settings).await;
    let (assigned, mut assignments) = unbounded_channel();
    let lanes = Arc::new(Mutex::new(HashMap::new()));
    let context = Context {
        assigned,
        lanes: Arc::clone(&lanes),
    };
    let kafka: Arc<Kafka> = Arc::new(config(&settings).create_with_context(context)?);
    kafka.subscribe(&[&settings.topic])?;
    loop {
        tokio::select! {
            // Serves rebalances; every record has a lane's queue.
            event = kafka.recv() => match event {
                Ok(record) => return Err(format!("a record without a lane: {record:?}").into()),
                Err(error) => eprintln!("{error}"),
            },
            Some(assigned) = assignments.recv() => {
                start_lanes::<E>(&settings, &kafka, &functions, &lanes, assigned)?;
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn start_lanes<E: Encoder>(
    settings: &Arc<Settings>,
    kafka: &Arc<Kafka>,
    functions: &Client,
    lanes: &Mutex<HashMap<Partition, Handle>>,
    assigned: Vec<Partition>,
) -> Result<(), KafkaError> {
    let mut list = rdkafka::TopicPartitionList::new();
    for (topic, partition) in assigned {
        list.add_partition(&topic, partition);
        // None: it was revoked meanwhile.
        let Some(queue) = kafka.split_partition_queue(&topic, partition) else {
            continue;
        };
        let lane = Lane {
            settings: Arc::clone(settings),
            kafka: Arc::clone(kafka),
            functions: functions.clone(),
            encoder: E::new(&settings.bootstrap),
        };
        let mut lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.insert((topic, partition), Handle::start(lane, queue));
    }
    kafka.resume(&list)
}

fn config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("group.id", &settings.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        // An offset is stored when its call has succeeded.
        .set("enable.auto.offset.store", "false")
        // The default of a second stalls a backlog whenever a queue was full.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.message.max.bytes", "2097152")
        // Enough for the next call of each lane; the default of 64 MiB is for one queue as well.
        .set("queued.max.messages.kbytes", "8192");
    config
}

async fn functions(settings: &Settings) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .endpoint_url(&settings.endpoint_url)
        .http_client(http)
        .load()
        .await;
    Client::new(&config)
}
