//! The machine itself: one group member with its connections, lanes, calls and commits.
//!
//! Whatever is heard, it ends in [`Consumer::pump`], which looks at the whole state and does whatever has
//! become possible, in a fixed order: see the cluster, decide where it all starts, be a member, find where
//! lanes start, make calls, write to the destination, fetch, commit, give partitions up, end. Nothing is remembered as "to be done
//! later", so a lost answer or a lost connection cannot leave a step undone. As it looks at every lane, it looks once at
//! what was heard together: a node with a thousand lanes would do little else.
//!
//! The concerns stand in the files beside this one, each as one `impl Consumer`.
//!
//! Invariant: the four delivery rules of `dataplane/ARCHITECTURE.md`; a call starts only through
//! `calling::start_call`, an offset is committed only through `committing`, and a record is given up only through
//! `diverting`.

mod calling;
mod committing;
mod concluding;
mod concurrency;
mod declaring;
mod diverting;
mod encoding;
mod ending;
mod expiring;
mod fetching;
mod group;
mod keeping;
mod places;
mod positions;
mod producing;
mod reloading;
mod reporting;
mod seeding;
mod skipping;
mod suspecting;
mod truncation;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::committing::Commits;
use self::declaring::Declaring;
use self::ending::Ending;
use self::places::Places;
use self::seeding::Coordinator;
use super::batch::Batch;
use super::budget::Seat;
use super::cluster::Cluster;
use super::lane::{Lane, LaneRef};
use super::links::{Broken, Links, Refusal, Role};
use super::memory::Account;
use super::producer::Producer;
use super::status::Counters;
use super::{Budget, CallId, ConsumerConfig, DiversionId, Effect, Fault, Input, Notice, Severity};
use crate::filter::Scratch;
use crate::kafka::membership::Member;
use crate::kafka::messages::{ApiKey, Response};
use crate::kafka::records::Decompressor;
use crate::lambda::event::EventShape;
use crate::limits;
use crate::random::Random;
use crate::time::Instant;

/// What a request in flight was for.
#[derive(Debug)]
enum Ticket {
    /// The view of our topic.
    Metadata,
    /// Partition counts of the topics that members of the group subscribe to.
    PartitionCounts,
    Coordinator,
    /// One of the group requests.
    Membership(ApiKey),
    DeclaredCommits(declaring::Asked),
    DeclaredOffsets(declaring::Asked),
    DeclaredCommit(declaring::Asked),
    CommittedOffsets(Vec<LaneRef>),
    ListedOffsets {
        view: u64,
        lanes: Vec<LaneRef>,
    },
    LogStarts(Vec<LaneRef>),
    EpochEnds {
        view: u64,
        lanes: Vec<LaneRef>,
    },
    Commit {
        generation: i32,
        sent: Vec<committing::Committing>,
    },
    Fetch(fetching::Fetching),
    /// The view of the topic that failed records go to.
    ViewOfDestination,
    ProducerId,
    Produce {
        node: i32,
        view: u64,
        partitions: Vec<i32>,
    },
}

/// Faults by what they are about; the first that stands is shown.
#[derive(Debug, Default)]
struct Faults {
    cluster: Option<Fault>,
    topic: Option<Fault>,
    /// Where to start cannot be told.
    start: Option<Fault>,
    group: Option<Fault>,
    function: Option<Fault>,
    destination: Option<Fault>,
}

