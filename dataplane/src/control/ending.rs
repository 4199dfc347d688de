//! How the node ends: it drains, gives up, and says what will come again.
//!
//! Invariant: it ends in time, whatever its shards do: the grace bounds the drain, and shards that do not end are
//! left behind.

use tracing::{info, warn};

use super::health::Ask;
use super::shards::STATUS_INTERVAL;
use super::{Control, Lifecycle, ShutdownReport};
use crate::contract::{ShardStatus, Unfinished, mpsc};

impl Control {
    /// Drains up to the grace, gives up after it, and waits for the shards.
    pub(super) async fn end(mut self, mut asks: mpsc::Receiver<Ask>) -> ShutdownReport {
        let mut report = ShutdownReport::default();
        if self.lifecycle() != Lifecycle::GiveUp {
            info!(grace_ms = self.config.grace.as_millis() as u64, "Draining");
            let plans = self.planner.drain(false);
            self.shards.send(plans);
            report.gave_up = !self.drained_within_grace(&mut asks).await;
        } else {
            report.gave_up = true;
        }
        if report.gave_up {
            warn!("Giving up what is in flight");
            let plans = self.planner.drain(true);
            self.shards.send(plans);
        }
        // Without their plans the shards end; their last statuses stay.
        let (last, ended) = std::mem::take(&mut self.shards).end().await;
        report.failed = !ended;
        for status in last {
            report.unfinished.extend(self.unfinished(&status));
        }
        self.tasks.shutdown().await;
        report
    }

    fn lifecycle(&self) -> Lifecycle {
        // An owner that is gone cannot wait for a grace.
        match self.orders.has_changed() {
            Err(_) => Lifecycle::GiveUp,
            Ok(_) => self.orders.borrow().lifecycle,
        }
    }

    async fn drained_within_grace(&mut self, asks: &mut mpsc::Receiver<Ask>) -> bool {
        let deadline = tokio::time::Instant::now() + self.config.grace;
        loop {
            if self.shards.have_drained(&self.planner) {
                return true;
            }
            if self.lifecycle() == Lifecycle::GiveUp {
                return false;
            }
            tokio::select! {
                () = self.news.notified() => {}
                _ = self.orders.changed() => {}
                Some(ask) = asks.recv() => self.answer(ask),
                () = tokio::time::sleep(STATUS_INTERVAL) => {}
                () = tokio::time::sleep_until(deadline) => return false,
            }
        }
    }

    /// What will come again as a shard's last status knows. Consumers in it have not ended: their shard has
    /// died, or was left behind.
    fn unfinished(&self, last: &ShardStatus) -> Vec<Unfinished> {
        let mut unfinished = last.unfinished.clone();
        for consumer in &last.consumers {
            let all = self.store.declared().iter().chain(self.removed.declared());
            let mut all = all.map(|declared| &declared.mapping);
            let Some(mapping) = all.find(|it| it.uuid == consumer.uuid) else {
                continue;
            };
            let partitions = consumer.status.partitions.iter();
            let open = partitions.filter(|it| it.call.is_some());
            unfinished.extend(open.map(|it| Unfinished::of(mapping, it)));
        }
        unfinished
    }
}
