//! A lane: the pipeline of one partition that we own.
//!
//! ```text
//!  AwaitingCommit --commit found--> Active <--its log goes as far--> Checking (another leader)
//!        |                            |  ^----------------------------+
//!        |                            |  out of range or cut short,   |
//!        |                            |  lane drained                 |
//!        | none                       v                               |
//!        +-----------------------> Locating --offset found--> AwaitingFirstCommit (LATEST, a time)
//!                                     |                               |
//!                                     +-----(start of the log)--------+
//!  any --record no body holds, batch that stays corrupt--> `halted`, until it heals
//! ```
//!
//! Records wait as fetched bytes (`pending`), are encoded into the body they will be sent in (`open`), and
//! leave in a batch (`backlog` holds what a batch was split into). A lane is busy while a batch holds a part
//! of it, so order holds by construction.
//!
//! Invariant: `fetched >= encoded >= processed >= committed`; nothing at or above `processed` is committed.

mod encoding;

use std::collections::VecDeque;
use std::rc::Rc;

use uuid::Uuid;

pub(super) use self::encoding::{Encoded, Workbench};
use super::memory::Hold;
use super::part::{Body, Part};
use crate::kafka::records::{Codec, RecordReader};
use crate::lambda::event::Fragment;
use crate::limits;
use crate::time::Instant;

/// A lane as a request names it. It may be lost, owned anew or elsewhere when the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneRef {
    pub(super) partition: i32,
    ownership: u64,
    course: u64,
}

/// Why an offset is being looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// The partition starts without a commit: the policy's timestamp is asked for.
    Start { timestamp: i64 },
    /// The fetch was out of range: the log's start, then its end.
    OutOfRange { wanted: i64, log_start: Option<i64> },
    /// The log ends below what we read: the end of our own leader epoch.
    Truncated { wanted: i64, log_start: i64 },
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The group's committed offset is to be asked for.
    AwaitingCommit,
    /// An offset is to be asked of the leader.
    Locating(Search),
    /// The start is known and must be committed before the first fetch.
    AwaitingFirstCommit,
    /// Records flow.
    Active,
    /// Another leader took over in that epoch: before more is read, it is asked how far it has what was read.
    Checking { leader_epoch: i32 },
}

/// Why a lane stands still until it heals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Halt {
    pub(super) offset: i64,
    pub(super) obstacle: Obstacle,
    pub(super) reason: String,
    /// When the next probe is due.
    pub(super) retry_at: Instant,
}

/// What a lane stands still at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A record that no call may carry.
    Record,
    /// A batch that does not decode, and the offset behind it, if its header tells.
    Batch { end: Option<i64> },
}

impl Halt {
    /// The last offset that is to be passed over to go on. Of a batch that does not tell its end it is the first:
    /// the lane halts at the next then.
    pub(super) fn last_offset(&self) -> i64 {
        match self.obstacle {
            Obstacle::Batch { end: Some(end) } => self.offset.max(end - 1),
            Obstacle::Record | Obstacle::Batch { end: None } => self.offset,
        }
    }
}

/// A record set, with what stands for the answer that it is a slice of.
#[derive(Debug)]
struct Fetched {
    reader: RecordReader,
    _answer: Rc<Hold>,
}