/// One group member.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    shape: EventShape,
    topic: Arc<str>,
    now: Instant,
    /// Unix milliseconds at the origin of `now`, once the shell has told them.
    unix_origin_ms: Option<i64>,
    random: Random,
    effects: VecDeque<Effect>,
    notices: VecDeque<Notice>,
    counters: Counters,
    faults: Faults,

    links: Links<Ticket>,
    cluster: Cluster,
    /// Connections in a row that failed before the cluster was seen.
    seed_failures: usize,
    coordinator: Coordinator,
    membership: Member,
    /// Topics of other members whose partition counts the membership, leading, waits for.
    counts_wanted: Vec<String>,
    counts_asked: bool,

    lanes: BTreeMap<i32, Lane>,
    /// Partitions assigned again while their old ownership is still being given up.
    returning: BTreeSet<i32>,
    ownerships: u64,
    declaring: Declaring,
    /// The number of partitions when the mapping's start was first resolved; later ones start at their
    /// beginning.
    declared_partitions: Option<i32>,
    /// Where lanes were that have ended.
    places: Places,
    encode_queue: VecDeque<i32>,
    hash_along: bool,
    filter_scratch: Scratch,
    decompressor: Decompressor,
    fetching: BTreeSet<i32>,
    /// When the cluster is next asked about brokers that owe an answer for too long.
    doubt_again: Instant,
    /// Roles of which it was said that their broker cannot be reached.
    unreachable_said: BTreeSet<Role>,
    /// When lanes that stand still are looked for.
    watch_at: Instant,
    /// When each broker was last asked.
    fetched_at: BTreeMap<i32, Instant>,
    /// Fetches so far.
    fetches: u64,
    /// Brokers whose last answer came soon.
    quick: BTreeSet<i32>,
    fetched: Account,
    bodies: Account,
    /// The budget is short: half-full bodies go early.
    pressure: bool,
    seat: Seat,
    budget: Budget,

    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    calls: BTreeMap<CallId, u64>,
    next_call: u64,
    /// Partitions that an open call carries, whoever owns them by now.
    called_partitions: BTreeSet<i32>,
    /// Writings to the destination, and the batches that they are of.
    diversions: BTreeMap<DiversionId, u64>,
    next_diversion: u64,
    /// Where failed records go to a topic.
    producer: Option<Producer>,
    /// What an operator wants passed over.
    wishes: Vec<skipping::Wish>,
    concurrency: concurrency::Concurrency,
    scan_from: i32,

    commits: Commits,
    ending: Ending,
    aborted: bool,
}

impl Consumer {
    /// A consumer that has done nothing yet.
    pub fn new(config: ConsumerConfig, budget: Budget, now: Instant) -> Self {
        Self {
            shape: EventShape::new(&config.bootstrap_servers, &config.topic),
            topic: Arc::from(config.topic.as_str()),
            now,
            unix_origin_ms: None,
            random: Random::new(config.seed ^ 0x5eed),
            effects: VecDeque::new(),
            notices: VecDeque::new(),
            counters: Counters::default(),
            faults: Faults::default(),
            links: Links::new(
                &config.client_id,
                config.request_timeout,
                config.seed,
                config.nonce_key.clone(),
            ),
            cluster: Cluster::new(config.bootstrap.clone(), now),
            seed_failures: 0,
            coordinator: Coordinator::unknown(now),
            membership: group::member(&config),
            counts_wanted: Vec::new(),
            counts_asked: false,
            lanes: BTreeMap::new(),
            returning: BTreeSet::new(),
            ownerships: 0,
            declaring: Declaring::new(config.duty, config.starting_position, now),
            declared_partitions: None,
            places: Places::new(),
            encode_queue: VecDeque::new(),
            hash_along: false,
            filter_scratch: Scratch::default(),
            decompressor: Decompressor::new(),
            fetching: BTreeSet::new(),
            doubt_again: now,
            unreachable_said: BTreeSet::new(),
            watch_at: now,
            fetched_at: BTreeMap::new(),
            fetches: 0,
            quick: BTreeSet::new(),
            fetched: Account::new(limits::CONSUMER_FETCH_BYTES_MIN, budget.clone()),
            bodies: Account::new(limits::CONSUMER_BODY_BYTES_MIN, budget.clone()),
            pressure: false,
            seat: budget.seat(),
            budget,
            batches: BTreeMap::new(),
            next_batch: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            called_partitions: BTreeSet::new(),
            diversions: BTreeMap::new(),
            next_diversion: 0,
            producer: producing::producer(&config, now),
            wishes: Vec::new(),
            concurrency: concurrency::Concurrency::new(config.max_in_flight, now),
            scan_from: 0,
            commits: Commits::new(now),
            ending: Ending::No,
            aborted: false,
            config,
        }
    }

