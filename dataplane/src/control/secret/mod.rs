//! What a secret holds: text in, values or one clear error out.
//!
//! [`document`] takes the members out of a secret's JSON, and [`pem`] the blocks out of a member.
//!
//! Source: AWS Lambda Developer Guide, "Configuring cluster authentication methods".
//!
//! Invariant: nothing is read but what is passed in; no secret stands in an error or a log
//! line, and what holds one is wiped when it is dropped.

#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the configuration does not name secrets yet")
)]

pub(crate) mod document;
pub(crate) mod pem;
