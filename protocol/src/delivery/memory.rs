//! What one consumer holds of its shard's memory budget, fetched and encoded bytes apart.
//!
//! Each account has a part of its own that no one else can take, so that a consumer can always hold one
//! fetch and always build one body: a full budget slows it down, it never stops it. Kept apart, a pile of
//! fetched bytes can never take the room that the body which would free them needs.
//!
//! Invariant: the shared part that an account took is given back when it holds less, and on drop.

use super::Budget;

/// One kind of bytes held.
#[derive(Debug)]
pub(super) struct Account {
    budget: Budget,
    own: usize,
    held: usize,
    taken: usize,
}

impl Account {
    /// An account with `own` bytes that are never lent out.
    pub(super) fn new(own: usize, budget: Budget) -> Self {
        Self {
            budget,
            own,
            held: 0,
            taken: 0,
        }
    }

    /// Holds `bytes` more if they fit into our own part or the shared one.
    pub(super) fn try_add(&mut self, bytes: usize) -> bool {
        let wanted = (self.held + bytes).saturating_sub(self.own + self.taken);
        if wanted > 0 && !self.budget.take(wanted) {
            return false;
        }
        self.taken += wanted;
        self.held += bytes;
        true
    }

    /// Whether `bytes` more would fit.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let wanted = (self.held + bytes).saturating_sub(self.own + self.taken);
        wanted <= self.budget.available()
    }

    /// How much more would fit.
    pub(super) fn room(&self) -> usize {
        (self.own + self.taken).saturating_sub(self.held) + self.budget.available()
    }

    /// Holds `bytes` more, whether they fit or not: they are here already. False says that they did not
    /// fit, so that the caller stops taking more.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        if self.try_add(bytes) {
            return true;
        }
        let rest = self.budget.available();
        if self.budget.take(rest) {
            self.taken += rest;
        }
        self.held += bytes;
        false
    }

    /// Holds `bytes` less.
    pub(super) fn sub(&mut self, bytes: usize) {
        assert!(bytes <= self.held, "more bytes given back than held");
        self.held -= bytes;
        let surplus = self.taken - self.taken.min(self.held.saturating_sub(self.own));
        self.taken -= surplus;
        self.budget.give(surplus);
    }

    /// Holds what now is there instead of what was.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        if after >= before {
            self.add(after - before);
        } else {
            self.sub(before - after);
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.give(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_part_is_there_when_the_shared_part_is_gone() {
        let budget = Budget::new(100);
        let mut greedy = Account::new(10, budget.clone());
        let mut modest = Account::new(10, budget.clone());
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
        let mut account = Account::new(10, budget.clone());
        assert!(!account.add(500), "it does not fit, but it is here");
        account.sub(200);
        assert_eq!(budget.available(), 0);
        account.sub(250);
        assert_eq!(budget.available(), 60);
        drop(account);
        assert_eq!(budget.available(), 100);
    }
}
