//! What calls the one task that does some kind of work for all of a shard.
//!
//! Invariant: the task sleeps only while there is nothing to do, and ends only then.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Where the task waits.
#[derive(Default)]
pub(crate) struct Worker {
    waker: Cell<Option<Waker>>,
    ended: Cell<bool>,
}

impl Worker {
    /// Waits until there is something to do; false once there never will be.
    pub(crate) async fn until(&self, wanted: impl Fn() -> bool) -> bool {
        poll_fn(|cx| {
            if wanted() {
                return Poll::Ready(true);
            }
            if self.ended.get() {
                return Poll::Ready(false);
            }
            self.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// It is to be woken when something has changed.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.waker.set(Some(cx.waker().clone()));
    }

    /// Something has changed: perhaps there is something to do.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Nothing comes any more; what is there is still done.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.wake();
    }
}
