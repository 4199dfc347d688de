//! What one consumer holds of its shard's memory budget, fetched and encoded bytes apart.
//!
//! Each account has a part of its own that no one else can take, so that a consumer can always hold one
//! fetch and always build one body: a full budget slows it down, it never stops it. Kept apart, a pile of
//! fetched bytes can never take the room that the body which would free them needs.
//!
//! Invariant: the shared part that an account took is given back when it holds less, and on drop.

use std::cell::Cell;
use std::rc::Rc;

use super::Budget;

/// One kind of bytes held.
#[derive(Debug)]
pub(super) struct Account(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Budget,
    own: usize,
    held: Cell<usize>,
    taken: Cell<usize>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    account: Rc<Inner>,
    bytes: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.account.sub(self.bytes);
    }
}

impl Account {
    /// An account with `own` bytes that are never lent out.
    pub(super) fn new(own: usize, budget: Budget) -> Self {
        Self(Rc::new(Inner {
            budget,
            own,
            held: Cell::new(0),
            taken: Cell::new(0),
        }))
    }

    /// Holds `bytes` more if they fit into our own part or the shared one.
    pub(super) fn try_add(&self, bytes: usize) -> bool {
        self.0.try_add(bytes)
    }

    /// Whether `bytes` more would fit.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.0.wanted(bytes) <= self.0.budget.available()
    }

    /// How much more would fit.
    pub(super) fn room(&self) -> usize {
        let inner = &self.0;
        (inner.own + inner.taken.get()).saturating_sub(inner.held.get()) + inner.budget.available()
    }

    /// Holds `bytes` more, whether they fit or not: they are here already.
    pub(super) fn add(&self, bytes: usize) {
        if self.try_add(bytes) {
            return;
        }
        let inner = &self.0;
        let rest = inner.budget.available();
        if inner.budget.take(rest) {
            inner.taken.set(inner.taken.get() + rest);
        }
        inner.held.set(inner.held.get() + bytes);
    }

    /// Holds `bytes` less.
    pub(super) fn sub(&self, bytes: usize) {
        self.0.sub(bytes);
    }

    /// Holds what now is there instead of what was.
    pub(super) fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.add(after - before);
        } else {
            self.sub(before - after);
        }
    }

    /// Holds `bytes` more, fit or not, until the answer is dropped.
    pub(super) fn hold(&self, bytes: usize) -> Hold {
        self.add(bytes);
        Hold {
            account: Rc::clone(&self.0),
            bytes,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.0.held.get()
    }
}

impl Inner {
    /// What `bytes` more would take of the shared part.
    fn wanted(&self, bytes: usize) -> usize {
        (self.held.get() + bytes).saturating_sub(self.own + self.taken.get())
    }

    fn try_add(&self, bytes: usize) -> bool {
        let wanted = self.wanted(bytes);
        if wanted > 0 && !self.budget.take(wanted) {
            return false;
        }
        self.taken.set(self.taken.get() + wanted);
        self.held.set(self.held.get() + bytes);
        true
    }

    fn sub(&self, bytes: usize) {
        let held = self.held.get();
        assert!(bytes <= held, "more bytes given back than held");
        let (held, taken) = (held - bytes, self.taken.get());
        self.held.set(held);
        let needed = taken.min(held.saturating_sub(self.own));
        self.taken.set(needed);
        self.budget.give(taken - needed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.give(self.taken.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_part_is_there_when_the_shared_part_is_gone() {
        let budget = Budget::new(100);
        let greedy = Account::new(10, budget.clone());
        let modest = Account::new(10, budget.clone());
        assert!(greedy.try_add(110));
        assert!(!greedy.try_add(1));
        assert!(modest.try_add(10));
        assert!(!modest.try_add(1));
        greedy.sub(50);
        assert!(modest.try_add(50));
        assert_eq!(budget.available(), 0);
    }

    #[test]
    fn everything_is_given_back() {
        let budget = Budget::new(100);
        let account = Account::new(10, budget.clone());
        account.add(500);
        assert!(!account.fits(1), "it does not fit, but it is here");
        account.sub(200);
        assert_eq!(budget.available(), 0);
        account.sub(250);
        assert_eq!(budget.available(), 60);
        drop(account);
        assert_eq!(budget.available(), 100);
    }
}
