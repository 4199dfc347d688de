//! How the node's memory budget is divided: evenly over the shards, and in each a part for receive buffers, a
//! part for what the allocator holds back, and the rest for what its consumers hold. So the process stays
//! within the budget as the operator sees it, as resident memory.

use forebay_protocol::limits::RECEIVE_BUFFERS_MAX;

/// The part of a shard's memory that receive buffers may take, up to [`RECEIVE_BUFFERS_MAX`].
const RECEIVE_PART: usize = 8;

/// The part that is left to the allocator, which gives back what was freed only after a while, and to what is
/// not counted. Measured at full rate over 1,000 partitions: `tests/footprint`.
const ALLOCATOR_PART: usize = 5;

/// One shard's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShardMemory {
    /// For what consumers hold.
    pub(super) consumer_bytes: usize,
    /// For receive buffers that wait to be used again.
    pub(super) receive_bytes: usize,
}

impl ShardMemory {
    /// Of a node with so much memory and so many shards.
    pub(super) fn of(memory_bytes: usize, shards: usize) -> Self {
        let all = memory_bytes / shards;
        let receive_bytes = (all / RECEIVE_PART).min(RECEIVE_BUFFERS_MAX);
        Self {
            consumer_bytes: all - receive_bytes - all / ALLOCATOR_PART,
            receive_bytes,
        }
    }

    /// The memory of a node on whose shards consumers need so much each.
    pub(super) fn node_bytes(consumer_bytes: usize, shards: usize) -> usize {
        const PARTS: usize = RECEIVE_PART * ALLOCATOR_PART;
        const REST: usize = PARTS - RECEIVE_PART - ALLOCATOR_PART;
        let few = (consumer_bytes * PARTS).div_ceil(REST);
        let many =
            ((consumer_bytes + RECEIVE_BUFFERS_MAX) * ALLOCATOR_PART).div_ceil(ALLOCATOR_PART - 1);
        few.min(many) * shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_enough_and_no_more() {
        for consumer_bytes in [1000, 10 << 20, 200 << 20, 300 << 20, 5 << 30] {
            for shards in [1, 3] {
                let asked = ShardMemory::node_bytes(consumer_bytes, shards);
                assert!(ShardMemory::of(asked, shards).consumer_bytes >= consumer_bytes);
                let less = asked - 4 * shards;
                assert!(ShardMemory::of(less, shards).consumer_bytes < consumer_bytes);
            }
        }
    }
}
