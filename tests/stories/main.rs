//! Stories of the delivery core: each sets up an order of events that once lost records, stopped a lane or
//! ended the process, or that no random schedule would find, and says what must come of it.

mod authentication;
mod cluster;
mod consumer_group;
mod expiry;
mod fetching;
mod filtering;
mod giving_up;
mod group;
mod keeping;
mod memory;
mod positions;
mod racks;
mod reloading;
mod requests;
mod retrying;
mod skipping;
mod start;
mod topic;
mod versions;
mod watchdog;
