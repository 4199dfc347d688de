//! What a secret holds: text in, values or one clear error out.
//!
//! [`document`] takes the members out of a secret's JSON, [`pem`] the blocks out of a member, [`certificate`]
//! and [`key`] read those, and [`identity`] puts a certificate and its key together.
//!
//! Source: AWS Lambda Developer Guide, "Configuring cluster authentication methods".
//!
//! Invariant: nothing is read but what is passed in, and the clock; no secret stands in an error or a log
//! line, and what holds one is wiped when it is dropped.

pub(crate) mod certificate;
mod curve;
pub(crate) mod document;
mod encrypted;
pub(crate) mod identity;
pub(crate) mod key;
mod oid;
mod pbes1;
pub(crate) mod pem;
#[cfg(test)]
mod vectors;
