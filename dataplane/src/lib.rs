//! Forebay: the node.

pub mod contract;
pub mod mapping;
pub mod metrics;
