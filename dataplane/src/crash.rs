//! Whose turn it was when the process died, so that a mapping that takes it down again and again starts
//! halted, and the others live.
//!
//! An event loop holds a [`Turn`] while its machine works; the panic hook asks [`whose_turn`] and keeps the
//! answer by [`note`]; the next start asks [`repeated`].
//!
//! Invariant: nothing is written but by a process that dies.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::config::{Config, advice};

/// That many deaths within [`WINDOW`] halt a mapping.
const DEATHS_MAX: usize = 3;

/// Older deaths do not count: a halted mapping is tried again by a start that comes later.
const WINDOW: Duration = Duration::from_secs(3600);

thread_local! {
    static TURN: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// A mapping's turn on this thread, until it is dropped.
#[derive(Debug)]
pub struct Turn(());

impl Turn {
    /// Begins the mapping's turn.
    pub fn of(mapping: Uuid) -> Self {
        TURN.set(Some(mapping));
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.set(None);
    }
}

/// Why a death could not be noted, if so, and what to do.
pub fn unnotable(config: &Config) -> Option<String> {
    let error = config.state_dir_writable().err()?;
    Some(format!(
        "cannot be written ({error}), so the next start would not know in whose turn the node has crashed; {}",
        advice(&error, "correct it")
    ))
}

/// The mapping whose turn it is on this thread.
pub fn whose_turn() -> Option<Uuid> {
    TURN.get()
}

/// Where deaths are kept: a line for each, seconds since 1970 and the mapping.
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("crashes")
}

/// Keeps that the process dies in a turn of `mapping`.
pub fn note(state_dir: &Path, mapping: Uuid, unix_now: Duration) -> io::Result<()> {
    fs::create_dir_all(state_dir)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(file(state_dir))?;
    file.write_all(format!("{} {mapping}\n", unix_now.as_secs()).as_bytes())
}

/// The mappings that have taken the process down again and again lately.
pub fn repeated(state_dir: &Path, unix_now: Duration) -> Vec<Uuid> {
    let text = fs::read_to_string(file(state_dir)).unwrap_or_default();
    let since = unix_now.saturating_sub(WINDOW).as_secs();
    let mut deaths: BTreeMap<Uuid, usize> = BTreeMap::new();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    for (at, mapping) in lines {
        if at.parse().is_ok_and(|at: u64| at > since)
            && let Ok(mapping) = mapping.parse()
        {
            *deaths.entry(mapping).or_default() += 1;
        }
    }
    deaths.retain(|_, count| *count >= DEATHS_MAX);
    deaths.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn a_turn_lasts_until_it_is_dropped() {
        let mapping = Uuid::from_u128(1);
        let turn = Turn::of(mapping);
        assert_eq!(whose_turn(), Some(mapping));
        drop(turn);
        assert_eq!(whose_turn(), None);
    }

    #[test]
    fn the_third_death_within_the_hour_halts() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        let [first, second] = [1, 2].map(Uuid::from_u128);
        let minute = Duration::from_secs(60);
        for minutes in 1..=3 {
            assert!(repeated(&state_dir, NOW).is_empty());
            note(&state_dir, first, NOW + minutes * minute).unwrap();
            note(&state_dir, second, NOW - minutes * 30 * minute).unwrap();
        }
        fs::OpenOptions::new()
            .append(true)
            .open(file(&state_dir))
            .unwrap()
            .write_all(b"torn")
            .unwrap();
        assert_eq!(repeated(&state_dir, NOW + 4 * minute), [first]);
        assert!(repeated(&state_dir, NOW + 62 * minute).is_empty());
    }
}
