//! The event loop of one consumer: it owns the delivery machine, and does what the machine asks for.
//!
//! Helper tasks (connections, calls, writings to the destination) push [`Input`]s into one bounded queue; the loop feeds them to the
//! machine, lets it work in bounded turns, and carries out its effects. The reconciler says what it wants
//! as a snapshot ([`Wanted`]) and reads what the loop shows ([`Running`]).
//!
//! Invariant: only this task touches the machine, and it ends only after every task it started has ended.

mod config;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use forebay_protocol::delivery::{
    CallId, ConnectionId, Consumer, ConsumerStatus, DiversionId, Effect, Fault, Input, Notice,
    Phase, Severity, Skip, SkipId, SkipStatus,
};
use forebay_protocol::limits::{INPUTS_PER_TURN, INPUTS_WAITING_MAX};
use forebay_protocol::time::Instant;
use monoio::task::JoinHandle;
use monoio::time::Sleep;

use self::config::{config, settings};
use super::Shard;
use super::broker::Link;
use super::diverting::Writing;
use super::hashing::Signs;
use super::invoker::{Call, Caller};
use super::keys::derive;
use super::queue::Queue;
use crate::clock;
use crate::contract::{Access, ConsumerPlan, Unfinished};
use crate::crash::Turn;
use crate::mapping::Mapping;

/// A consumer as the reconciler holds it.
pub(super) struct Running {
    desk: Rc<Desk>,
    task: JoinHandle<()>,
}

/// What the plan wants of a consumer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    permits: u32,
    call_deadline: Duration,
    /// Counts the mappings that it has served: each differs from the one before in how records are delivered.
    mappings: u64,
    stop: bool,
    abort: bool,
}

/// Where the reconciler and the event loop leave things for each other.
struct Desk {
    wanted: Cell<Wanted>,
    applied: Cell<Wanted>,
    /// What it serves.
    mapping: RefCell<Arc<Mapping>>,
    /// How the next connections are made.
    access: RefCell<Arc<Access>>,
    /// What operators want passed over.
    skips: RefCell<Arc<[Skip]>>,
    calls: Cell<usize>,
    ended: Cell<bool>,
    status: RefCell<Option<ConsumerStatus>>,
    unfinished: RefCell<Vec<Unfinished>>,
    inputs: Queue<Input>,
    /// Raised when the status has changed, or the permits were applied, or the loop has ended.
    news: Queue<()>,
}

impl Running {
    /// Starts a consumer; `news` is raised whenever there is something to see.
    pub(super) fn start(plan: &ConsumerPlan, shard: Rc<Shard>, news: Queue<()>) -> Self {
        let wanted = Wanted {
            permits: plan.permits,
            call_deadline: plan.call_deadline,
            mappings: 0,
            stop: false,
            abort: false,
        };
        let desk = Rc::new(Desk {
            wanted: Cell::new(wanted),
            applied: Cell::new(wanted),
            mapping: RefCell::new(Arc::clone(&plan.mapping)),
            access: RefCell::new(Arc::clone(&plan.access)),
            skips: RefCell::new(Arc::clone(&plan.skips)),
            calls: Cell::new(0),
            ended: Cell::new(false),
            status: RefCell::new(None),
            unfinished: RefCell::default(),
            inputs: Queue::new(INPUTS_WAITING_MAX),
            news,
        });
        let now = clock::now();
        let caller = Caller::new(Arc::clone(&plan.mapping), Rc::clone(&shard));
        let signs = caller.signs() && plan.mapping.enabled;
        let events = EventLoop {
            machine: Consumer::new(config(plan), shard.budget.clone(), now),
            signs: signs.then(|| shard.hashing.signs()),
            hashes_along: false,
            unix_origin_ms: None,
            access: Arc::default(),
            skips: Arc::default(),
            mapping: Arc::clone(&plan.mapping),
            ordinal: plan.ordinal,
            caller: Rc::new(caller),
            links: HashMap::new(),
            calls: HashMap::new(),
            writings: HashMap::new(),
            ending: Vec::new(),
            given_up: BTreeMap::new(),
            next_status: now,
            shown: None,
            desk: Rc::clone(&desk),
            shard,
        };
        Self {
            desk,
            task: monoio::spawn(events.run()),
        }
    }

