//! The unix sockets of a node: its status is read from the one, the other takes commands.
//!
//! A node holds a lock beside them as long as it lives. So who has the lock may replace the sockets: nobody can be
//! serving them.
//!
//! Invariant: from its first moment a socket is its owner's alone (mode 0600), which is all that keeps others from
//! commanding; those of a living node are never taken away.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::lock::Lock;

/// Clients that may wait until one of those that are served has ended.
const BACKLOG: i32 = 64;

/// The socket of a runtime directory that takes commands.
pub fn commands_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}

/// The socket of a runtime directory that the status is read from.
pub fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("status.sock")
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another node has it.
    #[error(
        "{path}: another node that runs serves its status there; give this one a runtime_dir of its own, or end that one"
    )]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("{path}: cannot be made: {source}")]
    Unusable {
        /// The socket, or what it needs.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Sockets that listen, as long as they are held.
#[derive(Debug)]
pub struct NodeSockets {
    status: UnixListener,
    commands: UnixListener,
    guard: Guard,
}

/// What connections come in by. The sockets themselves stay as long as the guard.
#[derive(Debug)]
pub struct Doors {
    /// Tells the status.
    pub status: tokio::net::UnixListener,
    /// Takes commands.
    pub commands: tokio::net::UnixListener,
    /// Keeps them.
    pub guard: Guard,
}

impl NodeSockets {
    /// Makes the sockets, and the directory if it is not there.
    pub fn bind(runtime_dir: &Path) -> Result<Self, SocketError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| SocketError::Unusable { path, source }
        };
        let mut directory = DirBuilder::new();
        directory.recursive(true).mode(0o700);
        directory
            .create(runtime_dir)
            .map_err(unusable(runtime_dir))?;
        let (status, commands) = (path(runtime_dir), commands_path(runtime_dir));
        let mut guard = Guard {
            paths: Vec::new(),
            _lock: lock(&status)?,
        };
        let mut made = |path: PathBuf| {
            remove_stale(&path).map_err(unusable(&path))?;
            let listener = listen(&path).map_err(unusable(&path))?;
            guard.paths.push(path);
            Ok(listener)
        };
        Ok(Self {
            status: made(status)?,
            commands: made(commands)?,
            guard,
        })
    }

    /// What connections come in by, on the caller's runtime.
    pub fn into_doors(self) -> io::Result<Doors> {
        Ok(Doors {
            status: tokio::net::UnixListener::from_std(self.status)?,
            commands: tokio::net::UnixListener::from_std(self.commands)?,
            guard: self.guard,
        })
    }
}

/// Takes the sockets away when it is dropped, and lets the next node have them then.
#[derive(Debug)]
pub struct Guard {
    paths: Vec<PathBuf>,
    _lock: Lock,
}

impl Drop for Guard {
    fn drop(&mut self) {
        for path in &self.paths {
            // One that is left behind is replaced by the next start.
            std::fs::remove_file(path).unwrap_or_default();
        }
    }
}

fn lock(socket: &Path) -> Result<Lock, SocketError> {
    let path = socket.with_extension("lock");
    match Lock::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(SocketError::Taken {
            path: socket.to_owned(),
        }),
        Err(source) => Err(SocketError::Unusable { path, source }),
    }
}

/// What a killed node has left there. Anything else stays, and `listen` says that it is in the way.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Why before `bind`: the file takes the socket's mode, so there is no moment at which others may connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn sockets_and_directory_are_the_owners_alone_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run/forebay");
        let before = rustix::process::umask(Mode::empty());
        let bound = NodeSockets::bind(&run).unwrap();
        rustix::process::umask(before);
        assert_eq!(mode(&path(&run)), 0o600);
        assert_eq!(mode(&commands_path(&run)), 0o600);
        assert_eq!(mode(&run), 0o700);
        drop(bound);
    }

    #[test]
    fn the_socket_of_a_living_node_is_not_taken_and_that_of_a_dead_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let NodeSockets {
            status: listener,
            commands,
            guard,
        } = NodeSockets::bind(dir.path()).unwrap();
        let taken = NodeSockets::bind(dir.path()).unwrap_err();
        assert!(matches!(taken, SocketError::Taken { .. }), "{taken}");
        UnixStream::connect(path(dir.path())).unwrap();
        // Killed: the file stays, the lock does not.
        let copy = dir.path().join("kept");
        std::fs::rename(path(dir.path()), &copy).unwrap();
        drop((listener, commands, guard));
        std::fs::rename(&copy, path(dir.path())).unwrap();
        let refused = UnixStream::connect(path(dir.path())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let next = NodeSockets::bind(dir.path()).unwrap();
        UnixStream::connect(path(dir.path())).unwrap();
        UnixStream::connect(commands_path(dir.path())).unwrap();
        drop(next);
        let left = [path(dir.path()), commands_path(dir.path())];
        assert!(
            !left.iter().any(|path| path.exists()),
            "an end in order leaves nothing"
        );
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path()), "mine").unwrap();
        let error = NodeSockets::bind(dir.path()).unwrap_err();
        assert!(matches!(error, SocketError::Unusable { .. }), "{error}");
        assert_eq!(std::fs::read(path(dir.path())).unwrap(), b"mine");
    }
}
