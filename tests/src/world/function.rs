//! The simulated function: it takes its time, fails, throttles, hangs, and its answers get lost.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{CallId, Input, Invocation};
use forebay_protocol::lambda::invoke::{Execution, Outcome};
use forebay_protocol::random::Random;
use forebay_protocol::sigv4::PayloadDigest;
use forebay_protocol::time::Instant;
use serde::Deserialize;

use super::endings::Ending;
use super::{Delivered, Event, GivingUp, Mutation, NodeRef, TOPIC, Violation, World};

/// A call of a node; `twin` tells the one that a mutation adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallKey {
    pub(super) node: NodeRef,
    pub(super) call: CallId,
    pub(super) twin: bool,
}

#[derive(Debug)]
struct Open {
    records: Vec<Delivered>,
    outcome: Outcome,
    /// What the function succeeds with, whatever the caller hears of it.
    processed: Vec<Delivered>,
    /// The caller has given it up.
    given_up: bool,
    /// Nobody tells the caller of its end.
    has_vanished: bool,
}

/// By then a call that has vanished must have been found: its deadline, the patience after it, and a node that was frozen
/// meanwhile.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(200);

/// Its open calls, and the bytes of each set of records that it has seen.
#[derive(Debug, Default)]
pub(super) struct Function {
    open: BTreeMap<CallKey, Open>,
    seen: HashMap<(NodeRef, Vec<Delivered>), Vec<u8>>,
}

impl Function {
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

#[derive(Deserialize)]
struct EventJson {
    records: BTreeMap<String, Vec<RecordJson>>,
}

#[derive(Deserialize)]
struct RecordJson {
    partition: i32,
    offset: i64,
}

impl World {
    pub(super) fn invoke(
        &mut self,
        of: NodeRef,
        call: CallId,
        invocation: Invocation,
    ) -> Result<(), Violation> {
        if let Some(digest) = invocation.digest {
            self.report.hashed_along += 1;
            if digest != PayloadDigest::of(&invocation.pieces.concat()) {
                return Err(Violation::OtherHash { node: of.node });
            }
        }
        let drift = self.node_drift(of.node);
        let deadline = invocation.deadline + drift;
        let twins = if self.schedule.mutation == Some(Mutation::DeliverTwice) {
            2
        } else {
            1
        };
        for twin in 0..twins {
            let after = self.latency();
            let body = invocation.pieces.clone();
            let twin = twin > 0;
            self.after(
                after,
                Event::CallArrives {
                    node: of,
                    call,
                    body,
                    deadline,
                    twin,
                },
            );
        }
        Ok(())
    }

    pub(super) fn call_arrives(
        &mut self,
        of: NodeRef,
        call: CallId,
        body: &[Bytes],
        deadline: Instant,
        twin: bool,
    ) -> Result<(), Violation> {
        if self.nodes[of.node].life != of.life {
            return Ok(());
        }
        self.report.calls += 1;
        let body = body.concat();
        let records = parse(&body);
        self.check_bytes(of, &records, body)?;
        self.ledger.call_started(of.node, &records)?;
        self.begun(&records)?;
        let (outcome, processed, takes) = self.draw_outcome(&records);
        let has_vanished = self.schedule.is_forgetful && !twin && !self.healed && self.chance(8);
        let key = CallKey {
            node: of,
            call,
            twin,
        };
        self.function.open.insert(
            key,
            Open {
                records,
                outcome,
                processed,
                given_up: false,
                has_vanished,
            },
        );
        if has_vanished {
            self.report.vanished += 1;
            self.after(FORGOTTEN_AFTER, Event::CallReturns { key });
        } else {
            self.after(takes, Event::CallReturns { key });
            self.at(deadline.max(self.now), Event::CallGivenUp { key });
        }
        Ok(())
    }

    /// The same records of the same ownership are sent again as the same bytes.
    fn check_bytes(
        &mut self,
        of: NodeRef,
        records: &[Delivered],
        body: Vec<u8>,
    ) -> Result<(), Violation> {
        let key = (of, records.to_vec());
        let before = self.function.seen.insert(key, body.clone());
        match (before, records.first()) {
            (Some(before), Some(part)) if before != body => Err(Violation::OtherBytes {
                partition: part.partition,
                first: part.offsets.first().copied().unwrap_or(-1),
                last: part.offsets.last().copied().unwrap_or(-1),
            }),
            _ => Ok(()),
        }
    }

