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
    /// What is not the same in the others, by AWS's names.
    pub(super) fn changes(&self, others: &Self) -> Vec<&'static str> {
        let Self {
            batch_size,
            window,
            on_oversized,
            retry,
            destination,
            drop_undelivered,
            filters,
        } = self;
        let RetryPolicy {
            max_attempts,
            max_age,
            bisect,
            report_item_failures,
        } = retry;
        let changed = [
            (*batch_size != others.batch_size, "BatchSize"),
            (*window != others.window, "MaximumBatchingWindowInSeconds"),
            (*on_oversized != others.on_oversized, "on_oversized_record"),
            (
                *max_attempts != others.retry.max_attempts,
                "MaximumRetryAttempts",
            ),
            (
                *max_age != others.retry.max_age,
                "MaximumRecordAgeInSeconds",
            ),
            (*bisect != others.retry.bisect, "BisectBatchOnFunctionError"),
            (
                *report_item_failures != others.retry.report_item_failures,
                "FunctionResponseTypes",
            ),
            (*destination != others.destination, "DestinationConfig"),
            (
                *drop_undelivered != others.drop_undelivered,
                "on_destination_failure",
            ),
            (*filters != others.filters, "FilterCriteria"),
        ];
        let changed = changed.into_iter().filter(|(is_changed, _)| *is_changed);
        changed.map(|(_, name)| name).collect()
    }

    /// Whether a consumer that runs by these may go on by the others.
    pub(super) fn may_become(&self, others: &Self) -> bool {
        let (before, after) = (&self.destination, &others.destination);
        before == after || (before.is_none() && *after == Some(Destination::Service))
    }
}
