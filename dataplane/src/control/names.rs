//! Names to addresses for all shards: one look-up for all who ask at once, remembered for a moment.
//!
//! The system's resolver blocks a thread of tokio's pool for as long as it waits for DNS, so as many as
//! ask must not make as many look-ups.
//!
//! Invariant: a name is looked up once at a time, [`LOOKUPS_MAX`] names at once; no answer is given that
//! is older than [`KEPT`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use forebay_protocol::time::Instant;
use tokio::task::JoinSet;

use crate::clock;
use crate::contract::oneshot;

/// The resolver does not say how long an answer holds: shorter than any sensible time to live.
const KEPT: Duration = Duration::from_secs(5);

/// Look-ups at once; more names wait in line.
const LOOKUPS_MAX: usize = 16;

/// The addresses of a name, or why there are none.
type Addresses = Result<Vec<IpAddr>, String>;

/// Who asked, and for which port.
type Asker = (u16, oneshot::Sender<Result<Vec<SocketAddr>, String>>);

/// The names that are known or looked up.
#[derive(Default)]
pub(super) struct Names {
    names: BTreeMap<String, Name>,
    /// Names whose look-up has to wait for another's end.
    line: VecDeque<String>,
    lookups: JoinSet<(String, Addresses)>,
}

enum Name {
    Asked(Vec<Asker>),
    Known(Vec<IpAddr>, Instant),
}

impl Names {
    /// Answers from memory, or once the name was looked up.
    pub(super) fn ask(&mut self, host: String, asker: Asker, now: Instant) {
        self.names
            .retain(|_, name| !matches!(name, Name::Known(_, until) if *until <= now));
        match self.names.get_mut(&host) {
            Some(Name::Known(ips, _)) => answer(asker, &Ok(ips.clone())),
            Some(Name::Asked(askers)) => {
                askers.retain(|(_, answer)| !answer.is_closed());
                askers.push(asker);
            }
            None => {
                self.names.insert(host.clone(), Name::Asked(vec![asker]));
                self.line.push_back(host);
                self.look_up();
            }
        }
    }

    /// Answers those who wait for the next look-up that ends; without any it waits for ever.
    pub(super) async fn answer_next(&mut self) {
        let Some(ended) = self.lookups.join_next().await else {
            return std::future::pending().await;
        };
        let (host, addresses) = ended.expect("a look-up neither panics nor is aborted");
        if let Some(Name::Asked(askers)) = self.names.remove(&host) {
            for asker in askers {
                answer(asker, &addresses);
            }
        }
        if let Ok(ips) = addresses {
            let until = clock::now() + KEPT;
            self.names.insert(host, Name::Known(ips, until));
        }
        self.look_up();
    }

    fn look_up(&mut self) {
        while self.lookups.len() < LOOKUPS_MAX
            && let Some(host) = self.line.pop_front()
        {
            self.lookups.spawn(async move {
                let addresses = look_up(&host).await;
                (host, addresses)
            });
        }
    }
}

fn answer((port, answer): Asker, addresses: &Addresses) {
    let addresses = addresses.as_ref().map_err(String::clone);
    let addresses = addresses.map(|ips| ips.iter().map(|ip| (*ip, port).into()).collect());
    // Whoever asked may have given up; then nobody needs the answer.
    answer.send(addresses).unwrap_or_default();
}

/// All addresses of a name, in the resolver's order.
pub(super) async fn look_up(host: &str) -> Addresses {
    let found = tokio::net::lookup_host((host, 0)).await;
    let ips: Vec<IpAddr> = found
        .map_err(|error| error.to_string())?
        .map(|address| address.ip())
        .collect();
    if ips.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(ips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        names: &mut Names,
        host: &str,
        port: u16,
        now: Instant,
    ) -> oneshot::Receiver<Result<Vec<SocketAddr>, String>> {
        let (answer, answered) = oneshot::channel();
        names.ask(host.to_owned(), (port, answer), now);
        answered
    }

    #[tokio::test]
    async fn who_asks_for_the_same_name_shares_a_look_up_and_its_answer_for_a_moment() {
        let (mut names, now) = (Names::default(), clock::now());
        let first = ask(&mut names, "localhost", 1, now);
        let second = ask(&mut names, "localhost", 2, now);
        assert_eq!(names.lookups.len(), 1);
        names.answer_next().await;
        assert_eq!(first.await.unwrap().unwrap()[0].port(), 1);
        assert_eq!(second.await.unwrap().unwrap()[0].port(), 2);
        let third = ask(&mut names, "localhost", 3, now);
        assert_eq!(third.await.unwrap().unwrap()[0].port(), 3);
        let late = clock::now() + KEPT;
        let mut fourth = ask(&mut names, "localhost", 4, late);
        fourth.try_recv().unwrap_err();
        assert_eq!(names.lookups.len(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_asked_and_not_kept() {
        let (mut names, now) = (Names::default(), clock::now());
        let askers = [(); 2].map(|()| ask(&mut names, "no such name", 1, now));
        names.answer_next().await;
        for asker in askers {
            asker.await.unwrap().unwrap_err();
        }
        ask(&mut names, "no such name", 1, now);
        assert_eq!(names.lookups.len(), 1);
    }

    #[tokio::test]
    async fn more_names_wait_in_line() {
        let mut names = Names::default();
        for index in 0..2 * LOOKUPS_MAX {
            ask(&mut names, &format!("host-{index}"), 1, clock::now());
        }
        assert_eq!(names.lookups.len(), LOOKUPS_MAX);
        assert_eq!(names.line.len(), LOOKUPS_MAX);
    }
}