    fn draw_outcome(&mut self, records: &[Delivered]) -> (Outcome, Vec<Delivered>, Duration) {
        let takes = self.random_micros(500, 300_000);
        if self.healed || !self.chance(self.schedule.call_fails_one_in) {
            let (outcome, processed) = self.digest(records);
            return (outcome, processed, takes);
        }
        let (outcome, processed, takes) = self.draw_failure(takes);
        let processed = if processed {
            records.to_vec()
        } else {
            Vec::new()
        };
        (outcome, processed, takes)
    }

    /// What the function does by itself: it fails with records that it cannot digest, and may say which those are.
    fn digest(&mut self, records: &[Delivered]) -> (Outcome, Vec<Delivered>) {
        let (poison, fine) = self.poison(records);
        if poison.is_empty() {
            return (answered("null".to_owned()), fine);
        }
        if !self.giving_up().retry.report_item_failures {
            return (function_error(), Vec::new());
        }
        if self.chance(8) {
            return (answered("OK".to_owned()), Vec::new());
        }
        (answered(report(&poison)), fine)
    }

    /// Records that the function cannot digest, and the others.
    fn poison(&self, records: &[Delivered]) -> (Vec<Delivered>, Vec<Delivered>) {
        let Some(giving_up) = &self.schedule.giving_up else {
            return (Vec::new(), records.to_vec());
        };
        // Without an end of attempts, the function itself is mended in the end.
        let is_mended = self.healed && giving_up.retry.max_attempts.is_none();
        let is_poison = |partition: i32, offset: i64| {
            let place = (partition as u64) << 40 ^ offset as u64;
            let mut random = Random::new(self.schedule.seed.rotate_left(17) ^ place);
            !is_mended && random.below(giving_up.poison_one_in) == 0
        };
        let those = |wanted: bool| {
            let parts = records.iter().map(|part| {
                let offsets = part.offsets.iter().copied();
                Delivered {
                    partition: part.partition,
                    offsets: offsets
                        .filter(|offset| is_poison(part.partition, *offset) == wanted)
                        .collect(),
                }
            });
            parts.filter(|part| !part.offsets.is_empty()).collect()
        };
        (those(true), those(false))
    }

    pub(super) fn giving_up(&self) -> &GivingUp {
        let giving_up = self.schedule.giving_up.as_ref();
        giving_up.expect("only such schedules fail by record or have a destination")
    }

    /// Records go to the function or to the destination.
    pub(super) fn begun(&self, records: &[Delivered]) -> Result<(), Violation> {
        match self.schedule.is_calm {
            true => self.endings.begun(records),
            false => Ok(()),
        }
    }

    /// The node hears that records have ended.
    pub(super) fn told(&mut self, records: &[Delivered], how: Ending) {
        if self.schedule.is_calm {
            self.endings.ended(records, how);
        }
    }

    /// The node hears how its call has ended.
    fn told_outcome(&mut self, open: &Open) -> Result<(), Violation> {
        if !self.schedule.is_calm {
            return Ok(());
        }
        let policy = &self
            .schedule
            .giving_up
            .as_ref()
            .expect("calm ones do")
            .retry;
        match &open.outcome {
            Outcome::Success { .. } => {
                self.endings.ended(&open.processed, Ending::Succeeded);
                let failed = without(&open.records, &open.processed);
                self.endings.failed(&failed, policy)
            }
            Outcome::FunctionError { .. } => self.endings.failed(&open.records, policy),
            _ => Ok(()),
        }
    }

    fn draw_failure(&mut self, takes: Duration) -> (Outcome, bool, Duration) {
        let success = answered("null".to_owned());
        match self.random.below(7) {
            0 | 1 => (function_error(), false, takes),
            2 => {
                let retry_after = self.chance(2).then_some(Duration::from_secs(1));
                let message = "Rate Exceeded.".to_owned();
                (
                    Outcome::Throttled {
                        retry_after,
                        message,
                    },
                    false,
                    takes,
                )
            }
            3 => {
                let message = "503".to_owned();
                (
                    Outcome::ServiceError {
                        retry_after: None,
                        message,
                    },
                    false,
                    takes,
                )
            }
            4 => (
                Outcome::TooLarge {
                    message: "413".to_owned(),
                },
                false,
                takes,
            ),
            // The function ran, and nobody hears of it.
            5 => (
                Outcome::Broken {
                    reason: "reset".to_owned(),
                },
                true,
                takes,
            ),
            // It hangs beyond the caller's patience.
            _ => (success, true, self.random_micros(14_000_000, 16_000_000)),
        }
    }

