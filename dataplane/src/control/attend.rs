//! Attends to the shards: hears their statuses, answers their requests; and to those who attend.
//!
//! Invariant: a slow answer holds up no other answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::aws::Aws;
use super::destinations::{Destinations, Order, Writer};
use super::keys::Keys;
use super::names::Names;
use super::shards::STATUS_INTERVAL;
use crate::clock;
use crate::contract::{Request, ShardStatus, mpsc, watch};

/// What is new on one shard is new of all its consumers, so a look at it takes as long as there are mappings. While a
/// thousand begin, there is always something new: looks that follow each other would take a core.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rests_until: Option<Instant>,
}

/// After a look control rests for so many times what it took: it takes a fifth of a core at most.
const REST: u32 = 4;

impl Pace {
    /// Notes how long a look took that ends now.
    pub(super) fn note(&mut self, took: Duration) {
        self.rests_until = Some(Instant::now() + rest_after(took));
    }

    /// Waits until something is new that may be looked at. What is new stays so if nobody waits any more.
    pub(super) async fn news(&self, news: &Notify) {
        if let Some(until) = self.rests_until
            && until > Instant::now()
        {
            tokio::time::sleep_until(until).await;
        }
        news.notified().await;
    }
}

/// No longer than between two statuses: a look that waited for a CPU must not keep permits from others.
fn rest_after(look: Duration) -> Duration {
    look.saturating_mul(REST).min(STATUS_INTERVAL)
}

/// Raises `news` for each status, until the shard has ended.
pub(super) async fn status(mut status: watch::Receiver<Arc<ShardStatus>>, news: Arc<Notify>) {
    while status.changed().await.is_ok() {
        status.mark_unchanged();
        news.notify_one();
    }
}

/// Answers the requests of all shards, until the last has ended; destinations are written to by `aws`.
pub(super) async fn requests(
    mut requests: mpsc::Receiver<Request>,
    refresh: Arc<Notify>,
    aws: Arc<Aws>,
) {
    let (mut names, mut keys) = (Names::default(), Keys::default());
    let mut destinations = Destinations::new(Writer::over(aws));
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Resolve { host, port, answer }) => {
                    names.ask(host, (port, answer), clock::now());
                }
                Some(Request::Derive { derivation, answer }) => keys.ask(derivation, answer),
                Some(Request::Divert { mapping, diversion, answer }) => {
                    destinations.ask(Order { mapping, diversion, answer });
                }
                Some(Request::RefreshCredentials) => refresh.notify_one(),
                None => break,
            },
            () = names.answer_next() => {}
            () = keys.answer_next() => {}
            () = destinations.answer_next() => {}
        }
    }
}

/// Waits until one of the helpers has died of a panic. Those that have ended are forgotten.
pub(super) async fn death(helpers: &mut JoinSet<()>) {
    while let Some(ended) = helpers.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn only_a_panic_is_a_death() {
        let mut helpers = JoinSet::new();
        helpers.spawn(async {});
        let mut living = JoinSet::new();
        living.spawn(async move { death(&mut helpers).await });
        tokio::task::yield_now().await;
        assert!(living.try_join_next().is_none());
        let mut helpers = JoinSet::new();
        helpers.spawn(async {});
        helpers.spawn(async { panic!("for the test") });
        death(&mut helpers).await;
    }

    async fn is_news(pace: &Pace, news: &Notify) -> bool {
        let mut waiting = pin!(pace.news(news));
        poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await
    }

    #[test]
    fn control_rests_in_proportion_but_never_for_long() {
        let millis = Duration::from_millis;
        assert_eq!(rest_after(millis(3)), millis(12));
        assert_eq!(rest_after(millis(900)), STATUS_INTERVAL);
        assert_eq!(rest_after(Duration::MAX), STATUS_INTERVAL);
    }

    #[tokio::test]
    async fn what_is_new_waits_while_control_rests_and_is_not_lost() {
        let (news, mut pace) = (Notify::new(), Pace::default());
        assert!(!is_news(&pace, &news).await);
        news.notify_one();
        pace.note(Duration::from_secs(60));
        assert!(!is_news(&pace, &news).await);
        pace.note(Duration::ZERO);
        assert!(is_news(&pace, &news).await);
        assert!(!is_news(&pace, &news).await, "it was taken");
    }
}
