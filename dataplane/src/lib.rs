//! Forebay: the node.

pub mod clock;
pub mod contract;
pub mod mapping;
pub mod metrics;
pub mod net;
pub mod shard;
