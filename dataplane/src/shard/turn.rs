//! Turns: how a task that has more work lets everybody else on the shard go first.
//!
//! On monoio a task that wakes itself starves timers, and other threads' wake-ups, for ever. So a task
//! yields by waiting for a real operation of the driver: the run queue empties, the thread enters the
//! kernel, completions and timers come, and then it goes on. One pump task does the operation for all.
//!
//! Invariant: [`Turns::yield_now`] returns only after the driver was entered once since it was called.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use super::worker::Worker;

/// A shard's turns; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Turns(Rc<State>);

#[derive(Default)]
struct State {
    waiting: RefCell<Vec<Waker>>,
    /// The round that those who wait now will be served in.
    collecting: Cell<u64>,
    /// Rounds below it were served.
    served: Cell<u64>,
    pump: Worker,
}

impl Turns {
    /// Lets everything else on the shard run before it returns.
    pub(crate) async fn yield_now(&self) {
        let state = &*self.0;
        let mut round = None;
        poll_fn(|cx| match round {
            Some(round) if state.served.get() > round => Poll::Ready(()),
            Some(_) => Poll::Pending,
            None => {
                round = Some(state.collecting.get());
                state.waiting.borrow_mut().push(cx.waker().clone());
                state.pump.wake();
                Poll::Pending
            }
        })
        .await;
    }

    /// Serves those who yield, until [`end`](Self::end); the shard runs it as one task.
    pub(crate) async fn pump(&self) -> io::Result<()> {
        let state = &*self.0;
        let mut bell = Bell::new()?;
        while state
            .pump
            .until(|| !state.waiting.borrow().is_empty())
            .await
        {
            let round = state.collecting.get();
            state.collecting.set(round + 1);
            let batch = std::mem::take(&mut *state.waiting.borrow_mut());
            if bell.ring().await.is_err() {
                // The kernel was short of memory: a timer enters the driver just as well, only later.
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
            state.served.set(round + 1);
            for waker in batch {
                waker.wake();
            }
        }
        Ok(())
    }

    /// Ends the pump; nobody may yield afterwards.
    pub(crate) fn end(&self) {
        self.0.pump.end();
    }
}

/// A pair of sockets for an operation that ends at once, but only inside the driver.
#[derive(Debug)]
struct Bell {
    near: StdUnixStream,
    far: UnixStream,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let (near, far) = StdUnixStream::pair()?;
        let epoll = monoio::utils::is_legacy();
        near.set_nonblocking(true)?;
        far.set_nonblocking(epoll)?;
        let far = UnixStream::from_std(far)?;
        Ok(Self { near, far })
    }

    async fn ring(&mut self) -> io::Result<()> {
        if monoio::utils::is_legacy() {
            return self.ring_epoll().await;
        }
        // A poll of an end that is always writable: submitted and completed by one system call.
        self.far.writable(true).await
    }

    /// Under epoll an operation that can end at once never enters the driver; one that waits for an event
    /// does. So wait first, and cause the event then.
    async fn ring_epoll(&mut self) -> io::Result<()> {
        {
            let mut event = pin!(self.far.readable(false));
            let mut rung = false;
            poll_fn(|cx| {
                if let Poll::Ready(event) = event.as_mut().poll(cx) {
                    return Poll::Ready(event);
                }
                if !rung {
                    rung = true;
                    (&self.near).write_all(&[1])?;
                }
                Poll::Pending
            })
            .await?;
        }
        let (read, _) = self.far.read(vec![0_u8; 1]).await;
        read.map(|_| ())
    }
}

#[cfg(test)]
pub(in crate::shard) mod tests {
    use monoio::task::JoinHandle;

    use super::*;
    use crate::contract::oneshot;
    use crate::net::trial::on_each_driver;

    /// The task that serves who yields, as a shard has one; it ends with the turns.
    pub(in crate::shard) fn pumping(turns: &Turns) -> JoinHandle<()> {
        let turns = turns.clone();
        monoio::spawn(async move { turns.pump().await.unwrap() })
    }

    /// Without a real yield neither the timer nor the other thread would ever be heard.
    #[test]
    fn a_busy_task_starves_neither_timers_nor_other_threads() {
        on_each_driver(async || {
            let turns = Turns::default();
            let pump = pumping(&turns);
            let done = Rc::new(Cell::new(false));
            let busy = monoio::spawn({
                let (turns, done) = (turns.clone(), Rc::clone(&done));
                async move {
                    while !done.get() {
                        turns.yield_now().await;
                    }
                }
            });
            let (sender, receiver) = oneshot::channel();
            let other = std::thread::spawn(move || sender.send(7).unwrap());
            monoio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(receiver.await.unwrap(), 7);
            done.set(true);
            busy.await;
            turns.end();
            pump.await;
            other.join().unwrap();
        });
    }
}
