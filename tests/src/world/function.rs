//! The simulated function: it takes its time, fails, throttles, hangs, and its answers get lost.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{CallId, Input, Invocation};
use forebay_protocol::lambda::invoke::Outcome;
use forebay_protocol::sigv4::PayloadDigest;
use forebay_protocol::time::Instant;
use serde::Deserialize;

use super::{Delivered, Event, Mutation, NodeRef, Violation, World};

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
    /// The function succeeds, whatever the caller hears of it.
    processed: bool,
    /// The caller has given it up.
    given_up: bool,
    /// Nobody tells the caller of its end.
    has_vanished: bool,
}

/// By then a call that has vanished must have been found: its deadline, the patience after it, and a node that was frozen
/// meanwhile.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(200);

/// A partition and the first and last record of it in a call.
type Span = (i32, i64, i64);

/// Its open calls, and the bytes of each set of records that it has seen.
#[derive(Debug, Default)]
pub(super) struct Function {
    open: BTreeMap<CallKey, Open>,
    seen: HashMap<(NodeRef, Vec<Span>), Vec<u8>>,
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
        let (outcome, processed, takes) = self.draw_outcome();
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
        let ranges: Vec<Span> = records
            .iter()
            .map(|part| {
                let first = part.offsets.first().copied().unwrap_or(-1);
                (
                    part.partition,
                    first,
                    part.offsets.last().copied().unwrap_or(-1),
                )
            })
            .collect();
        let Some(&(partition, first, last)) = ranges.first() else {
            return Ok(());
        };
        match self.function.seen.insert((of, ranges), body.clone()) {
            Some(before) if before != body => Err(Violation::OtherBytes {
                partition,
                first,
                last,
            }),
            _ => Ok(()),
        }
    }

    fn draw_outcome(&mut self) -> (Outcome, bool, Duration) {
        let takes = self.random_micros(500, 300_000);
        let success = Outcome::Success {
            body: Bytes::from_static(b"null"),
        };
        if self.healed || !self.chance(self.schedule.call_fails_one_in) {
            return (success, true, takes);
        }
        match self.random.below(7) {
            0 | 1 => {
                let kind = "Unhandled".to_owned();
                (
                    Outcome::FunctionError {
                        kind,
                        body: Bytes::new(),
                    },
                    false,
                    takes,
                )
            }
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
        self.ledger_call_ended(key, &open.records, open.processed);
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
        self.ledger_call_ended(key, &records, false);
        let input = Input::CallEnded(
            key.call,
            Outcome::Broken {
                reason: "no answer in time".to_owned(),
            },
        );
        self.hand_to_node(key.node, input)
    }

    /// The call of a life that is over was taken off the ledger when it ended.
    fn ledger_call_ended(&mut self, key: CallKey, records: &[Delivered], processed: bool) {
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

fn parse(body: &[u8]) -> Vec<Delivered> {
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
