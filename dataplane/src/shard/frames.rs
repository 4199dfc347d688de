//! Cuts a broker's stream into frames.
//!
//! Invariant: a length from the wire never makes us reserve more than [`FRAME_BYTES_RESERVED`] before its
//! bytes arrive.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use forebay_protocol::kafka::stranger::stranger;
use forebay_protocol::limits::{FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_RESERVED};
use thiserror::Error;

use super::receiving::{Asked, Receiving};
use crate::net::stream::Reader;
use crate::net::tcp::Handle;

/// Why there are no more frames.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The peer closed between two frames.
    #[error("the broker closed the connection")]
    Closed,
    /// The peer closed inside a frame.
    #[error("the broker closed the connection after {arrived} of {length} bytes of a frame")]
    Truncated {
        /// Bytes of it that came.
        arrived: usize,
        /// What its length promised.
        length: usize,
    },
    /// The length is negative or beyond the limit.
    #[error(
        "the broker announced a frame of {length} bytes, the limit is {limit}: correct KAFKA_BOOTSTRAP_SERVERS, if it is no Kafka"
    )]
    Length {
        /// What it announced.
        length: i32,
        /// The most that was expected.
        limit: usize,
    },
    /// The peer does not speak Kafka.
    #[error("{0}")]
    Stranger(&'static str),
    /// The connection broke, or was given up.
    #[error("{0}")]
    Broken(#[from] io::Error),
}

/// Cuts a stream into frames.
pub(crate) struct FrameReader {
    stream: Reader,
    head: Vec<u8>,
    receiving: Rc<Receiving>,
    /// What its writer has asked for, until it comes.
    asked: Rc<Cell<Option<Asked>>>,
    handle: Handle,
    /// The longest frame that may come. Whoever has said nothing of Kafka's yet may be anybody.
    limit: usize,
}

impl FrameReader {
    /// Reads into buffers, and in an order, which connections share; `handle` is that of the stream.
    pub(crate) fn new(stream: Reader, receiving: Rc<Receiving>, handle: Handle) -> Self {
        Self {
            stream,
            head: Vec::with_capacity(4),
            receiving,
            asked: Rc::default(),
            handle,
            limit: FIRST_FRAME_BYTES_MAX,
        }
    }

    /// Where a writer leaves what it has asked for.
    pub(crate) fn asked(&self) -> Rc<Cell<Option<Asked>>> {
        Rc::clone(&self.asked)
    }

    /// The next frame without its length.
    pub(crate) async fn next(&mut self) -> Result<Bytes, FrameError> {
        let length = self.length().await?;
        let receiving = Rc::clone(&self.receiving);
        // Neither of the two is an operation on the socket.
        let _admitted = monoio::select! {
            admitted = receiving.admit(length, self.asked.take()) => admitted,
            () = self.handle.until_cut() => return Err(given_up()),
        };
        let mut buffer = receiving.lend(length.min(FRAME_BYTES_RESERVED));
        while buffer.len() < length {
            let arrived = buffer.len();
            if buffer.capacity() == arrived {
                // Doubling: what is reserved stays within twice of what has arrived.
                buffer.reserve(arrived.min(length - arrived));
            }
            let end = length.min(buffer.capacity());
            let (read, filled) = self.stream.read(buffer, end).await;
            buffer = filled;
            if ended(read)? {
                return Err(FrameError::Truncated { arrived, length });
            }
        }
        let capacity = buffer.capacity();
        let frame = buffer.split().freeze();
        receiving.keep(buffer, capacity);
        self.limit = FRAME_BYTES_MAX;
        Ok(frame)
    }

    async fn length(&mut self) -> Result<usize, FrameError> {
        self.head.clear();
        while self.head.len() < 4 {
            let arrived = self.head.len();
            let head = std::mem::take(&mut self.head);
            let (read, filled) = self.stream.read(head, 4).await;
            self.head = filled;
            if ended(read)? {
                return match arrived {
                    0 => Err(FrameError::Closed),
                    _ => Err(FrameError::Truncated { arrived, length: 4 }),
                };
            }
        }
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.head);
        if let Some(peer) = stranger(bytes) {
            return Err(FrameError::Stranger(peer));
        }
        let announced = i32::from_be_bytes(bytes);
        match usize::try_from(announced) {
            Ok(length) if length <= self.limit => Ok(length),
            _ => Err(FrameError::Length {
                length: announced,
                limit: self.limit,
            }),
        }
    }
}

fn given_up() -> FrameError {
    io::Error::from(io::ErrorKind::ConnectionAborted).into()
}

/// Whether that read was the end of the stream.
fn ended(read: io::Result<usize>) -> io::Result<bool> {
    match read {
        Ok(bytes) => Ok(bytes == 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}
