//! Deadlines for I/O that must not be dropped: cancel, await the same future, then let the caller close.
//!
//! Invariant: the operation is polled until it is ready, whatever the clock says.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What came of an operation that had a limit.
pub(crate) struct Timed<T> {
    /// The operation's own output.
    pub(crate) output: T,
    /// The limit passed first, so `cancel` was called.
    pub(crate) expired: bool,
}

/// Awaits `operation`. When `limit` passes first, calls `cancel` once, which must make the operation end
/// (cutting the socket does), and goes on awaiting that same operation.
pub(crate) async fn within<T>(
    operation: impl Future<Output = T>,
    limit: Duration,
    cancel: impl FnOnce(),
) -> Timed<T> {
    let mut operation = pin!(operation);
    let mut timer = pin!(monoio::time::sleep(limit));
    let mut cancel = Some(cancel);
    poll_fn(|cx| {
        if let Poll::Ready(output) = operation.as_mut().poll(cx) {
            let expired = cancel.is_none();
            return Poll::Ready(Timed { output, expired });
        }
        if cancel.is_none() || timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(cancel) = cancel.take() {
            cancel();
        }
        // Cancelling may have ended it on the spot, and then nobody would wake us.
        operation.as_mut().poll(cx).map(|output| Timed {
            output,
            expired: true,
        })
    })
    .await
}
