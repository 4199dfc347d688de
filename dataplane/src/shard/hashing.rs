//! The hashes of bodies that calls wait for, two at a time.
//!
//! The hash is most of what a record costs, and one core hashes two bodies in the time of one (AMD's) or of
//! one and a half (Intel's). One task of the shard does it for all calls, so that bodies meet there; one that
//! is alone waits a little for company while another is being encoded, and a large one while a broker is about
//! to send what the next is made of. So does what is left of a body whose company was shorter.
//!
//! A body that cannot have company, since its lane is the only one of the shard, does not come here: its
//! lane hashes it while it is written, in what the CPU has to spare.
//!
//! Invariant: a turn hashes [`TURN_BYTES`] of two bodies at most, and none waits for others, in all, longer than
//! [`COMPANY_WAIT`], or than four times what its own hash takes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::limits::{BACKLOG_COMPANY_WAIT_PER_MIB, COMPANY_WAIT, TURN_BYTES};
use forebay_protocol::sigv4::{PayloadDigest, PayloadHash};
use forebay_protocol::time::Instant;

use super::queue::Queue;
use super::turn::Turns;
use super::worker::Worker;
use crate::clock;
use crate::metrics::ShardMetrics;

const MIB: usize = 1024 * 1024;

/// What is hashed on a shard; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Hashing(Rc<State>);

#[derive(Default)]
struct State {
    /// The oldest first.
    jobs: RefCell<VecDeque<Job>>,
    /// Event loops that have more to encode.
    encoding: Cell<usize>,
    /// Event loops whose brokers owe them records for another body.
    expecting: Cell<usize>,
    /// Consumers whose calls are signed.
    signers: Cell<usize>,
    worker: Worker,
}

struct Job {
    hash: PayloadHash,
    /// How long it may wait for a body of which nothing has come yet.
    patience: Duration,
    /// How long it has been alone, before it had company last.
    waited: Duration,
    alone_since: Option<Instant>,
    answer: Queue<PayloadDigest>,
}

/// An event loop is between two turns of encoding while it holds this.
pub(crate) struct Encoding(Rc<State>);

/// An event loop waits for records that a broker has, and that make another body, while it holds this.
pub(crate) struct Expecting(Rc<State>);

/// A consumer of this shard signs its calls while it holds this.
pub(super) struct Signs(Rc<State>);

impl Signs {
    /// Whether no other consumer of the shard does: then no body but its own can be company for its body.
    pub(super) fn alone(&self) -> bool {
        self.0.signers.get() == 1
    }
}

impl Drop for Signs {
    fn drop(&mut self) {
        self.0.signers.update(|count| count - 1);
    }
}

impl Hashing {
    /// Says that there is a consumer whose calls are signed, until the guard is dropped.
    pub(super) fn signs(&self) -> Signs {
        self.0.signers.update(|count| count + 1);
        Signs(Rc::clone(&self.0))
    }

    /// The hash of the body that `pieces` are.
    pub(crate) async fn hash(&self, pieces: Vec<Bytes>) -> PayloadDigest {
        let answer = self.0.ask(pieces);
        let digest = answer.next().await;
        digest.expect("nothing is asked of a shard that has ended")
    }

    /// Says that there is more to encode, until the guard is dropped.
    pub(crate) fn encoding(&self) -> Encoding {
        self.0.encoding.update(|count| count + 1);
        Encoding(Rc::clone(&self.0))
    }

    /// Says that records for another body are about to come, until the guard is dropped.
    pub(crate) fn expecting(&self) -> Expecting {
        self.0.expecting.update(|count| count + 1);
        Expecting(Rc::clone(&self.0))
    }

    /// Hashes, until [`end`](Self::end); the shard runs it as one task.
    pub(crate) async fn work(&self, turns: &Turns, metrics: &ShardMetrics) {
        while self.0.worker.until(|| self.0.has_jobs()).await {
            let started = clock::now();
            self.0.turn(started);
            metrics.note_turn(clock::now().saturating_since(started));
            match self.0.waits_until() {
                Some(until) => self.0.until_company(until).await,
                None if self.0.has_jobs() => turns.yield_now().await,
                None => {}
            }
        }
    }

    /// Ends the work; nothing may be asked afterwards.
    pub(crate) fn end(&self) {
        self.0.worker.end();
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        self.0.encoding.update(|count| count - 1);
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.0.expecting.update(|count| count - 1);
        // An event loop takes and drops one in every turn: only a body that waits is woken for it.
        if self.0.has_jobs() {
            self.0.worker.wake();
        }
    }
}

