//! The simulated destination: it takes its time, refuses, and its acknowledgements get lost.

use forebay_protocol::delivery::{Diversion, DiversionId, Input, Taken, Undelivered};
use forebay_protocol::lambda::failure::Condition;
use forebay_protocol::limits::DIVERSION_TRIES_BEFORE_DROP;

use super::endings::Ending;
use super::function::parse;
use super::{Delivered, Event, Mutation, NodeRef, Violation, World};

impl World {
    pub(super) fn divert(
        &mut self,
        of: NodeRef,
        id: DiversionId,
        diversion: &Diversion,
    ) -> Result<(), Violation> {
        let records = records_of(diversion);
        self.check_document(diversion, &records)?;
        self.begun(&records)?;
        let after = self.random_micros(500, 2_000_000);
        self.after(
            after,
            Event::Written {
                node: of,
                id,
                records,
            },
        );
        Ok(())
    }

    /// The destination has been written to, or refuses; whoever wrote may be dead by now.
    pub(super) fn written(&mut self, of: NodeRef, id: DiversionId, records: Vec<Delivered>) {
        let fails_one_in = self.giving_up().destination_fails_one_in;
        let is_refused = !self.healed && self.chance(fails_one_in);
        if !is_refused {
            self.report.diverted += 1;
            self.ledger.ended(&records);
        }
        if self.schedule.is_forgetful && !self.healed && self.chance(8) {
            return;
        }
        let after = self.latency();
        self.after(
            after,
            Event::Diverted {
                node: of,
                id,
                records,
                is_refused,
            },
        );
    }

    /// The node hears of it.
    pub(super) fn diverted(
        &mut self,
        of: NodeRef,
        id: DiversionId,
        records: Vec<Delivered>,
        is_refused: bool,
    ) -> Result<(), Violation> {
        if self.is_frozen(of.node) {
            let thaw = self.nodes[of.node].frozen_until;
            let event = Event::Diverted {
                node: of,
                id,
                records,
                is_refused,
            };
            self.at(thaw, event);
            return Ok(());
        }
        if self.living(of).is_none() {
            return Ok(());
        }
        let is_lied = self.schedule.mutation == Some(Mutation::FalseAcknowledgement);
        let result = match is_refused && !is_lied {
            true => Err(Undelivered {
                reason: "refused".to_owned(),
            }),
            false => Ok(Taken::Whole),
        };
        if is_refused {
            self.refused(of, &records);
        } else {
            self.told(&records, Ending::Diverted);
        }
        self.hand_to_node(of, Input::Diverted(id, result))
    }

    /// Where the owner chose so, records that are refused too often are dropped.
    fn refused(&mut self, of: NodeRef, records: &[Delivered]) {
        if !self.giving_up().drop_undelivered {
            return;
        }
        // All of a writing have been refused as often; an operator may take one away between two.
        let mut is_dropped = false;
        for part in records {
            for offset in &part.offsets {
                let refused = self.refused.entry((of, part.partition, *offset));
                let refused = refused.or_default();
                *refused += 1;
                is_dropped |= *refused >= DIVERSION_TRIES_BEFORE_DROP;
            }
        }
        if is_dropped {
            self.report.dropped += 1;
            self.ledger.ended(records);
            self.told(records, Ending::Dropped);
        }
    }

    /// What the document says is what its event has, and has a reason that the mapping gives.
    fn check_document(
        &self,
        diversion: &Diversion,
        records: &[Delivered],
    ) -> Result<(), Violation> {
        let failure = &diversion.failure;
        let retry = &self.giving_up().retry;
        let is_due = match failure.condition {
            Condition::RetryAttemptsExhausted => retry.max_attempts.is_some(),
            Condition::RecordAgeExceeded => retry.max_age.is_some() || self.schedule.retention,
            Condition::MaximumPayloadSizeExceeded => true,
            Condition::SkippedByOperator => self.operator.has_wanted(records),
        };
        let says = failure.lanes.iter().map(|lane| {
            let ends = (lane.first.offset, lane.last.offset);
            (lane.partition, lane.records, ends)
        });
        let has = records.iter().map(|part| {
            let ends = (part.offsets[0], part.offsets[part.offsets.len() - 1]);
            (part.partition, part.offsets.len(), ends)
        });
        if !is_due || !says.eq(has) {
            return Err(Violation::WrongDocument {
                document: format!("{failure:?}"),
            });
        }
        Ok(())
    }
}

fn records_of(diversion: &Diversion) -> Vec<Delivered> {
    match diversion.event.is_empty() {
        false => {
            let mut records = parse(&diversion.event.concat());
            records.sort_by_key(|part| part.partition);
            records
        }
        true => {
            let lanes = diversion.failure.lanes.iter();
            let places = lanes.map(|lane| Delivered {
                partition: lane.partition,
                offsets: vec![lane.first.offset],
            });
            places.collect()
        }
    }
}
