//! When secrets are read again before their turn: after brokers have refused what they hold, before a certificate
//! of theirs ends, and when a file has changed.
//!
//! Invariant: a secret is asked for at most every five seconds, and less often the longer that is of no use.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::Fault;
use forebay_protocol::time::Instant;
use tracing::debug;

use super::expiry::Watched;
use super::secrets::local;
use super::{Control, access, by_mapping};
use crate::clock;
use crate::contract::{ShardStatus, mpsc, watch};
use crate::mapping::{Declared, SecretSource};

/// No secret is read more often than this.
const INTERVAL_MIN: Duration = Duration::from_secs(5);

/// What brokers go on refusing is read this often in the end.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Files are looked at this often; they are read only if they have changed.
const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// Requests that may wait for the reader; more are made again later.
const WAITING_MAX: usize = 16;

/// How often the certificates and the brokers' refusals are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether other credentials may mend it.
fn is_refusal(fault: &Fault) -> bool {
    match fault {
        Fault::AuthenticationFailed(_)
        | Fault::ServerNotTrusted(_)
        | Fault::ClientNotTrusted(_) => true,
        Fault::ClusterUnreachable(_)
        | Fault::BrokerUnreachable(_)
        | Fault::TopicMissing
        | Fault::NoTimestamps
        | Fault::NotAuthorized(_)
        | Fault::Incompatible(_)
        | Fault::InconsistentGroup(_)
        | Fault::FunctionFailing(_)
        | Fault::FunctionRefused(_)
        | Fault::FunctionUnavailable(_)
        | Fault::DestinationFailing(_)
        | Fault::LaneHalted(_) => false,
    }
}

/// Asks for secrets before their turn.
#[derive(Debug)]
pub(super) struct Rereading {
    asked: Schedule,
    looked_at: Instant,
    requests: mpsc::Sender<Vec<SecretSource>>,
    /// Until the reader has taken it.
    reader: Option<mpsc::Receiver<Vec<SecretSource>>>,
}

/// Remembers when each secret was asked for.
#[derive(Debug, Default)]
struct Schedule(BTreeMap<SecretSource, Asked>);

#[derive(Debug)]
struct Asked {
    at: Instant,
    /// After that much more it is read again while it is refused.
    patience: Duration,
}

/// What mappings say of a secret at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    /// A broker refuses what it holds.
    refused: bool,
    /// How long until the first of its certificates ends.
    expires_in: Option<Duration>,
}

/// Of every secret in use.
type Needs = BTreeMap<SecretSource, Need>;

/// Adds what one mapping says: whether a broker refuses it, and the certificates it uses, at that time since 1970.
fn add_needs(
    needs: &mut Needs,
    sources: impl Iterator<Item = SecretSource>,
    is_refused: bool,
    certificates: &[Watched],
    unix_now: Duration,
) {
    for source in sources {
        let own = certificates.iter().filter(|it| it.source == source);
        let ends = own.map(|it| Duration::from_secs(it.not_after)).min();
        let need = needs.entry(source).or_default();
        need.refused |= is_refused;
        let left = ends.map(|ends| ends.saturating_sub(unix_now));
        need.expires_in = [need.expires_in, left].into_iter().flatten().min();
    }
}

impl Rereading {
    /// Nothing is asked for yet.
    pub(super) fn new() -> Self {
        let (requests, reader) = mpsc::channel(WAITING_MAX);
        Self {
            asked: Schedule::default(),
            looked_at: Instant::ZERO,
            requests,
            reader: Some(reader),
        }
    }

    /// Where the reader of secrets hears what to read.
    pub(super) fn take_requests(&mut self) -> mpsc::Receiver<Vec<SecretSource>> {
        self.reader.take().expect("there is one reader of secrets")
    }

    /// Where it is told to.
    pub(super) fn requests(&self) -> mpsc::Sender<Vec<SecretSource>> {
        self.requests.clone()
    }
}

impl Control {
    /// Warns of certificates that end, and has secrets read that brokers refuse or whose certificates end.
    pub(super) fn look_at_secrets(&mut self, statuses: &[Arc<ShardStatus>]) {
        let now = clock::now();
        if now.saturating_since(self.rereading.looked_at) < LOOK_INTERVAL {
            return;
        }
        self.rereading.looked_at = now;
        let unix_now = clock::unix_now();
        let consumers = by_mapping(statuses);
        let mut needs = Needs::new();
        for Declared { mapping, .. } in self.store.declared() {
            let certificates = self.accesses.certificates(mapping.uuid);
            self.expiries.look(mapping, &certificates, unix_now);
            let own = consumers.get(&mapping.uuid);
            let is_refused = own.into_iter().flatten().any(|consumer| {
                let fault = consumer.fault.as_ref();
                fault.is_some_and(is_refusal)
            });
            let sources = access::sources(mapping);
            add_needs(&mut needs, sources, is_refused, &certificates, unix_now);
        }
        let due = self.rereading.asked.due(&needs, now);
        if !due.is_empty() {
            debug!(secrets = due.len(), "Secrets are read before their turn");
            // A reader that is behind reads them all in its turn.
            self.rereading.requests.try_send(due).unwrap_or_default();
        }
    }
}