impl State {
    fn ask(&self, pieces: Vec<Bytes>) -> Queue<PayloadDigest> {
        let answer = Queue::new(1);
        self.jobs.borrow_mut().push_back(Job {
            patience: patience(pieces.iter().map(Bytes::len).sum()),
            hash: PayloadHash::new(pieces),
            waited: Duration::ZERO,
            alone_since: None,
            answer: answer.clone(),
        });
        self.worker.wake();
        answer
    }

    fn turn(&self, now: Instant) {
        let mut jobs = self.jobs.borrow_mut();
        let mut budget = TURN_BYTES;
        while budget > 0
            && let Some(mut first) = jobs.pop_front()
        {
            match jobs.front_mut() {
                Some(second) => {
                    first.meet(now);
                    PayloadHash::step_two(&mut first.hash, &mut second.hash, &mut budget);
                }
                None => {
                    first.alone_since.get_or_insert(now);
                    match self.should_wait(&first, now) {
                        true => budget = 0,
                        false => first.hash.step(&mut budget),
                    }
                }
            }
            let second = jobs.pop_front_if(|second| second.hash.is_done());
            if first.hash.is_done() {
                first.end();
            } else {
                jobs.push_front(first);
            }
            if let Some(second) = second {
                second.end();
            }
        }
    }

    /// Whether a body that is alone is better off with the one that is being encoded, or that is to come.
    fn should_wait(&self, job: &Job, now: Instant) -> bool {
        let waited = job.waited(now);
        let most = job.patience.max(COMPANY_WAIT);
        let while_encoding = self.encoding.get() > 0 && waited < most;
        let while_expecting = self.expecting.get() > 0 && waited < job.patience;
        (while_encoding || while_expecting) && job.hash.has_company_for_free()
    }

    /// Until when the only body waits for one of which nothing has come yet.
    fn waits_until(&self) -> Option<Instant> {
        let jobs = self.jobs.borrow();
        let only = jobs.front().filter(|_| jobs.len() == 1)?;
        let now = clock::now();
        let waits = self.encoding.get() == 0 && self.should_wait(only, now);
        waits.then(|| now + only.patience.saturating_sub(only.waited(now)))
    }