    /// Drain and end; saying it again changes nothing.
    pub(super) fn stop(&self) {
        self.want(|wanted| wanted.stop = true);
    }

    /// Give up calls in flight, and end.
    pub(super) fn abort(&self) {
        self.want(|wanted| {
            wanted.stop = true;
            wanted.abort = true;
        });
    }

    /// Takes over what a plan may change while the consumer runs.
    pub(super) fn adjust(&self, plan: &ConsumerPlan) {
        let access = self.desk.access.replace(Arc::clone(&plan.access));
        let skips = self.desk.skips.replace(Arc::clone(&plan.skips));
        if access != plan.access || skips != plan.skips {
            self.desk.inputs.nudge();
        }
        let mapping = self.desk.mapping.replace(Arc::clone(&plan.mapping));
        let is_new = !Arc::ptr_eq(&mapping, &plan.mapping) && mapping != plan.mapping;
        self.want(|wanted| {
            wanted.mappings += u64::from(is_new);
            wanted.permits = plan.permits;
            wanted.call_deadline = plan.call_deadline;
        });
    }

    /// What it serves.
    pub(super) fn mapping(&self) -> Arc<Mapping> {
        Arc::clone(&self.desk.mapping.borrow())
    }

    /// Whether it was told to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.desk.wanted.get().stop
    }

    /// Whether it and all its tasks have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.desk.ended.get()
    }

    /// Whether no more calls are open than the newest plan permits.
    pub(super) fn keeps_permits(&self) -> bool {
        let desk = &self.desk;
        let permits = usize::try_from(desk.wanted.get().permits).unwrap_or(usize::MAX);
        desk.applied.get() == desk.wanted.get() && desk.calls.get() <= permits
    }

    /// Its own words, at most one status interval old; `None` before the first turn.
    pub(super) fn status(&self) -> Option<ConsumerStatus> {
        self.desk.status.borrow().clone()
    }

    /// Waits for the task, which [`has_ended`](Self::has_ended) promised; its last words, and what it
    /// left unfinished.
    pub(super) async fn join(self) -> (ConsumerStatus, Vec<Unfinished>) {
        self.task.await;
        let last = self.desk.status.take().expect("it has shown its end");
        (last, self.desk.unfinished.take())
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.desk.wanted.get();
        change(&mut wanted);
        if wanted != self.desk.wanted.get() {
            self.desk.wanted.set(wanted);
            self.desk.inputs.nudge();
        }
    }
}

impl Desk {
    fn raise_news(&self) {
        // Full means that it is raised already.
        self.news.try_push(()).unwrap_or_default();
    }
}

/// The machine need not hear of a difference that small.
const CLOCK_SLACK_MS: u64 = 10;

struct EventLoop {
    machine: Consumer,
    mapping: Arc<Mapping>,
    ordinal: u32,
    caller: Rc<Caller>,
    /// Held while its calls are signed.
    signs: Option<Signs>,
    /// What the machine was told last.
    hashes_along: bool,
    /// Unix milliseconds at the origin of the monotonic clock, as the machine was told last.
    unix_origin_ms: Option<i64>,
    access: Arc<Access>,
    /// As the machine was told last.
    skips: Arc<[Skip]>,
    links: HashMap<ConnectionId, Link>,
    calls: HashMap<CallId, Call>,
    writings: HashMap<DiversionId, Writing>,
    /// Tasks whose connection or call has ended or was told to.
    ending: Vec<JoinHandle<()>>,
    /// The partitions whose call was given up, and how far they were processed then.
    given_up: BTreeMap<i32, i64>,
    next_status: Instant,
    shown: Option<Shown>,
    desk: Rc<Desk>,
    shard: Rc<Shard>,
}

