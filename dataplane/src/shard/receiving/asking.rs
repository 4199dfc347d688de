//! When brokers are asked for what they have ready.
//!
//! A broker sends what it is asked for as fast as it can. Where many mappings have fallen behind, their answers come
//! faster than a shard takes them, and lie in the sockets: hundreds of megabytes of the kernel's memory, and all of it
//! cold once its turn comes. So no more is asked for than keeps the shard busy.
//!
//! What a broker does not send at once holds up nobody for long: it may be slow, or gone. And nobody waits for longer than
//! [`ASK_PATIENCE`]: to the machine an answer that does not come is its broker's fault.
//!
//! Invariant: bytes count from when they are asked for until their answer begins to come, and no longer than
//! [`ANSWER_PROMPT`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use forebay_protocol::limits::{ANSWER_PROMPT, ASK_PATIENCE, ASKED_BYTES};
use forebay_protocol::time::Instant;

use super::line::{Line, Place};

#[derive(Default)]
pub(super) struct Asking {
    /// What was asked for, the oldest first.
    asked: RefCell<VecDeque<Rc<Grant>>>,
    /// Of these, what counts.
    bytes: Cell<usize>,
    line: Line<Rc<Grant>>,
}

/// The right to have asked for so many bytes.
pub(super) struct Grant {
    bytes: usize,
    until: Instant,
    counts: Cell<bool>,
}

impl Asking {
    /// Whether so much may be asked for, with so much that has come and was not received; then it counts. Nobody
    /// overtakes those who wait.
    pub(super) fn begin(&self, bytes: usize, come: usize, now: Instant) -> Option<Rc<Grant>> {
        let may = self.line.is_empty() && self.has_room(come, now);
        may.then(|| self.grant(bytes, now))
    }

    pub(super) fn join(&self, bytes: usize, now: Instant) -> Place<'_, Rc<Grant>> {
        self.line.join(bytes, now)
    }

    /// Whether anybody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.line.is_empty()
    }

    /// Lets ask who has waited longest, while there is room, or too long.
    pub(super) fn let_in(&self, come: usize, now: Instant) {
        while let Some(since) = self.line.since()
            && (self.has_room(come, now) || now >= since + ASK_PATIENCE)
        {
            self.line.let_in(|bytes| self.grant(bytes, now));
        }
    }

    /// Its answer begins to come, or never will.
    pub(super) fn give_back(&self, grant: &Grant) {
        if grant.counts.replace(false) {
            self.bytes.update(|sum| sum - grant.bytes);
        }
    }

    /// When the oldest of what counts no longer does.
    pub(super) fn due(&self) -> Option<Instant> {
        let asked = self.asked.borrow();
        let oldest = asked.iter().find(|grant| grant.counts.get());
        oldest.map(|grant| grant.until)
    }

    fn has_room(&self, come: usize, now: Instant) -> bool {
        let mut asked = self.asked.borrow_mut();
        while let Some(over) = asked.pop_front_if(|it| !it.counts.get() || now >= it.until) {
            self.give_back(&over);
        }
        self.bytes.get() + come < ASKED_BYTES
    }

    fn grant(&self, bytes: usize, now: Instant) -> Rc<Grant> {
        let grant = Rc::new(Grant {
            bytes,
            until: now + ANSWER_PROMPT,
            counts: Cell::new(true),
        });
        self.bytes.update(|sum| sum + bytes);
        self.asked.borrow_mut().push_back(Rc::clone(&grant));
        grant
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HALF: usize = ASKED_BYTES / 2;

    /// That many microseconds after the first.
    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    fn prompt() -> u64 {
        u64::try_from(ANSWER_PROMPT.as_micros()).unwrap()
    }

    #[test]
    fn what_is_asked_for_counts_until_it_comes() {
        let asking = Asking::default();
        let first = asking.begin(HALF, 0, at(0)).unwrap();
        let second = asking.begin(4 * HALF, 0, at(0)).unwrap();
        assert!(asking.begin(1, 0, at(0)).is_none());
        asking.give_back(&second);
        asking.give_back(&second);
        assert!(
            asking.begin(1, HALF, at(0)).is_none(),
            "what has come and was not received counts too"
        );
        assert!(asking.begin(1, HALF - 1, at(0)).is_some());
        asking.give_back(&first);
        assert_eq!(asking.bytes.get(), 1);
    }

    #[test]
    fn what_does_not_come_soon_no_longer_counts() {
        let asking = Asking::default();
        let late = asking.begin(ASKED_BYTES, 0, at(0)).unwrap();
        assert_eq!(asking.due(), Some(at(prompt())));
        assert!(asking.begin(1, 0, at(prompt() - 1)).is_none());
        assert!(asking.begin(1, 0, at(prompt())).is_some());
        asking.give_back(&late);
        assert_eq!(asking.bytes.get(), 1, "it is given back once");
        let next = asking.begin(1, 0, at(3 * prompt())).unwrap();
        assert_eq!(asking.asked.borrow().len(), 1, "what is over is forgotten");
        asking.give_back(&next);
        assert_eq!(asking.due(), None);
    }

    #[test]
    fn nobody_waits_for_longer_than_a_broker_is_trusted() {
        let asking = Asking::default();
        let [first, second] = [0, 1].map(|micros| asking.join(1, at(micros)));
        asking.let_in(ASKED_BYTES, at(0) + ASK_PATIENCE - Duration::from_micros(1));
        assert!(first.is_waiting());
        asking.let_in(ASKED_BYTES, at(0) + ASK_PATIENCE);
        assert!(!first.is_waiting() && second.is_waiting());
        assert_eq!(asking.bytes.get(), 1, "it counts as any other");
    }

    #[test]
    fn nobody_overtakes_those_who_wait() {
        let asking = Asking::default();
        let first = asking.begin(ASKED_BYTES, 0, at(0)).unwrap();
        let gone = asking.join(1, at(0));
        let second = asking.join(ASKED_BYTES, at(0));
        let third = asking.join(1, at(0));
        drop(gone);
        asking.let_in(0, at(0));
        assert!(second.is_waiting() && third.is_waiting());
        asking.give_back(&first);
        assert!(asking.begin(1, 0, at(0)).is_none(), "two wait");
        asking.let_in(0, at(0));
        assert!(!second.is_waiting() && third.is_waiting());
        asking.let_in(0, at(0) + ANSWER_PROMPT);
        assert!(!third.is_waiting() && !asking.is_waited_for());
        assert!(asking.begin(1, 0, at(0) + Duration::from_secs(1)).is_some());
    }
}
