//! Writing failed records to a topic of the same cluster: what the [`Producer`] decides, over our own connections.
//!
//! A document is made when it is sent, of the bytes that the function was called with; nothing is held twice.
//!
//! Invariant: a record that leaves for a topic ends only by that topic's acknowledgement, or as `diverting` has it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::batch::{Batch, BatchState};
use super::super::links::Role;
use super::super::producer::{Chunk, Event, Form, Item, Producer};
use super::super::{Destination, DiversionId, Duty, Severity, Taken, Undelivered};
use super::{Consumer, ConsumerConfig, Ticket};
use crate::kafka::messages::{
    ApiKey, BATCHES_SINCE, InitProducerIdResponse, MetadataRequest, MetadataResponse,
    ProducePartition, ProduceRequest, ProduceResponse, Request,
};
use crate::kafka::partitioner::hash_of_key;
use crate::kafka::records::Codec;
use crate::kafka::records::write::NewRecord;
use crate::lambda::failure::{Failure, Origin};
use crate::limits;
use crate::time::Instant;

/// The producer of a consumer whose failed records go to a topic.
pub(super) fn producer(config: &ConsumerConfig, now: Instant) -> Option<Producer> {
    match (&config.delivery.destination, config.duty) {
        (Some(Destination::Topic(to)), Duty::Serve) => {
            Some(Producer::new(&to.topic, config.bootstrap.clone(), now))
        }
        _ => None,
    }
}

impl Consumer {
    /// Begins to write what leaves a batch.
    pub(super) fn begin_producing(&mut self, of: DiversionId, batch: u64, failure: Failure) {
        let (Some(producer), Some(leaving)) = (&mut self.producer, self.batches.get(&batch)) else {
            unreachable!("a batch leaves for a topic");
        };
        let items = leaving
            .leaving_records()
            .map(|(partition, offset, key)| Item {
                of,
                partition,
                offset,
                key_hash: key.as_deref().map(hash_of_key),
                form: Form::Whole,
            });
        let items = items.collect();
        producer.begin(of, batch, failure, items);
    }

    /// Sends whatever may be sent to the topic.
    pub(super) fn pump_producing(&mut self) {
        self.ask_for_view_of_destination();
        let Some(producer) = &mut self.producer else {
            return;
        };
        for node in producer.nodes_due(self.now) {
            self.produce_to(node);
        }
        self.drain_producer_events();
    }

    fn ask_for_view_of_destination(&mut self) {
        let Some(producer) = &self.producer else {
            return;
        };
        // The own topic is looked for first: what is wrong with the brokers is told there.
        if !producer.wants_view(self.now) || self.cluster.view() == 0 {
            return;
        }
        let topic = producer.topic().to_owned();
        let seed = self.cluster.seed();
        if !self.is_ready(Role::Seed, &seed) {
            return;
        }
        let topics = self.may_ask_by_name().then(|| vec![topic]);
        let request = Request::Metadata(MetadataRequest { topics });
        if self.send(Role::Seed, &request, Ticket::ViewOfDestination)
            && let Some(producer) = &mut self.producer
        {
            producer.asked_for_view();
        }
    }