/// The part of a status whose change is a transition.
#[derive(PartialEq, Eq)]
struct Shown {
    phase: Phase,
    fault: Option<Fault>,
    generation: i32,
    partitions: Vec<i32>,
    skips: Vec<(SkipId, SkipStatus)>,
}

impl EventLoop {
    async fn run(mut self) {
        let mut timer = Box::pin(monoio::time::sleep(Duration::ZERO));
        self.apply_access(clock::now());
        // A new machine has nothing due yet: the first call sets it going.
        self.machine.handle_timeout(clock::now());
        loop {
            let turn = Turn::of(self.mapping.uuid);
            let now = clock::now();
            // Before anything is told: by then what is due is no longer told from what waits for something else.
            let is_due = self.machine.poll_timeout().is_some_and(|due| due <= now);
            if now >= self.next_status {
                self.tell_time(now);
            }
            self.apply_access(now);
            self.apply_wanted(now);
            self.apply_skips(now);
            self.choose_hashing(now);
            let heard = self.take_inputs(now);
            if heard || is_due {
                self.machine.handle_timeout(now);
            }
            let more = self.machine.work(now);
            let stopped = self.carry_out();
            let spoke = self.speak();
            self.show(now, spoke || stopped);
            drop(turn);
            let took = clock::now().saturating_since(now);
            self.shard.metrics.note_turn(took);
            if stopped {
                break;
            }
            if more || !self.desk.inputs.is_empty() {
                let _encoding = more.then(|| self.shard.hashing.encoding());
                self.shard.turns.yield_now().await;
            } else {
                let expects = self.signs.is_some() && self.machine.expects_records();
                let _expecting = expects.then(|| self.shard.hashing.expecting());
                self.wait(&mut timer).await;
            }
        }
        self.end().await;
    }

    fn apply_access(&mut self, now: Instant) {
        if Arc::ptr_eq(&self.desk.access.borrow(), &self.access) {
            return;
        }
        let access = Arc::clone(&self.desk.access.borrow());
        let told = std::mem::replace(&mut self.access, Arc::clone(&access));
        // In this order: a new machine connects once it has its credentials, and that is not to be made anew.
        if !access.reaches_brokers_as(&told) {
            self.machine.handle(Input::MakeAnew, now);
        }
        if access.sasl != told.sasl {
            let credentials = access.sasl.clone();
            self.machine.handle(Input::Credentials(credentials), now);
        }
    }

    fn apply_skips(&mut self, now: Instant) {
        let skips = Arc::clone(&self.desk.skips.borrow());
        if skips != self.skips {
            self.machine.handle(Input::Skips(skips.to_vec()), now);
            self.skips = skips;
            // What they come to is shown at once.
            self.next_status = now;
        }
    }

    fn apply_wanted(&mut self, now: Instant) {
        let wanted = self.desk.wanted.get();
        let applied = self.desk.applied.replace(wanted);
        if wanted == applied {
            return;
        }
        if wanted.permits != applied.permits {
            self.machine.handle(Input::MaxInFlight(wanted.permits), now);
        }
        if wanted.call_deadline != applied.call_deadline {
            let deadline = Input::CallDeadline(wanted.call_deadline);
            self.machine.handle(deadline, now);
        }
        if wanted.mappings != applied.mappings {
            self.mapping = Arc::clone(&self.desk.mapping.borrow());
            let settings = Box::new(settings(&self.mapping));
            self.machine.handle(Input::Delivery(settings), now);
        }
        if wanted.abort && !applied.abort {
            let partitions = self.machine.status().partitions.into_iter();
            let open = partitions.filter(|it| it.call.is_some());
            self.given_up = open.map(|it| (it.partition, it.processed_offset)).collect();
            self.machine.handle(Input::Abort, now);
        } else if wanted.stop && !applied.stop {
            self.machine.handle(Input::Stop, now);
        }
        self.desk.raise_news();
    }

