//! Which producers' batches are void, at the place where a reader stands.
//!
//! KIP-98: a fetch with read_committed brings the transactions that were aborted within its records.
//! A producer's batches are void from such a transaction's first offset up to its ABORT marker.
//!
//! Invariant: fed with the batches in offset order.

use std::collections::BTreeSet;

use crate::kafka::messages::AbortedTransaction;

/// The aborted transactions of one record set.
#[derive(Debug)]
pub(super) struct Transactions {
    /// All of them, by first offset.
    aborted: Vec<AbortedTransaction>,
    /// How many of them have begun.
    begun: usize,
    /// Producers with one that has begun and not ended.
    open: BTreeSet<i64>,
}

impl Transactions {
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
        Self {
            aborted,
            begun: 0,
            open: BTreeSet::new(),
        }
    }

    /// The reader has come to a batch that ends with `last_offset`.
    pub(super) fn begin_up_to(&mut self, last_offset: i64) {
        while let Some(transaction) = self.aborted.get(self.begun)
            && transaction.first_offset <= last_offset
        {
            self.open.insert(transaction.producer_id);
            self.begun += 1;
        }
    }

    /// The reader has come to an ABORT marker.
    pub(super) fn end(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }

    /// Whether a transactional batch of that producer is void here.
    pub(super) fn is_aborted(&self, producer_id: i64) -> bool {
        self.open.contains(&producer_id)
    }
}
