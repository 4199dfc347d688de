//! The real appliance between a fake cluster and a fake Lambda, over real sockets.

mod batching;
mod check;
mod delivery;
mod destinations;
mod exceptions;
mod faults;
mod filters;
mod hostile;
mod keeping;
mod logs;
mod memory;
mod node;
mod ownership;
mod redrive;
mod retries;
mod secrets;
mod signing;
mod skipping;
mod status;
