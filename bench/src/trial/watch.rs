//! A trial under way: from the start of the appliance until it has stopped.
//!
//! How far it is, the group says, which costs the appliance nothing; once a second the appliance's metrics say how
//! its calls fare. A call that failed, or a problem that lasts, ends the trial: a figure of retries would say
//! nothing, and the function is spared them.
//!
//! Invariant: however it ends, the appliance is stopped before this returns.

use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use super::appliance::Appliance;
use super::group::Group;
use super::scrape::{STALE, Scrape};
use super::topic::Topic;
use crate::cpu;
use crate::signals::Signals;
use crate::wait::since;

/// How often the group is asked.
const POLL: Duration = Duration::from_millis(50);

/// How often the metrics are read.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// In so many seconds there is a call, or there will be none.
const CALL_PATIENCE: Duration = Duration::from_secs(30);

/// How long a problem may last: a group that is joined for the first time has some that pass.
const FAULT_PATIENCE: Duration = Duration::from_secs(5);

/// When a trial ends at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) records: u64,
    pub(super) time: Duration,
}

/// Why it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// All that was in the topic at the start is committed.
    Complete,
    /// There were as many records as were allowed.
    Records,
    /// The time was over.
    Seconds,
    /// By a signal.
    Signal,
}

/// What there was at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    micros: u64,
    cpu: Duration,
    machine: cpu::Machine,
    /// Offsets committed since the start.
    advance: u64,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) end: End,
    /// Offsets committed by the last commit that was seen before the stop.
    pub(super) advance: u64,
    /// CPU time from the start of the process until then.
    pub(super) cpu: Duration,
    /// The same from the first commit that was seen to the last one, if those are two.
    pub(super) steady: Option<Steady>,
    pub(super) peak_bytes: u64,
    /// The counts after the stop, or a moment before.
    pub(super) counted: Scrape,
    /// What the group has committed of each partition after the stop.
    pub(super) committed: Vec<i64>,
}

/// Between two commits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    pub(super) offsets: u64,
    pub(super) cpu: Duration,
    pub(super) wall: Duration,
    pub(super) stolen: f64,
}

/// All that a trial under way consists of.
pub(super) struct Trial<'a> {
    pub(super) appliance: Appliance,
    pub(super) topic: &'a Topic,
    pub(super) group: &'a mut Group,
    pub(super) signals: &'a mut Signals,
    pub(super) limits: Limits,
}

/// What the loop keeps.
struct Seen {
    began: u64,
    scraped: u64,
    counted: Scrape,
    /// Since when there is a problem.
    faulty: Option<u64>,
    first: Option<Sample>,
    last: Sample,
}

impl Trial<'_> {
    /// Until its end; what the appliance complains of is part of an error.
    pub(super) fn run(mut self) -> Result<Watched, String> {
        let began = clock::monotonic_micros();
        let mut seen = Seen {
            began,
            scraped: began,
            counted: Scrape::default(),
            faulty: None,
            first: None,
            last: Sample {
                micros: began,
                cpu: Duration::ZERO,
                machine: cpu::Machine::now(),
                advance: 0,
            },
        };
        let outcome = self.until_the_end(&mut seen);
        let peak_bytes = self.appliance.process.peak_bytes();
        let complaints = self.appliance.complaints();
        let stopped = self.appliance.stop(self.signals, &mut seen.counted);
        let outcome = outcome.and_then(|end| match seen.counted.failed() {
            0 => Ok(end),
            _ => Err(failed(&seen.counted)),
        });
        let end = outcome.map_err(|error| match complaints.is_empty() {
            true => error,
            false => format!("{error}; forebay says\n  {}", complaints.join("\n  ")),
        })?;
        let status = stopped?;
        if !status.success() {
            return Err(format!("forebay has ended with {status}"));
        }
        Ok(Watched {
            end,
            advance: seen.last.advance,
            cpu: seen.last.cpu,
            steady: seen.steady(),
            peak_bytes: peak_bytes?,
            counted: seen.counted,
            committed: self.group.committed(self.topic)?,
        })
    }

    fn until_the_end(&mut self, seen: &mut Seen) -> Result<End, String> {
        loop {
            let is_over = self.signals.pause(POLL);
            let committed = self.group.committed(self.topic)?;
            self.note(seen, &committed)?;
            let partitions = self.topic.partitions.iter();
            if partitions.zip(&committed).all(|(it, &at)| at >= it.end) {
                // The counts come later than the commits.
                self.settle(seen)?;
                return Ok(End::Complete);
            }
            if is_over {
                return Ok(End::Signal);
            }
            if seen.last.advance >= self.limits.records {
                return Ok(End::Records);
            }
            if since(seen.scraped) >= SCRAPE_INTERVAL {
                seen.scraped = clock::monotonic_micros();
                seen.counted = self.appliance.scrape(self.signals)?;
                seen.judge()?;
            }
            if since(seen.began) >= self.limits.time {
                return match seen.last.advance {
                    0 => Err(format!(
                        "no call had succeeded after {:?}",
                        self.limits.time
                    )),
                    _ => Ok(End::Seconds),
                };
            }
        }
    }

    /// Keeps what there is at a commit.
    fn note(&mut self, seen: &mut Seen, committed: &[i64]) -> Result<(), String> {
        // Asked first: a process that has ended is the better reason.
        let cpu = self.appliance.process.cpu_time()?;
        let starts = self.topic.partitions.iter().map(|it| it.start);
        let advances = committed.iter().zip(starts);
        let advance: i64 = advances.map(|(at, start)| at - start).sum();
        let advance = u64::try_from(advance).unwrap_or_default();
        if advance > seen.last.advance {
            seen.last = Sample {
                micros: clock::monotonic_micros(),
                cpu,
                machine: cpu::Machine::now(),
                advance,
            };
            seen.first.get_or_insert(seen.last);
        }
        Ok(())
    }

    /// Waits until the counts have come to rest.
    fn settle(&mut self, seen: &mut Seen) -> Result<(), String> {
        self.signals.pause(STALE);
        seen.counted = self.appliance.scrape(self.signals)?;
        seen.judge()
    }
}

impl Seen {
    fn judge(&mut self) -> Result<(), String> {
        if self.counted.failed() > 0 {
            return Err(failed(&self.counted));
        }
        if !self.counted.has_fault {
            self.faulty = None;
        } else {
            let faulty = *self.faulty.get_or_insert_with(clock::monotonic_micros);
            if since(faulty) > FAULT_PATIENCE {
                return Err("the mapping has a problem that lasts".to_owned());
            }
        }
        if self.counted.calls == 0 && since(self.began) > CALL_PATIENCE {
            return Err(format!("there was no call for {CALL_PATIENCE:?}"));
        }
        Ok(())
    }

    fn steady(&self) -> Option<Steady> {
        let first = self.first.filter(|first| first.micros < self.last.micros)?;
        Some(Steady {
            offsets: self.last.advance - first.advance,
            cpu: self.last.cpu - first.cpu,
            wall: Duration::from_micros(self.last.micros - first.micros),
            stolen: self.last.machine.stolen_since(&first.machine),
        })
    }
}

fn failed(counted: &Scrape) -> String {
    format!(
        "{} of {} calls failed ({} by an error of the function, {} throttled, {} by a broken call or a service error)",
        counted.failed(),
        counted.calls,
        counted.function_errors,
        counted.throttles,
        counted.call_failures,
    )
}
