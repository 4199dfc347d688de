//! A node id that the node makes for itself and keeps in its state directory.
//!
//! Invariant: once made, it stays: a file that is there is never written again.

use std::io;
use std::path::{Path, PathBuf};

use super::value::is_node_id;
use super::{Config, Problem, Problems, advice};

/// What `node_id` says to have one made.
const AUTO: &str = "auto";

impl Config {
    /// Replaces a node id of `auto` by the one kept in the state directory, made there if need be.
    pub fn settle_node_id(&mut self) -> Result<(), Problems> {
        if !self.makes_node_id() {
            return Ok(());
        }
        let id = match self.kept_node_id()? {
            Some(id) => id,
            None => {
                let id = uuid::Uuid::new_v4().to_string();
                let made = std::fs::create_dir_all(&self.state_dir)
                    .and_then(|()| std::fs::write(self.node_id_file(), &id));
                made.map_err(|error| self.unusable(&error))?;
                id
            }
        };
        self.kafka.node_id = Some(id);
        Ok(())
    }

    /// Whether [`settle_node_id`](Self::settle_node_id) would be refused. Nothing is made.
    pub fn check_node_id(&self) -> Result<(), Problems> {
        if self.makes_node_id() && self.kept_node_id()?.is_none() {
            self.state_dir_writable()
                .map_err(|error| self.unusable(&error))?;
        }
        Ok(())
    }

    /// Whether files can be made in the state directory, which may have to be made itself. Nothing is made.
    pub fn state_dir_writable(&self) -> io::Result<()> {
        writable(&self.state_dir)
    }

    /// The same of the runtime directory.
    pub fn runtime_dir_writable(&self) -> io::Result<()> {
        writable(&self.runtime_dir)
    }

    fn makes_node_id(&self) -> bool {
        self.kafka.node_id.as_deref() == Some(AUTO)
    }

    fn node_id_file(&self) -> PathBuf {
        self.state_dir.join("node_id")
    }

    fn kept_node_id(&self) -> Result<Option<String>, Problems> {
        let id = match std::fs::read_to_string(self.node_id_file()) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        if is_node_id(&id) {
            return Ok(Some(id));
        }
        let message = "holds no node id; remove the file, and the next start makes one";
        Err(Problems(vec![Problem::of_file(
            &self.node_id_file(),
            message,
        )]))
    }

    fn unusable(&self, error: &io::Error) -> Problems {
        let message = format!(
            "node_id = \"auto\" is kept there: {error}; {}",
            advice(error, "correct state_dir")
        );
        Problems(vec![Problem::of_file(&self.node_id_file(), message)])
    }
}

fn writable(dir: &Path) -> io::Result<()> {
    for dir in dir.ancestors() {
        let dir = match dir.as_os_str().is_empty() {
            true => Path::new("."),
            false => dir,
        };
        match std::fs::metadata(dir) {
            Ok(found) if found.is_dir() => {
                let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
                return Ok(rustix::fs::access(dir, needed)?);
            }
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Surroundings};

    fn config(state_dir: &Path) -> Config {
        let text = format!(
            "node_id = \"auto\"\nstate_dir = \"{}\"",
            state_dir.display()
        );
        let around = Surroundings::without_environment(Machine::here());
        Config::parse(&text, Path::new("/etc/forebay/forebay.toml"), &around).unwrap()
    }

    #[test]
    fn a_node_id_of_auto_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let settle = || {
            let mut config = config(&dir.path().join("state"));
            config.check_node_id().unwrap();
            config.settle_node_id().unwrap();
            config.kafka.node_id.unwrap()
        };
        let first = settle();
        assert_ne!(first, AUTO);
        assert_eq!(settle(), first);
    }

    /// What the check finds is what the start would be refused for.
    #[track_caller]
    fn check_refused(state_dir: &Path, expected: &str) {
        let mut config = config(state_dir);
        let found = config.check_node_id().unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
        assert_eq!(config.settle_node_id().unwrap_err().to_string(), found);
    }

    #[test]
    fn the_check_finds_what_the_start_would_be_refused_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        check_refused(&file.join("state"), "Not a directory");
        std::fs::write(dir.path().join("node_id"), "\n").unwrap();
        check_refused(dir.path(), "holds no node id; remove the file");
    }

    #[test]
    fn the_check_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        config(&dir.path().join("a/b")).check_node_id().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
