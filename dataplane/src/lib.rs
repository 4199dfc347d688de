//! Forebay: the node.

pub mod clock;
pub mod contract;
pub mod mapping;
pub mod metrics;