impl Schedule {
    /// The secrets to read now.
    fn due(&mut self, needs: &Needs, now: Instant) -> Vec<SecretSource> {
        self.0.retain(|source, _| needs.contains_key(source));
        let mut due = Vec::new();
        for (source, need) in needs {
            let asked = self.0.entry(source.clone()).or_insert(Asked {
                // What is new has just been read.
                at: now,
                patience: INTERVAL_MIN,
            });
            let expired = need.expires_in.is_some_and(|left| left.is_zero());
            let fails = need.refused || expired;
            let wait = match need.expires_in {
                _ if fails => asked.patience,
                Some(left) => (left / 2).max(INTERVAL_MIN),
                None => Duration::MAX,
            };
            if now.saturating_since(asked.at) >= wait {
                asked.at = now;
                due.push(source.clone());
                if fails {
                    asked.patience = (asked.patience * 2).min(INTERVAL_MAX);
                }
            }
            if !fails {
                asked.patience = INTERVAL_MIN;
            }
        }
        due
    }
}

/// What tells that a file has changed, without reading it.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Names each secret whose file has changed, until it is aborted.
pub(super) async fn watch_files(
    mut wanted: watch::Receiver<Arc<[SecretSource]>>,
    changed: mpsc::Sender<Vec<SecretSource>>,
) {
    let mut stamps: BTreeMap<SecretSource, Stamp> = BTreeMap::new();
    loop {
        let sources = Arc::clone(&wanted.borrow_and_update());
        stamps.retain(|source, _| sources.contains(source));
        let mut found = Vec::new();
        for source in sources.iter() {
            let stamp = stamp(source).await;
            // What was not looked at before was read after it was wanted.
            let old = stamps.insert(source.clone(), stamp);
            if old.is_some_and(|old| old != stamp) {
                found.push(source.clone());
            }
        }
        if !found.is_empty() && changed.send(found).await.is_err() {
            return;
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(FILES_INTERVAL) => {}
        }
    }
}

async fn stamp(source: &SecretSource) -> Stamp {
    let path = local::path(source).ok()?;
    let found = tokio::fs::metadata(path).await.ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> SecretSource {
        SecretSource::File("/s.json".into())
    }

    /// The seconds at which a secret of that need is read, out of so many.
    fn read_at(seconds: u64, need: impl Fn(u64) -> Need) -> Vec<u64> {
        let mut rereading = Schedule::default();
        (0..seconds)
            .filter(|second| {
                let needs = Needs::from([(source(), need(*second))]);
                let now = Instant::from_micros(second * 1_000_000);
                !rereading.due(&needs, now).is_empty()
            })
            .collect()
    }

    #[test]
    fn what_is_refused_is_read_soon_and_then_less_and_less_often() {
        let refused = |second| Need {
            refused: second >= 100,
            expires_in: None,
        };
        let read = read_at(400, refused);
        assert_eq!(read, [100, 110, 130, 170, 230, 290, 350]);
    }

    #[test]
    fn what_is_accepted_again_is_read_at_once_when_it_is_refused_again() {
        let refused = |second| Need {
            refused: (100..130).contains(&second) || second >= 200,
            expires_in: None,
        };
        assert_eq!(read_at(212, refused), [100, 110, 200, 210]);
    }

    #[test]
    fn a_certificate_is_read_in_ever_shorter_times_before_it_ends() {
        let need = |second: u64| Need {
            refused: false,
            expires_in: Some(Duration::from_secs(600_u64.saturating_sub(second))),
        };
        let read = read_at(640, need);
        assert_eq!(&read[..3], [200, 334, 423], "{read:?}");
        let gaps: Vec<u64> = read.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 5), "{gaps:?}");
        assert!(read.iter().any(|at| (596..=602).contains(at)), "{read:?}");
    }

    #[test]
    fn what_needs_nothing_is_left_to_its_turn() {
        assert_eq!(read_at(10_000, |_| Need::default()), [0; 0]);
    }

    #[tokio::test]
    async fn a_file_that_changes_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        std::fs::write(&path, "old").unwrap();
        let source = SecretSource::File(path.clone());
        let first = stamp(&source).await;
        assert_eq!(stamp(&source).await, first);
        std::fs::write(dir.path().join("new"), "new").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        let second = stamp(&source).await;
        assert_ne!(second, first);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(stamp(&source).await, None);
    }
}
