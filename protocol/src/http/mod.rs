//! HTTP/1.1 as a client speaks it to call functions: one request at a time on a connection.
//!
//! [`RequestHead`] writes what precedes a body; [`ResponseParser`] takes the answer's bytes as they
//! come. Neither knows a socket, nor what the call is about.
//!
//! Source: RFC 9112 (HTTP/1.1), RFC 9110 (HTTP semantics).
//!
//! Invariant: no bytes of a peer can make this panic or hold more than the limits say; an answer that is
//! cut short is an error, never an answer.

mod body;
mod request;
mod response;

pub use request::{HeadError, RequestHead};
pub use response::{Progress, Response, ResponseError, ResponseParser};
