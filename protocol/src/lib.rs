//! Forebay's pure core: every decision of the appliance, as values and machines.
//!
//! Nothing here does I/O, reads a clock, spawns, logs or draws randomness of its own: machines take
//! `(input, now)` and yield effects, and a seed comes in as an argument. The shell that executes the
//! effects is the `forebay` package.
//!
//! Invariant: no `async`, no socket, no clock, no thread; `unsafe` only in `kernels`.
#![warn(missing_docs)]
#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

pub mod delivery;
pub mod filter;
pub mod http;
pub mod kafka;
mod kernels;
pub mod lambda;
pub mod limits;
pub mod random;
pub mod sigv4;
pub mod time;