/// One partition's pipeline.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: i32,
    /// Counts the times this partition was assigned to us.
    pub(super) ownership: u64,
    stage: Stage,
    /// Counts the times it went elsewhere or to another stage: answers to earlier questions are void.
    course: u64,
    /// A request of the present stage is under way.
    pub(super) asked: bool,
    /// Nothing is asked or fetched before then.
    pub(super) not_before: Instant,
    pub(super) halted: Option<Halt>,
    /// It was halted there and looks once more.
    probing: Option<i64>,
    /// Once it holds no record, another offset is looked for.
    pub(super) reposition: Option<Search>,
    /// It is being given up: no new call, no fetch.
    pub(super) revoking: bool,

    fetched: i64,
    /// The leader epoch of the last record fetched; -1 when unknown.
    fetched_epoch: i32,
    /// The epoch of the leader that is known to have what was fetched; -1 for none.
    checked_epoch: i32,
    encoded: i64,
    processed: i64,
    /// What the group's commit says of this position; -1 before the first.
    pub(super) committed: i64,
    pub(super) committed_at: Option<Instant>,
    /// The coordinator will not take the commit that it owes: it is given up without.
    pub(super) commit_refused: bool,
    /// The topic that its offsets belong to; nil when the brokers tell none.
    topic_id: Uuid,
    /// The leader epoch of the last record encoded; -1 when unknown.
    pub(super) epoch: i32,

    pending: VecDeque<Fetched>,
    pending_bytes: usize,
    open: Option<Fragment>,
    /// The first record of the open body: its offset, and since when it waits.
    open_first: Option<(i64, Instant)>,
    full: bool,
    /// The open body is that of one record which no call may carry; its event has that size.
    oversized: Option<usize>,
    /// As large as bodies have lately been.
    usual_body_bytes: usize,
    pub(super) backlog: VecDeque<Part>,
    /// A batch holds a part of this lane.
    pub(super) busy: bool,
    /// It stands in the queue of lanes to encode.
    pub(super) queued: bool,
    /// A part of it was dropped without an end: `processed` stands still from now on.
    abandoned: bool,

    pub(super) high_watermark: i64,
    /// When a fetch last told that.
    pub(super) high_watermark_at: Option<Instant>,
    pub(super) last_stable_offset: i64,
    pub(super) log_start: i64,
    /// When that was learned.
    log_start_at: Instant,
    /// The replica to read from, and until when.
    pub(super) read_replica: Option<(i32, Instant)>,
    /// What the next fetch asks for: grows when a batch was cut.
    pub(super) fetch_bytes: usize,
    /// What an offset took of the newest records of it, which may have gaps.
    pub(super) offset_bytes: Option<u64>,
    /// How many fetches there had been when one last brought records of it.
    pub(super) brought_by: u64,
    pub(super) corrupt_fetches: u32,
    /// Fetches in a row that its broker answered with an error.
    pub(super) fetch_failures: u32,
    /// How the newest records of it are compressed.
    pub(super) codec: Option<Codec>,
    /// Where it stood when it was last looked at, and since when.
    still: (Mark, Instant),
}

/// What moves with any progress of a lane.
type Mark = (u64, i64, i64, i64, i64);

impl Lane {
    pub(super) fn new(partition: i32, ownership: u64, now: Instant) -> Self {
        Self {
            partition,
            ownership,
            stage: Stage::AwaitingCommit,
            course: 0,
            asked: false,
            not_before: now,
            halted: None,
            probing: None,
            reposition: None,
            revoking: false,
            fetched: 0,
            fetched_epoch: -1,
            checked_epoch: -1,
            encoded: 0,
            processed: 0,
            committed: -1,
            committed_at: None,
            commit_refused: false,
            topic_id: Uuid::nil(),
            epoch: -1,
            pending: VecDeque::new(),
            pending_bytes: 0,
            open: None,
            open_first: None,
            full: false,
            oversized: None,
            usual_body_bytes: 0,
            backlog: VecDeque::new(),
            busy: false,
            queued: false,
            abandoned: false,
            high_watermark: -1,
            high_watermark_at: None,
            last_stable_offset: -1,
            log_start: -1,
            log_start_at: now,
            read_replica: None,
            fetch_bytes: limits::FETCH_PARTITION_BYTES_MAX,
            offset_bytes: None,
            brought_by: 0,
            corrupt_fetches: 0,
            fetch_failures: 0,
            codec: None,
            still: (Mark::default(), now),
        }
    }

    /// How a request names it.
    pub(super) fn reference(&self) -> LaneRef {
        LaneRef {
            partition: self.partition,
            ownership: self.ownership,
            course: self.course,
        }
    }

    /// Whether it still stands where it stood when a request named it so.
    pub(super) fn is(&self, named: LaneRef) -> bool {
        self.reference() == named
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes to another stage; what was asked before is void.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.course += 1;
        self.asked = false;
    }

    /// Begins at `offset` of that topic, behind a record of that epoch: nothing below it is ours to process, and
    /// nothing is committed of it. The lane must hold no record.
    pub(super) fn begin_at(&mut self, offset: i64, epoch: i32, topic_id: Uuid, stage: Stage) {
        assert!(
            self.is_drained(),
            "a lane that holds records cannot be moved"
        );
        self.fetched = offset;
        self.fetched_epoch = epoch;
        self.epoch = epoch;
        // Whoever leads: what is found of one topic or place says nothing of another.
        self.checked_epoch = -1;
        self.encoded = offset;
        self.processed = offset;
        self.committed = -1;
        self.committed_at = None;
        self.topic_id = topic_id;
        self.enter(stage);
    }

