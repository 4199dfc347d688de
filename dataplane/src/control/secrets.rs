//! The texts of secrets, read at first and again and again: an operator changes one without a word to us.
//!
//! Invariant: a text never reaches the log, and one that cannot be read any more leaves the last that could.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::secret::document::SECRET_BYTES_MAX;
use crate::clock;
use crate::contract::{mpsc, watch};
use crate::mapping::SecretSource;

/// A system's own bundle has some hundred kilobytes.
const BUNDLE_BYTES_MAX: u64 = 4 << 20;

/// Secrets are read this often.
const INTERVAL: Duration = Duration::from_secs(60);

/// And this often while one of them cannot be read.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Where systemd says that its credentials are.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A secret's text.
pub(super) type Text = Arc<Zeroizing<String>>;

/// What each secret holds, or why nobody knows.
pub(super) type Secrets = BTreeMap<SecretSource, Result<Text, String>>;

/// The secrets that cannot be read now, whatever is known of them.
pub(super) type Unreadable = BTreeMap<SecretSource, Failing>;

/// A secret that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    pub(super) error: String,
    /// Since 1970.
    pub(super) since: Duration,
}

/// Keeps `out` filled with what is wanted until it is aborted; `refresh` makes it read everything at once, and
/// `some` what is named.
pub(super) async fn attend(
    mut wanted: watch::Receiver<Arc<[SecretSource]>>,
    refresh: Arc<Notify>,
    mut some: mpsc::Receiver<Vec<SecretSource>>,
    out: watch::Sender<Arc<Secrets>>,
    unreadable: watch::Sender<Arc<Unreadable>>,
) {
    let mut only: Option<Vec<SecretSource>> = None;
    let mut all_read = tokio::time::Instant::now();
    loop {
        let sources = Arc::clone(&wanted.borrow_and_update());
        let before = Arc::clone(&out.borrow());
        if only.is_none() {
            all_read = tokio::time::Instant::now();
        }
        let due = |source: &SecretSource| only.as_ref().is_none_or(|only| only.contains(source));
        let mut failing = Unreadable::clone(&unreadable.borrow());
        let (secrets, changed) = read_due(&sources, &before, due, &mut failing).await;
        if changed {
            out.send_replace(Arc::new(secrets.clone()));
        }
        unreadable.send_if_modified(|old| {
            let changed = **old != failing;
            *old = Arc::new(failing);
            changed
        });
        let interval = match secrets.values().all(Result::is_ok) {
            true => INTERVAL,
            false => INTERVAL_AFTER_FAILURE,
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = refresh.notified() => {}
            Some(named) = some.recv() => {
                only = Some(named);
                continue;
            }
            () = tokio::time::sleep_until(all_read + interval) => {}
        }
        only = None;
    }
}

/// Reads once those that are due and those that were never read, and says whether that changes anything.
async fn read_due(
    sources: &[SecretSource],
    before: &Secrets,
    due: impl Fn(&SecretSource) -> bool,
    failing: &mut Unreadable,
) -> (Secrets, bool) {
    let mut secrets = Secrets::new();
    for source in sources {
        let old = before.get(source);
        if let Some(old) = old
            && !due(source)
        {
            secrets.insert(source.clone(), old.clone());
            continue;
        }
        let read = read(source).await;
        let is_known = old.is_some_and(Result::is_ok);
        note(failing, source, read.as_ref().err(), is_known);
        let secret = match (read, old) {
            (Ok(text), Some(Ok(old))) if **old == text => Ok(Arc::clone(old)),
            (Ok(text), _) => Ok(Arc::new(text)),
            (Err(_), Some(Ok(old))) => Ok(Arc::clone(old)),
            (Err(error), _) => Err(error),
        };
        secrets.insert(source.clone(), secret);
    }
    failing.retain(|source, _| secrets.contains_key(source));
    let same = |(one, other): (&SecretSource, &Result<Text, String>)| match (before.get(one), other)
    {
        (Some(Ok(old)), Ok(new)) => Arc::ptr_eq(old, new),
        (Some(Err(old)), Err(new)) => old == new,
        _ => false,
    };
    let changed = secrets.len() != before.len() || !secrets.iter().all(same);
    (secrets, changed)
}

/// Keeps in mind whether it could be read, and says so when that changes. Who waits for a secret that was never
/// read says so himself.
fn note(failing: &mut Unreadable, source: &SecretSource, error: Option<&String>, is_known: bool) {
    match (error, failing.get_mut(source)) {
        (None, None) => {}
        (None, Some(_)) => {
            info!(%source, "Secret can be read again");
            failing.remove(source);
        }
        (Some(error), Some(known)) if known.error == *error => {}
        (Some(error), known) => {
            if is_known {
                warn!(%source, error, "Secret cannot be read; what it held before is used");
            }
            let since = known.map_or_else(clock::unix_now, |known| known.since);
            let error = error.clone();
            failing.insert(source.clone(), Failing { error, since });
        }
    }
}

