//! Secrets of this machine: files, and what systemd hands over.
//!
//! Invariant: what is longer than it may be is not read to its end.

use std::path::PathBuf;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::control::secret::document::SECRET_BYTES_MAX;
use crate::mapping::SecretSource;

/// A system's own bundle has some hundred kilobytes.
const BUNDLE_BYTES_MAX: u64 = 4 << 20;

/// Where systemd says that its credentials are.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The text of one.
pub(in crate::control) async fn read(source: &SecretSource) -> Result<Zeroizing<String>, String> {
    let most = match source {
        SecretSource::CaBundle(_) => BUNDLE_BYTES_MAX,
        _ => SECRET_BYTES_MAX as u64,
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
pub(in crate::control) fn is_with_the_service(source: &SecretSource) -> bool {
    matches!(source, SecretSource::Credential(_))
        && std::env::var_os(CREDENTIALS_DIRECTORY).is_none()
}

/// The file that it is.
pub(in crate::control) fn path(source: &SecretSource) -> Result<PathBuf, String> {
    match source {
        SecretSource::File(path) | SecretSource::CaBundle(path) => Ok(path.clone()),
        SecretSource::Credential(name) => match std::env::var_os(CREDENTIALS_DIRECTORY) {
            Some(directory) => Ok(PathBuf::from(directory).join(name)),
            None => Err(format!(
                "{source} is not there: systemd gives the process no credentials; put \
                 LoadCredential={name}:/path into the unit"
            )),
        },
        SecretSource::SecretsManager(_) => Err(format!("{source} is not on this machine")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.json");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn a_bundle_may_be_as_large_as_a_systems_own() {
        let (_dir, path) = written(&"x".repeat(1 << 20));
        let read = read(&SecretSource::CaBundle(path)).await;
        assert_eq!(read.unwrap().len(), 1 << 20);
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused() {
        let (_dir, path) = written(&"x".repeat(SECRET_BYTES_MAX + 1));
        let read = read(&SecretSource::File(path)).await;
        assert!(read.unwrap_err().contains("more than 65536"));
    }
}