    /// Takes one input, and does what it makes possible.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.hear(input, now);
        self.pump();
    }

    /// Takes one of several inputs that came together; call `handle_timeout` after the last of them.
    pub fn hear(&mut self, input: Input, now: Instant) {
        self.now = now;
        match input {
            Input::Connected(id) => self.links.handle_connected(id, now, &mut self.effects),
            Input::Disconnected(id, reason) => {
                if let Some(broken) = self.links.handle_disconnected(id, &reason, now) {
                    self.handle_broken(broken);
                }
            }
            Input::Frame(id, frame) => {
                match self.links.handle_frame(id, frame, now, &mut self.effects) {
                    Ok(Some(answer)) => self.handle_answer(answer),
                    Ok(None) => {}
                    Err(broken) => self.handle_broken(broken),
                }
            }
            Input::Credentials(credentials) => self.links.set_credentials(credentials, now),
            Input::MakeAnew => self.links.make_anew(now),
            Input::Derived(id, key) => {
                let effects = &mut self.effects;
                if let Some(broken) = self.links.handle_derived(id, &key, now, effects) {
                    self.handle_broken(broken);
                }
            }
            Input::CallEnded(call, outcome) => self.handle_call_ended(call, outcome),
            Input::Diverted(id, result) => self.handle_diverted(id, result),
            Input::Skips(skips) => self.take_wishes(skips),
            Input::UnixTime(origin) => self.unix_origin_ms = Some(origin),
            Input::MaxInFlight(calls) => self.concurrency.set_max(calls),
            Input::CallDeadline(deadline) => self.config.call_deadline = deadline,
            Input::Delivery(settings) => self.take_settings(*settings),
            Input::HashAlong(along) => self.hash_along = along,
            Input::Stop => self.begin_drain(),
            Input::Abort => self.begin_abort(),
        }
        self.drain_events();
    }

    /// Does what has come due, and what has become possible by what was heard; call it after that, and when `poll_timeout`
    /// has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        for broken in self.links.expire(now, &mut self.effects) {
            self.handle_broken(broken);
        }
        self.membership.handle_timeout(now);
        self.pump();
    }

    /// Decodes and encodes at most about [`TURN_BYTES`](limits::TURN_BYTES); true while more is to be
    /// done: then yield and call it again.
    pub fn work(&mut self, now: Instant) -> bool {
        self.now = now;
        if self.encode_queue.is_empty() || !self.ending.is_running() {
            return false;
        }
        let more = self.encode_turn();
        self.pump();
        more
    }

    /// The next thing to do, if any. Drain it after each of the calls above.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What there is to say to the log since the last call; the shell adds the mapping's fields.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When `handle_timeout` is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ending.has_ended() {
            return None;
        }
        if let Some(until) = self.resting_until() {
            return Some(until);
        }
        let sources = [
            self.links.poll_timeout(self.now),
            self.cluster.poll_timeout(),
            self.coordinator.poll_timeout(),
            self.confirm_timeout(),
            self.suspects_timeout(),
            self.watch_timeout(),
            self.declaring.poll_timeout(self.now),
            self.membership.poll_timeout(),
            self.lanes_timeout(),
            self.calls_timeout(),
            self.diversions_timeout(),
            self.producer.as_ref().and_then(Producer::poll_timeout),
            self.expiring_timeout(),
            self.commit_timeout(),
            self.ending.poll_timeout(),
        ];
        // What is due by now waits for something else than time: `pump` has just seen it.
        sources
            .into_iter()
            .flatten()
            .filter(|at| *at > self.now)
            .min()
    }

    /// Does whatever has become possible.
    fn pump(&mut self) {
        if self.ending.has_ended() || self.is_resting() {
            return;
        }
        // Before anything is sent: what is to be renewed takes no more.
        for replaced in self.links.renew(self.now, &mut self.effects) {
            self.handle_closed(replaced);
        }
        // First: a leader that is to assign needs the numbers of partitions, which the seed is asked for.
        self.drain_events();
        self.pump_suspects();
        self.pump_seed();
        if self.ending.is_running() {
            self.pump_declaring();
        }
        self.pump_group();
        self.pump_watch();
        if self.ending.is_running() {
            self.pump_positions();
            // Before calls: none starts with what is to be passed over.
            self.pump_skips();
            self.pump_calls();
            self.pump_diversions();
            self.pump_fetch();
            if self.pressure {
                self.pump_calls();
                self.pressure = false;
            }
        }
        self.pump_producing();
        self.pump_commit();
        self.pump_release();
        self.links.probe(self.now, &mut self.effects);
        self.pump_ending();
    }

    /// Acts on whose partitions are whose by now, and on what was written. Not only before anything else is done, but with
    /// each input: a writing whose end is not known yet is given up with a lane that goes.
    fn drain_events(&mut self) {
        let rests = self.resting_until().is_some_and(|until| self.now < until);
        if !self.ending.has_ended() && !rests {
            self.drain_membership_events();
            self.drain_producer_events();
        }
    }

    fn handle_answer(&mut self, answer: super::links::Answer<Ticket>) {
        self.note_throttle(answer.role, answer.throttle);
        if answer.role == Role::Seed {
            self.handle_seed_answered();
        }
        match (answer.ticket, answer.response) {
            (Ticket::Metadata, Response::Metadata(r)) => self.handle_metadata(&r),
            (Ticket::PartitionCounts, Response::Metadata(r)) => self.handle_counts(&r),
            (Ticket::Coordinator, Response::FindCoordinator(r)) => self.handle_coordinator(r),
            (Ticket::Membership(_), response) => self.handle_group_answer(&response),
            (Ticket::DeclaredCommits(asked), Response::OffsetFetch(r)) => {
                self.handle_declared_commits(asked, &r);
            }
            (Ticket::DeclaredOffsets(asked), Response::ListOffsets(r)) => {
                self.handle_declared_offsets(asked, &r);
            }
            (Ticket::DeclaredCommit(asked), Response::OffsetCommit(r)) => {
                self.handle_declared_commit(asked, &r);
            }
            (Ticket::CommittedOffsets(lanes), Response::OffsetFetch(r)) => {
                self.handle_committed(&lanes, &r);
            }
            (Ticket::ListedOffsets { view, lanes }, Response::ListOffsets(r)) => {
                self.handle_listed(view, &lanes, &r);
            }
            (Ticket::LogStarts(lanes), Response::ListOffsets(r)) => {
                self.handle_log_starts(&lanes, &r);
            }
            (Ticket::EpochEnds { view, lanes }, Response::OffsetForLeaderEpoch(r)) => {
                self.handle_epoch_ends(view, &lanes, &r);
            }
            (Ticket::Commit { generation, sent }, Response::OffsetCommit(r)) => {
                self.handle_commit(generation, &sent, &r);
            }
            (Ticket::Fetch(fetching), Response::Fetch(r)) => self.handle_fetch(fetching, r),
            (Ticket::ViewOfDestination, Response::Metadata(r)) => {
                self.handle_view_of_destination(&r);
            }
            (Ticket::ProducerId, Response::InitProducerId(r)) => self.handle_identity(&r),
            (
                Ticket::Produce {
                    node,
                    view,
                    partitions,
                },
                Response::Produce(r),
            ) => self.handle_produced(node, view, &partitions, &r),
            (ticket, response) => {
                unreachable!("the connection pairs {ticket:?} with {response:?} by correlation id")
            }
        }
    }

    /// A connection ended: what was asked on it will not be answered, and what it led to is doubtful.
    fn handle_broken(&mut self, broken: Broken<Ticket>) {
        let (role, endpoint, reason) =
            (broken.role, broken.endpoint.clone(), broken.reason.clone());
        let (is_refused, advises) = (broken.refusal.is_some(), broken.advises);
        self.handle_closed(broken);
        match role {
            // A broker that answers is no cluster that cannot be reached.
            Role::Seed if is_refused => self.cluster.rotate_seed(),
            Role::Seed => self.handle_seed_broken(&endpoint, &reason, advises),
            Role::Join | Role::Coordinator => self.coordinator.forget(self.now),
            Role::Fetch(_) => self.cluster.invalidate(self.cluster.view(), self.now),
            Role::Produce(node) => self.handle_produce_broken(node, &reason),
        }
    }

    /// A connection ended, or we ended it: what was asked on it will not be answered.
    fn handle_closed(&mut self, broken: Broken<Ticket>) {
        let Broken {
            role,
            endpoint,
            was_open,
            refusal,
            reason,
            advises: _,
            worth_saying,
            tickets,
        } = broken;
        let broker = format!("broker={}:{} role={role}", endpoint.host, endpoint.port);
        if let Some(refusal) = refusal {
            let message = match refusal {
                Refusal::Access => "Authentication with a broker failed; it is tried again",
                Refusal::Versions => {
                    "Broker does not speak a version that is needed; it is tried again"
                }
            };
            if let Some(attempts) = worth_saying {
                let detail = format!("{broker} attempts={attempts} reason={reason:?}");
                self.notice(Severity::Error, message, detail);
            }
        } else if was_open {
            self.notice(
                Severity::Info,
                "Connection to a broker ended",
                format!("{broker} reason={reason:?}"),
            );
        } else if let Some(attempts) = worth_saying {
            self.notice(
                Severity::Warn,
                "Broker cannot be used; it is tried again",
                format!("{broker} attempts={attempts} reason={reason:?}"),
            );
        }
        for ticket in tickets {
            self.handle_unanswered(ticket);
        }
    }

    fn handle_unanswered(&mut self, ticket: Ticket) {
        match ticket {
            Ticket::Metadata => self.cluster.failed(self.now),
            Ticket::PartitionCounts => self.counts_asked = false,
            Ticket::Coordinator => self.coordinator.failed(self.now),
            Ticket::Membership(api) => self.membership.handle_request_lost(api, self.now),
            Ticket::DeclaredCommits(asked)
            | Ticket::DeclaredOffsets(asked)
            | Ticket::DeclaredCommit(asked) => self.handle_undeclared(asked),
            Ticket::CommittedOffsets(lanes)
            | Ticket::ListedOffsets { lanes, .. }
            | Ticket::LogStarts(lanes)
            | Ticket::EpochEnds { lanes, .. } => {
                for lane in lanes {
                    self.ask_again(lane);
                }
            }
            Ticket::Commit { .. } => self.commits.failed(self.now, &mut self.counters),
            Ticket::Fetch(fetching) => {
                self.fetching.remove(&fetching.node);
                self.fetched.sub(fetching.reserved);
                self.counters.fetch_errors += 1;
            }
            Ticket::ViewOfDestination => self.handle_no_view_of_destination(),
            Ticket::ProducerId => self.handle_no_identity(),
            Ticket::Produce {
                node, partitions, ..
            } => self.handle_not_produced(node, &partitions),
        }
    }

    /// The lane that a request named, if it is still ours and has not gone elsewhere since.
    fn lane_of(&mut self, named: LaneRef) -> Option<&mut Lane> {
        self.lanes
            .get_mut(&named.partition)
            .filter(|lane| lane.is(named))
    }

    fn notice(&mut self, severity: Severity, message: &'static str, detail: String) {
        if self.notices.len() < limits::NOTICES_MAX {
            self.notices.push_back(Notice {
                severity,
                message,
                detail,
            });
        }
    }
}
