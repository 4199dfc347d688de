//! Brokers that cannot be used, and how often that is said: at once, when the reason changes, and else at
//! growing intervals.
//!
//! Invariant: no more than [`BROKERS_MAX`] are remembered; a broker that is forgotten is spoken of anew.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Endpoint;
use crate::time::Instant;

/// Brokers that are remembered at once.
const BROKERS_MAX: usize = 256;

/// The first interval; each is twice as long as the one before.
const INTERVAL_MIN: Duration = Duration::from_secs(10);

/// The longest interval.
const INTERVAL_MAX: Duration = Duration::from_secs(600);

/// What was said of each broker that cannot be used.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<Endpoint, Complaint>);

#[derive(Debug)]
struct Complaint {
    reason: String,
    /// Attempts that were not spoken of.
    unsaid: u32,
    interval: Duration,
    next: Instant,
}

impl Complaints {
    /// An attempt came to nothing. How many there were since the last line, if a line is due.
    pub(super) fn note(&mut self, broker: &Endpoint, reason: &str, now: Instant) -> Option<u32> {
        match self.0.get_mut(broker) {
            Some(known) if known.reason == reason => known.again(now),
            _ => {
                if self.0.len() >= BROKERS_MAX {
                    self.0.clear();
                }
                let complaint = Complaint {
                    reason: reason.to_owned(),
                    unsaid: 0,
                    interval: INTERVAL_MIN,
                    next: now + INTERVAL_MIN,
                };
                self.0.insert(broker.clone(), complaint);
                Some(1)
            }
        }
    }

    /// The broker can be used.
    pub(super) fn forget(&mut self, broker: &Endpoint) {
        self.0.remove(broker);
    }
}

impl Complaint {
    fn again(&mut self, now: Instant) -> Option<u32> {
        self.unsaid = self.unsaid.saturating_add(1);
        if now < self.next {
            return None;
        }
        self.interval = (self.interval * 2).min(INTERVAL_MAX);
        self.next = now + self.interval;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(port: u16) -> Endpoint {
        let host = "kafka".to_owned();
        Endpoint { host, port }
    }

    #[test]
    fn the_same_again_is_said_at_growing_intervals_with_its_count() {
        let mut complaints = Complaints::default();
        let mut said = Vec::new();
        for second in 0..200 {
            let now = Instant::ZERO + Duration::from_secs(second);
            if let Some(count) = complaints.note(&broker(1), "refused", now) {
                said.push((second, count));
            }
        }
        assert_eq!(said, [(0, 1), (10, 10), (30, 20), (70, 40), (150, 80)]);
    }

    #[test]
    fn another_reason_and_another_broker_are_said_at_once() {
        let mut complaints = Complaints::default();
        let now = Instant::ZERO;
        assert_eq!(complaints.note(&broker(1), "refused", now), Some(1));
        assert_eq!(complaints.note(&broker(2), "refused", now), Some(1));
        assert_eq!(complaints.note(&broker(1), "refused", now), None);
        assert_eq!(complaints.note(&broker(1), "silent", now), Some(1));
        complaints.forget(&broker(1));
        assert_eq!(complaints.note(&broker(1), "silent", now), Some(1));
    }
}
