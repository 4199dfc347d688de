//! The counters that shards write and control reads.

/// One shard's counters: a single writer, relaxed atomics.
#[derive(Debug, Default)]
pub struct ShardMetrics {}
