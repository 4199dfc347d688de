//! The texts of secrets, read at first and again and again: an operator changes one without a word to us.
//!
//! Each is read by a task of its own: one that is not answered holds up no other.
//!
//! Invariant: a text never reaches the log, and one that cannot be read any more leaves the last that could.

pub(super) mod local;
mod managed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::aws::Aws;
use crate::clock;
use crate::contract::{mpsc, watch};
use crate::mapping::SecretSource;

/// What is on this machine is read this often.
const INTERVAL: Duration = Duration::from_secs(60);

/// And what AWS keeps, for each reading has its price.
const INTERVAL_OF_MANAGED: Duration = Duration::from_secs(300);

/// After a failure it is read after so long,
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// and what AWS keeps after twice as long each time, up to this.
const INTERVAL_AFTER_FAILURE_MAX: Duration = Duration::from_secs(60);

/// A secret's text.
pub(super) type Text = Arc<Zeroizing<String>>;

/// What was read of each secret, or why nobody knows. One that was not read yet is missing.
pub(super) type Secrets = BTreeMap<SecretSource, Result<Text, SecretError>>;

/// Why a secret is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecretError {
    /// It is not there, not for us, or not what it must be.
    #[error("{0}")]
    Unreadable(String),
    /// Whoever keeps it does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The role that is to read it cannot be assumed.
    #[error("{0}")]
    RoleRefused(String),
}

/// The secrets that cannot be read now, whatever is known of them.
pub(super) type Unreadable = BTreeMap<SecretSource, Failing>;

/// A secret that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    pub(super) error: SecretError,
    /// Since 1970.
    pub(super) since: Duration,
}

