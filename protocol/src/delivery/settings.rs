//! What of a consumer's configuration may change while it runs: how records are delivered.

use std::sync::Arc;
use std::time::Duration;

use super::{ConsumerConfig, Destination, OnOversized, RetryPolicy};
use crate::filter::FilterSet;

/// How records are delivered; each member means what that of [`ConsumerConfig`] does.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "each is documented where the consumer is configured"
)]
pub struct DeliverySettings {
    pub batch_size: u32,
    pub window: Duration,
    pub on_oversized: OnOversized,
    pub retry: RetryPolicy,
    /// It may come, and go from one service to another; nothing else of it changes while a consumer runs.
    pub destination: Option<Destination>,
    pub drop_undelivered: bool,
    pub filters: Arc<FilterSet>,
}

impl ConsumerConfig {
    /// Takes other settings over.
    pub(super) fn deliver_by(&mut self, settings: DeliverySettings) {
        assert!(
            may_become(self.destination.as_ref(), settings.destination.as_ref()),
            "for a topic, or for none any more, a consumer is started again"
        );
        let DeliverySettings {
            batch_size,
            window,
            on_oversized,
            retry,
            destination,
            drop_undelivered,
            filters,
        } = settings;
        self.batch_size = batch_size;
        self.window = window;
        self.on_oversized = on_oversized;
        self.retry = retry;
        self.destination = destination;
        self.drop_undelivered = drop_undelivered;
        self.filters = filters;
    }
}

fn may_become(before: Option<&Destination>, after: Option<&Destination>) -> bool {
    before == after || (before.is_none() && after == Some(&Destination::Service))
}