    /// Sends what waits for one broker, if it can be sent.
    fn produce_to(&mut self, node: i32) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        let view = producer.view();
        let Some(endpoint) = producer.broker(node).cloned() else {
            producer.doubt_view(view, self.now);
            return;
        };
        let role = Role::Produce(node);
        if !self.is_ready(role, &endpoint) || !self.is_known_to(role) {
            return;
        }
        let (mut room, mut partitions) = (limits::PRODUCE_BYTES_MAX, Vec::new());
        let due = self.producer.as_ref().map(|it| it.partitions_due(node));
        for partition in due.unwrap_or_default() {
            if let Some((part, bytes)) = self.next_for(partition, room) {
                room = room.saturating_sub(bytes);
                partitions.push(part);
            }
            if room == 0 {
                break;
            }
        }
        let Some(producer) = self.producer.as_mut().filter(|_| !partitions.is_empty()) else {
            return;
        };
        producer.sent_to(node);
        let ticket = Ticket::Produce {
            node,
            view,
            partitions: partitions.iter().map(|it| it.partition).collect(),
        };
        let request = Request::Produce(ProduceRequest {
            topic: producer.topic().to_owned(),
            timeout_ms: i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX),
            partitions,
        });
        self.send(role, &request, ticket);
    }

    /// Whether a broker would know what comes again, or cannot; asks for an id first.
    fn is_known_to(&mut self, role: Role) -> bool {
        let can = self.links.version(role, ApiKey::InitProducerId).is_some()
            && self
                .links
                .version(role, ApiKey::Produce)
                .is_some_and(|version| version >= BATCHES_SINCE);
        let Some(producer) = &mut self.producer else {
            return false;
        };
        if !can {
            // As long as any of them is so old, nobody tells what repeats.
            producer.identification.go_without();
        } else if producer.identification.is_wanted(self.now) {
            producer.identification.asked();
            self.send(role, &Request::InitProducerId, Ticket::ProducerId);
            return false;
        }
        let producer = self.producer.as_ref();
        producer.is_some_and(|it| it.identification.is_settled())
    }

    /// What goes to one partition next, and its size: no more than there is room for, unless it is all that goes, or was
    /// sent before.
    fn next_for(&mut self, partition: i32, room: usize) -> Option<(ProducePartition, usize)> {
        let is_empty = room == limits::PRODUCE_BYTES_MAX;
        let batches = &self.batches;
        let leaves = |id: u64| {
            let batch = batches.get(&id);
            batch.is_some_and(|it| matches!(it.state, BatchState::Leaving(_)))
        };
        let chunk = self.producer.as_mut()?.next_chunk(partition, leaves)?;
        let bytes_max = chunk.bytes_max.min(room);
        let (mut records, mut bytes, mut is_gone) = (Vec::new(), 0, false);
        for item in &chunk.items {
            let Some(record) = self.document(&chunk, item) else {
                is_gone = chunk.again.is_some() || records.is_empty();
                break;
            };
            let size = record.value.as_ref().map_or(0, Bytes::len);
            let fits = bytes + size <= bytes_max || (is_empty && records.is_empty());
            if !fits && chunk.again.is_none() {
                break;
            }
            bytes += size;
            records.push(record);
        }
        let codec = match chunk.again {
            Some((_, codec)) => codec,
            None => self.codec_for(chunk.items.first()?),
        };
        let producer = self.producer.as_mut()?;
        if is_gone {
            producer.drop_chunk(partition, &chunk);
            return None;
        }
        if records.is_empty() {
            return None;
        }
        let stamp = producer.send(partition, &chunk, records.len(), bytes, codec)?;
        let part = ProducePartition {
            partition,
            stamp,
            codec,
            records,
        };
        Some((part, bytes))
    }

    /// Compressed as the records of its partition are; as well as all brokers can, where that is too large.
    fn codec_for(&self, item: &Item) -> Option<Codec> {
        match item.form {
            Form::Whole => self.lanes.get(&item.partition).and_then(|lane| lane.codec),
            Form::Gzip | Form::Bare => Some(Codec::Gzip),
        }
    }

    /// One record's document under its own key; `None` once it does not leave any more.
    fn document(&self, chunk: &Chunk, item: &Item) -> Option<NewRecord> {
        let Some(Destination::Topic(to)) = &self.config.delivery.destination else {
            return None;
        };
        let batch = self.batches.get(&chunk.batch)?;
        let record = batch.leaving_record(&self.topic, item.place(), &self.shape)?;
        let event = match item.form {
            Form::Whole | Form::Gzip => &record.event[..],
            Form::Bare => &[],
        };
        let origin = Origin {
            function_arn: &to.function_arn,
            bootstrap_servers: &self.config.bootstrap_servers,
        };
        let (place, bytes) = (&record.place, record.event_bytes);
        let document = chunk.failure.record_document(origin, place, bytes, event);
        Some(NewRecord {
            timestamp: chunk.failure.at_unix_ms,
            key: record.key,
            value: Some(document.into()),
            headers: Vec::new(),
        })
    }

    pub(super) fn handle_produced(
        &mut self,
        node: i32,
        view: u64,
        partitions: &[i32],
        response: &ProduceResponse,
    ) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        producer.heard_of(node);
        for partition in partitions {
            let mut answers = response.partitions.iter();
            match answers.find(|answer| answer.partition == *partition) {
                Some(answer) => producer.handle_produced(answer, view, self.now),
                None => producer.handle_lost(
                    *partition,
                    "the broker's answer is not of all that was sent",
                ),
            }
        }
    }

    /// A request to write was not answered.
    pub(super) fn handle_not_produced(&mut self, node: i32, partitions: &[i32]) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        producer.heard_of(node);
        for partition in partitions {
            let reason = "the connection ended before its leader had answered";
            producer.handle_lost(*partition, reason);
        }
    }

    pub(super) fn handle_view_of_destination(&mut self, response: &MetadataResponse) {
        let now = self.now;
        let Some(producer) = &mut self.producer else {
            return;
        };
        let was_amiss = producer.amiss().is_some();
        producer.handle_view(response, now);
        match producer.amiss().map(str::to_owned) {
            Some(reason) => self.destination_fault(reason),
            None if was_amiss => self.faults.destination = None,
            None => {}
        }
    }

    pub(super) fn handle_no_view_of_destination(&mut self) {
        let now = self.now;
        if let Some(producer) = &mut self.producer {
            producer.handle_no_view(now);
        }
    }

    pub(super) fn handle_no_identity(&mut self) {
        if let Some(producer) = &mut self.producer {
            producer.handle_no_identity("the connection ended before a producer id was given");
        }
    }

    pub(super) fn handle_identity(&mut self, response: &InitProducerIdResponse) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        let Err(error) = producer.identification.handle_answer(response, self.now) else {
            return;
        };
        match producer.identification.is_settled() {
            true => self.notice(
                Severity::Warn,
                "Failed records are written without idempotence: the mapping's user may not IDEMPOTENT_WRITE",
                format!("error={error}"),
            ),
            false => producer.handle_no_identity(&format!("brokers give no producer id: {error}")),
        }
    }

    /// The connection to a leader ended.
    pub(super) fn handle_produce_broken(&mut self, node: i32, reason: &str) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        producer.doubt_view(producer.view(), self.now);
        producer.fail_node(node, reason);
    }

    pub(super) fn drain_producer_events(&mut self) {
        while let Some(event) = self.producer.as_mut().and_then(Producer::poll_event) {
            match event {
                Event::Written(batch, records) => self.end_written(batch, &records),
                Event::Shortened { partition, offset } => {
                    self.counters.documents_shortened += 1;
                    self.notice(
                        Severity::Warn,
                        "Failed record goes to its topic without its event, which that does not take",
                        format!("partition={partition} offset={offset}"),
                    );
                }
                Event::Ended(of, result) => {
                    // Of those without an event each is told by itself.
                    let result = result.map(|()| Taken::Whole);
                    let result = result.map_err(|reason| Undelivered { reason });
                    self.handle_diverted(of, result);
                }
            }
        }
    }

    /// Some of what leaves a batch was written; the others still leave.
    fn end_written(&mut self, id: u64, records: &BTreeSet<(i32, i64)>) {
        let leaves = |batch: &Batch| matches!(batch.state, BatchState::Leaving(_));
        if !self.batches.get(&id).is_some_and(leaves) {
            return;
        }
        let Some(mut batch) = self.batches.remove(&id) else {
            return;
        };
        let before = batch.leaving_count();
        let mut kept = Vec::new();
        for mut part in batch.take_parts() {
            let partition = part.partition;
            match part.end_leaving_of(|mark| records.contains(&(partition, mark.offset))) {
                true => {
                    self.pass_part(&part);
                    kept.push(part);
                }
                false => self.finish_part(part),
            }
        }
        let after = kept
            .iter()
            .map(|part| part.leaving_records() as u64)
            .sum::<u64>();
        self.counters.records_diverted += before - after;
        if kept.is_empty() {
            return;
        }
        batch.reframe(kept, &self.shape);
        if after == 0 {
            self.end_leaving(batch);
        } else {
            self.batches.insert(id, batch);
        }
    }

    /// Tries of which nothing is on its way are given up, so that their lanes can be released; they begin again where
    /// they are not.
    pub(super) fn forget_unsent_tries(&mut self) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        let open: Vec<(DiversionId, u64)> = self
            .diversions
            .iter()
            .filter(|(of, _)| !producer.is_in_flight(**of))
            .map(|(of, id)| (*of, *id))
            .collect();
        for (of, id) in open {
            producer.forget(of);
            self.diversions.remove(&of);
            if let Some(BatchState::Leaving(writing)) =
                self.batches.get_mut(&id).map(|it| &mut it.state)
            {
                writing.open = None;
            }
        }
    }

    /// Nobody waits for the end of a writing any more.
    pub(super) fn forget_try(&mut self, of: DiversionId) {
        if let Some(producer) = &mut self.producer {
            producer.forget(of);
        }
    }
}