    /// The system's clock may be set at any time.
    fn tell_time(&mut self, now: Instant) {
        let millis = |micros: u128| i64::try_from(micros / 1000).unwrap_or(i64::MAX);
        let origin = millis(clock::unix_now().as_micros()) - millis(u128::from(now.as_micros()));
        let is_told = self
            .unix_origin_ms
            .is_some_and(|told| told.abs_diff(origin) <= CLOCK_SLACK_MS);
        if !is_told {
            self.unix_origin_ms = Some(origin);
            self.machine.handle(Input::UnixTime(origin), now);
        }
    }

    fn choose_hashing(&mut self, now: Instant) {
        let along = self.signs.as_ref().is_some_and(Signs::alone);
        if along != self.hashes_along {
            self.hashes_along = along;
            self.machine.handle(Input::HashAlong(along), now);
        }
    }

    /// Whether there were any for the machine.
    fn take_inputs(&mut self, now: Instant) -> bool {
        let mut heard = false;
        for _ in 0..INPUTS_PER_TURN {
            let Some(input) = self.desk.inputs.pop() else {
                break;
            };
            if self.is_expected(&input) {
                self.machine.hear(input, now);
                heard = true;
            }
        }
        heard
    }

    /// Forgets what has ended. What a closed connection had still queued is not for the machine.
    fn is_expected(&mut self, input: &Input) -> bool {
        match input {
            Input::Connected(id) | Input::Frame(id, _) => self.links.contains_key(id),
            Input::Disconnected(id, _) => match self.links.remove(id) {
                Some(link) => {
                    self.await_later(link.close());
                    true
                }
                None => false,
            },
            Input::CallEnded(id, _) => {
                self.forget_call(*id);
                true
            }
            Input::Diverted(id, _) => {
                if let Some(writing) = self.writings.remove(id) {
                    self.await_later(writing.into_task());
                }
                true
            }
            Input::Credentials(_)
            | Input::MakeAnew
            | Input::Derived(..)
            | Input::Skips(_)
            | Input::UnixTime(_)
            | Input::MaxInFlight(_)
            | Input::CallDeadline(_)
            | Input::Delivery(_)
            | Input::HashAlong(_)
            | Input::Stop
            | Input::Abort => true,
        }
    }

