//! An open-loop producer: it writes records at a rate that waits for nobody.
//!
//! It stamps the time at which each record was meant to be sent into its value, so that what is late because it
//! had to wait is late in the figures as well. Records that are due together go together, as far as one batch
//! has room; each batch goes to the next partition.
//!
//! Invariant: a time that has passed is not waited for, and not forgiven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use forebay_tests::clock;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_lambda::lean::{STAMP_BYTES, stamp};

use crate::hop::Hop;
use crate::sample::Noise;
use crate::wait::pause;
use crate::wire::Wire;

/// Kafka's `batch.size`: what is due together beyond it goes with the next batch.
const BATCH_BYTES: usize = 16 << 10;

/// Answers are taken together. A connection has room for all that come meanwhile.
const BETWEEN_ANSWERS: Duration = Duration::from_millis(5);

/// What is written, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The topic; it is there.
    pub(crate) topic: String,
    /// Its partitions.
    pub(crate) partitions: i32,
    /// Bytes of a value.
    pub(crate) value_bytes: usize,
    /// Records a second.
    pub(crate) rate: u32,
}

/// Where records go.
#[derive(Debug)]
pub(crate) enum Target {
    /// To a broker.
    Broker(Wire),
    /// Straight to the function.
    Function(Hop),
}

impl Target {
    /// Writes without waiting; [`Self::hear`] takes the answers, in order.
    fn send(&mut self, topic: &str, partition: i32, records: &[NewRecord]) -> Result<(), String> {
        match self {
            Self::Broker(wire) => wire.send_produce(topic, partition, batch(records)),
            Self::Function(hop) => hop.send(topic, partition, records),
        }
    }

    fn hear(&mut self) -> Result<(), String> {
        match self {
            Self::Broker(wire) => wire.hear_produced(),
            Self::Function(hop) => hop.hear(),
        }
    }

    /// The same connection for another thread: one sends, the other hears.
    fn try_clone(&self) -> Result<Self, String> {
        match self {
            Self::Broker(wire) => wire.try_clone().map(Self::Broker),
            Self::Function(hop) => hop.try_clone().map(Self::Function),
        }
    }
}

/// A running producer.
#[derive(Debug)]
pub(crate) struct Producer {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<Result<(), String>>,
    hearer: JoinHandle<Result<(), String>>,
}

impl Producer {
    pub(crate) fn start(load: Load, mut target: Target) -> Result<Self, String> {
        let mut hearing = target.try_clone()?;
        let (written, unheard) = mpsc::channel();
        let hearer = std::thread::spawn(move || hear_all(&mut hearing, &unheard));
        let is_over = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (over, counted) = (Arc::clone(&is_over), Arc::clone(&sent));
        let sender = std::thread::spawn(move || {
            let values = Values::new(load.value_bytes);
            let schedule = Schedule {
                began: clock::monotonic_micros(),
                rate: u64::from(load.rate.max(1)),
            };
            let most = (BATCH_BYTES / load.value_bytes.max(1)).max(1) as u64;
            let mut next = 0;
            for partition in (0..load.partitions).cycle() {
                schedule.wait_for(next);
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let due = schedule.due(clock::monotonic_micros()).min(next + most);
                let records: Vec<NewRecord> = (next..due.max(next + 1))
                    .map(|at| values.record(at, schedule.meant(at)))
                    .collect();
                target.send(&load.topic, partition, &records)?;
                next += records.len() as u64;
                counted.store(next, Ordering::Relaxed);
                written
                    .send(())
                    .map_err(|_| "records are refused".to_owned())?;
            }
            Ok(())
        });
        Ok(Self {
            is_over,
            sent,
            sender,
            hearer,
        })
    }

    /// How many records there are so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many records there are, all of them acknowledged.
    pub(crate) fn stop(self) -> Result<u64, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let panicked = |_| "the producer panicked".to_owned();
        let sender = self.sender.join().map_err(panicked)?;
        // Why it was refused says more than that it was.
        self.hearer.join().map_err(panicked)??;
        sender?;
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

/// Takes an answer for each that was `written`, until nothing is written any more. Not each as it comes: on a machine of two CPUs
/// to be woken for every answer takes a quarter of them from what is measured.
fn hear_all(target: &mut Target, written: &mpsc::Receiver<()>) -> Result<(), String> {
    loop {
        pause(BETWEEN_ANSWERS);
        let mut unheard = 0;
        let is_over = loop {
            match written.try_recv() {
                Ok(()) => unheard += 1,
                Err(mpsc::TryRecvError::Empty) => break false,
                Err(mpsc::TryRecvError::Disconnected) => break true,
            }
        };
        for _ in 0..unheard {
            target.hear()?;
        }
        if is_over {
            return Ok(());
        }
    }
}

/// When records are meant to be sent: the first at once, all others in equal steps.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// Microseconds.
    began: u64,
    /// Records a second.
    rate: u64,
}

const SECOND: u64 = 1_000_000;

impl Schedule {
    fn meant(&self, at: u64) -> u64 {
        self.began + at * SECOND / self.rate
    }

    /// How many records are meant to have been sent by then.
    fn due(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.began);
        ((elapsed + 1) * self.rate - 1) / SECOND + 1
    }

    fn wait_for(&self, at: u64) {
        let (meant, now) = (self.meant(at), clock::monotonic_micros());
        if meant > now {
            pause(Duration::from_micros(meant - now));
        }
    }
}

/// Makes records with a stamp in front of the same noise.
#[derive(Debug)]
pub(crate) struct Values {
    noise: Bytes,
}

impl Values {
    pub(crate) fn new(value_bytes: usize) -> Self {
        let rest = value_bytes.saturating_sub(STAMP_BYTES);
        Self {
            noise: Noise::default().bytes(rest),
        }
    }

    /// The record of that number, which was meant to be sent then.
    pub(crate) fn record(&self, at: u64, meant: u64) -> NewRecord {
        let value = [&stamp(meant)[..], &self.noise[..]].concat();
        NewRecord::value(value)
            .with_key(format!("{at:08}"))
            .at(clock::unix_millis())
    }
}

/// Records as a broker takes them.
pub(crate) fn batch(records: &[NewRecord]) -> Bytes {
    encode(records, BatchOptions::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_is_what_was_meant_to_be_sent() {
        for rate in [1, 3, 1_000, 7_777, 3_000_000] {
            let schedule = Schedule { began: 50, rate };
            for now in [50, 51, 1_049, 1_050, 1_051, 1_000_050, 3_333_333] {
                let due = schedule.due(now);
                assert!(schedule.meant(due - 1) <= now, "{rate} {now}");
                assert!(schedule.meant(due) > now, "{rate} {now}");
            }
        }
    }

    #[test]
    fn record_is_as_large_as_wanted() {
        let record = Values::new(100).record(7, 1);
        assert_eq!(record.value.unwrap().len(), 100);
        assert_eq!(record.key.unwrap(), "00000007");
    }
}
