//! One redrive: document after document, from the store to the function or the topic.
//!
//! Invariant: a record is noted once it was taken, a document once all of its records were, and removed after that.

use std::collections::BTreeSet;
use std::fmt::Display;

use forebay_protocol::lambda::event::{EventRecord, EventText};
use forebay_protocol::lambda::failure::{FailureDocument, LaneRange, qualified};

use super::back::{Chunk, NotWritten};
use super::brokers::Brokers;
use super::call::{Called, Calls};
use super::progress::{Offsets, Progress};
use super::refetch::{Refetch, RefetchError, Refetched, Span};
use super::store::{Found, Store};
use super::tally::{Fate, Spans, Tally, Told, counted};
use super::{OUTSIDE_THE_ORDER, Order, Target};
use crate::contract::watch;
use crate::mapping::Mapping;

/// Reasons that a line gives.
const REASONS_MAX: usize = 3;

/// All that it works with.
pub(super) struct Run<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) order: &'a Order,
    pub(super) brokers: Brokers,
    pub(super) store: Store,
    pub(super) progress: Progress,
    /// To the function, where it is called.
    pub(super) calls: Option<Calls>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) tell: &'a mut dyn FnMut(&dyn Display),
    pub(super) tally: Tally,
}

/// Why the redrive ends before the documents do.
struct Ended(String);

impl<E: std::error::Error> From<E> for Ended {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A document's events, and what is to be said of it beside them.
#[derive(Default)]
struct Prepared {
    events: Vec<EventText>,
    /// What keeps it from being whole.
    lacks: Vec<String>,
    /// What is good to know.
    notes: Vec<String>,
}

impl Run<'_> {
    /// Whether everything was sent.
    pub(super) async fn all(mut self) -> bool {
        let ended = self.documents().await.err();
        let elsewhere = match ended {
            None => self.store.held_elsewhere().await,
            Some(_) => 0,
        };
        let closed = self.store.close().await.err();
        let summary = self.tally.summary(self.order.execute);
        match &ended {
            Some(Ended(reason)) if self.tally.is_empty() => {
                (self.tell)(&format_args!("nothing was looked at: {reason}"));
            }
            Some(Ended(reason)) => {
                (self.tell)(&summary);
                (self.tell)(&format_args!(
                    "it ended early: {reason}; start it again to go on from there"
                ));
            }
            None => (self.tell)(&summary),
        }
        if elsewhere > 0 {
            (self.tell)(&format_args!(
                "besides, {} invisible: somebody else has them, or a redrive that was killed had; SQS gives them again \
                 when their visibility timeout is over: start it again then",
                match elsewhere {
                    1 => "1 message is".to_owned(),
                    several => format!("{several} messages are"),
                }
            ));
        }
        if let Some(error) = &closed {
            (self.tell)(&format_args!(
                "what the queue holds stays invisible until its time is over: {error}"
            ));
        }
        (self.tell)(&OUTSIDE_THE_ORDER);
        ended.is_none() && closed.is_none() && self.tally.failed == 0
    }

