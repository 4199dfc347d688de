//! Other settings for delivery, while everything else goes on.
//!
//! What has been encoded stays as it is, filtered or not, and goes out in bodies of the old size; what waits for its next
//! call waits on, with its attempts counted. What is decided next is decided by the new settings.
//!
//! Invariant: no record ends, and no call starts, because settings have changed; lanes and membership are not touched.

use super::super::batch::BatchState;
use super::super::lane::Obstacle;
use super::super::{DeliverySettings, Severity};
use super::Consumer;
use crate::filter::Scratch;

impl Consumer {
    pub(super) fn take_settings(&mut self, settings: DeliverySettings) {
        assert!(
            self.config.delivery.may_become(&settings),
            "for a topic, or for none any more, a consumer is started again"
        );
        let changes = self.config.delivery.changes(&settings).join(" ");
        self.config.delivery = settings;
        self.filter_scratch = Scratch::default();
        // Whoever has mended the destination does not wait for the next try.
        for batch in self.batches.values_mut() {
            if let BatchState::Leaving(writing) = &mut batch.state
                && writing.open.is_none()
            {
                writing.next_try = self.now;
            }
        }
        // A record that halts its lane may have somewhere to go now.
        for lane in self.lanes.values_mut() {
            if let Some(halt) = &mut lane.halted
                && halt.obstacle == Obstacle::Record
            {
                halt.retry_at = self.now;
            }
        }
        self.notice(
            Severity::Info,
            "Delivery goes on by other settings",
            format!("changed={changes:?}"),
        );
    }
}