/// The text of one.
pub(super) async fn read(source: &SecretSource) -> Result<Zeroizing<String>, String> {
    let most = match source {
        SecretSource::CaBundle(_) => BUNDLE_BYTES_MAX,
        SecretSource::File(_) | SecretSource::Credential(_) => SECRET_BYTES_MAX as u64,
    };
    let file = tokio::fs::File::open(path(source)?)
        .await
        .map_err(|error| format!("{source} cannot be read: {error}"))?;
    let mut text = Zeroizing::new(String::new());
    let read = file.take(most + 1).read_to_string(&mut text).await;
    match read {
        Ok(bytes) if bytes as u64 > most => Err(format!("{source} has more than {most} bytes")),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{source} cannot be read: {error}")),
    }
}

/// Whether only the service that systemd starts has it, and this process is not that.
pub(super) fn is_with_the_service(source: &SecretSource) -> bool {
    matches!(source, SecretSource::Credential(_))
        && std::env::var_os(CREDENTIALS_DIRECTORY).is_none()
}

/// The file that it is.
pub(super) fn path(source: &SecretSource) -> Result<PathBuf, String> {
    match source {
        SecretSource::File(path) | SecretSource::CaBundle(path) => Ok(path.clone()),
        SecretSource::Credential(name) => match std::env::var_os(CREDENTIALS_DIRECTORY) {
            Some(directory) => Ok(PathBuf::from(directory).join(name)),
            None => Err(format!(
                "{source} is not there: systemd gives the process no credentials; put \
                 LoadCredential={name}:/path into the unit"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.json");
        std::fs::write(&path, text).unwrap();
        (dir, SecretSource::File(path))
    }

    async fn read_all(sources: &[SecretSource], before: &Secrets) -> (Secrets, bool) {
        read_due(sources, before, |_| true, &mut Unreadable::new()).await
    }

    #[tokio::test]
    async fn only_what_is_due_is_read_again_but_what_is_new_always() {
        let (dir, source) = written("old");
        let (_other_dir, other) = written("other");
        let (first, _) = read_all(std::slice::from_ref(&source), &Secrets::new()).await;
        std::fs::write(dir.path().join("secret.json"), "new").unwrap();
        let sources = [source.clone(), other.clone()];
        let mut failing = Unreadable::new();
        let (second, _) = read_due(&sources, &first, |_| false, &mut failing).await;
        assert_eq!(second[&source].as_ref().unwrap().as_str(), "old");
        assert_eq!(second[&other].as_ref().unwrap().as_str(), "other");
        let (third, changed) = read_due(&sources, &second, |it| *it == source, &mut failing).await;
        assert!(changed);
        assert_eq!(third[&source].as_ref().unwrap().as_str(), "new");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_remembered_with_its_time_until_it_can() {
        let (dir, source) = written("old");
        let sources = [source.clone()];
        let mut failing = Unreadable::new();
        let (first, _) = read_due(&sources, &Secrets::new(), |_| true, &mut failing).await;
        assert_eq!(failing, Unreadable::new());
        let path = dir.path().join("secret.json");
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        let (second, _) = read_due(&sources, &first, |_| true, &mut failing).await;
        let noted = failing[&source].clone();
        assert!(noted.error.contains("cannot be read"), "{noted:?}");
        read_due(&sources, &second, |_| true, &mut failing).await;
        assert_eq!(failing[&source], noted, "it is the same failure");
        std::fs::rename(dir.path().join("away"), &path).unwrap();
        read_due(&sources, &second, |_| true, &mut failing).await;
        assert_eq!(failing, Unreadable::new());
    }

    #[tokio::test]
    async fn what_is_the_same_changes_nothing() {
        let (_dir, source) = written("{}");
        let sources = [source.clone()];
        let (first, changed) = read_all(&sources, &Secrets::new()).await;
        assert!(changed);
        let (_, changed) = read_all(&sources, &first).await;
        assert!(!changed);
    }

    #[tokio::test]
    async fn a_new_text_is_taken_and_an_unreadable_one_keeps_the_old() {
        let (dir, source) = written("old");
        let sources = [source.clone()];
        let (first, _) = read_all(&sources, &Secrets::new()).await;
        std::fs::write(dir.path().join("secret.json"), "new").unwrap();
        let (second, changed) = read_all(&sources, &first).await;
        assert!(changed);
        assert_eq!(second[&source].as_ref().unwrap().as_str(), "new");
        drop(dir);
        let (third, changed) = read_all(&sources, &second).await;
        assert!(!changed);
        assert_eq!(third[&source].as_ref().unwrap().as_str(), "new");
        let (fourth, _) = read_all(&sources, &Secrets::new()).await;
        assert!(
            fourth[&source]
                .as_ref()
                .unwrap_err()
                .contains("cannot be read")
        );
    }

    #[tokio::test]
    async fn a_bundle_may_be_as_large_as_a_systems_own() {
        let (_dir, source) = written(&"x".repeat(1 << 20));
        let SecretSource::File(path) = source else {
            unreachable!("it is a file");
        };
        let read = read(&SecretSource::CaBundle(path)).await;
        assert_eq!(read.unwrap().len(), 1 << 20);
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused() {
        let (_dir, source) = written(&"x".repeat(SECRET_BYTES_MAX + 1));
        assert!(read(&source).await.unwrap_err().contains("more than 65536"));
    }
}
