//! The readings of the files, at the start and at each SIGHUP: how they went, and what of them has no effect.
//!
//! Invariant: of the configuration file only the names of keys are told, never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};
use tracing::{error, info, warn};

use crate::clock;
use crate::config::{Config, Problem};
use crate::mapping::{self, Declared};

/// So many problems of a reading are kept; all are in the log.
const PROBLEMS_KEPT_MAX: usize = 20;

/// How the readings went.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Readings {
    /// The configuration file.
    file: PathBuf,
    /// What stood in it at the start; `None` if that is not known.
    settings: Option<Table>,
    /// Sections that no mapping uses, and what was said of them.
    unused: BTreeMap<String, String>,
    /// Whether the newest reading of the mappings had no problem.
    pub(super) success: bool,
    /// The problems that it had, as far as they are kept.
    pub(super) problems: Arc<[String]>,
    /// When the mappings were last read without one, since 1970.
    pub(super) succeeded_at: Duration,
}

impl Readings {
    /// The reading at the start, which had no problem.
    pub(super) fn first(config: &Config, set: &[Declared]) -> Self {
        let mut readings = Self {
            file: config.file.clone(),
            settings: read(&config.file),
            unused: BTreeMap::new(),
            success: true,
            problems: Arc::default(),
            succeeded_at: clock::unix_now(),
        };
        readings.say_unused(config, set);
        readings
    }

    /// The mappings were read again.
    pub(super) fn again(&mut self, config: &Config, set: &[Declared], problems: &[Problem]) {
        for problem in problems {
            error!(%problem, "Mapping was not taken over; what ran before goes on");
        }
        self.success = problems.is_empty();
        let kept = problems.iter().take(PROBLEMS_KEPT_MAX);
        self.problems = kept.map(ToString::to_string).collect();
        if self.success {
            self.succeeded_at = clock::unix_now();
        }
        info!(
            mappings = set.len(),
            problems = problems.len(),
            "Mappings were read again"
        );
        self.say_unused(config, set);
        self.say_changed();
    }

    fn say_unused(&mut self, config: &Config, set: &[Declared]) {
        let unused = mapping::unused_functions(config, set);
        for (name, advice) in &unused {
            if self.unused.get(name) != Some(advice) {
                warn!(function = name, advice, "Section has no effect");
            }
        }
        self.unused = unused;
    }

    fn say_changed(&self) {
        let file = self.file.display();
        if let Err(problems) = Config::load(&self.file) {
            for problem in &problems.0 {
                error!(%problem, "Configuration file would refuse the next start; what ran before goes on");
            }
            return;
        }
        let (Some(old), Some(new)) = (&self.settings, read(&self.file)) else {
            return;
        };
        let keys = changed(old, &new);
        if !keys.is_empty() {
            let keys = keys.join(", ");
            warn!(%file, keys, "Configuration file has changed: these keys take a restart, only the mappings were read again");
        }
    }
}

fn read(file: &std::path::Path) -> Option<Table> {
    std::fs::read_to_string(file).ok()?.parse().ok()
}

/// The keys whose values differ, with the tables that they stand in.
fn changed(old: &Table, new: &Table) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut keys = Vec::new();
    for name in names {
        let empty = Table::new();
        match (old.get(name), new.get(name)) {
            (old, new) if old == new => {}
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                keys.extend(below(name, changed(old, new)));
            }
            (Some(Value::Table(old)), None) => keys.extend(below(name, changed(old, &empty))),
            (None, Some(Value::Table(new))) => keys.extend(below(name, changed(&empty, new))),
            _ => keys.push(name.clone()),
        }
    }
    keys
}

fn below(table: &str, keys: Vec<String>) -> Vec<String> {
    if keys.is_empty() {
        // A table without a key came or went.
        return vec![table.to_owned()];
    }
    keys.iter().map(|key| format!("{table}.{key}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        assert_eq!(
            changed(&old.parse().unwrap(), &new.parse().unwrap()),
            expected
        );
    }

    #[test]
    fn changed_keys_are_named_with_their_tables() {
        check("a = 1", "# remark\na = 1", &[]);
        check("a = 1\nb = 2", "a = 2", &["a", "b"]);
        let section = "[functions.f]\nsigning = \"none\"";
        check("", section, &["functions.f.signing"]);
        check(section, "", &["functions.f.signing"]);
        check("", "[functions.f]", &["functions.f"]);
        check(
            section,
            "[functions.f]\nsigning = \"none\"\nmax_in_flight = 1",
            &["functions.f.max_in_flight"],
        );
    }
}