    /// Sleeps until then, or until the wait has become useless or is rewarded.
    async fn until_company(&self, until: Instant) {
        let left = until.saturating_since(clock::now());
        let mut sleep = pin!(monoio::time::sleep(left));
        poll_fn(|cx| {
            if self.waits_until().is_none() {
                return Poll::Ready(());
            }
            self.worker.wait(cx);
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    fn has_jobs(&self) -> bool {
        !self.jobs.borrow().is_empty()
    }
}

/// How long a body may wait for another of which nothing has come yet: it must be worth the delay.
fn patience(body_bytes: usize) -> Duration {
    if body_bytes < MIB {
        return Duration::ZERO;
    }
    let parts = u32::try_from(body_bytes / (MIB / 16)).unwrap_or(u32::MAX);
    BACKLOG_COMPANY_WAIT_PER_MIB.saturating_mul(parts) / 16
}

impl Job {
    fn waited(&self, now: Instant) -> Duration {
        let alone = |since| now.saturating_since(since);
        self.waited + self.alone_since.map_or(Duration::ZERO, alone)
    }

    /// It is no longer alone.
    fn meet(&mut self, now: Instant) {
        self.waited = self.waited(now);
        self.alone_since = None;
    }

    fn end(self) {
        // A call that has gone away needs no hash.
        self.answer.try_push(self.hash.finish()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::trial::on_each_driver;
    use crate::shard::turn::tests::pumping;

    fn body(len: usize) -> Bytes {
        (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    /// With the worker and the pump running.
    async fn working(asked: impl AsyncFnOnce(Hashing)) {
        let (hashing, turns) = (Hashing::default(), Turns::default());
        let pump = pumping(&turns);
        let worker = monoio::spawn({
            let (hashing, turns) = (hashing.clone(), turns.clone());
            async move { hashing.work(&turns, &ShardMetrics::default()).await }
        });
        asked(hashing.clone()).await;
        hashing.end();
        worker.await;
        turns.end();
        pump.await;
    }

    #[test]
    fn bodies_of_any_sizes_have_their_own_hashes() {
        on_each_driver(async || {
            working(async |hashing| {
                let sizes = [0, 1, 64, TURN_BYTES, 5, 3 * TURN_BYTES + 7, TURN_BYTES, 700];
                let calls = sizes.map(|size| {
                    let hashing = hashing.clone();
                    monoio::spawn(async move { hashing.hash(vec![body(size)]).await })
                });
                for (size, call) in sizes.into_iter().zip(calls) {
                    assert_eq!(call.await, PayloadDigest::of(&body(size)), "{size}");
                }
            })
            .await;
        });
    }

    #[test]
    fn a_body_that_is_alone_waits_for_one_that_is_being_encoded_but_not_for_ever() {
        on_each_driver(async || {
            working(async |hashing| {
                let body = body(100);
                let alone = monoio::spawn({
                    let (hashing, body) = (hashing.clone(), body.clone());
                    async move {
                        let started = clock::now();
                        let digest = hashing.hash(vec![body]).await;
                        (digest, clock::now().saturating_since(started))
                    }
                });
                let encoding = hashing.encoding();
                let (digest, took) = alone.await;
                drop(encoding);
                assert_eq!(digest, PayloadDigest::of(&body));
                assert!(took >= COMPANY_WAIT || !waits(), "{took:?}");
                assert_eq!(hashing.hash(vec![body]).await, digest);
            })
            .await;
        });
    }

    fn waits() -> bool {
        PayloadHash::new(vec![]).has_company_for_free()
    }

    fn turns(hashing: &Hashing, now: Instant) {
        (0..8).for_each(|_| hashing.0.turn(now));
    }

    #[test]
    fn company_ends_the_wait() {
        let hashing = Hashing::default();
        let _encoding = hashing.encoding();
        let ask = |size| hashing.0.ask(vec![body(size)]);
        let first = ask(1_000);
        hashing.0.turn(Instant::ZERO);
        assert_eq!(first.is_empty(), waits());
        let second = ask(2_000);
        hashing.0.turn(Instant::ZERO);
        assert!(!first.is_empty(), "the two are hashed together");
        assert_eq!(second.is_empty(), waits(), "what is left is alone again");
        hashing.0.turn(Instant::ZERO + COMPANY_WAIT);
        assert!(!second.is_empty());
    }

    #[test]
    fn a_large_body_waits_for_what_a_broker_is_about_to_send() {
        let hashing = Hashing::default();
        let expecting = hashing.expecting();
        let ask = |size| hashing.0.ask(vec![body(size)]);
        let small = ask(1_000);
        turns(&hashing, Instant::ZERO);
        assert!(!small.is_empty(), "it is not worth a delay");
        let large = ask(3 * MIB);
        turns(&hashing, Instant::ZERO);
        assert_eq!(large.is_empty(), waits());
        let other = ask(3 * MIB);
        turns(&hashing, Instant::ZERO);
        assert!(!large.is_empty() && !other.is_empty(), "they have met");
        let last = ask(3 * MIB);
        turns(&hashing, Instant::ZERO);
        turns(&hashing, Instant::ZERO + BACKLOG_COMPANY_WAIT_PER_MIB * 3);
        assert!(!last.is_empty(), "patience has an end");
        let in_vain = ask(3 * MIB);
        drop(expecting);
        turns(&hashing, Instant::ZERO);
        assert!(!in_vain.is_empty(), "nothing is about to come");
    }

    #[test]
    fn a_large_body_waits_longer_for_one_that_is_being_encoded() {
        let hashing = Hashing::default();
        let _encoding = hashing.encoding();
        let large = hashing.0.ask(vec![body(3 * MIB)]);
        let patience = BACKLOG_COMPANY_WAIT_PER_MIB * 3;
        turns(&hashing, Instant::ZERO);
        turns(&hashing, Instant::ZERO + (patience - COMPANY_WAIT));
        assert_eq!(large.is_empty(), waits());
        turns(&hashing, Instant::ZERO + patience);
        assert!(!large.is_empty());
    }

    #[test]
    fn what_is_left_of_a_body_waits_for_as_long_as_it_has_not_waited_yet() {
        let hashing = Hashing::default();
        let _expecting = hashing.expecting();
        let patience = BACKLOG_COMPANY_WAIT_PER_MIB * 4;
        let at = |quarters| Instant::ZERO + patience / 4 * quarters;
        let large = hashing.0.ask(vec![body(4 * MIB)]);
        turns(&hashing, at(0));
        let company = hashing.0.ask(vec![body(MIB)]);
        // Until then it was alone, for a quarter of its patience; and with company for four of them.
        hashing.0.turn(at(1));
        turns(&hashing, at(5));
        assert!(!company.is_empty());
        turns(&hashing, at(7));
        assert_eq!(large.is_empty(), waits());
        turns(&hashing, at(8));
        assert!(!large.is_empty(), "it has waited for long enough in all");
    }

    #[test]
    fn the_worker_sleeps_while_it_waits_for_company() {
        on_each_driver(async || {
            working(async |hashing| {
                let expecting = hashing.expecting();
                let body = body(3 * MIB);
                let started = clock::now();
                let digest = hashing.hash(vec![body.clone()]).await;
                assert_eq!(digest, PayloadDigest::of(&body));
                let patience = BACKLOG_COMPANY_WAIT_PER_MIB * 3;
                assert!(!waits() || clock::now().saturating_since(started) >= patience);
                drop(expecting);
            })
            .await;
        });
    }
}