/// Keeps `out` filled with what is wanted until it is aborted; `refresh` makes it read everything at once, and
/// `some` what is named.
pub(super) async fn attend(
    aws: Arc<Aws>,
    mut wanted: watch::Receiver<Arc<[SecretSource]>>,
    refresh: Arc<Notify>,
    mut some: mpsc::Receiver<Vec<SecretSource>>,
    out: watch::Sender<Arc<Secrets>>,
    unreadable: watch::Sender<Arc<Unreadable>>,
) {
    let mut keys = aws.keys().clone();
    let mut reader = Reader::new(aws);
    reader.want(&wanted.borrow_and_update());
    loop {
        reader.start_due();
        if reader.take_news() {
            out.send_replace(Arc::new(reader.secrets()));
        }
        let failing = reader.unreadable();
        unreadable.send_if_modified(|old| {
            let changed = **old != failing;
            *old = Arc::new(failing);
            changed
        });
        let due = reader.next_due();
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => reader.want(&wanted.borrow_and_update()),
                Err(_) => return,
            },
            () = refresh.notified() => reader.hasten(|_, _| true),
            Some(named) = some.recv() => reader.hasten(|source, _| named.contains(source)),
            () = keys.changed() => reader.hasten(|_, entry| entry.failing.is_some()),
            Some(read) = reader.tasks.join_next() => match read {
                Ok((source, read)) => reader.take(source, read),
                // A task that was aborted: with this one.
                Err(_) => return,
            },
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

/// The text of one.
pub(super) async fn read(
    aws: &Aws,
    source: &SecretSource,
) -> Result<Zeroizing<String>, SecretError> {
    match source {
        SecretSource::SecretsManager(secret) => managed::read(aws, secret).await,
        SecretSource::File(_) | SecretSource::Credential(_) | SecretSource::CaBundle(_) => {
            local::read(source).await.map_err(SecretError::Unreadable)
        }
    }
}

/// Reads each secret when it is due.
struct Reader {
    aws: Arc<Aws>,
    entries: BTreeMap<SecretSource, Entry>,
    tasks: JoinSet<(SecretSource, Result<Zeroizing<String>, SecretError>)>,
    /// The texts are others than those that were taken out last.
    has_news: bool,
}

/// One secret.
#[derive(Default)]
struct Entry {
    text: Option<Result<Text, SecretError>>,
    /// How often in a row it could not be read.
    failures: u32,
    /// The newest failure, and since when it fails.
    failing: Option<Failing>,
    /// When it is read next; at once, if nobody has said.
    due: Option<Instant>,
    is_being_read: bool,
}

impl Reader {
    fn new(aws: Arc<Aws>) -> Self {
        Self {
            aws,
            entries: BTreeMap::new(),
            tasks: JoinSet::new(),
            has_news: false,
        }
    }

    fn want(&mut self, sources: &[SecretSource]) {
        let before = self.entries.len();
        self.entries.retain(|source, _| sources.contains(source));
        self.has_news |= self.entries.len() != before;
        for source in sources {
            self.entries.entry(source.clone()).or_default();
        }
    }

    fn hasten(&mut self, which: impl Fn(&SecretSource, &Entry) -> bool) {
        let all = self.entries.iter_mut();
        for (_, entry) in all.filter(|(source, entry)| which(source, entry)) {
            entry.due = None;
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for (source, entry) in &mut self.entries {
            if entry.is_being_read || entry.due.is_some_and(|due| due > now) {
                continue;
            }
            entry.is_being_read = true;
            let (aws, source) = (Arc::clone(&self.aws), source.clone());
            self.tasks.spawn(async move {
                let read = read(&aws, &source).await;
                (source, read)
            });
        }
    }

    /// When the next is due of those that are not being read.
    fn next_due(&self) -> Instant {
        let entries = self.entries.values();
        let waiting = entries.filter(|entry| !entry.is_being_read);
        let due = waiting.filter_map(|entry| entry.due).min();
        due.unwrap_or_else(|| Instant::now() + INTERVAL)
    }

    fn take(&mut self, source: SecretSource, read: Result<Zeroizing<String>, SecretError>) {
        // It may not be wanted any more.
        let Some(entry) = self.entries.get_mut(&source) else {
            return;
        };
        entry.is_being_read = false;
        entry.failures = match &read {
            Ok(_) => 0,
            Err(_) => entry.failures.saturating_add(1),
        };
        entry.due = Some(Instant::now() + interval(&source, entry.failures));
        self.has_news |= entry.take(&source, read);
    }

    fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    fn secrets(&self) -> Secrets {
        let entries = self.entries.iter();
        let read =
            entries.filter_map(|(source, entry)| Some((source.clone(), entry.text.clone()?)));
        read.collect()
    }

    fn unreadable(&self) -> Unreadable {
        let entries = self.entries.iter();
        let failing =
            entries.filter_map(|(source, entry)| Some((source.clone(), entry.failing.clone()?)));
        failing.collect()
    }
}

impl Entry {
    /// Takes what was read, and says whether it is something new.
    fn take(
        &mut self,
        source: &SecretSource,
        read: Result<Zeroizing<String>, SecretError>,
    ) -> bool {
        let old = self.text.as_ref();
        let is_new = match (&read, old) {
            (Ok(text), Some(Ok(old))) => **old != *text,
            (Err(_), Some(Ok(_))) => false,
            (Err(error), Some(Err(old))) => error != old,
            (_, _) => true,
        };
        let is_known = matches!(old, Some(Ok(_)));
        self.note(source, read.as_ref().err(), is_known);
        if is_new {
            self.text = Some(read.map(Arc::new));
        }
        is_new
    }

    /// Keeps in mind whether it could be read, and says so when that changes. Who waits for a secret that was never
    /// read says so himself.
    fn note(&mut self, source: &SecretSource, error: Option<&SecretError>, is_known: bool) {
        let Some(error) = error else {
            if self.failing.take().is_some() {
                info!(secret = %source, "Secret can be read again");
            }
            return;
        };
        if self.failing.as_ref().is_some_and(|it| it.error == *error) {
            return;
        }
        if is_known {
            warn!(secret = %source, %error, "Secret cannot be read; what it held before is used");
        }
        let since = self
            .failing
            .as_ref()
            .map_or_else(clock::unix_now, |it| it.since);
        let error = error.clone();
        self.failing = Some(Failing { error, since });
    }
}

/// How long until it is read again.
fn interval(source: &SecretSource, failures: u32) -> Duration {
    let is_managed = matches!(source, SecretSource::SecretsManager(_));
    match (failures, is_managed) {
        (0, true) => INTERVAL_OF_MANAGED,
        (0, false) => INTERVAL,
        (_, false) => INTERVAL_AFTER_FAILURE,
        (failures, true) => {
            let doubled = 1 << (failures - 1).min(6);
            (INTERVAL_AFTER_FAILURE * doubled).min(INTERVAL_AFTER_FAILURE_MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::ManagedSecret;

    fn text(of: &str) -> Result<Zeroizing<String>, SecretError> {
        Ok(Zeroizing::new(of.to_owned()))
    }

    fn gone() -> Result<Zeroizing<String>, SecretError> {
        Err(SecretError::Unreadable("it is gone".to_owned()))
    }

    fn source() -> SecretSource {
        SecretSource::File("/secret.json".into())
    }

    #[test]
    fn what_is_the_same_changes_nothing() {
        let mut entry = Entry::default();
        assert!(entry.take(&source(), text("{}")));
        assert!(!entry.take(&source(), text("{}")));
    }

    #[test]
    fn a_new_text_is_taken_and_an_unreadable_one_keeps_the_old() {
        let mut entry = Entry::default();
        assert!(entry.take(&source(), text("old")));
        assert!(entry.take(&source(), text("new")));
        assert!(!entry.take(&source(), gone()));
        assert_eq!(
            entry.text.as_ref().unwrap().as_ref().unwrap().as_str(),
            "new"
        );
        let failing = entry.failing.clone();
        assert!(failing.is_some() && !entry.take(&source(), gone()));
        assert_eq!(entry.failing, failing, "it is the same failure");
        assert!(!entry.take(&source(), text("new")) && entry.failing.is_none());
        let mut never_read = Entry::default();
        assert!(never_read.take(&source(), gone()));
        assert!(!never_read.take(&source(), gone()));
        assert!(never_read.take(&source(), text("healed")));
    }

    #[test]
    fn what_aws_keeps_is_asked_for_less_and_less_while_it_fails() {
        let managed = SecretSource::SecretsManager(ManagedSecret {
            arn: String::new(),
            region: String::new(),
            role_arn: None,
        });
        let seconds = |source: &SecretSource, failures| interval(source, failures).as_secs();
        let after = |failures| seconds(&managed, failures);
        assert_eq!([after(0), after(1), after(2), after(5)], [300, 5, 10, 60]);
        assert_eq!(after(u32::MAX), 60);
        assert_eq!([seconds(&source(), 0), seconds(&source(), 9)], [60, 5]);
    }

    #[tokio::test]
    async fn secrets_are_read_at_once_and_whenever_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.json");
        std::fs::write(&path, "old").unwrap();
        let source = SecretSource::File(path.clone());
        let (_wanted, sources) = watch::channel([source.clone()].into());
        let (out, mut secrets) = watch::channel(Arc::default());
        let (unreadable, _) = watch::channel(Arc::default());
        let (named, some) = mpsc::channel(1);
        let (aws, refresh) = (Arc::new(Aws::nowhere()), Arc::new(Notify::new()));
        let (sources, again) = (sources, Arc::clone(&refresh));
        let task = tokio::spawn(attend(aws, sources, again, some, out, unreadable));
        let mut is_read = async |expected: &str| {
            secrets.changed().await.unwrap();
            let read = Arc::clone(&secrets.borrow());
            assert_eq!(read[&source].as_ref().unwrap().as_str(), expected);
        };
        is_read("old").await;
        std::fs::write(&path, "new").unwrap();
        refresh.notify_one();
        is_read("new").await;
        std::fs::write(&path, "newest").unwrap();
        named
            .send(vec![SecretSource::File(path.clone())])
            .await
            .unwrap();
        is_read("newest").await;
        task.abort();
    }
}
