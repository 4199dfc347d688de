//! Failed records on their way to a topic of the same cluster (decision 18): where each goes, what is under way, and what
//! is known of it.
//!
//! ```text
//!  unplaced --partitions known--> queued --> sent --acknowledged--> written
//!                                   ^         |
//!                                   +---------+ too large: fewer at once, or smaller
//!                                             |
//!                                             +-- lost or refused: its try has failed, and it is kept as it was sent
//! ```
//!
//! What was sent and never acknowledged may have been written. So the next that goes to its partition is the same again:
//! the same records under the same numbers, and a broker that has them says so (KIP-98). Numbers that come again with
//! other records would pass for a repetition, and the records be lost: where its batch is gone, what follows is written
//! under a new producer id.
//!
//! Sources: KIP-98 (idempotence), and `ProducerBatch`, `Sender` and `TransactionManager` of Kafka's Java client.
//!
//! Invariant: a record counts as written once the leader has acknowledged it for all replicas in sync; one batch is in
//! flight for each partition at most.

mod identification;
mod outbox;
mod refusal;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use self::identification::Identification;
use self::outbox::{Outbox, Sent};
use self::refusal::{forgets_us, is_stale_view, refusal};
use super::cluster::{Cluster, Seen};
use super::{DiversionId, Endpoint};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{MetadataResponse, ProducedPartition};
use crate::kafka::records::Codec;
use crate::kafka::records::write::ProducerStamp;
use crate::lambda::failure::Failure;
use crate::time::Instant;

/// A record to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// The try that it is of.
    pub(super) of: DiversionId,
    /// Where it was read: its partition,
    pub(super) partition: i32,
    /// and its offset.
    pub(super) offset: i64,
    /// What decides where it goes; `None` without a key.
    pub(super) key_hash: Option<u32>,
    pub(super) form: Form,
}

impl Item {
    pub(super) fn place(&self) -> (i32, i64) {
        (self.partition, self.offset)
    }
}

/// How much of a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Its document with its event, compressed as the records of its partition are.
    Whole,
    /// The same, compressed as well as all brokers can: the topic does not take it else.
    Gzip,
    /// Its document without the event: the topic takes no more.
    Bare,
}

/// What became of something that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The topic has these records of a batch, by partition and offset.
    Written(u64, BTreeSet<(i32, i64)>),
    /// The topic is too narrow for that record's event.
    Shortened { partition: i32, offset: i64 },
    /// A try has ended: all of it is written, or not all of it, and why.
    Ended(DiversionId, Result<(), String>),
}

/// One batch's records, once.
#[derive(Debug)]
struct Try {
    batch: u64,
    failure: Rc<Failure>,
    /// Records that the topic does not have yet.
    left: usize,
    /// Why it fails; what is in flight may still be acknowledged.
    failed: Option<String>,
}

/// The next that goes to a partition.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The try that waits for it; `None` of what was sent before, while its batch waits to try again.
    pub(super) of: Option<DiversionId>,
    pub(super) batch: u64,
    /// What is known of them.
    pub(super) failure: Rc<Failure>,
    /// As many of the first as fit; all of them, where they were sent before.
    pub(super) items: Vec<Item>,
    /// How they were sent before.
    pub(super) again: Option<(ProducerStamp, Option<Codec>)>,
    /// What several of them may take.
    pub(super) bytes_max: usize,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Producer {
    topic: String,
    cluster: Cluster,
    /// Why the topic cannot be written to, as the newest view has it.
    amiss: Option<String>,
    /// Under which id it writes.
    pub(super) identification: Identification,
    tries: BTreeMap<DiversionId, Try>,
    unplaced: Vec<Item>,
    outboxes: BTreeMap<i32, Outbox>,
    /// Brokers that owe an answer to what was written.
    busy: BTreeSet<i32>,
    /// Records without a key go round.
    turn: usize,
    events: VecDeque<Event>,
}

impl Producer {
    /// Writes nothing yet.
    pub(super) fn new(topic: &str, bootstrap: Vec<Endpoint>, now: Instant) -> Self {
        Self {
            topic: topic.to_owned(),
            cluster: Cluster::new(bootstrap, now),
            amiss: None,
            identification: Identification::new(now),
            tries: BTreeMap::new(),
            unplaced: Vec::new(),
            outboxes: BTreeMap::new(),
            busy: BTreeSet::new(),
            turn: 0,
            events: VecDeque::new(),
        }
    }