    async fn documents(&mut self) -> Result<(), Ended> {
        while self
            .order
            .limit
            .is_none_or(|limit| self.tally.done() < limit)
        {
            self.check_stop()?;
            let Some(mut found) = self.store.next(&mut self.brokers).await? else {
                return Ok(());
            };
            let mut told = Told::default();
            let fate = self.document(&mut found, &mut told).await;
            // What was sent before it ended is told as well.
            let (fate, ended) = match fate {
                Ok(fate) => (fate, None),
                Err(ended) if told.records > 0 => (Fate::Failed(told), Some(ended)),
                Err(ended) => return Err(ended),
            };
            let succeeded = matches!(fate, Fate::Sent(_) | Fate::SentBefore | Fate::Probe);
            let removes = self.order.execute && self.order.remove && succeeded;
            if removes {
                self.store.remove(&found).await?;
                self.tally.removed += 1;
            }
            self.tally.count(&fate);
            // Of those that are done with, the sum says enough.
            if !matches!(fate, Fate::SentBefore) || removes {
                let line = fate.line(self.order.execute, removes);
                (self.tell)(&format_args!("{}: {line}", found.place));
            }
            if let Some(ended) = ended {
                return Err(ended);
            }
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), Ended> {
        match *self.stop.borrow() {
            true => Err(Ended("it was told to".to_owned())),
            false => Ok(()),
        }
    }

    async fn document(&mut self, found: &mut Found, told: &mut Told) -> Result<Fate, Ended> {
        if self.progress.is_done(&found.id) {
            return Ok(Fate::SentBefore);
        }
        let text = match self.store.read(found).await? {
            Ok(text) => text,
            Err(reason) => return Ok(Fate::LeftAlone(reason)),
        };
        let document = match FailureDocument::read(&text) {
            Ok(document) => document,
            Err(error) => return Ok(Fate::LeftAlone(error.to_string())),
        };
        drop(text);
        if let Err(reason) = self.is_ours(&document) {
            return Ok(Fate::LeftAlone(reason));
        }
        if document.is_probe() {
            return Ok(Fate::Probe);
        }
        let sent = self.progress.sent(&found.id);
        told.before = sent.values().map(|of| of.len() as u64).sum();
        let prepared = match self.prepare(document, &sent).await? {
            Ok(prepared) => prepared,
            Err(fate) => return Ok(fate),
        };
        told.what = named(&prepared.events);
        told.remarks = [&prepared.lacks[..], &prepared.notes[..]].concat();
        let mut is_whole = prepared.lacks.is_empty();
        for event in prepared.events {
            let left = |it: &EventRecord| !is_in(&sent, it);
            let Some(event) = event.only(left) else {
                continue;
            };
            if !self.order.execute {
                told.records += event.records().len() as u64;
                continue;
            }
            let refused = self.send(found, event, told).await?;
            is_whole &= refused.is_empty();
            let more = refused.len().saturating_sub(REASONS_MAX);
            told.remarks.extend(refused.into_iter().take(REASONS_MAX));
            if more > 0 {
                told.remarks.push(format!("and {more} more"));
            }
        }
        let told = std::mem::take(told);
        if !is_whole {
            return Ok(Fate::Failed(told));
        }
        if self.order.execute {
            self.progress.note_done(&found.id)?;
        }
        Ok(Fate::Sent(told))
    }

    /// Whether a document is one of this mapping's.
    fn is_ours(&self, document: &FailureDocument) -> Result<(), String> {
        let own = &self.mapping.function.arn;
        let arn = &document.function_arn;
        if arn != own && *arn != qualified(own) {
            return Err(format!("it is of another function, {arn}"));
        }
        let Some(servers) = &document.bootstrap_servers else {
            return Err(
                "it is of another kind of Kafka, whose brokers it does not name".to_owned(),
            );
        };
        // The configured brokers may have changed since; one that is left tells the cluster.
        let mut own = self.mapping.bootstrap_servers.split(',');
        if !own.any(|own| servers.split(',').any(|server| server == own)) {
            return Err(format!("it is of another cluster, {servers}"));
        }
        let topic = &self.mapping.topic;
        match document.lanes.iter().find(|lane| lane.topic != *topic) {
            Some(lane) => Err(format!("it is of another topic, {}", lane.topic)),
            None => Ok(()),
        }
    }

    /// Makes events of a document: of the one that it has, or of its offsets.
    async fn prepare(
        &mut self,
        document: FailureDocument,
        sent: &Offsets,
    ) -> Result<Result<Prepared, Fate>, Ended> {
        if let Some(text) = whole_payload(&document) {
            return Ok(self.of_payload(text));
        }
        let ranges = ranges(&document);
        if ranges.is_empty() {
            let reason = "it has neither the event nor offsets";
            return Ok(Err(failed(&document, reason)));
        }
        let mut refetch = Refetch {
            brokers: &mut self.brokers,
            mapping: self.mapping,
            calls: self.order.to == Target::Function,
            sent,
        };
        match refetch.run(&ranges).await {
            Ok(refetched) => Ok(Ok(of_offsets(refetched, &document))),
            Err(RefetchError::Document(reason)) => Ok(Err(failed(&document, &reason))),
            Err(RefetchError::Brokers(reason)) => Err(Ended(reason)),
        }
    }

    fn of_payload(&self, text: String) -> Result<Prepared, Fate> {
        let bytes = text.len();
        let event = EventText::read(text);
        let event =
            event.map_err(|error| Fate::LeftAlone(format!("its payload is no event: {error}")))?;
        let topic = &self.mapping.topic;
        if let Some(other) = event.records().iter().find(|it| it.topic != *topic) {
            return Err(Fate::LeftAlone(format!(
                "it is of another topic, {}",
                other.topic
            )));
        }
        let limit = self.mapping.body_limit;
        if self.order.to == Target::Function && bytes >= limit {
            return Err(Fate::Failed(Told {
                what: named(std::slice::from_ref(&event)),
                remarks: vec![format!(
                    "its event has {bytes} bytes, and a call carries fewer than {limit}; --to topic writes it back"
                )],
                ..Told::default()
            }));
        }
        Ok(Prepared {
            events: vec![event],
            ..Prepared::default()
        })
    }

    /// Sends an event, in parts where it must be; why some of it was not taken.
    async fn send(
        &mut self,
        found: &Found,
        event: EventText,
        told: &mut Told,
    ) -> Result<Vec<String>, Ended> {
        match self.order.to {
            Target::Function => self.call(found, event, told).await,
            Target::Topic => self.write_back(found, &event, told).await,
        }
    }

    async fn call(
        &mut self,
        found: &Found,
        event: EventText,
        told: &mut Told,
    ) -> Result<Vec<String>, Ended> {
        let mut waiting = vec![event];
        let mut refused = Vec::new();
        while let Some(event) = waiting.pop() {
            self.check_stop()?;
            self.store.hold(found).await?;
            let calls = self
                .calls
                .as_ref()
                .expect("whoever executes calls has them");
            match calls.call(&event).await.map_err(Ended)? {
                Called::Taken(failed) => {
                    let failed: BTreeSet<(i32, i64)> = failed.into_iter().collect();
                    let is_taken = |it: &&EventRecord| !failed.contains(&(it.partition, it.offset));
                    let taken = event.records().iter().filter(is_taken);
                    self.note(found, taken.map(|it| (it.partition, it.offset)), told)?;
                    if !failed.is_empty() {
                        let spans: Vec<Span> = failed.into_iter().map(Span::of).collect();
                        refused.push(format!(
                            "the function says that it failed on {}",
                            Spans(&spans)
                        ));
                    }
                }
                Called::Failed(reason) => refused.push(format!("the function failed: {reason}")),
                Called::TooLarge(reason) => match halves(&event) {
                    Some([first, second]) => waiting.extend([second, first]),
                    None => refused.push(format!("the endpoint does not take it: {reason}")),
                },
            }
        }
        Ok(refused)
    }

    async fn write_back(
        &mut self,
        found: &Found,
        event: &EventText,
        told: &mut Told,
    ) -> Result<Vec<String>, Ended> {
        let mut waiting = match Chunk::of(event) {
            Ok(chunks) => chunks,
            Err(reason) => return Ok(vec![reason]),
        };
        waiting.reverse();
        let mut refused = Vec::new();
        while let Some(chunk) = waiting.pop() {
            self.check_stop()?;
            self.store.hold(found).await?;
            let (partition, offsets) = (chunk.partition, chunk.offsets.clone());
            match chunk.write(&mut self.brokers, &self.mapping.topic).await {
                Ok(()) => {
                    let written = offsets.into_iter().map(|offset| (partition, offset));
                    self.note(found, written, told)?;
                }
                Err(NotWritten::Split(chunks)) => waiting.extend(chunks.into_iter().rev()),
                Err(NotWritten::Chunk(reason)) => refused.push(reason),
                Err(NotWritten::Brokers(reason)) => return Err(Ended(reason)),
            }
        }
        Ok(refused)
    }

    /// Notes what was taken.
    fn note(
        &mut self,
        found: &Found,
        taken: impl Iterator<Item = (i32, i64)>,
        told: &mut Told,
    ) -> Result<(), Ended> {
        let mut sent = Offsets::new();
        for (partition, offset) in taken {
            sent.entry(partition).or_default().insert(offset);
            told.records += 1;
        }
        if !sent.is_empty() {
            self.progress.note_sent(&found.id, &sent)?;
        }
        Ok(())
    }
}

/// The event that a document has, if that is the one that failed: of a record that is too large even for a document, it
/// has one without key and value.
fn whole_payload(document: &FailureDocument) -> Option<String> {
    let text = document.payload.as_ref()?;
    let is_cut = document.condition == "MaximumPayloadSizeExceeded"
        && (text.len() as u64) < document.payload_size;
    (!is_cut).then(|| text.clone())
}

/// Where its records are. The document of a topic tells that by its event alone, even if that is cut.
fn ranges(document: &FailureDocument) -> Vec<LaneRange> {
    let event = match document.lanes.is_empty() {
        true => document.payload.clone().map(EventText::read),
        false => None,
    };
    let Some(Ok(event)) = event else {
        return document.lanes.clone();
    };
    let range = |it: &EventRecord| LaneRange {
        topic: it.topic.clone(),
        partition: it.partition,
        first_offset: it.offset,
        last_offset: it.offset,
        first_time: String::new(),
        last_time: String::new(),
    };
    event.records().iter().map(range).collect()
}

fn of_offsets(refetched: Refetched, document: &FailureDocument) -> Prepared {
    let mut prepared = Prepared {
        events: refetched.events,
        ..Prepared::default()
    };
    let Prepared { lacks, notes, .. } = &mut prepared;
    if !refetched.taken.is_empty() {
        lacks.push(format!("retention has taken {}", Spans(&refetched.taken)));
    }
    if !refetched.oversized.is_empty() {
        lacks.push(format!(
            "no call may carry {}; --to topic writes it back",
            Spans(&refetched.oversized)
        ));
    }
    if document.batch_size > 0 && refetched.found > document.batch_size {
        notes.push(format!(
            "of the {} within its offsets {} had failed",
            counted(refetched.found, "record"),
            document.batch_size
        ));
    }
    let gaps = || {
        format!(
            "there is no record at {} (compacted, or marks of transactions)",
            Spans(&refetched.gaps)
        )
    };
    let lacking = document.batch_size.saturating_sub(refetched.found);
    match (lacking, refetched.gaps.is_empty()) {
        (0, false) => notes.push(gaps()),
        (1.., false) => lacks.push(gaps()),
        (1.., true) if refetched.taken.is_empty() => lacks.push(format!(
            "{} of it {} passed over by FilterCriteria now",
            counted(lacking, "record"),
            if lacking == 1 { "is" } else { "are" }
        )),
        _ => {}
    }
    prepared
}

fn failed(document: &FailureDocument, reason: &str) -> Fate {
    let spans = document.lanes.iter().map(|lane| Span {
        partition: lane.partition,
        first: lane.first_offset,
        last: lane.last_offset,
    });
    let spans: Vec<Span> = spans.collect();
    Fate::Failed(Told {
        what: Spans(&spans).to_string(),
        remarks: vec![reason.to_owned()],
        ..Told::default()
    })
}

/// The records of events, as runs of offsets.
fn named(events: &[EventText]) -> String {
    let mut spans: Vec<Span> = Vec::new();
    for record in events.iter().flat_map(EventText::records) {
        match spans.last_mut() {
            Some(span) if span.partition == record.partition && span.last < record.offset => {
                span.last = record.offset;
            }
            _ => spans.push(Span::of((record.partition, record.offset))),
        }
    }
    match spans.is_empty() {
        true => "no record is left".to_owned(),
        false => Spans(&spans).to_string(),
    }
}

fn is_in(offsets: &Offsets, record: &EventRecord) -> bool {
    let of = offsets.get(&record.partition);
    of.is_some_and(|of| of.contains(&record.offset))
}

/// The event of its first records, and that of the others.
fn halves(event: &EventText) -> Option<[EventText; 2]> {
    let half = event.records().len() / 2;
    let part = |second: bool| {
        let mut at = 0;
        event.only(|_| {
            at += 1;
            (at > half) == second
        })
    };
    Some([part(false)?, part(true)?])
}

impl Span {
    fn of((partition, offset): (i32, i64)) -> Self {
        Self {
            partition,
            first: offset,
            last: offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document of one record, with an event of two records.
    fn document(condition: &str, payload_size: u64) -> FailureDocument {
        let record = |offset: i64| {
            format!(r#"{{"topic":"orders","partition":3,"offset":{offset},"timestamp":1}}"#)
        };
        let event = format!(
            r#"{{"records":{{"orders-3":[{},{}]}}}}"#,
            record(7),
            record(9)
        );
        FailureDocument {
            function_arn: String::new(),
            condition: condition.to_owned(),
            bootstrap_servers: None,
            batch_size: 1,
            payload_size,
            lanes: Vec::new(),
            payload: Some(event),
        }
    }

    #[test]
    fn an_event_that_was_cut_tells_where_its_records_are() {
        let cut = document("MaximumPayloadSizeExceeded", 50_000_000);
        assert_eq!(whole_payload(&cut), None);
        let found: Vec<_> = ranges(&cut)
            .into_iter()
            .map(|it| (it.topic, it.partition, it.first_offset, it.last_offset))
            .collect();
        assert_eq!(
            found,
            [
                ("orders".to_owned(), 3, 7, 7),
                ("orders".to_owned(), 3, 9, 9)
            ]
        );
        for whole in [
            document("MaximumPayloadSizeExceeded", 10),
            document("RetriesExhausted", 50_000_000),
        ] {
            assert_eq!(whole_payload(&whole), whole.payload);
        }
    }

    #[test]
    fn an_event_is_halved_until_it_has_one_record() {
        let event = EventText::read(document("", 0).payload.unwrap()).unwrap();
        let [first, second] = halves(&event).unwrap();
        let offsets = [first, second].map(|half| {
            assert!(halves(&half).is_none());
            half.records()[0].offset
        });
        assert_eq!(offsets, [7, 9]);
        assert_eq!(named(&[event]), "partition 3 offsets 7 to 9");
        assert_eq!(named(&[]), "no record is left");
    }

    #[test]
    fn what_is_not_whole_is_told_and_keeps_its_document() {
        let span = |first, last| Span {
            partition: 0,
            first,
            last,
        };
        let check = |refetched: Refetched, lacks: &[&str], notes: &[&str]| {
            let document = FailureDocument {
                batch_size: 2,
                ..document("", 0)
            };
            let prepared = of_offsets(refetched, &document);
            assert_eq!(
                (prepared.lacks, prepared.notes),
                (
                    lacks.iter().map(|it| (*it).to_owned()).collect(),
                    notes.iter().map(|it| (*it).to_owned()).collect(),
                )
            );
        };
        let with = |found| Refetched {
            found,
            ..Refetched::default()
        };
        check(with(2), &[], &[]);
        check(
            with(3),
            &[],
            &["of the 3 records within its offsets 2 had failed"],
        );
        check(
            with(1),
            &["1 record of it is passed over by FilterCriteria now"],
            &[],
        );
        let taken = Refetched {
            taken: vec![span(1, 4)],
            ..with(1)
        };
        check(
            taken,
            &["retention has taken partition 0 offsets 1 to 4"],
            &[],
        );
        let gap =
            "there is no record at partition 0 offset 5 (compacted, or marks of transactions)";
        let gaps = |found| Refetched {
            gaps: vec![span(5, 5)],
            ..with(found)
        };
        check(gaps(2), &[], &[gap]);
        check(gaps(1), &[gap], &[]);
    }
}
