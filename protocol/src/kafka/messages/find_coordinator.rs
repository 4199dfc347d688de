//! FindCoordinator (key 10): which broker has the coordinator's role for a group. From v4 the request
//! and answer are lists (KIP-699); we always ask for one group.

use crate::kafka::error::ErrorCode;

/// Asks for a group's coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorRequest {
    /// The group.
    pub group_id: String,
}

/// Where the coordinator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The broker's own words on the error.
    pub error_message: Option<String>,
    /// The coordinator's node id; -1 with an error.
    pub node_id: i32,
    /// Its host; empty with an error.
    pub host: String,
    /// Its port; 0 with an error.
    pub port: u16,
}
