//! The texts of secrets, read at first and again and again: an operator changes one without a word to us.
//!
//! Invariant: a text never reaches the log, and one that cannot be read any more leaves the last that could.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tracing::warn;
use zeroize::Zeroizing;

use super::secret::document::SECRET_BYTES_MAX;
use crate::contract::watch;
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

/// Keeps `out` filled with what is wanted until it is aborted; `refresh` makes it read at once.
pub(super) async fn attend(
    mut wanted: watch::Receiver<Arc<[SecretSource]>>,
    refresh: Arc<Notify>,
    out: watch::Sender<Arc<Secrets>>,
) {
    loop {
        let sources = Arc::clone(&wanted.borrow_and_update());
        let before = Arc::clone(&out.borrow());
        let (secrets, changed) = read_all(&sources, &before).await;
        if changed {
            out.send_replace(Arc::new(secrets.clone()));
        }
        let interval = match secrets.values().all(Result::is_ok) {
            true => INTERVAL,
            false => INTERVAL_AFTER_FAILURE,
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = refresh.notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Reads all of them once, and says whether that changes anything.
async fn read_all(sources: &[SecretSource], before: &Secrets) -> (Secrets, bool) {
    let mut secrets = Secrets::new();
    for source in sources {
        let old = before.get(source);
        let secret = match (read(source).await, old) {
            (Ok(text), Some(Ok(old))) if **old == text => Ok(Arc::clone(old)),
            (Ok(text), _) => Ok(Arc::new(text)),
            (Err(error), Some(Ok(old))) => {
                warn!(%source, error, "Secret cannot be read; what it held before is used");
                Ok(Arc::clone(old))
            }
            (Err(error), _) => Err(error),
        };
        secrets.insert(source.clone(), secret);
    }
    let same = |(one, other): (&SecretSource, &Result<Text, String>)| match (before.get(one), other)
    {
        (Some(Ok(old)), Ok(new)) => Arc::ptr_eq(old, new),
        (Some(Err(old)), Err(new)) => old == new,
        _ => false,
    };
    let changed = secrets.len() != before.len() || !secrets.iter().all(same);
    (secrets, changed)
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

fn path(source: &SecretSource) -> Result<PathBuf, String> {
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