    /// The topic that its offsets are of; nil where the brokers do not tell.
    pub(super) fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// Whether its offsets are of that topic, as far as the brokers tell.
    pub(super) fn is_of_topic(&self, topic_id: Uuid) -> bool {
        self.topic_id.is_nil() || topic_id.is_nil() || self.topic_id == topic_id
    }

    /// Whether it holds no record, fetched, encoded or in a batch.
    pub(super) fn is_drained(&self) -> bool {
        !self.busy && self.open.is_none() && self.backlog.is_empty() && self.pending.is_empty()
    }

    /// The log starts there now.
    pub(super) fn learn_log_start(&mut self, offset: i64, now: Instant) {
        self.log_start = offset;
        self.log_start_at = now;
    }

    pub(super) fn log_start_at(&self) -> Instant {
        self.log_start_at
    }

    pub(super) fn fetched(&self) -> i64 {
        self.fetched
    }

    pub(super) fn fetched_epoch(&self) -> i32 {
        self.fetched_epoch
    }

    /// Whether records flow, or will as soon as a new leader has been asked.
    pub(super) fn is_placed(&self) -> bool {
        matches!(self.stage, Stage::Active | Stage::Checking { .. })
    }

    /// Whether it must ask a leader of that epoch how far its log goes before it reads on (KIP-320): an unclean
    /// leader may have less than was read, and have written other records in their place.
    pub(super) fn must_check(&mut self, leader_epoch: i32) -> bool {
        if self.stage != Stage::Active
            || self.revoking
            || self.reposition.is_some()
            || leader_epoch == self.checked_epoch
        {
            return false;
        }
        if self.fetched_epoch < 0 || self.fetched_epoch == leader_epoch {
            // Nothing was read whose epoch is known, or that leader itself has written it.
            self.checked_epoch = leader_epoch;
            return false;
        }
        true
    }

    /// The leader of that epoch has what was fetched.
    pub(super) fn checked(&mut self, leader_epoch: i32) {
        self.checked_epoch = leader_epoch;
        self.enter(Stage::Active);
    }

    pub(super) fn processed(&self) -> i64 {
        self.processed
    }

    /// Takes note of where it stands.
    pub(super) fn note_progress(&mut self, now: Instant) {
        let mark = (
            self.course,
            self.fetched,
            self.encoded,
            self.processed,
            self.committed,
        );
        if mark != self.still.0 {
            self.still = (mark, now);
        }
    }

    /// Since when it stands where it does.
    pub(super) fn still_since(&self) -> Instant {
        self.still.1
    }

    /// Whether it would take more from a fetch.
    pub(super) fn wants_fetch(&self, now: Instant) -> bool {
        self.stage == Stage::Active
            && !self.revoking
            && self.halted.is_none()
            && self.reposition.is_none()
            && now >= self.not_before
            && self.pending_bytes < limits::LANE_PENDING_BYTES_MIN
    }

    /// Whether it is left out of fetches only because it holds enough.
    pub(super) fn is_saturated(&self) -> bool {
        self.stage == Stage::Active
            && !self.revoking
            && self.halted.is_none()
            && self.pending_bytes >= limits::LANE_PENDING_BYTES_MIN
    }

    /// Takes what a fetch brought, up to `next_offset`; its last record is of that epoch.
    pub(super) fn take_fetched(
        &mut self,
        reader: RecordReader,
        answer: &Rc<Hold>,
        next_offset: i64,
        epoch: i32,
    ) {
        assert!(
            next_offset >= self.fetched,
            "a fetch never moves a lane back"
        );
        self.fetched = next_offset;
        self.fetched_epoch = epoch;
        self.pending_bytes += reader.remaining_bytes();
        self.pending.push_back(Fetched {
            reader,
            _answer: Rc::clone(answer),
        });
    }

    /// How much a fetch is likely to bring of so many offsets.
    pub(super) fn fetch_worth(&self, offsets: u64) -> usize {
        let bytes = self
            .offset_bytes
            .unwrap_or(u64::MAX)
            .saturating_mul(offsets);
        usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(self.fetch_bytes)
    }

    /// Memory that what is decompressed of its record sets takes, beside the answers themselves.
    pub(super) fn decompressed_bytes(&self) -> usize {
        let pending = self.pending.iter();
        pending.map(|it| it.reader.decompressed_bytes()).sum()
    }

    /// Whether encoding could go on.
    pub(super) fn can_encode(&self) -> bool {
        !self.full
            && !self.pending.is_empty()
            && self.halted.is_none()
            && !self.revoking
            && !self.abandoned
    }