    fn forget_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(&id) {
            self.await_later(call.into_task());
        }
        let open = self.calls.len();
        self.desk.calls.set(open);
        if u32::try_from(open) == Ok(self.desk.wanted.get().permits) {
            // Only fewer permits leave that many open after one has ended: now they are kept.
            self.desk.raise_news();
        }
    }

    /// Whether the machine has stopped.
    fn carry_out(&mut self) -> bool {
        let mut stopped = false;
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Connect(id, endpoint) => {
                    let inputs = self.desk.inputs.clone();
                    let tls = self.desk.access.borrow().brokers.clone();
                    let link = Link::open(id, endpoint, tls, Rc::clone(&self.shard), inputs);
                    self.links.insert(id, link);
                }
                // Without a link its end is queued for the machine already.
                Effect::Send(id, frame) => {
                    if let Some(link) = self.links.get(&id) {
                        link.send(frame);
                    }
                }
                Effect::Fetch(id, frame, brings) => {
                    if let Some(link) = self.links.get(&id) {
                        link.fetch(frame, brings);
                    }
                }
                Effect::Close(id) => {
                    if let Some(link) = self.links.remove(&id) {
                        self.await_later(link.close());
                    }
                }
                Effect::Derive(id, derivation) => {
                    let (requests, inputs) = (&self.shard.requests, &self.desk.inputs);
                    let task = derive(id, derivation, requests.clone(), inputs.clone());
                    self.await_later(task);
                }
                Effect::Invoke(id, invocation) => {
                    let inputs = self.desk.inputs.clone();
                    let tls = self.desk.access.borrow().function.clone();
                    let call = self.caller.call(id, invocation, tls, inputs);
                    self.calls.insert(id, call);
                    self.desk.calls.set(self.calls.len());
                }
                Effect::CancelCall(id) => {
                    if let Some(call) = self.calls.get(&id) {
                        call.cancel();
                    }
                }
                Effect::Divert(id, diversion) => {
                    let mapping = Arc::clone(&self.mapping);
                    let (requests, inputs) = (&self.shard.requests, &self.desk.inputs);
                    let (requests, inputs) = (requests.clone(), inputs.clone());
                    let writing = Writing::start(id, diversion, mapping, requests, inputs);
                    self.writings.insert(id, writing);
                }
                Effect::Stopped => stopped = true,
            }
        }
        stopped
    }

    fn await_later(&mut self, task: JoinHandle<()>) {
        self.ending.retain(|task| !task.is_finished());
        self.ending.push(task);
    }

    /// Says what the machine has to say; true if it said anything louder than debug.
    fn speak(&mut self) -> bool {
        let mut loud = false;
        while let Some(notice) = self.machine.poll_notice() {
            loud |= notice.severity != Severity::Debug;
            log(&notice, &self.mapping, self.ordinal);
        }
        loud
    }

    /// Refreshes what the reconciler sees: at intervals, and when something may have changed.
    fn show(&mut self, now: Instant, maybe_changed: bool) {
        if !maybe_changed && now < self.next_status {
            return;
        }
        self.next_status = now + self.shard.status_interval;
        let status = self.machine.status();
        let shown = Some(Shown {
            phase: status.phase,
            fault: status.fault.clone(),
            generation: status.generation,
            partitions: status.partitions.iter().map(|p| p.partition).collect(),
            skips: status.skips.clone(),
        });
        self.desk.status.replace(Some(status));
        if shown != self.shown {
            self.shown = shown;
            self.desk.raise_news();
        }
    }

    async fn wait(&self, timer: &mut Pin<Box<Sleep>>) {
        let due = match self.machine.poll_timeout() {
            Some(due) => due.min(self.next_status),
            None => self.next_status,
        };
        let now = clock::now();
        if due <= now {
            // A timer that is over ends without entering the driver: that would be spinning.
            return self.shard.turns.yield_now().await;
        }
        let wake = monoio::time::Instant::now() + due.saturating_since(now);
        timer.as_mut().reset(wake);
        poll_fn(|cx| {
            if self.desk.inputs.poll_filled(cx).is_ready()
                || self.desk.wanted.get() != self.desk.applied.get()
                || *self.desk.access.borrow() != self.access
                || *self.desk.skips.borrow() != self.skips
            {
                return Poll::Ready(());
            }
            timer.as_mut().poll(cx)
        })
        .await;
    }

    async fn end(mut self) {
        self.desk.inputs.close();
        for (_, link) in self.links.drain() {
            self.ending.push(link.close());
        }
        for (_, call) in self.calls.drain() {
            call.cancel();
            self.ending.push(call.into_task());
        }
        let writings = self.writings.drain();
        self.ending
            .extend(writings.map(|(_, writing)| writing.into_task()));
        for task in self.ending.drain(..) {
            task.await;
        }
        let last = self.machine.status();
        let again = last.partitions.iter().filter(|it| {
            // A call that was given up and had ended all the same has moved it.
            let given_up = self.given_up.get(&it.partition) == Some(&it.processed_offset);
            given_up || it.processed_offset > it.committed_offset.max(0)
        });
        let unfinished = again.map(|it| Unfinished::of(&self.mapping, it)).collect();
        self.desk.unfinished.replace(unfinished);
        self.desk.status.replace(Some(last));
        self.desk.ended.set(true);
        self.desk.raise_news();
    }
}

fn log(notice: &Notice, mapping: &Mapping, consumer: u32) {
    let (uuid, function) = (mapping.uuid, &*mapping.function.name);
    let (group, topic) = (&*mapping.group_id, &*mapping.topic);
    let (message, detail) = (notice.message, &*notice.detail);
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(mapping = %uuid, function, consumer, group, topic, detail, "{message}")
        };
    }
    match notice.severity {
        Severity::Error => say!(error),
        Severity::Warn => say!(warn),
        Severity::Info => say!(info),
        Severity::Debug => say!(debug),
    }
}