    pub(super) fn call_returns(&mut self, key: CallKey) -> Result<(), Violation> {
        let Some(open) = self.function.open.remove(&key) else {
            return Ok(());
        };
        if open.given_up {
            return Ok(());
        }
        if open.has_vanished && self.nodes[key.node.node].life == key.node.life {
            return Err(Violation::Forgotten {
                node: key.node.node,
            });
        }
        self.ledger_call_ended(key, &open.records, &open.processed);
        if !key.twin {
            self.told_outcome(&open)?;
        }
        let after = self.latency();
        if !key.twin {
            let input = Input::CallEnded(key.call, open.outcome);
            self.after(
                after,
                Event::ToNode {
                    node: key.node,
                    input,
                },
            );
        }
        Ok(())
    }

    /// The caller's deadline passes: for it the call is over, whatever the function still does.
    pub(super) fn call_given_up(&mut self, key: CallKey) -> Result<(), Violation> {
        let Some(open) = self.function.open.get_mut(&key) else {
            return Ok(());
        };
        if std::mem::replace(&mut open.given_up, true) {
            return Ok(());
        }
        let records = open.records.clone();
        self.ledger_call_ended(key, &records, &[]);
        let input = Input::CallEnded(
            key.call,
            Outcome::Broken {
                reason: "no answer in time".to_owned(),
            },
        );
        self.hand_to_node(key.node, input)
    }

    /// The call of a life that is over was taken off the ledger when it ended.
    fn ledger_call_ended(&mut self, key: CallKey, records: &[Delivered], processed: &[Delivered]) {
        let alive = self.nodes[key.node.node].life == key.node.life;
        self.ledger
            .call_ended(alive.then_some(key.node.node), records, processed);
    }

    pub(super) fn cancel_call(&mut self, of: NodeRef, call: CallId) {
        let key = CallKey {
            node: of,
            call,
            twin: false,
        };
        self.after(Duration::ZERO, Event::CallGivenUp { key });
    }
}

fn answered(body: String) -> Outcome {
    Outcome::Success {
        body: Bytes::from(body),
        execution: Execution::default(),
    }
}

fn function_error() -> Outcome {
    Outcome::FunctionError {
        kind: "Unhandled".to_owned(),
        body: Bytes::new(),
        execution: Execution::default(),
    }
}

/// The answer that names those records.
fn report(failed: &[Delivered]) -> String {
    let items = failed.iter().flat_map(|part| {
        let name = format!("{TOPIC}-{}", part.partition);
        let offsets = part.offsets.iter();
        offsets.map(move |offset| {
            serde_json::json!({"itemIdentifier": {"partition": name, "offset": offset}})
        })
    });
    serde_json::json!({"batchItemFailures": items.collect::<Vec<_>>()}).to_string()
}

/// The records that are not among the others.
fn without(records: &[Delivered], others: &[Delivered]) -> Vec<Delivered> {
    let is_other = |partition: i32, offset: &i64| {
        let mut others = others.iter();
        others.any(|part| part.partition == partition && part.offsets.contains(offset))
    };
    let parts = records.iter().map(|part| Delivered {
        partition: part.partition,
        offsets: part
            .offsets
            .iter()
            .copied()
            .filter(|offset| !is_other(part.partition, offset))
            .collect(),
    });
    parts.filter(|part| !part.offsets.is_empty()).collect()
}

pub(super) fn parse(body: &[u8]) -> Vec<Delivered> {
    let event: EventJson = serde_json::from_slice(body).expect("the event is JSON");
    event
        .records
        .into_values()
        .map(|records| Delivered {
            partition: records.first().map_or(-1, |record| record.partition),
            offsets: records.iter().map(|record| record.offset).collect(),
        })
        .collect()
}
