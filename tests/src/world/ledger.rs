//! What the simulated function received, held against what was produced and what was committed: the four
//! delivery rules, checked at every step.

use std::collections::BTreeMap;

use thiserror::Error;

use super::endings::Ending;

/// A delivery rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Nobody told a call's end, and its node still waits for it.
    #[error("node {node}: a call that has vanished is waited for")]
    Forgotten {
        /// The node.
        node: usize,
    },
    /// Two calls for one partition were open at the same time.
    #[error(
        "partition {partition}: a call of node {second} starts while one of node {first} is open"
    )]
    TwoOpenCalls {
        /// The partition.
        partition: i32,
        /// Who had the open call.
        first: usize,
        /// Who started the other.
        second: usize,
    },
    /// A record was passed over.
    #[error("partition {partition}: delivery goes on at {to} though {skipped} was never delivered")]
    Skipped {
        /// The partition.
        partition: i32,
        /// The record that is missing.
        skipped: i64,
        /// Where delivery went on.
        to: i64,
    },
    /// Records reached the function out of offset order within a call.
    #[error("partition {partition}: offset {offset} follows {before}")]
    Disorder {
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
        /// The one before it.
        before: i64,
    },
    /// A record below the group's commit was delivered again.
    #[error("partition {partition}: offset {offset} is delivered though {committed} is committed")]
    BelowCommit {
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
        /// The commit.
        committed: i64,
    },
    /// An offset was committed though a record below it had not ended.
    #[error(
        "partition {partition}: {committed} is committed though {unprocessed} was not processed"
    )]
    CommittedEarly {
        /// The partition.
        partition: i32,
        /// The commit.
        committed: i64,
        /// The record.
        unprocessed: i64,
    },
    /// A commit went back while nobody had reset the group.
    #[error("partition {partition}: the commit goes back from {from} to {to}")]
    CommittedBack {
        /// The partition.
        partition: i32,
        /// Where it was.
        from: i64,
        /// Where it is.
        to: i64,
    },
    /// The event shows a record that was never produced, or was not to be seen.
    #[error("partition {partition}: offset {offset} is delivered but is no visible record")]
    Phantom {
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
    },
    /// A retry of the same records had other bytes.
    #[error("partition {partition}: the call for {first}..={last} was sent again with other bytes")]
    OtherBytes {
        /// The partition.
        partition: i32,
        /// The first record.
        first: i64,
        /// The last record.
        last: i64,
    },
    /// A call came with a hash that is not its body's.
    #[error("node {node}: a call's hash is not that of its body")]
    OtherHash {
        /// The node.
        node: usize,
    },
    /// A record that has ended goes to the function or to the destination once more, within one ownership.
    #[error("partition {partition}: offset {offset} has ended ({ending:?}) and goes on")]
    EndedTwice {
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
        /// How it has ended.
        ending: Ending,
    },
    /// The function was called with a record more often than the mapping allows.
    #[error("partition {partition}: the function has failed {failed} times with offset {offset}")]
    TooManyAttempts {
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
        /// Calls that failed.
        failed: u32,
    },
    /// A document is not of what comes with it, or gives a reason that the mapping does not.
    #[error("wrong document: {document}")]
    WrongDocument {
        /// The document.
        document: String,
    },
    /// A machine holds more memory than its budget and one batch allow.
    #[error("node {node} holds {bytes} bytes")]
    TooMuchMemory {
        /// The node.
        node: usize,
        /// What it holds.
        bytes: usize,
    },
    /// Everything was healed and time went by, and still records were not delivered or not committed.
    #[error(
        "partition {partition}: stands at commit {committed}, delivered {delivered}, end {end}"
    )]
    Stuck {
        /// The partition.
        partition: i32,
        /// The commit.
        committed: i64,
        /// Records processed.
        delivered: usize,
        /// The end of the log.
        end: i64,
    },
}

#[derive(Debug, Default)]
struct PartitionLedger {
    /// Offsets that must be delivered, ascending, each with whether it was processed.
    visible: Vec<(i64, bool)>,
    end: i64,
    highest_delivered: i64,
    open: Option<usize>,
    committed: i64,
    /// Records may end without the whole of their batch.
    gives_up: bool,
    /// Retention has taken what lies below; it need not be delivered any more.
    retained_from: i64,
    /// The first not processed of `visible`: all below it were.
    first_open: usize,
}