    /// Memory that the open body holds.
    pub(super) fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Fragment::capacity_bytes)
    }

    /// Records that wait in the open body.
    pub(super) fn open_records(&self) -> usize {
        self.open.as_ref().map_or(0, Fragment::records)
    }

    /// What the open body would add to a joint event.
    pub(super) fn open_lane_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Fragment::lane_bytes)
    }

    /// Since when the first record of the open body waits.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.open_first.map(|(_, since)| since)
    }

    /// Whether the open body takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Lets go of what was fetched but not encoded, to fetch it anew.
    pub(super) fn drop_pending(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.fetched = self.encoded;
        self.fetched_epoch = self.epoch;
    }

    /// Lets go of what is encoded and in no batch, to encode it anew: the caller drops what is pending.
    pub(super) fn rewind(&mut self) -> Vec<Part> {
        assert!(!self.busy, "what a batch holds cannot be fetched anew");
        let parts = self.backlog.drain(..).collect::<Vec<_>>();
        let open = self.take_open();
        self.encoded = self.processed;
        parts.into_iter().chain(open).collect()
    }

    /// Closes the open body and hands it over as one part.
    pub(super) fn take_open(&mut self) -> Option<Part> {
        let open = self.open.take()?;
        // A smaller one says little of the next: only a row of them does.
        let forgotten = self.usual_body_bytes / 8;
        if self.oversized.is_none() {
            self.usual_body_bytes = open.body_bytes().max(self.usual_body_bytes - forgotten);
        }
        self.open_first = None;
        self.full = false;
        let held_bytes = open.capacity_bytes();
        let body = Rc::new(Body {
            sealed: open.seal(),
            held_bytes,
            oversized: self.oversized.take(),
        });
        Some(Part::whole(self.partition, self.ownership, body))
    }

    /// Looks once more at what it was halted at.
    pub(super) fn probe(&mut self) {
        self.probing = self.halted.take().map(|halt| halt.offset);
    }

    /// Whether it was halted at that offset, and has not found yet whether it still is.
    pub(super) fn is_probing(&self, offset: i64) -> bool {
        self.halted.is_none() && self.probing == Some(offset) && self.encoded <= offset
    }

    /// What it is halted at, if all that lies before has been read.
    pub(super) fn obstacle(&self) -> Option<&Halt> {
        let halt = self.halted.as_ref();
        halt.filter(|halt| self.encoded >= halt.offset)
    }

    /// Passes over what it is halted at, up to that offset. It must hold nothing that was fetched.
    pub(super) fn pass_over(&mut self, last_offset: i64) {
        assert!(self.pending.is_empty(), "a halted lane keeps nothing");
        assert!(last_offset >= self.encoded, "it never goes back");
        self.encoded = last_offset + 1;
        self.fetched = self.encoded;
        self.halted = None;
        self.corrupt_fetches = 0;
        self.settle();
    }

    /// The first records of this part have ended; the batch goes on with the others.
    pub(super) fn pass(&mut self, part: &Part) {
        assert!(self.busy, "only a part in a batch can go on");
        let first = part.first_offset();
        assert!(first >= self.processed, "what has ended never comes back");
        self.processed = first;
    }

    /// Everything up to the end of this part has ended; the lane is free for its next.
    pub(super) fn finish(&mut self, part: &Part) {
        assert!(self.busy, "only a part in a batch can end");
        assert!(
            part.end_offset() > self.processed,
            "a part ends once, in order"
        );
        self.busy = false;
        self.processed = part.end_offset();
        self.settle();
    }

    /// The lane is being given up: `processed` stands still from now on, but for the end of what a call
    /// carries. Records let go without an end are read again by whoever owns the partition next.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Moves `processed` over what lies between the last record that ended and the first that waits:
    /// control batches, aborted and compacted records. Never past a record that has not ended.
    fn settle(&mut self) {
        if self.busy || self.abandoned {
            return;
        }
        let first_waiting = match (self.backlog.front(), self.open_first) {
            (Some(part), _) => part.first_offset(),
            (None, Some((offset, _))) => offset,
            (None, None) => self.encoded,
        };
        assert!(
            first_waiting >= self.processed,
            "what has ended never waits again"
        );
        assert!(first_waiting <= self.encoded && self.encoded <= self.fetched.max(self.encoded));
        self.processed = first_waiting;
    }
}
