//! Asks a node for its status document.
//!
//! Invariant: it waits and reads up to a limit, whoever answers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::{Document, FORMAT};

/// A document of a hundred thousand partitions has some forty megabytes.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// A node that has its turn at others first answers within this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where too many wait already, it is tried again after this.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no node listens at {path}; start one (systemctl start forebay), or name the configuration of the \
         one that runs (--config FILE) or its socket (--socket PATH)"
    )]
    NoNode {
        /// The socket.
        path: PathBuf,
    },
    /// It is somebody else's.
    #[error(
        "{path} may be used by {owner} alone, not by user {user}; use sudo, or run as that user"
    )]
    Denied {
        /// The socket.
        path: PathBuf,
        /// Whose it is, as far as it can be told.
        owner: String,
        /// Who asked.
        user: u32,
    },
    /// The node speaks, but not this.
    #[error(
        "the node at {path} is version {version}, whose documents have format {format}; this is version {}, which reads \
         format {FORMAT}: use the forebay that the node runs, or restart the node", env!("CARGO_PKG_VERSION")
    )]
    OtherFormat {
        /// The socket.
        path: PathBuf,
        /// Of the node.
        version: String,
        /// Of its document.
        format: u32,
    },
    /// No document comes.
    #[error("the node at {path} does not answer: {reason}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What came instead.
        reason: String,
    },
}

/// What is the same in every format.
#[derive(Deserialize)]
struct Header {
    format: u32,
    node: HeaderNode,
}

#[derive(Deserialize)]
struct HeaderNode {
    version: String,
}

/// The document of the node behind that socket.
pub async fn ask(path: &Path) -> Result<Document, AskError> {
    let silent = |reason: String| AskError::Silent {
        path: path.to_owned(),
        reason,
    };
    let mut text = Vec::new();
    let asked = async {
        let stream = connect(path).await;
        let stream = stream.map_err(|error| refused(path, &error))?;
        let mut limited = stream.take(DOCUMENT_BYTES_MAX);
        let read = limited.read_to_end(&mut text).await;
        read.map_err(|error| silent(error.to_string()))
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok(0)) => {
            let reason = "it closes the connection; its log says why";
            return Err(silent(reason.to_owned()));
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(silent(format!("nothing whole within {TIMEOUT:?}"))),
    }
    read(path, &text)
}

/// Connects, once there is room among those that wait: a unix socket refuses whoever is too many.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_PAUSE).await;
            }
            other => return other,
        }
    }
}

fn read(path: &Path, text: &[u8]) -> Result<Document, AskError> {
    let silent = |error: serde_json::Error| AskError::Silent {
        path: path.to_owned(),
        reason: format!("what it says is no status document ({error})"),
    };
    let header: Header = serde_json::from_slice(text).map_err(silent)?;
    if header.format != FORMAT {
        return Err(AskError::OtherFormat {
            path: path.to_owned(),
            version: header.node.version,
            format: header.format,
        });
    }
    serde_json::from_slice(text).map_err(silent)
}

pub(crate) fn refused(path: &Path, error: &io::Error) -> AskError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoNode { path },
        io::ErrorKind::PermissionDenied => AskError::Denied {
            owner: owner(&path),
            user: rustix::process::geteuid().as_raw(),
            path,
        },
        _ => AskError::Silent {
            path,
            reason: error.to_string(),
        },
    }
}

/// Whose the socket is; where the directory hides it, whose that is.
fn owner(path: &Path) -> String {
    let mut places = path.ancestors();
    match places.find_map(|place| std::fs::metadata(place).ok()) {
        Some(found) if found.uid() == 0 => "root".to_owned(),
        Some(found) => format!("user {} and root", found.uid()),
        None => "its owner and root".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;

    use super::*;

    async fn said(text: &'static str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
        });
        let said = ask(&path).await.unwrap_err().to_string();
        serving.await.unwrap();
        said
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_told_from_one_of_another_version() {
        let other = said(r#"{"format":7,"node":{"version":"9.1.0"},"more":[]}"#).await;
        assert!(
            other.contains("is version 9.1.0, whose documents have format 7"),
            "{other}"
        );
        let none = said("HTTP/1.1 400 Bad Request\r\n").await;
        assert!(none.contains("is no status document"), "{none}");
        let cut = said(r#"{"format":1,"node":{"version":"0"#).await;
        assert!(cut.contains("is no status document"), "{cut}");
        let nothing = said("").await;
        assert!(nothing.contains("closes the connection"), "{nothing}");
    }

    #[tokio::test]
    async fn who_is_too_many_waits_for_his_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut others = vec![UnixStream::connect(&path).await.unwrap()];
        let full = loop {
            match UnixStream::connect(&path).await {
                Ok(other) => others.push(other),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let asked = tokio::spawn(async move { ask(&path).await });
        tokio::time::sleep(FULL_PAUSE).await;
        for _ in 0..others.len() {
            listener.accept().unwrap();
        }
        let (answering, _) = tokio::task::spawn_blocking(move || listener.accept())
            .await
            .unwrap()
            .unwrap();
        drop(answering);
        let said = asked.await.unwrap().unwrap_err().to_string();
        assert!(said.contains("closes the connection"), "{said}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_told_from_one_that_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let absent = ask(&path).await.unwrap_err();
        assert!(matches!(absent, AskError::NoNode { .. }), "{absent}");
        drop(UnixListener::bind(&path).unwrap());
        let dead = ask(&path).await.unwrap_err();
        assert!(matches!(dead, AskError::NoNode { .. }), "{dead}");
        let denied = refused(&path, &io::ErrorKind::PermissionDenied.into()).to_string();
        let user = rustix::process::geteuid().as_raw();
        let owner = match user {
            0 => "by root alone".to_owned(),
            user => format!("by user {user} and root alone"),
        };
        assert!(denied.contains(&owner), "{denied}");
    }
}
