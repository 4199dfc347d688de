//! What of a consumer's configuration may change while it runs: how records are delivered.

use std::sync::Arc;
use std::time::Duration;

use super::{Destination, OnOversized, RetryPolicy};
use crate::filter::FilterSet;

/// How records are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliverySettings {
    /// Records that one invocation carries at most.
    pub batch_size: u32,
    /// How long the first record of a batch may wait for company; zero sends at once.
    pub window: Duration,
    /// What becomes of a record that no body can hold.
    pub on_oversized: OnOversized,
    /// How often, and how long, records are tried.
    pub retry: RetryPolicy,
    /// Where records go that are given up; without it they are discarded, and counted. It may come, and go from one service
    /// to another; nothing else of it changes while a consumer runs.
    pub destination: Option<Destination>,
    /// Whether records that the destination does not take are discarded (AWS's way) instead of kept until it does.
    pub drop_undelivered: bool,
    /// The records that are sent; the others are passed over.
    pub filters: Arc<FilterSet>,
}

impl DeliverySettings {
    /// Whether a consumer that runs by these may go on by the others.
    pub(super) fn may_become(&self, others: &Self) -> bool {
        let (before, after) = (&self.destination, &others.destination);
        before == after || (before.is_none() && *after == Some(Destination::Service))
    }
}
