//! Forebay's fakes, simulator, rigs and suites: everything that stands in for a Kafka cluster, for
//! Lambda or for time.
//!
//! Invariant: nothing of the appliance depends on this package.

pub mod clock;
pub mod failure;
pub mod fake_aws;
pub mod fake_kafka;
pub mod fake_lambda;
pub mod harness;
pub mod liar;
pub mod node;
pub mod process;
pub mod rig;
pub mod secure;
mod signature;
pub mod story;
pub mod world;
