//! Kafka, spoken by ourselves: frames, versions, messages, record batches and group membership.
//!
//! Requests are encoded with the `kafka-protocol` crate; every answer is read by our own bounded
//! decoders, because an answer's counts must never make us reserve more than has arrived.
//!
//! Sources: Apache Kafka's message schemas (clients/src/main/resources/common/message), KIP-98, KIP-394,
//! KIP-429, KIP-482, KIP-511; RFC 5802 (SCRAM).
//!
//! Invariant: knows nothing of `lambda` and `http`.

mod api;
pub mod assignor;
pub mod connection;
pub mod error;
pub mod frame;
pub mod membership;
pub mod messages;
pub mod partitioner;
pub mod records;
pub mod sasl;
pub mod stranger;
pub mod versions;
pub mod wire;