/// One call as the ledger sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// Its records, in the order of the event.
    pub offsets: Vec<i64>,
}

/// All partitions.
#[derive(Debug, Default)]
pub struct Ledger {
    partitions: BTreeMap<i32, PartitionLedger>,
}

impl Ledger {
    /// A partition that must be complete at the end, even if it stays empty.
    pub fn declare(&mut self, partition: i32, gives_up: bool) {
        self.partition(partition).gives_up = gives_up;
    }

    /// A record that must be delivered, or (invisible) one that only takes an offset.
    pub fn produced(&mut self, partition: i32, offset: i64, visible: bool) {
        let ledger = self.partition(partition);
        if visible {
            ledger.visible.push((offset, false));
        }
        ledger.end = offset + 1;
    }

    /// Retention took everything below that offset.
    pub fn deleted_before(&mut self, partition: i32, offset: i64) {
        let ledger = self.partition(partition);
        ledger.retained_from = ledger.retained_from.max(offset);
        let lost = ledger.visible.partition_point(|(of, _)| *of < offset);
        for (_, processed) in &mut ledger.visible[..lost] {
            *processed = true;
        }
        ledger.process(&[]);
    }

    /// A call reached the function.
    ///
    /// # Errors
    ///
    /// When it breaks a rule.
    pub fn call_started(&mut self, node: usize, call: &[Delivered]) -> Result<(), Violation> {
        for part in call {
            let partition = part.partition;
            let ledger = self.partition(partition);
            if let Some(first) = ledger.open {
                return Err(Violation::TwoOpenCalls {
                    partition,
                    first,
                    second: node,
                });
            }
            ledger.check_order(part)?;
            ledger.open = Some(node);
            let last = part.offsets.last().copied().unwrap_or(-1);
            ledger.highest_delivered = ledger.highest_delivered.max(last);
        }
        Ok(())
    }

    /// A call ended; `node` is who made it, if it still lives, and `processed` those of its records with which the
    /// function has succeeded.
    pub fn call_ended(&mut self, node: Option<usize>, call: &[Delivered], processed: &[Delivered]) {
        for part in call {
            let ledger = self.partition(part.partition);
            if node.is_some() && ledger.open == node {
                ledger.open = None;
            }
        }
        self.ended(processed);
    }

    /// Records ended: the function has processed them, the destination has them, or their owner lets go of them.
    pub fn ended(&mut self, records: &[Delivered]) {
        for part in records {
            self.partition(part.partition).process(&part.offsets);
        }
    }

    /// The node was killed: its calls may run on, and what it had in flight may come again.
    pub fn killed(&mut self, node: usize) {
        for ledger in self.partitions.values_mut() {
            if ledger.open == Some(node) {
                ledger.open = None;
            }
        }
    }

    /// The broker took a commit.
    ///
    /// # Errors
    ///
    /// When a record below it was not processed, or it goes back.
    pub fn committed(&mut self, partition: i32, offset: i64) -> Result<(), Violation> {
        let ledger = self.partition(partition);
        if offset < ledger.committed {
            return Err(Violation::CommittedBack {
                partition,
                from: ledger.committed,
                to: offset,
            });
        }
        if let Some((open, _)) = ledger.visible.get(ledger.first_open)
            && *open < offset
        {
            let (committed, unprocessed) = (offset, *open);
            return Err(Violation::CommittedEarly {
                partition,
                committed,
                unprocessed,
            });
        }
        ledger.committed = offset;
        Ok(())
    }

    /// Whether everything was processed and committed.
    pub fn is_complete(&self) -> bool {
        self.partitions.values().all(|ledger| {
            ledger.first_open == ledger.visible.len() && ledger.committed >= ledger.end
        })
    }

    /// The first partition that is not complete.
    pub fn stuck(&self) -> Option<Violation> {
        self.partitions.iter().find_map(|(partition, ledger)| {
            let complete =
                ledger.first_open == ledger.visible.len() && ledger.committed >= ledger.end;
            (!complete).then_some(Violation::Stuck {
                partition: *partition,
                committed: ledger.committed,
                delivered: ledger.first_open,
                end: ledger.end,
            })
        })
    }

    fn partition(&mut self, partition: i32) -> &mut PartitionLedger {
        self.partitions
            .entry(partition)
            .or_insert_with(|| PartitionLedger {
                highest_delivered: -1,
                ..PartitionLedger::default()
            })
    }
}

