//! Sockets on a shard: names, connections, deadlines.
//!
//! Invariant: a future that does I/O is never dropped before it has ended (io_uring may already have
//! taken or given the bytes): it is cancelled by cutting its socket, then awaited, then closed.

pub(crate) mod deadline;
pub(crate) mod resolve;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;

#[cfg(test)]
pub(crate) mod trial;
