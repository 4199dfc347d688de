//! What frames are received into, and when their turn comes.
//!
//! Fresh memory costs a page fault every 4 KiB, ten times the copy, so large frames come into buffers that are used
//! again, the one first that was lent last: the CPU's caches may still hold it.
//!
//! Answers to many mappings come at once. If all were received at once they would lie in memory, cold and unread, and
//! so would the bodies that are made of them. So a shard begins to receive no more in one turn than it can encode and
//! hash in one; the rest waits in the sockets, where it was already. One task of the shard lets them in.
//!
//! Invariant: what is kept to be used again stays within its limit, and one frame at a time is received that is
//! larger than anybody asks for; such a one waits for no turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::BytesMut;
use forebay_protocol::limits::{FRAME_BYTES_ASKED, TURN_BYTES};

use super::queue::Queue;
use super::turn::Turns;
use super::worker::Worker;

/// Frames from this size on are large.
const LARGE_BYTES_MIN: usize = 32 * 1024;

/// Their buffers come in sizes of whole steps, so that the next frame, a little larger, fits too.
const BUFFER_BYTES_STEP: usize = 256 * 1024;

/// What the connections of a shard share to receive with.
pub(crate) struct Receiving {
    kept: RefCell<Kept>,
    /// Holds an item while a frame is received that is larger than anybody asks for.
    giant: Queue<()>,
    pace: Pace,
}

/// How much may be begun before the driver is entered once more.
struct Pace {
    /// Bytes; less than none after a frame that was larger, for which the next ones wait as many turns.
    left: Cell<isize>,
    /// In the order they came.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    worker: Worker,
}

/// A frame whose turn has not come.
struct Waiter {
    bytes: usize,
    admitted: Queue<()>,
}

/// A place among those who wait, until it is dropped.
struct Place<'a> {
    pace: &'a Pace,
    waiter: Rc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.pace.waiting.borrow_mut();
        waiting.retain(|other| !Rc::ptr_eq(other, &self.waiter));
    }
}

/// The right to receive a frame.
pub(crate) struct Admitted<'a>(Option<&'a Queue<()>>);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(giant) = self.0 {
            giant.pop();
        }
    }
}

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

