//! The partitions that a member holds, and those of them that it is giving up.
//!
//! ```text
//!            assigned                       not assigned any more
//!  (nothing) ---------> Owned ------------------------------------> Revoking
//!      ^                  ^                                          |    |
//!      |                  | released, after it was assigned again    |    |
//!      |                  +------------------------------------------+    |
//!      +------------------------------------------------------------------+ released
//! ```
//!
//! Invariant: what is revoked stays held, and claimed, until it is released, even if it is assigned to
//! us again in the meantime: the lane that gives it up never has to turn back half-way.

use std::collections::{BTreeMap, BTreeSet};

use super::MembershipEvent;

/// What a member holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings(BTreeMap<i32, Hold>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Owned,
    Revoking { regained: bool },
}

/// What a new assignment changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// New, ascending.
    pub(super) assigned: Vec<i32>,
    /// To be given up from now on, ascending.
    pub(super) revoked: Vec<i32>,
}

impl Change {
    /// The consumer's part in it: first what it gives up.
    pub(super) fn events(self) -> impl Iterator<Item = MembershipEvent> {
        let revoke = |partitions| MembershipEvent::Revoke { partitions };
        let assigned = |partitions| MembershipEvent::Assigned { partitions };
        let some = |partitions: &Vec<i32>| !partitions.is_empty();
        Some(self.revoked)
            .filter(some)
            .map(revoke)
            .into_iter()
            .chain(Some(self.assigned).filter(some).map(assigned))
    }
}

/// What a release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// It was not being revoked.
    Nothing,
    /// It is gone.
    GivenUp,
    /// It was assigned again in the meantime, and is owned anew.
    Regained,
}

impl Holdings {
    /// Takes a new assignment over.
    pub(super) fn assign(&mut self, assignment: &BTreeSet<i32>) -> Change {
        let mut change = Change::default();
        for (partition, hold) in &mut self.0 {
            let again = assignment.contains(partition);
            match hold {
                Hold::Owned if again => {}
                Hold::Owned => {
                    *hold = Hold::Revoking { regained: false };
                    change.revoked.push(*partition);
                }
                Hold::Revoking { regained } => *regained = again,
            }
        }
        for partition in assignment {
            if !self.0.contains_key(partition) {
                self.0.insert(*partition, Hold::Owned);
                change.assigned.push(*partition);
            }
        }
        change
    }

    /// Revokes everything; what is newly revoked, ascending.
    pub(super) fn revoke_all(&mut self) -> Vec<i32> {
        self.assign(&BTreeSet::new()).revoked
    }

    /// The call and the commit of a revoked partition have ended.
    pub(super) fn release(&mut self, partition: i32) -> Release {
        match self.0.get(&partition) {
            None | Some(Hold::Owned) => Release::Nothing,
            Some(Hold::Revoking { regained: false }) => {
                self.0.remove(&partition);
                Release::GivenUp
            }
            Some(Hold::Revoking { regained: true }) => {
                self.0.insert(partition, Hold::Owned);
                Release::Regained
            }
        }
    }

    /// Gives everything up at once; what it was, ascending.
    pub(super) fn lose_all(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.0).into_keys().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is held, perhaps being revoked.
    pub(super) fn holds(&self, partition: i32) -> bool {
        self.0.contains_key(&partition)
    }

    /// Whether it is held and not being revoked.
    pub(super) fn owns(&self, partition: i32) -> bool {
        self.0.get(&partition) == Some(&Hold::Owned)
    }

    /// Whether the group waits for something to be released.
    pub(super) fn is_giving_up(&self) -> bool {
        let waited_for = Hold::Revoking { regained: false };
        self.0.values().any(|hold| *hold == waited_for)
    }

    /// What is claimed in the next JoinGroup.
    pub(super) fn claims(&self) -> BTreeSet<i32> {
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(partitions: &[i32]) -> Holdings {
        let mut holdings = Holdings::default();
        holdings.assign(&partitions.iter().copied().collect());
        holdings
    }

    #[test]
    fn an_assignment_adds_and_revokes() {
        let mut holdings = holding(&[0, 1]);
        let change = holdings.assign(&BTreeSet::from([1, 2]));
        assert_eq!((change.assigned, change.revoked), (vec![2], vec![0]));
        assert!(holdings.holds(0) && !holdings.owns(0));
        assert_eq!(holdings.claims(), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn a_released_partition_is_claimed_no_more() {
        let mut holdings = holding(&[0]);
        assert_eq!(holdings.release(0), Release::Nothing);
        assert_eq!(holdings.revoke_all(), [0]);
        assert_eq!(holdings.release(0), Release::GivenUp);
        assert!(holdings.is_empty());
    }

    #[test]
    fn what_is_assigned_again_while_given_up_comes_back_after_the_release() {
        let mut holdings = holding(&[0]);
        holdings.revoke_all();
        let change = holdings.assign(&BTreeSet::from([0]));
        assert_eq!(change, Change::default());
        assert!(!holdings.owns(0) && !holdings.is_giving_up());
        assert_eq!(holdings.release(0), Release::Regained);
        assert!(holdings.owns(0));
    }

    #[test]
    fn what_is_taken_away_once_more_is_given_up_for_good() {
        let mut holdings = holding(&[0]);
        holdings.revoke_all();
        holdings.assign(&BTreeSet::from([0]));
        holdings.revoke_all();
        assert!(holdings.is_giving_up());
        assert_eq!(holdings.release(0), Release::GivenUp);
    }
}
