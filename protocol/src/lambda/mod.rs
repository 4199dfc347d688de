//! The Lambda side: the event, the call and what its answer means.
//!
//! Invariant: knows nothing of `kafka::membership`, `http` or sockets.

pub mod event;
pub mod function;
pub mod invoke;
