//! A bounded queue between the tasks of one shard: many push, one takes.
//!
//! Invariant: it never holds more than its capacity; who pushes into a full one waits, and nobody waits
//! on a closed one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A handle on the queue; clones share it.
pub(crate) struct Queue<T>(Rc<State<T>>);

struct State<T> {
    items: RefCell<VecDeque<T>>,
    capacity: usize,
    closed: Cell<bool>,
    taker: Cell<Option<Waker>>,
    pushers: RefCell<Vec<Waker>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue holds at least one item");
        Self(Rc::new(State {
            items: RefCell::new(VecDeque::new()),
            capacity,
            closed: Cell::new(false),
            taker: Cell::new(None),
            pushers: RefCell::new(Vec::new()),
        }))
    }

    /// Waits for room, then pushes. On a closed queue the item is dropped at once.
    pub(crate) async fn push(&self, item: T) {
        let mut item = Some(item);
        poll_fn(|cx| {
            let Some(pushed) = item.take() else {
                return Poll::Ready(());
            };
            match self.try_push(pushed) {
                Ok(()) => Poll::Ready(()),
                Err(refused) => {
                    item = Some(refused);
                    self.0.pushers.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Pushes if there is room; on a closed queue the item is dropped.
    pub(crate) fn try_push(&self, item: T) -> Result<(), T> {
        if self.0.closed.get() {
            return Ok(());
        }
        {
            let mut items = self.0.items.borrow_mut();
            if items.len() >= self.0.capacity {
                return Err(item);
            }
            items.push_back(item);
        }
        self.wake_taker();
        Ok(())
    }

    /// The oldest item, if there is one.
    pub(crate) fn pop(&self) -> Option<T> {
        let item = self.0.items.borrow_mut().pop_front();
        if item.is_some() {
            self.wake_pushers();
        }
        item
    }

    /// The next item; `None` once the queue is closed and empty.
    pub(crate) async fn next(&self) -> Option<T> {
        poll_fn(|cx| match self.poll_filled(cx) {
            Poll::Ready(()) => Poll::Ready(self.pop()),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Ready when there is something to take, or nothing will ever come.
    pub(crate) fn poll_filled(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.closed.get() || !self.is_empty() {
            return Poll::Ready(());
        }
        self.0.taker.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Waits until it is closed; for the taker, who takes nothing meanwhile.
    pub(crate) async fn until_closed(&self) {
        poll_fn(|cx| {
            if self.0.closed.get() {
                return Poll::Ready(());
            }
            self.0.taker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Wakes the taker although nothing came: something beside the queue has changed.
    pub(crate) fn nudge(&self) {
        self.wake_taker();
    }

    /// Nothing more goes in; what is in may still be taken.
    pub(crate) fn close(&self) {
        self.0.closed.set(true);
        self.wake_taker();
        self.wake_pushers();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.items.borrow().is_empty()
    }

    fn wake_taker(&self) {
        if let Some(waker) = self.0.taker.take() {
            waker.wake();
        }
    }

    fn wake_pushers(&self) {
        let pushers = std::mem::take(&mut *self.0.pushers.borrow_mut());
        for waker in pushers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::trial::on_each_driver;

    #[test]
    fn who_pushes_into_a_full_queue_waits_for_room() {
        on_each_driver(async || {
            let queue = Queue::new(2);
            let pusher = monoio::spawn({
                let queue = queue.clone();
                async move {
                    for item in 0..100 {
                        queue.push(item).await;
                    }
                    queue.close();
                }
            });
            let mut expected = 0;
            while let Some(item) = queue.next().await {
                assert_eq!(item, expected);
                assert!(queue.0.items.borrow().len() <= 2);
                expected += 1;
            }
            assert_eq!(expected, 100);
            pusher.await;
        });
    }

    #[test]
    fn closing_lets_those_who_wait_go() {
        on_each_driver(async || {
            let queue = Queue::new(1);
            queue.push(1).await;
            let pusher = monoio::spawn({
                let queue = queue.clone();
                async move { queue.push(2).await }
            });
            monoio::time::sleep(std::time::Duration::from_millis(1)).await;
            queue.close();
            pusher.await;
            assert_eq!((queue.next().await, queue.next().await), (Some(1), None));
        });
    }
}
