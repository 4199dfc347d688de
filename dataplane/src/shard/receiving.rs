//! How a shard's connections receive: into what, when each frame's turn comes, and when more is asked for.
//!
//! Answers to many mappings come at once. If all were received at once they would lie in memory, cold and unread, and
//! so would the bodies that are made of them. So a shard begins to receive no more in one turn than it can encode and
//! hash in one (`pace.rs`). The rest waits in the sockets, where it was already; where more than a little does, brokers
//! are asked for no more (`asking.rs`). One task of the shard lets both in.
//!
//! Invariant: one frame at a time is received that is larger than anybody asks for; such a one waits for no turn.

mod asking;
mod buffers;
mod line;
mod pace;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::BytesMut;
use forebay_protocol::limits::FRAME_BYTES_ASKED;
use forebay_protocol::time::Instant;

use self::asking::{Asking, Grant};
use self::buffers::Buffers;
use self::pace::Pace;
use super::queue::Queue;
use super::turn::Turns;
use super::worker::Worker;
use crate::clock;

/// Frames from this size on are large.
const LARGE_BYTES_MIN: usize = 32 * 1024;

/// What the connections of a shard share to receive with.
pub(crate) struct Receiving {
    buffers: Buffers,
    /// Holds an item while a frame is received that is larger than anybody asks for.
    giant: Queue<()>,
    pace: Pace,
    asking: Rc<Asking>,
    worker: Worker,
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

/// What a broker was asked for and has not begun to send.
pub(crate) struct Asked {
    asking: Rc<Asking>,
    grant: Rc<Grant>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.asking.give_back(&self.grant);
    }
}

impl Receiving {
    /// Keeps buffers that together stay within `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffers: Buffers::new(limit),
            giant: Queue::new(1),
            pace: Pace::default(),
            asking: Rc::default(),
            worker: Worker::default(),
        }
    }

    /// Waits until a broker may be asked for so many bytes that it has ready. It may be dropped at any time.
    pub(crate) async fn ask(&self, bytes: usize) -> Asked {
        let now = clock::now();
        let begun = self.asking.begin(bytes, self.pace.waiting(), now);
        let grant = match begun {
            Some(grant) => grant,
            None => {
                let place = self.asking.join(bytes, now);
                self.worker.wake();
                place.turn().await
            }
        };
        Asked {
            asking: Rc::clone(&self.asking),
            grant,
        }
    }

    /// Waits for the turn of a frame of that length, which is perhaps what was asked for. It may be dropped at any time.
    pub(crate) async fn admit(&self, length: usize, asked: Option<Asked>) -> Admitted<'_> {
        if length > FRAME_BYTES_ASKED {
            self.end_asked(asked);
            self.giant.push(()).await;
            return Admitted(Some(&self.giant));
        }
        let place = match length < LARGE_BYTES_MIN || self.pace.begin(length) {
            true => None,
            false => Some(self.pace.join(length, clock::now())),
        };
        self.worker.wake();
        self.end_asked(asked);
        if let Some(place) = place {
            place.turn().await;
        }
        Admitted(None)
    }

    /// Its answer has begun to come: perhaps others may ask now.
    fn end_asked(&self, asked: Option<Asked>) {
        if asked.is_some() {
            drop(asked);
            self.let_ask(clock::now());
        }
    }

    fn let_ask(&self, now: Instant) {
        self.asking.let_in(self.pace.waiting(), now);
    }

    /// Lets in who waits, until [`end`](Self::end); the shard runs it as one task.
    pub(crate) async fn work(&self, turns: &Turns) {
        let is_wanted = || self.pace.is_in_use() || self.asking.is_waited_for();
        while self.worker.until(is_wanted).await {
            if self.pace.is_in_use() {
                turns.yield_now().await;
                self.pace.begin_turn();
            } else {
                self.until_due().await;
            }
            self.let_ask(clock::now());
        }
    }

    /// Sleeps until what was asked for no longer counts, or there is something else to do.
    async fn until_due(&self) {
        let now = clock::now();
        let due = self.asking.due().unwrap_or(now);
        let mut sleep = pin!(monoio::time::sleep(due.saturating_since(now)));
        poll_fn(|cx| {
            if self.pace.is_in_use() || !self.asking.is_waited_for() {
                return Poll::Ready(());
            }
            self.worker.wait(cx);
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// Ends the work; nobody may wait afterwards.
    pub(crate) fn end(&self) {
        self.worker.end();
    }

    pub(crate) fn lend(&self, bytes: usize) -> BytesMut {
        self.buffers.lend(bytes)
    }

    /// Takes the rest of a buffer whose front was handed out as a frame.
    pub(crate) fn keep(&self, rest: BytesMut, capacity: usize) {
        self.buffers.keep(rest, capacity);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use forebay_protocol::limits::{ANSWER_PROMPT, ASKED_BYTES};

    use super::*;
    use crate::net::trial::on_each_driver;
    use crate::shard::turn::tests::pumping;

    const MIB: usize = 1024 * 1024;

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

    /// How many of them have been admitted after each turn of the shard that admits any, and how many turns it takes.
    async fn admitted_by_turn(lengths: &[usize]) -> (Vec<usize>, usize) {
        let mut seen = Vec::new();
        working(async |receiving, turns| {
            let admitted = Rc::new(Cell::new(0));
            let tasks = lengths.iter().map(|length| {
                let (receiving, admitted, length) =
                    (Rc::clone(receiving), Rc::clone(&admitted), *length);
                monoio::spawn(async move {
                    receiving.admit(length, None).await;
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
                receiving.admit(MIB, None).await;
                {
                    let mut gone = pin!(receiving.admit(12 * MIB, None));
                    poll_fn(|cx| {
                        assert!(gone.as_mut().poll(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    assert_eq!(receiving.pace.waiting(), 12 * MIB);
                }
                assert_eq!(receiving.pace.waiting(), 0);
                receiving.admit(MIB, None).await;
                assert_eq!(
                    receiving.pace.left(),
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
                receiving.admit(3 * MIB, None).await;
                assert_eq!(receiving.pace.left(), -2 * MIB as isize);
                while receiving.pace.is_in_use() {
                    turns.yield_now().await;
                }
                assert_eq!(receiving.pace.left(), MIB as isize);
            })
            .await;
        });
    }
    #[test]
    fn nothing_more_is_asked_for_while_much_waits_to_be_received() {
        on_each_driver(async || {
            working(async |receiving, _| {
                receiving.admit(FRAME_BYTES_ASKED, None).await;
                let mut waits = pin!(receiving.admit(FRAME_BYTES_ASKED, None));
                let mut asks = pin!(receiving.ask(1));
                poll_fn(|cx| {
                    assert!(waits.as_mut().poll(cx).is_pending());
                    assert!(asks.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                drop(asks.await);
                poll_fn(|cx| {
                    assert!(waits.as_mut().poll(cx).is_ready());
                    Poll::Ready(())
                })
                .await;
            })
            .await;
        });
    }

    #[test]
    fn a_broker_that_does_not_answer_holds_up_others_for_a_moment() {
        on_each_driver(async || {
            working(async |receiving, _| {
                let started = clock::now();
                let silent = receiving.ask(ASKED_BYTES).await;
                receiving.ask(ASKED_BYTES).await;
                receiving.ask(ASKED_BYTES).await;
                let waited = clock::now().saturating_since(started);
                assert!(waited >= ANSWER_PROMPT, "{waited:?}");
                drop(silent);
            })
            .await;
        });
    }
}
