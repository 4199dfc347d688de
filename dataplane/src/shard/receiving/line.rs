//! Who waits for room, in the order they came.
//!
//! Invariant: who no longer waits holds up nobody.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use forebay_protocol::time::Instant;

use super::super::queue::Queue;

/// Those who wait, each for so many bytes; whoever is let in gets a `T`.
pub(super) struct Line<T> {
    waiting: RefCell<VecDeque<Rc<Waiter<T>>>>,
    bytes: Cell<usize>,
}

struct Waiter<T> {
    bytes: usize,
    since: Instant,
    let_in: Queue<T>,
}

/// A place in the line, until it is dropped.
pub(super) struct Place<'a, T> {
    line: &'a Line<T>,
    waiter: Rc<Waiter<T>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: RefCell::default(),
            bytes: Cell::default(),
        }
    }
}

impl<T> Line<T> {
    /// Waits behind the others.
    pub(super) fn join(&self, bytes: usize, now: Instant) -> Place<'_, T> {
        let waiter = Rc::new(Waiter {
            bytes,
            since: now,
            let_in: Queue::new(1),
        });
        self.waiting.borrow_mut().push_back(Rc::clone(&waiter));
        self.bytes.update(|sum| sum + bytes);
        Place { line: self, waiter }
    }

    /// Lets the first one in, with what is made of its bytes.
    pub(super) fn let_in(&self, with: impl FnOnce(usize) -> T) {
        let Some(first) = self.waiting.borrow_mut().pop_front() else {
            return;
        };
        self.bytes.update(|sum| sum - first.bytes);
        let is_first = first.let_in.try_push(with(first.bytes));
        assert!(is_first.is_ok(), "who waits is let in once");
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Since when the first one waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|first| first.since)
    }

    /// What they wait for together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

impl<T> Place<'_, T> {
    pub(super) async fn turn(&self) -> T {
        let turn = self.waiter.let_in.next().await;
        turn.expect("nobody closes it")
    }

    #[cfg(test)]
    pub(super) fn is_waiting(&self) -> bool {
        self.waiter.let_in.is_empty()
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.borrow_mut();
        let place = waiting
            .iter()
            .position(|other| Rc::ptr_eq(other, &self.waiter));
        if let Some(gone) = place.and_then(|at| waiting.remove(at)) {
            self.line.bytes.update(|sum| sum - gone.bytes);
        }
    }
}
