//! What frames are received into.
//!
//! Fresh memory costs a page fault every 4 KiB, ten times the copy, so large frames come into buffers that are used
//! again, the one first that was lent last: the CPU's caches may still hold it.
//!
//! Invariant: what is kept to be used again stays within its limit.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;

use super::LARGE_BYTES_MIN;

/// Buffers come in sizes of whole steps, so that the next frame, a little larger, fits too.
const BUFFER_BYTES_STEP: usize = 256 * 1024;

pub(super) struct Buffers(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    limit: usize,
    bytes: usize,
    /// The one that was lent longest ago comes first.
    rests: VecDeque<Rest>,
}

#[derive(Debug)]
struct Rest {
    /// What is left behind a frame; it still shares the frame's memory.
    rest: BytesMut,
    capacity: usize,
}

impl Buffers {
    /// Keeps what together stays within `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self(RefCell::new(Kept {
            limit,
            ..Kept::default()
        }))
    }

    pub(super) fn lend(&self, bytes: usize) -> BytesMut {
        if bytes < LARGE_BYTES_MIN {
            return BytesMut::with_capacity(bytes);
        }
        let mut kept = self.0.borrow_mut();
        // A small frame in a large buffer would hold memory that nobody has accounted for.
        let found = kept
            .rests
            .iter_mut()
            .rposition(|kept| kept.capacity / 2 <= bytes && kept.rest.try_reclaim(bytes));
        if let Some(found) = found.and_then(|at| kept.rests.remove(at)) {
            kept.bytes -= found.capacity;
            return found.rest;
        }
        BytesMut::with_capacity(bytes.next_multiple_of(BUFFER_BYTES_STEP))
    }

    /// Takes the rest of a buffer whose front was handed out as a frame.
    pub(super) fn keep(&self, rest: BytesMut, capacity: usize) {
        if capacity < LARGE_BYTES_MIN {
            return;
        }
        let mut kept = self.0.borrow_mut();
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
    use bytes::Bytes;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn frame(buffers: &Buffers, bytes: usize) -> Bytes {
        let mut buffer = buffers.lend(bytes);
        let capacity = buffer.capacity();
        buffer.resize(bytes, 0);
        let frame = buffer.split().freeze();
        buffers.keep(buffer, capacity);
        frame
    }

    #[test]
    fn buffer_is_used_again_once_its_frame_is_gone_and_not_before() {
        let buffers = Buffers::new(4 * MIB);
        let first = frame(&buffers, MIB);
        let slice = first.slice(7..9);
        let second = frame(&buffers, MIB);
        assert_ne!(first.as_ptr(), second.as_ptr());
        let at = first.as_ptr();
        drop(first);
        let third = frame(&buffers, MIB);
        assert_ne!(third.as_ptr(), at, "a slice is still there");
        drop(slice);
        assert_eq!(frame(&buffers, MIB).as_ptr(), at);
        drop((second, third));
    }

    #[test]
    fn the_buffer_that_was_lent_last_is_lent_first() {
        let buffers = Buffers::new(4 * MIB);
        let [first, second] = [frame(&buffers, MIB), frame(&buffers, MIB)];
        let last = second.as_ptr();
        drop((first, second));
        assert_eq!(frame(&buffers, MIB).as_ptr(), last);
    }

    #[test]
    fn what_is_kept_stays_within_the_limit() {
        let few = Buffers::new(3 * MIB);
        let frames: Vec<Bytes> = (0..8).map(|_| frame(&few, MIB)).collect();
        assert_eq!(few.0.borrow().bytes, 3 * MIB);
        let none = Buffers::new(0);
        frame(&none, MIB);
        assert!(none.0.borrow().rests.is_empty());
        drop(frames);
    }
}
