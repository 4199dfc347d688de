//! The Lambda side: the event, the call and what its answer means.
//!
//! Invariant: knows nothing of `kafka::membership`, `http` or sockets.

mod error_document;
pub mod event;
pub mod failure;
pub mod function;
pub mod invoke;
pub mod item_failures;
