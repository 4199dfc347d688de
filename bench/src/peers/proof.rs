//! Before anyone is measured: whether it is a consumer at all.
//!
//! A small topic with every kind of record, a function that reads each event by a parser of its own, checks
//! each signature and knows of two calls at once; and what the group has committed in the end.
//!
//! Invariant: a consumer that loses, repeats, reorders or alters a record is not measured.

use std::time::Duration;

use bytes::Bytes;
use forebay_tests::clock;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_lambda::event::SeenRecord;
use forebay_tests::fake_lambda::{FakeLambda, Functions, Keys};
use forebay_tests::node::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

use super::cluster::Cluster;
use super::roster::{Contestant, FUNCTION, REGION, Task};
use crate::sample::Noise;
use crate::say;
use crate::wait::{pause, since};

const TOPIC: &str = "proof";
const PARTITIONS: i32 = 8;

/// Records in a partition.
const RECORDS: usize = 300;

/// Records in a batch, and in a call: neither divides the other.
const PER_BATCH: usize = 60;
const BATCH_SIZE: u32 = 50;

/// Longer than the interval at which the slowest commits.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every consumer delivers the whole topic.
pub(crate) fn of_all(cluster: &Cluster, contestants: &[Contestant]) -> Result<(), String> {
    let mut wire = cluster.connect()?;
    wire.create_topic(TOPIC, PARTITIONS)?;
    let records = records();
    let batches: Vec<Bytes> = records
        .chunks(PER_BATCH)
        .map(|records| encode(records, BatchOptions::default()))
        .collect();
    for partition in 0..PARTITIONS {
        for batch in &batches {
            wire.produce(TOPIC, partition, batch)?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    for contestant in contestants {
        let group = format!("{}-{TOPIC}", contestant.name());
        let proof = Proof {
            cluster,
            contestant,
            group: &group,
            records: &records,
            runtime: &runtime,
        };
        let outcome = proof.run();
        outcome.map_err(|error| {
            format!(
                "{} delivers wrongly: {error}; {}",
                contestant.name(),
                contestant.log()
            )
        })?;
        say(&format!("{} delivers as it should", contestant.name()));
    }
    Ok(())
}

/// Records as they come: with and without keys, values and headers, empty ones, and names that JSON escapes.
fn records() -> Vec<NewRecord> {
    let names = [
        "trace",
        "a \"b\" \\ c",
        "schl\u{fc}ssel \u{1f680}",
        "tab\there",
    ];
    let mut noise = Noise::default();
    (0..RECORDS)
        .map(|at| {
            let mut record = NewRecord {
                key: (at % 5 != 0).then(|| noise.bytes(at % 9)),
                value: (at % 7 != 0).then(|| noise.bytes(at * 3 % 700)),
                ..NewRecord::default()
            };
            for (number, name) in names.into_iter().enumerate().take(at % 6) {
                record = record.with_header(name, Some(noise.bytes((at + number) % 4)));
            }
            record.at(1_700_000_000_000 + at as i64 / 3)
        })
        .collect()
}

struct Proof<'a> {
    cluster: &'a Cluster,
    contestant: &'a Contestant,
    group: &'a str,
    records: &'a [NewRecord],
    runtime: &'a tokio::runtime::Runtime,
}

impl Proof<'_> {
    fn run(&self) -> Result<(), String> {
        let lambda = FakeLambda::start().map_err(|error| format!("loopback: {error}"))?;
        self.on(&lambda, |functions| {
            functions.require_signatures(Keys {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: SECRET_ACCESS_KEY.to_owned(),
                session_token: None,
                region: REGION.to_owned(),
            });
        });
        let mut running = self.contestant.start(&Task {
            bootstrap: &self.cluster.bootstrap,
            topic: TOPIC,
            group: self.group,
            url: &lambda.url(),
            batch_size: BATCH_SIZE,
        })?;
        let all = RECORDS * PARTITIONS.unsigned_abs() as usize;
        self.until("every record is delivered", || {
            running.process.cpu_time()?;
            Ok(self.on(&lambda, |functions| functions.ledger().distinct(TOPIC)) == all)
        })?;
        let mut wire = self.cluster.connect()?;
        self.until("everything is committed", || {
            running.process.cpu_time()?;
            let committed = wire.committed(self.group, TOPIC, PARTITIONS)?;
            Ok(committed == all as i64)
        })?;
        let records = self.records.to_vec();
        self.on(&lambda, move |functions| judge(functions, &records))
    }

    fn on<R: Send + 'static>(
        &self,
        lambda: &FakeLambda,
        ask: impl FnOnce(&mut Functions) -> R + Send + 'static,
    ) -> R {
        self.runtime.block_on(lambda.with(ask))
    }

    fn until(
        &self,
        what: &str,
        mut holds: impl FnMut() -> Result<bool, String>,
    ) -> Result<(), String> {
        let began = clock::monotonic_micros();
        while !holds()? {
            if since(began) > PATIENCE {
                return Err(format!("not within {PATIENCE:?}: {what}"));
            }
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn judge(functions: &Functions, records: &[NewRecord]) -> Result<(), String> {
    let ledger = functions.ledger();
    if let Some(violation) = ledger.violations().first() {
        return Err(violation.clone());
    }
    let offsets: Vec<i64> = (0..records.len() as i64).collect();
    for partition in 0..PARTITIONS {
        if ledger.attempted(TOPIC, partition) != offsets {
            return Err(format!("partition {partition} came not once and in order"));
        }
    }
    for call in ledger.calls() {
        if call.function != FUNCTION {
            return Err(format!("{} was called", call.function));
        }
        if call.records.len() > BATCH_SIZE as usize {
            return Err(format!("a call has {} records", call.records.len()));
        }
        for seen in &call.records {
            let at = usize::try_from(seen.offset).unwrap_or(usize::MAX);
            let written = records.get(at).ok_or("a record was made up")?;
            if !is_same(seen, written) {
                return Err(format!("{written:?} came as {seen:?}"));
            }
        }
    }
    Ok(())
}

fn is_same(seen: &SeenRecord, written: &NewRecord) -> bool {
    let headers = written.headers.iter().map(|(name, value)| {
        let name = String::from_utf8_lossy(name).into_owned();
        (name, value.clone().unwrap_or_default().to_vec())
    });
    seen.timestamp == written.timestamp
        && seen.timestamp_type == "CREATE_TIME"
        && seen.key.as_deref() == written.key.as_deref()
        && seen.value.as_deref() == written.value.as_deref()
        && seen.headers == headers.collect::<Vec<_>>()
}