    /// Begins to write those records of a batch, of which some may have been sent by a try before.
    pub(super) fn begin(
        &mut self,
        of: DiversionId,
        batch: u64,
        failure: Failure,
        items: Vec<Item>,
    ) {
        let left = items.len();
        assert!(left > 0, "a try has records");
        let wanted: BTreeSet<(i32, i64)> = items.iter().map(Item::place).collect();
        let mut sent_before = BTreeSet::new();
        for partition in self.partitions_with_sent(batch) {
            let Some(Outbox { sent, .. }) = self.outboxes.get_mut(&partition) else {
                continue;
            };
            let places = |sent: &Sent| sent.items.iter().map(Item::place).collect::<Vec<_>>();
            match sent {
                Some(sent) if places(sent).iter().all(|place| wanted.contains(place)) => {
                    sent.of = Some(of);
                    sent.items.iter_mut().for_each(|item| item.of = of);
                    sent_before.extend(places(sent));
                }
                // Some of it has ended elsewhere: it cannot come again as it was.
                Some(Sent { is_in_flight, .. }) if !*is_in_flight => self.begin_anew(partition),
                _ => {}
            }
        }
        let items = items.into_iter();
        self.unplaced
            .extend(items.filter(|item| !sent_before.contains(&item.place())));
        let failed = None;
        let this = Try {
            batch,
            failure: Rc::new(failure),
            left,
            failed,
        };
        self.tries.insert(of, this);
        self.place();
    }

    /// Nobody waits for the end of a try any more.
    pub(super) fn forget(&mut self, of: DiversionId) {
        self.tries.remove(&of);
        self.take_back(of);
    }

    /// What has become of what was sent, since the last call.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether something of a try is on its way to a broker.
    pub(super) fn is_in_flight(&self, of: DiversionId) -> bool {
        let mut sent = self.outboxes.values().filter_map(|it| it.sent.as_ref());
        sent.any(|sent| sent.is_in_flight && sent.of == Some(of))
    }

    /// Whether the cluster is to be asked for the topic now. The first view shows before the first failure that there is
    /// none.
    pub(super) fn wants_view(&self, now: Instant) -> bool {
        self.has_reason_to_look() && self.cluster.wants_refresh(now)
    }