impl Receiving {
    /// Keeps buffers that together stay within `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            kept: RefCell::new(Kept {
                limit,
                ..Kept::default()
            }),
            giant: Queue::new(1),
            pace: Pace {
                left: Cell::new(signed(TURN_BYTES)),
                waiting: RefCell::default(),
                worker: Worker::default(),
            },
        }
    }

    /// Waits for the turn of a frame of that length. It may be dropped at any time.
    pub(crate) async fn admit(&self, length: usize) -> Admitted<'_> {
        if length > FRAME_BYTES_ASKED {
            self.giant.push(()).await;
            return Admitted(Some(&self.giant));
        }
        if length >= LARGE_BYTES_MIN && !self.pace.begin(length) {
            let place = self.pace.join(length);
            place.waiter.admitted.next().await;
        }
        Admitted(None)
    }

    /// Lets in who waits, until [`end`](Self::end); the shard runs it as one task.
    pub(crate) async fn work(&self, turns: &Turns) {
        while self.pace.worker.until(|| self.pace.is_in_use()).await {
            turns.yield_now().await;
            self.pace.begin_turn();
        }
    }

    /// Ends the work; nobody may wait afterwards.
    pub(crate) fn end(&self) {
        self.pace.worker.end();
    }

    pub(crate) fn lend(&self, bytes: usize) -> BytesMut {
        if bytes < LARGE_BYTES_MIN {
            return BytesMut::with_capacity(bytes);
        }
        let mut kept = self.kept.borrow_mut();
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
    pub(crate) fn keep(&self, rest: BytesMut, capacity: usize) {
        if capacity < LARGE_BYTES_MIN {
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

impl Pace {
    /// Whether so much may be begun now; then it counts. Nobody overtakes those who wait.
    fn begin(&self, bytes: usize) -> bool {
        let may = self.left.get() > 0 && self.waiting.borrow().is_empty();
        if may {
            self.spend(bytes);
        }
        may
    }

    fn join(&self, bytes: usize) -> Place<'_> {
        let waiter = Rc::new(Waiter {
            bytes,
            admitted: Queue::new(1),
        });
        self.waiting.borrow_mut().push_back(Rc::clone(&waiter));
        self.worker.wake();
        Place { pace: self, waiter }
    }

    /// Whether something of a turn is spent, or somebody waits for the next one.
    fn is_in_use(&self) -> bool {
        self.left.get() < signed(TURN_BYTES) || !self.waiting.borrow().is_empty()
    }

    /// A turn has passed: so much more may be begun, first by who has waited longest.
    fn begin_turn(&self) {
        let turn = signed(TURN_BYTES);
        self.left.update(|left| turn.min(left + turn));
        while self.left.get() > 0
            && let Some(first) = self.waiting.borrow_mut().pop_front()
        {
            self.spend(first.bytes);
            let is_first = first.admitted.try_push(());
            is_first.expect("who waits is let in once");
        }
    }

    fn spend(&self, bytes: usize) {
        self.left.update(|left| left - signed(bytes));
        self.worker.wake();
    }
}

/// Of bytes that one frame may have.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).expect("a frame is far smaller than an address space")
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use bytes::Bytes;

    use super::*;
    use crate::net::trial::on_each_driver;
    use crate::shard::turn::tests::pumping;

    const MIB: usize = 1024 * 1024;

    fn buffers(limit: usize) -> Receiving {
        Receiving::new(limit)
    }

    /// With the pump and the worker running.
    async fn working(test: impl AsyncFnOnce(&Rc<Receiving>, &Turns)) {
        let turns = Turns::default();
        let pump = pumping(&turns);
        let receiving = Rc::new(Receiving::new(0));
        let worker = monoio::spawn({
            let (receiving, turns) = (Rc::clone(&receiving), turns.clone());
            async move { receiving.work(&turns).await }
        });
        test(&receiving, &turns).await;
        receiving.end();
        worker.await;
        turns.end();
        pump.await;
    }

    fn frame(buffers: &Receiving, bytes: usize) -> Bytes {
        let mut buffer = buffers.lend(bytes);
        let capacity = buffer.capacity();
        buffer.resize(bytes, 0);
        let frame = buffer.split().freeze();
        buffers.keep(buffer, capacity);
        frame
    }

    #[test]
    fn buffer_is_used_again_once_its_frame_is_gone_and_not_before() {
        let buffers = buffers(4 * MIB);
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
        let buffers = buffers(4 * MIB);
        let [first, second] = [frame(&buffers, MIB), frame(&buffers, MIB)];
        let last = second.as_ptr();
        drop((first, second));
        assert_eq!(frame(&buffers, MIB).as_ptr(), last);
    }

    #[test]
    fn what_is_kept_stays_within_the_limit() {
        let few = buffers(3 * MIB);
        let frames: Vec<Bytes> = (0..8).map(|_| frame(&few, MIB)).collect();
        assert_eq!(few.kept.borrow().bytes, 3 * MIB);
        let none = buffers(0);
        frame(&none, MIB);
        assert!(none.kept.borrow().rests.is_empty());
        drop(frames);
    }

    /// How many of them have been admitted after each turn of the shard that admits any, and how many turns it takes.
    async fn admitted_by_turn(lengths: &[usize]) -> (Vec<usize>, usize) {
        let mut seen = Vec::new();
        working(async |receiving, turns| {
            let admitted = Rc::new(Cell::new(0));
            let tasks = lengths.iter().map(|length| {
                let (receiving, admitted, length) =
                    (Rc::clone(receiving), Rc::clone(&admitted), *length);
                monoio::spawn(async move {
                    receiving.admit(length).await;
                    admitted.update(|count| count + 1);
                })
            });
            let tasks: Vec<_> = tasks.collect();
            while admitted.get() < lengths.len() {
                turns.yield_now().await;
                seen.push(admitted.get());
            }
            for task in tasks {
                task.await;
            }
        })
        .await;
        let turns = seen.len();
        seen.dedup();
        (seen, turns)
    }

    #[test]
    fn a_turn_begins_as_many_large_frames_as_it_can_encode() {
        on_each_driver(async || {
            let by_turn = async |lengths| admitted_by_turn(lengths).await.0;
            assert_eq!(by_turn(&[MIB / 2; 6]).await, [2, 4, 6]);
            assert_eq!(by_turn(&[MIB, 100, MIB]).await, [2, 3]);
            assert_eq!(by_turn(&[100; 50]).await, [50], "small ones do not wait");
        });
    }

    #[test]
    fn a_frame_that_is_larger_takes_as_many_turns() {
        on_each_driver(async || {
            let (seen, turns) = admitted_by_turn(&[3 * MIB; 3]).await;
            assert_eq!(seen, [1, 2, 3]);
            assert!(turns > 2 * 3, "{turns}");
        });
    }

    #[test]
    fn who_no_longer_waits_holds_up_nobody() {
        on_each_driver(async || {
            working(async |receiving, _| {
                receiving.admit(MIB).await;
                {
                    let mut gone = pin!(receiving.admit(12 * MIB));
                    poll_fn(|cx| {
                        assert!(gone.as_mut().poll(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    assert_eq!(receiving.pace.waiting.borrow().len(), 1);
                }
                assert!(receiving.pace.waiting.borrow().is_empty());
                receiving.admit(MIB).await;
                assert_eq!(
                    receiving.pace.left.get(),
                    0,
                    "no turn was taken by who had gone"
                );
            })
            .await;
        });
    }

    #[test]
    fn what_was_spent_comes_back_although_nobody_waits() {
        on_each_driver(async || {
            working(async |receiving, turns| {
                receiving.admit(3 * MIB).await;
                assert_eq!(receiving.pace.left.get(), -2 * signed(MIB));
                while receiving.pace.is_in_use() {
                    turns.yield_now().await;
                }
                assert_eq!(receiving.pace.left.get(), signed(MIB));
            })
            .await;
        });
    }
}
