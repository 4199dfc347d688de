//! The fakes, a node whose function fails until it is mended, and redrives of what it has left.

use bytes::Bytes;
use forebay::contract::watch;
use forebay::control::redrive::{OUTSIDE_THE_ORDER, Order, Target, redrive};
use forebay_tests::eventually;
use forebay_tests::fake_aws::{Account, FakeAws};
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::{Invocation, Reply};
use forebay_tests::harness::{Declared, Site, Stage};

use crate::secrets::keys;

pub(super) const QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:failed";
pub(super) const QUEUE_PATH: &str = "/123456789012/failed";
pub(super) const BUCKET: &str = "arn:aws:s3:::failed";
pub(super) const FAILED: &str = "kafka://failed";
pub(super) const NO_DESTINATION: &str = "";

/// Records of each partition.
pub(super) const RECORDS: i64 = 5;

/// The fakes, and a node's directory between them.
pub(super) struct Scene {
    pub(super) aws: FakeAws,
    pub(super) stage: Stage,
    pub(super) site: Site,
}

impl Scene {
    /// A topic of two partitions, and a mapping to that destination; its function fails until it is mended.
    pub(super) async fn new(destination: &str, members: &str) -> Self {
        Self::on(Stage::new(), destination, members).await
    }

    pub(super) async fn on(stage: Stage, destination: &str, members: &str) -> Self {
        let aws = FakeAws::start(keys("node")).await;
        aws.with(|Account { destinations, .. }| {
            let path = QUEUE_PATH.to_owned();
            destinations.queues.insert(path, Vec::new());
            let bucket = "failed".to_owned();
            destinations.buckets.insert(bucket, Default::default());
        })
        .await;
        stage
            .on_kafka(|kafka| {
                for topic in ["orders", "failed"] {
                    kafka.create_topic(topic, 2);
                }
                for at in 0..2 * RECORDS {
                    let partition = i32::from(at % 2 == 1);
                    kafka.append("orders", partition, &[record(at)]);
                }
            })
            .await;
        let url = aws.url();
        let urls = format!("{{ sqs = {url:?}, sns = {url:?}, s3 = {url:?} }}");
        let site = stage.site().key("region", "\"eu-central-1\"");
        let mut site = site.key("endpoint_urls", &urls);
        let member = match destination {
            NO_DESTINATION => String::new(),
            _ => format!("DestinationConfig.OnFailure.Destination = {destination:?}\n"),
        };
        let members = format!(
            "{member}{members}MaximumRetryAttempts = 0\nMaximumBatchingWindowInSeconds = 0\n"
        );
        site.declare(&Declared::new("orders").with(&members));
        stage
            .on_lambda(|functions| functions.always("orders", Reply::function_error()))
            .await;
        Self { aws, stage, site }
    }

    /// The node runs until all that its topic holds has failed; then the function is mended.
    pub(super) async fn fail(&self) {
        let node = self.site.start().await;
        for partition in [0, 1] {
            eventually!(self.stage.committed("orders", "orders", partition).await == RECORDS);
        }
        node.shutdown().await;
        self.mend(Reply::ok()).await;
    }

    pub(super) async fn mend(&self, reply: Reply) {
        self.stage
            .on_lambda(move |functions| functions.always("orders", reply))
            .await;
    }

    /// The bodies of calls: those that failed, and those that did not.
    pub(super) async fn bodies(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let calls = self.stage.on_lambda(|functions| {
            let calls = functions.ledger().calls().to_vec();
            let (succeeded, failed): (Vec<_>, Vec<_>) =
                calls.into_iter().partition(|it| it.succeeded);
            let bodies = |of: Vec<_>| {
                let bodies = of.into_iter();
                let mut bodies: Vec<Bytes> = bodies.map(|it: Invocation| it.body).collect();
                bodies.sort();
                bodies
            };
            (bodies(failed), bodies(succeeded))
        });
        calls.await
    }

    /// The offsets of a partition in calls that succeeded.
    pub(super) async fn delivered(&self, partition: i32) -> Vec<i64> {
        let delivered = self.stage.on_lambda(move |functions| {
            let mut offsets = functions.ledger().delivered("orders", partition);
            offsets.sort_unstable();
            offsets
        });
        delivered.await
    }

    /// What the queue and the bucket hold.
    pub(super) async fn kept(&self) -> usize {
        let kept = self.aws.with(|Account { destinations, .. }| {
            destinations.queues[QUEUE_PATH].len()
                + destinations.received.len()
                + destinations.buckets["failed"].len()
        });
        kept.await
    }

    pub(super) async fn redrive(&self, order: Order) -> Done {
        let config = self.site.config();
        let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
        let (_alive, stop) = watch::channel(false);
        let mut lines = Vec::new();
        let mut tell = |line: &dyn std::fmt::Display| lines.push(line.to_string());
        let succeeded = redrive(&config, &set, &order, stop, &mut tell).await;
        let held = self.aws.with(|it| it.destinations.received.len()).await;
        assert_eq!(held, 0, "messages are let go");
        Done {
            succeeded: succeeded.map_err(|refusal| refusal.to_string()),
            lines,
        }
    }
}

/// What came of a redrive.
pub(super) struct Done {
    pub(super) succeeded: Result<bool, String>,
    pub(super) lines: Vec<String>,
}

impl Done {
    /// Holds the line that counts against what is expected.
    #[track_caller]
    pub(super) fn check(&self, succeeded: bool, summary: &str) {
        assert_eq!(self.succeeded, Ok(succeeded), "{:#?}", self.lines);
        let [.., counted, last] = &self.lines[..] else {
            panic!("{:?}", self.lines);
        };
        assert_eq!(
            (counted.as_str(), last.as_str()),
            (summary, OUTSIDE_THE_ORDER),
            "{:#?}",
            self.lines
        );
    }

    #[track_caller]
    pub(super) fn says(&self, text: &str) {
        let is_said = self.lines.iter().any(|line| line.contains(text));
        assert!(is_said, "{text:?} in {:#?}", self.lines);
    }
}

/// Odd ones have neither key nor headers, and one has no value.
fn record(at: i64) -> NewRecord {
    let record = NewRecord::value(format!("{{\"at\":{at}}}")).at(1_700_000_000_000 + at);
    match at % 4 {
        0 => record
            .with_key(format!("key-{at}"))
            .with_header("h\u{e9}", Some(Bytes::from_static(&[0, 127, 128, 255])))
            .with_header("h\u{e9}", Some(Bytes::new())),
        _ if at == 5 => NewRecord {
            value: None,
            ..record
        },
        _ => record,
    }
}

/// A dry run from the mapping's own destination to the function.
pub(super) fn order() -> Order {
    Order {
        mapping: "orders".to_owned(),
        from: None,
        to: Target::Function,
        execute: false,
        remove: false,
        progress: None,
        limit: None,
    }
}

pub(super) fn executed() -> Order {
    Order {
        execute: true,
        ..order()
    }
}

pub(super) fn removing() -> Order {
    Order {
        remove: true,
        ..executed()
    }
}

pub(super) fn documents(count: usize) -> String {
    match count {
        1 => "1 document".to_owned(),
        _ => format!("{count} documents"),
    }
}