    fn has_reason_to_look(&self) -> bool {
        self.cluster.view() == 0 || self.amiss.is_some() || !self.tries.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let view = self.cluster.poll_timeout();
        let identity = self.identification.wanted_at();
        [
            view.filter(|_| self.has_reason_to_look()),
            identity.filter(|_| !self.tries.is_empty()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn view(&self) -> u64 {
        self.cluster.view()
    }

    pub(super) fn broker(&self, node: i32) -> Option<&Endpoint> {
        self.cluster.broker(node)
    }

    /// Why the topic cannot be written to, as the newest view has it.
    pub(super) fn amiss(&self) -> Option<&str> {
        self.amiss.as_deref()
    }

    pub(super) fn asked_for_view(&mut self) {
        self.cluster.asked();
    }

    /// The cluster was asked for the topic in vain.
    pub(super) fn handle_no_view(&mut self, now: Instant) {
        self.cluster.failed(now);
        if self.cluster.view() == 0 {
            let reason = format!("the cluster could not be asked for topic {}", self.topic);
            self.fail_all(&reason);
        }
    }

    /// The cluster has told of the topic.
    pub(super) fn handle_view(&mut self, response: &MetadataResponse, now: Instant) {
        if !response.error.is_ok() {
            self.handle_no_view(now);
            return;
        }
        let topic = self.topic.clone();
        self.amiss = match self.cluster.apply(response, &topic, now) {
            Seen::Topic { recreated, .. } => {
                self.take_back_strays(recreated);
                self.place();
                self.fail_leaderless();
                None
            }
            Seen::Missing => Some(refusal(&topic, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)),
            Seen::Denied => Some(refusal(&topic, ErrorCode::TOPIC_AUTHORIZATION_FAILED, None)),
            Seen::Failed(error) => Some(refusal(&topic, error, None)),
        };
        if let Some(reason) = self.amiss.clone() {
            self.fail_all(&reason);
        }
    }

    /// Brokers that something waits to be sent to.
    pub(super) fn nodes_due(&mut self, now: Instant) -> Vec<i32> {
        let due = self.outboxes.iter().filter(|(_, outbox)| outbox.is_due());
        let leaders = due.map(|(partition, _)| self.cluster.leader(*partition));
        let leaders: Vec<Option<i32>> = leaders.map(|it| it.map(|leader| leader.node)).collect();
        if leaders.contains(&None) {
            self.cluster.invalidate(self.cluster.view(), now);
        }
        let nodes = leaders.into_iter().flatten();
        let nodes: BTreeSet<i32> = nodes.filter(|node| !self.busy.contains(node)).collect();
        nodes.into_iter().collect()
    }

    /// A broker that leads something is not among the cluster's.
    pub(super) fn doubt_view(&mut self, view: u64, now: Instant) {
        self.cluster.invalidate(view, now);
    }

    /// Partitions of that broker to which something waits to be sent.
    pub(super) fn partitions_due(&self, node: i32) -> Vec<i32> {
        let due = self.outboxes.iter().filter(|(_, outbox)| outbox.is_due());
        due.map(|(partition, _)| *partition)
            .filter(|partition| {
                let leader = self.cluster.leader(*partition);
                leader.is_some_and(|leader| leader.node == node)
            })
            .collect()
    }

    /// What goes to a partition next. `is_waiting`: whether that batch still has records for the topic.
    pub(super) fn next_chunk(
        &mut self,
        partition: i32,
        is_waiting: impl Fn(u64) -> bool,
    ) -> Option<Chunk> {
        let outbox = self.outboxes.get(&partition)?;
        let bytes_max = outbox.bytes_max;
        match &outbox.sent {
            Some(sent) if sent.is_in_flight => return None,
            Some(sent) if sent.of.is_some() || is_waiting(sent.batch) => {
                return Some(Chunk {
                    of: sent.of,
                    batch: sent.batch,
                    failure: Rc::clone(&sent.failure),
                    items: sent.items.clone(),
                    again: Some((sent.stamp, sent.codec)),
                    bytes_max,
                });
            }
            Some(_) => self.begin_anew(partition),
            None => {}
        }
        let queue = &self.outboxes.get(&partition)?.queue;
        let first = queue.front()?;
        let this = self.tries.get(&first.of)?;
        let alike = queue
            .iter()
            .take_while(|item| item.of == first.of && item.form == Form::Whole);
        let items: Vec<Item> = match first.form {
            Form::Whole => alike.copied().collect(),
            Form::Gzip | Form::Bare => vec![*first],
        };
        Some(Chunk {
            of: Some(first.of),
            batch: this.batch,
            failure: Rc::clone(&this.failure),
            items,
            again: None,
            bytes_max,
        })
    }

    /// The records of a chunk are not among those that leave any more: it cannot be sent.
    pub(super) fn drop_chunk(&mut self, partition: i32, chunk: &Chunk) {
        match chunk.again {
            Some(_) => self.begin_anew(partition),
            None => {
                if let Some(outbox) = self.outboxes.get_mut(&partition) {
                    outbox.queue.drain(..chunk.items.len());
                }
            }
        }
        if let Some(of) = chunk.of {
            self.fail(of, "some of its records have ended another way");
        }
    }

    /// The stamp of what is sent next to a partition, whose first `count` items that is.
    pub(super) fn send(
        &mut self,
        partition: i32,
        chunk: &Chunk,
        count: usize,
        bytes: usize,
        codec: Option<Codec>,
    ) -> Option<ProducerStamp> {
        let newest = self.identification.identity();
        let outbox = self.outboxes.get_mut(&partition)?;
        if let Some(sent) = &mut outbox.sent {
            sent.is_in_flight = true;
            return Some(sent.stamp);
        }
        let stamp = outbox.stamp(newest);
        outbox.sent = Some(Sent {
            of: chunk.of,
            batch: chunk.batch,
            failure: Rc::clone(&chunk.failure),
            items: outbox.queue.drain(..count).collect(),
            bytes,
            stamp,
            codec,
            is_in_flight: true,
            is_doubtful: false,
        });
        Some(stamp)
    }

    /// A request is under way to a broker.
    pub(super) fn sent_to(&mut self, node: i32) {
        self.busy.insert(node);
    }

    /// A broker owes no answer any more.
    pub(super) fn heard_of(&mut self, node: i32) {
        self.busy.remove(&node);
    }

    /// The question for an id was not answered.
    pub(super) fn handle_no_identity(&mut self, reason: &str) {
        self.identification.handle_no_answer();
        self.fail_all(reason);
    }

    /// The leader has answered for one partition.
    pub(super) fn handle_produced(&mut self, answer: &ProducedPartition, view: u64, now: Instant) {
        let partition = answer.partition;
        match answer.error {
            // It was written by a try whose answer was lost.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => self.acknowledge(partition),
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
                self.shrink(partition);
            }
            error => {
                if is_stale_view(error) {
                    self.cluster.invalidate(view, now);
                }
                let reason = refusal(&self.topic, error, answer.message.as_deref());
                self.handle_lost(partition, &reason);
                if forgets_us(error) {
                    self.begin_anew(partition);
                }
            }
        }
    }

    /// Whether something was written to a partition is not known, or it was not: what waits there has failed.
    pub(super) fn handle_lost(&mut self, partition: i32, reason: &str) {
        let Some(outbox) = self.outboxes.get_mut(&partition) else {
            return;
        };
        if let Some(sent) = &mut outbox.sent {
            sent.is_in_flight = false;
            sent.is_doubtful = true;
        }
        for of in self.tries_at(&[partition]) {
            self.fail(of, reason);
        }
    }

    /// A broker cannot be written to: what waits for it has failed.
    pub(super) fn fail_node(&mut self, node: i32, reason: &str) {
        self.busy.remove(&node);
        let partitions = self.partitions_due(node);
        for of in self.tries_at(&partitions) {
            self.fail(of, reason);
        }
    }

    fn acknowledge(&mut self, partition: i32) {
        let Some(outbox) = self.outboxes.get_mut(&partition) else {
            return;
        };
        let Some(sent) = outbox.sent.take() else {
            return;
        };
        outbox.count_up(sent.items.len());
        let records = sent.items.len();
        let this = sent.of.and_then(|of| self.tries.get(&of));
        // The end of a whole try says it of all of its records.
        if this.is_none_or(|this| this.left > records) {
            let written = sent.items.iter().map(Item::place).collect();
            self.events.push_back(Event::Written(sent.batch, written));
        }
        if let Some(of) = sent.of {
            self.count_written(of, records);
        }
    }

    fn count_written(&mut self, of: DiversionId, records: usize) {
        let Some(this) = self.tries.get_mut(&of) else {
            return;
        };
        this.left = this.left.saturating_sub(records);
        if this.left == 0 {
            self.tries.remove(&of);
            self.events.push_back(Event::Ended(of, Ok(())));
        } else {
            self.end_if_over(of);
        }
    }

    /// The topic takes no batch of that size: fewer records are sent at once, one alone is made smaller.
    fn shrink(&mut self, partition: i32) {
        let Some(outbox) = self.outboxes.get_mut(&partition) else {
            return;
        };
        let Some(mut sent) = outbox.sent.take() else {
            return;
        };
        if sent.is_doubtful {
            // Its numbers may stand for it already, and must not stand for what goes there next.
            self.begin_anew(partition);
        }
        let (Some(of), Some(outbox)) = (sent.of, self.outboxes.get_mut(&partition)) else {
            // Its batch begins again with it.
            return;
        };
        if let [item] = &mut sent.items[..] {
            let packs = matches!(sent.codec, Some(Codec::Gzip | Codec::Zstd));
            item.form = match item.form {
                Form::Whole if !packs => Form::Gzip,
                Form::Whole | Form::Gzip => {
                    let (partition, offset) = item.place();
                    let event = Event::Shortened { partition, offset };
                    self.events.push_back(event);
                    Form::Bare
                }
                Form::Bare => {
                    let reason = refusal(&self.topic, ErrorCode::MESSAGE_TOO_LARGE, None);
                    self.fail(of, &reason);
                    return;
                }
            };
        } else {
            outbox.bytes_max = sent.bytes / 2;
        }
        for item in sent.items.into_iter().rev() {
            outbox.queue.push_front(item);
        }
        // What its try has given up meanwhile is not sent again.
        if self.tries.get(&of).is_none_or(|this| this.failed.is_some()) {
            self.take_back(of);
            self.end_if_over(of);
        }
    }

    /// What follows to that partition is written as by somebody else.
    fn begin_anew(&mut self, partition: i32) {
        let Some(outbox) = self.outboxes.get_mut(&partition) else {
            return;
        };
        outbox.sent = None;
        outbox.next_sequence = 0;
        if let Some(identity) = outbox.identity.take() {
            self.identification.leave(identity);
        }
    }

    fn partitions_with_sent(&self, batch: u64) -> Vec<i32> {
        let outboxes = self.outboxes.iter().filter(|(_, outbox)| {
            let sent = outbox.sent.as_ref();
            sent.is_some_and(|sent| sent.batch == batch)
        });
        outboxes.map(|(partition, _)| *partition).collect()
    }

    /// Gives every record a partition, once their number is known.
    fn place(&mut self) {
        let partitions = self.cluster.partitions().cast_unsigned();
        if partitions == 0 {
            return;
        }
        let all = (0..self.cluster.partitions()).filter(|it| self.cluster.leader(*it).is_some());
        let led: Vec<i32> = all.collect();
        for item in std::mem::take(&mut self.unplaced) {
            let partition = match item.key_hash {
                Some(hash) => (hash % partitions).cast_signed(),
                None => {
                    self.turn = self.turn.wrapping_add(1);
                    let at = self.turn.checked_rem(led.len()).unwrap_or(0);
                    led.get(at).copied().unwrap_or(0)
                }
            };
            let outbox = self.outboxes.entry(partition);
            outbox.or_insert_with(Outbox::new).queue.push_back(item);
        }
    }

    /// What was to go to partitions that the topic has no more finds another.
    fn take_back_strays(&mut self, is_new: bool) {
        let partitions: Vec<i32> = self.outboxes.keys().copied().collect();
        for partition in partitions {
            if !is_new && self.cluster.has(partition) {
                continue;
            }
            let Some(outbox) = self.outboxes.get_mut(&partition) else {
                continue;
            };
            self.unplaced.extend(outbox.queue.drain(..));
            if let Some(sent) = outbox.sent.take_if(|sent| !sent.is_in_flight) {
                let wanted = sent.items.into_iter().filter(|_| sent.of.is_some());
                self.unplaced.extend(wanted);
                self.begin_anew(partition);
            }
        }
    }

    fn fail_leaderless(&mut self) {
        let due = self.outboxes.iter().filter(|(_, outbox)| outbox.is_due());
        let leaderless = due.filter(|(partition, _)| self.cluster.leader(**partition).is_none());
        let leaderless: Vec<i32> = leaderless.map(|(partition, _)| *partition).collect();
        for partition in leaderless {
            let reason = format!(
                "partition {partition} of topic {} has no leader; look at the brokers that hold it",
                self.topic
            );
            for of in self.tries_at(&[partition]) {
                self.fail(of, &reason);
            }
        }
    }

    /// Tries that wait for something to be sent to one of those partitions.
    fn tries_at(&self, partitions: &[i32]) -> BTreeSet<DiversionId> {
        let outboxes = partitions.iter().filter_map(|it| self.outboxes.get(it));
        let waiting = outboxes.flat_map(|outbox| {
            let sent = outbox.sent.as_ref().filter(|sent| !sent.is_in_flight);
            let sent = sent.and_then(|sent| sent.of);
            outbox.queue.iter().map(|item| item.of).chain(sent)
        });
        waiting.collect()
    }

    fn fail_all(&mut self, reason: &str) {
        let tries: Vec<DiversionId> = self.tries.keys().copied().collect();
        for of in tries {
            self.fail(of, reason);
        }
    }

    fn fail(&mut self, of: DiversionId, reason: &str) {
        let Some(this) = self.tries.get_mut(&of) else {
            return;
        };
        this.failed.get_or_insert_with(|| reason.to_owned());
        self.take_back(of);
        self.end_if_over(of);
    }

    /// What of a try is not on its way is not sent; what may have been written is kept for its batch.
    fn take_back(&mut self, of: DiversionId) {
        self.unplaced.retain(|item| item.of != of);
        for outbox in self.outboxes.values_mut() {
            outbox.queue.retain(|item| item.of != of);
            if let Some(sent) = &mut outbox.sent
                && sent.of == Some(of)
                && !sent.is_in_flight
            {
                sent.of = None;
            }
        }
    }

    /// A try that has failed ends once nothing of it is on its way.
    fn end_if_over(&mut self, of: DiversionId) {
        if self.is_in_flight(of) {
            return;
        }
        let failed = self.tries.get(&of).and_then(|this| this.failed.clone());
        if let Some(reason) = failed {
            self.tries.remove(&of);
            self.events.push_back(Event::Ended(of, Err(reason)));
        }
    }
}

#[cfg(test)]
mod tests;