impl PartitionLedger {
    fn check_order(&self, part: &Delivered) -> Result<(), Violation> {
        let partition = part.partition;
        let mut before = None;
        for offset in &part.offsets {
            let Ok(at) = self
                .visible
                .binary_search_by_key(offset, |(visible, _)| *visible)
            else {
                return Err(Violation::Phantom {
                    partition,
                    offset: *offset,
                });
            };
            match before {
                None if *offset < self.committed => {
                    let committed = self.committed;
                    return Err(Violation::BelowCommit {
                        partition,
                        offset: *offset,
                        committed,
                    });
                }
                None => {
                    // The first record may repeat what was delivered, but must not pass anything over.
                    let next = self.visible.partition_point(|(v, _)| {
                        *v < self.retained_from.max(self.highest_delivered + 1)
                    });
                    if let Some(skipped) = self.passed_over(next, at) {
                        return Err(Violation::Skipped {
                            partition,
                            skipped,
                            to: *offset,
                        });
                    }
                }
                Some(last) if at <= last => {
                    let before = self.visible[last].0;
                    return Err(Violation::Disorder {
                        partition,
                        offset: *offset,
                        before,
                    });
                }
                Some(last) => {
                    if let Some(skipped) = self.passed_over(last + 1, at) {
                        return Err(Violation::Skipped {
                            partition,
                            skipped,
                            to: *offset,
                        });
                    }
                }
            }
            before = Some(at);
        }
        Ok(())
    }

    /// The first of those records that delivery passes over and must not. Where records are given up, or the function
    /// reports which have failed, those that have ended may be.
    fn passed_over(&self, from: usize, to: usize) -> Option<i64> {
        let passed = self.visible.get(from..to)?;
        let mut wrongly = passed
            .iter()
            .filter(|(_, ended)| !(self.gives_up && *ended));
        wrongly.next().map(|(offset, _)| *offset)
    }

    fn process(&mut self, offsets: &[i64]) {
        for offset in offsets {
            if let Ok(at) = self
                .visible
                .binary_search_by_key(offset, |(visible, _)| *visible)
            {
                self.visible[at].1 = true;
            }
        }
        while self
            .visible
            .get(self.first_open)
            .is_some_and(|(_, processed)| *processed)
        {
            self.first_open += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for offset in 0..6 {
            ledger.produced(0, offset, offset != 3);
        }
        ledger
    }

    fn call(offsets: &[i64]) -> Vec<Delivered> {
        vec![Delivered {
            partition: 0,
            offsets: offsets.to_vec(),
        }]
    }

    #[test]
    fn gap_of_an_invisible_record_is_no_gap() {
        let mut ledger = ledger();
        assert_eq!(ledger.call_started(0, &call(&[0, 1, 2, 4])), Ok(()));
        ledger.call_ended(Some(0), &call(&[0, 1, 2, 4]), &call(&[0, 1, 2, 4]));
        assert_eq!(ledger.committed(0, 5), Ok(()));
        assert!(!ledger.is_complete());
    }

    #[test]
    fn only_what_retention_took_may_be_passed_over() {
        let mut ledger = ledger();
        ledger.deleted_before(0, 2);
        assert_eq!(ledger.committed(0, 2), Ok(()));
        assert!(matches!(
            ledger.call_started(0, &call(&[4])),
            Err(Violation::Skipped { skipped: 2, .. })
        ));
        assert_eq!(ledger.call_started(0, &call(&[2, 4])), Ok(()));
    }

    #[test]
    fn every_broken_rule_is_found() {
        let mut skips = ledger();
        assert!(matches!(
            skips.call_started(0, &call(&[1])),
            Err(Violation::Skipped { .. })
        ));
        let mut disorders = ledger();
        assert!(matches!(
            disorders.call_started(0, &call(&[0, 2, 1])),
            Err(Violation::Skipped { .. } | Violation::Disorder { .. })
        ));
        let mut twice = ledger();
        assert_eq!(twice.call_started(0, &call(&[0])), Ok(()));
        assert!(matches!(
            twice.call_started(1, &call(&[0])),
            Err(Violation::TwoOpenCalls { .. })
        ));
        let mut early = ledger();
        assert!(matches!(
            early.committed(0, 1),
            Err(Violation::CommittedEarly { .. })
        ));
        let mut phantom = ledger();
        assert!(matches!(
            phantom.call_started(0, &call(&[3])),
            Err(Violation::Phantom { .. })
        ));
    }
}
