//! Cuts a broker's stream into frames, into memory that is used again.
//!
//! Invariant: a length from the wire never makes us reserve more than [`FRAME_BYTES_RESERVED`] before its
//! bytes arrive, a shard receives one frame at a time that is larger than anybody asks for, and what is kept to be
//! used again stays within its limit.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use forebay_protocol::kafka::stranger::stranger;
use forebay_protocol::limits::{
    FIRST_FRAME_BYTES_MAX, FRAME_BYTES_ASKED, FRAME_BYTES_MAX, FRAME_BYTES_RESERVED,
};
use thiserror::Error;

use super::queue::Queue;
use crate::net::stream::Reader;
use crate::net::tcp::Handle;

/// Frames from this size on are received into memory that is used again.
const RECYCLED_BYTES_MIN: usize = 32 * 1024;

/// They come in sizes of whole steps, so that the next frame, a little larger, fits too.
const RECYCLED_BYTES_STEP: usize = 256 * 1024;

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
    buffers: Rc<ReceiveBuffers>,
    handle: Handle,
    /// The longest frame that may come. Whoever has said nothing of Kafka's yet may be anybody.
    limit: usize,
}

impl FrameReader {
    /// Reads into `buffers`, which connections share; `handle` is that of the stream.
    pub(crate) fn new(stream: Reader, buffers: Rc<ReceiveBuffers>, handle: Handle) -> Self {
        Self {
            stream,
            head: Vec::with_capacity(4),
            buffers,
            handle,
            limit: FIRST_FRAME_BYTES_MAX,
        }
    }

    /// The next frame without its length.
    pub(crate) async fn next(&mut self) -> Result<Bytes, FrameError> {
        let length = self.length().await?;
        let buffers = Rc::clone(&self.buffers);
        let _turn = match length > FRAME_BYTES_ASKED {
            true => Some(self.turn(&buffers).await?),
            false => None,
        };
        let mut buffer = buffers.lend(length.min(FRAME_BYTES_RESERVED));
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
        self.buffers.keep(buffer, capacity);
        self.limit = FRAME_BYTES_MAX;
        Ok(frame)
    }

    /// Waits until no other connection receives so much.
    async fn turn<'a>(&self, buffers: &'a ReceiveBuffers) -> Result<Turn<'a>, FrameError> {
        // Neither of the two is an operation on the socket.
        monoio::select! {
            () = buffers.turn.push(()) => Ok(Turn(&buffers.turn)),
            () = self.handle.until_cut() => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        }
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

/// Whether that read was the end of the stream.
fn ended(read: io::Result<usize>) -> io::Result<bool> {
    match read {
        Ok(bytes) => Ok(bytes == 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Receive buffers of a shard that are used again once every slice of their last frame is gone: fresh
/// memory costs a page fault every 4 KiB, ten times the copy.
pub(crate) struct ReceiveBuffers {
    kept: RefCell<Kept>,
    /// Holds an item while a frame is received that is larger than anybody asks for.
    turn: Queue<()>,
}

/// The right to receive such a frame.
struct Turn<'a>(&'a Queue<()>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pop();
    }
}

#[derive(Debug, Default)]
struct Kept {
    limit: usize,
    bytes: usize,
    /// The one that was lent longest ago comes first: it is the likeliest to be free.
    rests: VecDeque<Rest>,
}

#[derive(Debug)]
struct Rest {
    /// What is left behind a frame; it still shares the frame's memory.
    rest: BytesMut,
    capacity: usize,
}

impl ReceiveBuffers {
    /// Buffers that together stay within `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            kept: RefCell::new(Kept {
                limit,
                ..Kept::default()
            }),
            turn: Queue::new(1),
        }
    }

    fn lend(&self, bytes: usize) -> BytesMut {
        if bytes < RECYCLED_BYTES_MIN {
            return BytesMut::with_capacity(bytes);
        }
        let mut kept = self.kept.borrow_mut();
        // A small frame in a large buffer would hold memory that nobody has accounted for.
        let found = kept
            .rests
            .iter_mut()
            .position(|kept| kept.capacity / 2 <= bytes && kept.rest.try_reclaim(bytes));
        if let Some(found) = found.and_then(|at| kept.rests.remove(at)) {
            kept.bytes -= found.capacity;
            return found.rest;
        }
        BytesMut::with_capacity(bytes.next_multiple_of(RECYCLED_BYTES_STEP))
    }

    /// Takes the rest of a buffer whose front was handed out as a frame.
    fn keep(&self, rest: BytesMut, capacity: usize) {
        if capacity < RECYCLED_BYTES_MIN {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        kept.bytes += capacity;
        kept.rests.push_back(Rest { rest, capacity });
        while kept.bytes > kept.limit
            && let Some(oldest) = kept.rests.pop_front()
        {
            kept.bytes -= oldest.capacity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn frame(buffers: &ReceiveBuffers, bytes: usize) -> Bytes {
        let mut buffer = buffers.lend(bytes);
        let capacity = buffer.capacity();
        buffer.resize(bytes, 0);
        let frame = buffer.split().freeze();
        buffers.keep(buffer, capacity);
        frame
    }

    #[test]
    fn buffer_is_used_again_once_its_frame_is_gone_and_not_before() {
        let buffers = ReceiveBuffers::new(4 * MIB);
        let first = frame(&buffers, MIB);
        let slice = first.slice(7..9);
        let second = frame(&buffers, MIB);
        assert_ne!(first.as_ptr(), second.as_ptr());
        let at = first.as_ptr();
        drop(first);
        assert_ne!(frame(&buffers, MIB).as_ptr(), at, "a slice is still there");
        drop(slice);
        assert_eq!(frame(&buffers, MIB).as_ptr(), at);
    }

    #[test]
    fn what_is_kept_stays_within_the_limit() {
        let buffers = ReceiveBuffers::new(3 * MIB);
        let frames: Vec<Bytes> = (0..8).map(|_| frame(&buffers, MIB)).collect();
        assert_eq!(buffers.kept.borrow().bytes, 3 * MIB);
        let none = ReceiveBuffers::new(0);
        frame(&none, MIB);
        assert!(none.kept.borrow().rests.is_empty());
        drop(frames);
    }
}
