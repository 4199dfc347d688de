//! Every Kafka and every way in: what `tests/run versions` runs in part, and `tests/run matrix` whole.
//!
//! A cell is one version and one case: a way in, or a format of messages. In each the function receives, once and in
//! order, what Kafka's own consumer reads, and the group's lag is 0 then.
//!
//! It has a harness of its own, which prints what Rust's does, for two reasons: the cells of one version share a
//! broker and its records, and at the end stands a table.
//!
//! Whatever runs, the table in the README is held to the cells that there are.
//!
//! Invariant: without the rig of `tests/run` it says aloud that every cell was skipped.

mod case;
mod table;

use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use forebay_tests::rig::{Broker, Expected, Forebay, Producer, Rig, Settings, Sink, await_all};
use tokio::sync::Mutex;
use tokio::task::{LocalSet, spawn_local};

use self::case::{Case, ROWS, Row};
use self::table::{Outcome, Table};

/// So many versions at once: most of a broker's time is its start.
const AT_ONCE: usize = 2;
const PARTITIONS: u32 = 8;
/// Of each of two producers.
const RECORDS_EACH: u64 = 10_000;
/// Of the console producer of an older version, for each codec.
const CONSOLE_RECORDS: u64 = 300;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    assert!(
        include_str!("../../README.md").contains(&table::in_readme()),
        "the README's table is of other cells than these:\n{}",
        table::in_readme()
    );
    let is_whole = std::env::var_os("FOREBAY_MATRIX").is_some();
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let rows = ROWS.iter().filter_map(|row| {
        let is_named = |case: &Case| {
            let name = name(row.version, *case);
            named.is_empty() || named.iter().any(|part| name.contains(part))
        };
        let cases = row.cases(is_whole).into_iter().filter(is_named).collect();
        Some((row, cases)).filter(|(_, cases): &(_, Vec<Case>)| !cases.is_empty())
    });
    let rows: VecDeque<(&'static Row, Vec<Case>)> = rows.collect();
    let Some(rig) = Rig::here() else {
        let cells: usize = rows.iter().map(|(_, cases)| cases.len()).sum();
        say(&format!(
            "SKIPPED {cells} cells of versions: they need real Kafkas; run tests/run versions"
        ));
        return ExitCode::SUCCESS;
    };
    // Why local: what asks a rig again and again cannot move between threads.
    let table = LocalSet::new().run_until(run(&rig, rows)).await;
    say(&table.to_string());
    match table.failed() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs all rows, some at once.
async fn run(rig: &Rig, rows: VecDeque<(&'static Row, Vec<Case>)>) -> Table {
    let waiting = Rc::new(Mutex::new(rows));
    let table = Rc::new(Mutex::new(Table::default()));
    let worker = || {
        let (rig, waiting, table) = (rig.clone(), Rc::clone(&waiting), Rc::clone(&table));
        spawn_local(async move {
            loop {
                let next = waiting.lock().await.pop_front();
                let Some((row, cases)) = next else { break };
                run_row(&rig, row, &cases, &table).await;
            }
        })
    };
    let workers: Vec<_> = (0..AT_ONCE).map(|_| worker()).collect();
    for worker in workers {
        worker.await.expect("a worker catches what its cells do");
    }
    drop(waiting);
    Rc::into_inner(table)
        .expect("the workers have ended")
        .into_inner()
}

/// The cells of a version. Its brokers are started one after the other, each with the cases that it serves.
async fn run_row(rig: &Rig, row: &'static Row, cases: &[Case], table: &Mutex<Table>) {
    let (mutual, all): (Vec<Case>, Vec<Case>) =
        cases.iter().partition(|case| row.is_served_alone(**case));
    for (cases, is_mutual) in [(all, false), (mutual, true)] {
        if cases.is_empty() {
            continue;
        }
        let (rig, version) = (rig.clone(), row.version);
        let stage = spawn_local(async move { Stage::set(&rig, version, is_mutual).await }).await;
        let stage = stage.map(Rc::new);
        for case in cases {
            let passed = match &stage {
                Ok(stage) => {
                    let stage = Rc::clone(stage);
                    spawn_local(async move { stage.check(case).await })
                        .await
                        .is_ok()
                }
                Err(_) => false,
            };
            let outcome = if passed {
                Outcome::Passed
            } else {
                Outcome::Failed
            };
            let word = if passed { "ok" } else { "FAILED" };
            say(&format!("test {} ... {word}", name(row.version, case)));
            table.lock().await.note(row.version, case, outcome);
        }
    }
}

/// A broker, and the records that every way in has to bring.
struct Stage {
    broker: Broker,
    mixed: Expected,
}

impl Stage {
    async fn set(rig: &Rig, version: &'static str, is_mutual: bool) -> Self {
        let broker = match is_mutual {
            true => Broker::start_mutual(rig, version).await,
            false => Broker::start_secure(rig, version).await,
        };
        broker.topic("mixed", PARTITIONS, &[]).await;
        let without = broker.lacks();
        let mixed = write(&broker, "mixed", &without).await;
        Self { broker, mixed }
    }

    async fn check(&self, case: Case) {
        let group = case.name().replace(' ', "-");
        if case == Case::ToTopic {
            return self.give_up(&group).await;
        }
        let Some(config) = case.topic_config() else {
            return self.deliver("mixed", &group, case, &self.mixed).await;
        };
        self.broker.topic(&group, PARTITIONS, &[config]).await;
        let without = case.lacks(&self.broker);
        let expected = write(&self.broker, &group, &without).await;
        case.assert_shown_by(&expected);
        self.deliver(&group, &group, case, &expected).await;
    }

    /// Every record stands once in a topic of the same cluster, as Kafka's own consumer reads it, and is committed.
    async fn give_up(&self, group: &str) {
        const FAILED: &str = "failed";
        // A document is a third larger than its record.
        let room = ["max.message.bytes=4000000"];
        self.broker.topic(FAILED, PARTITIONS, &room).await;
        let sink = Sink::new();
        sink.set_failing(true);
        let settings = Settings {
            batch_size: 1000,
            failed_topic: Some(FAILED),
            bisects: false,
            ..Settings::new("mixed", group, sink.listen().await)
        };
        let mut forebay = Forebay::start(&self.broker, &settings);
        self.broker.await_no_lag(group, PARTITIONS as usize).await;
        forebay.assert_running();
        let (status, log) = forebay.terminate(Duration::from_secs(30)).await;
        assert!(status.success(), "{log}");
        let documents = self.broker.expected(FAILED).await.documents();
        for document in &documents {
            self.mixed.assert_is(document);
        }
        let places: BTreeSet<(i32, i64)> = documents.iter().map(|it| it.place).collect();
        assert_eq!(places.len(), documents.len(), "none stands there twice");
        assert!(self.mixed.places().eq(places), "each stands there");
    }

    /// Once each, in order, as Kafka's own consumer reads them, and committed.
    async fn deliver(&self, topic: &str, group: &str, case: Case, expected: &Expected) {
        let mut sink = Sink::new();
        let (listener, access) = case.access();
        let settings = Settings {
            batch_size: 1000,
            window_seconds: None,
            access: access
                .iter()
                .map(|(kind, secret)| (*kind, self.broker.secret_uri(secret)))
                .collect(),
            bootstrap: listener.map(|name| self.broker.listener(name).to_owned()),
            ..Settings::new(topic, group, sink.listen().await)
        };
        let mut forebay = Forebay::start(&self.broker, &settings);
        let verdict = await_all(&mut sink, expected, Duration::from_secs(120)).await;
        verdict.assert_sound();
        assert_eq!(
            verdict.delivered,
            expected.records(),
            "once each: nothing was disturbed"
        );
        self.broker.await_no_lag(group, PARTITIONS as usize).await;
        forebay.assert_running();
        let (status, log) = forebay.terminate(Duration::from_secs(30)).await;
        assert!(status.success(), "{log}");
    }
}

/// Mixed records of two producers, and of an older version's own; what Kafka's own consumer reads of them.
async fn write(broker: &Broker, topic: &str, without: &[&str]) -> Expected {
    let java = broker.produce_without(without, Producer::Java, topic, RECORDS_EACH, 1);
    let librdkafka = broker.produce_without(without, Producer::Librdkafka, topic, RECORDS_EACH, 2);
    let (java, librdkafka) = tokio::join!(java, librdkafka);
    let mut written = java.committed + librdkafka.committed;
    if broker.has_older_clients() {
        for codec in ["gzip", "snappy", "lz4"] {
            broker
                .produce_by_console(topic, codec, CONSOLE_RECORDS)
                .await;
            written += CONSOLE_RECORDS;
        }
    }
    let expected = broker.expected(topic).await;
    assert_eq!(expected.records(), written);
    expected
}

fn name(version: &str, case: Case) -> String {
    format!("{version}: {}", case.name())
}

/// Says what was seen, for the log of the run.
fn say(text: &str) {
    std::io::stdout()
        .write_all(format!("{text}\n").as_bytes())
        .ok();
}
