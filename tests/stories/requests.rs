//! Counts what a cluster was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_tests::fake_kafka::{FakeKafka, Fault};
use kafka_protocol::messages::ApiKey;

const WATCHED: [(ApiKey, i32); 4] = [
    (ApiKey::Fetch, 1),
    (ApiKey::Fetch, 2),
    (ApiKey::ListOffsets, 1),
    (ApiKey::ListOffsets, 2),
];

/// Requests by API and broker.
pub(crate) struct Requests(Arc<BTreeMap<(i16, i32), AtomicU64>>);

impl Requests {
    pub(crate) fn watch(kafka: &mut FakeKafka) -> Self {
        let counts = WATCHED.map(|(api, node)| ((api as i16, node), AtomicU64::new(0)));
        let counts = Arc::new(BTreeMap::from(counts));
        let counting = Arc::clone(&counts);
        kafka.set_hook(Some(Box::new(move |seen| {
            if let Some(count) = counting.get(&(seen.api as i16, seen.node)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Fault::Serve
        })));
        Self(counts)
    }

    pub(crate) fn of(&self, api: ApiKey, node: i32) -> u64 {
        self.0[&(api as i16, node)].load(Ordering::Relaxed)
    }
}
