//! The declared mappings: read at the start, read again at SIGHUP (decision 30).
//!
//! Invariant: a file that is wrong, or that changes what only a new mapping may have, leaves what ran
//! as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::config::{Config, Problem, Problems};
use crate::mapping::{self, Declared, Mapping};

use super::plan::capacity;

/// What is said of a member that a reading would change.
pub(super) const CREATE_ONLY: &str = "may only be given when a mapping is created; undo the change, give the file a new UUID or name, \
     or restart: then the mapping and its group go on with what the file says";

/// The mappings that are served.
#[derive(Debug)]
pub(super) struct Store {
    /// Ordered by file.
    declared: Vec<Declared>,
}

/// What a reading brought.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// What was not taken over.
    pub(super) problems: Vec<Problem>,
}

impl Store {
    /// Reads the directory; everything must be right.
    pub(super) fn open(config: &Config) -> Result<Self, Problems> {
        let mut reading = mapping::read(config);
        reading
            .problems
            .extend(mapping::conflicts(&reading.declared));
        if reading.problems.is_empty() {
            Ok(Self::of(reading.declared))
        } else {
            Err(Problems(reading.problems))
        }
    }

    /// A store of mappings that were checked already.
    pub(super) fn of(declared: Vec<Declared>) -> Self {
        Self { declared }
    }

    /// Reads the directory again, file by file.
    pub(super) fn reload(&mut self, config: &Config) -> Reloaded {
        let reading = mapping::read(config);
        let mut problems = reading.problems;
        // A directory that cannot be read takes nothing away.
        if reading.files.is_empty() && !problems.is_empty() {
            return Reloaded { problems };
        }
        let files: BTreeSet<&PathBuf> = reading.files.iter().collect();
        let mut set: Set = self
            .declared
            .iter()
            .filter(|declared| files.contains(&declared.file))
            .map(|declared| (declared.file.clone(), declared.clone()))
            .collect();
        let mut changed = Vec::new();
        for declared in reading.declared {
            let old = set.get(&declared.file);
            if old.is_some_and(|old| old.mapping == declared.mapping) {
                continue;
            }
            match old.and_then(|old| frozen(old, &declared)) {
                Some(problem) => problems.push(problem),
                None => changed.push(declared),
            }
        }
        problems.extend(take_over(&mut set, changed, config));
        self.declared = set.into_values().collect();
        Reloaded { problems }
    }

    /// The mappings, ordered by file.
    pub(super) fn declared(&self) -> &[Declared] {
        &self.declared
    }

    /// The mappings themselves.
    pub(super) fn into_declared(self) -> Vec<Declared> {
        self.declared
    }
}

/// Mappings by file.
type Set = BTreeMap<PathBuf, Declared>;

/// Takes `changed` into the set: all at once where that is right, as it mostly is, else one by one.
fn take_over(set: &mut Set, changed: Vec<Declared>, config: &Config) -> Vec<Problem> {
    let by_file = |declared: Declared| (declared.file.clone(), declared);
    let mut all = set.clone();
    all.extend(changed.iter().cloned().map(by_file));
    let whole: Vec<Declared> = all.values().cloned().collect();
    if mapping::conflicts(&whole).is_empty() && capacity(config, &whole).is_empty() {
        *set = all;
        return Vec::new();
    }
    let mut problems = Vec::new();
    for declared in changed {
        let file = declared.file.clone();
        let mut others = set.values().filter(|other| other.file != file);
        if let Some(problem) = others.find_map(|other| mapping::conflict(other, &declared)) {
            problems.push(problem);
            continue;
        }
        let old = set.insert(file.clone(), declared);
        let whole: Vec<Declared> = set.values().cloned().collect();
        let wrong = capacity(config, &whole);
        if !wrong.is_empty() {
            problems.extend(wrong);
            match old {
                Some(old) => set.insert(file, old),
                None => set.remove(&file),
            };
        }
    }
    problems
}

/// The first create-only member that differs, if the identity is the same (contract 7.3).
fn frozen(old: &Declared, new: &Declared) -> Option<Problem> {
    let (a, b): (&Mapping, &Mapping) = (&old.mapping, &new.mapping);
    if a.uuid != b.uuid {
        return None;
    }
    let members = [
        ("SelfManagedEventSource", a.bootstrap != b.bootstrap),
        ("Topics", a.topic != b.topic),
        (
            "StartingPosition",
            a.starting_position != b.starting_position,
        ),
        ("ConsumerGroupId", a.group_id != b.group_id),
    ];
    let (member, _) = members.into_iter().find(|(_, differs)| *differs)?;
    Some(Problem {
        key: member.to_owned(),
        ..Problem::of_file(&new.file, CREATE_ONLY)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::config::{Machine, Surroundings};

    fn config(dir: &Path) -> Config {
        let text = "mappings_dir = \".\"\nendpoint_url = \"http://127.0.0.1:1\"\nshards = 2\n\
                    memory_bytes = 100000000000\n[functions.f]\nsigning = \"none\"\n";
        let around = Surroundings::without_environment(Machine::here());
        Config::parse(text, &dir.join("forebay.conf"), &around).unwrap()
    }

    fn declare(dir: &Path, name: &str, topic: &str, more: &str) {
        let text = format!(
            "FunctionName = \"f\"\nTopics = [\"{topic}\"]\n{more}\n\
             [SelfManagedEventSource.Endpoints]\nKAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n"
        );
        std::fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    }

    #[test]
    fn a_file_that_is_the_same_keeps_its_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        for index in 0..500 {
            declare(
                dir.path(),
                &format!("m{index:03}"),
                &format!("t{index}"),
                "",
            );
        }
        let mut store = Store::open(&config).unwrap();
        let before = store.declared().to_vec();
        declare(dir.path(), "m007", "t7", "BatchSize = 7");
        let reloaded = store.reload(&config);
        assert_eq!(reloaded.problems, []);
        for (index, (old, new)) in before.iter().zip(store.declared()).enumerate() {
            assert_eq!(Arc::ptr_eq(&old.mapping, &new.mapping), index != 7);
        }
        assert_eq!(store.declared()[7].mapping.batch_size, 7);
    }

    #[test]
    fn only_the_file_that_is_wrong_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        declare(dir.path(), "bb", "bills", "");
        let mut store = Store::open(&config).unwrap();
        declare(dir.path(), "aa", "bills", "");
        declare(dir.path(), "cc", "clicks", "");
        let reloaded = store.reload(&config);
        assert_eq!(reloaded.problems.len(), 1, "{:?}", reloaded.problems);
        assert_eq!(reloaded.problems[0].file, dir.path().join("aa.toml"));
        let declared = store.declared().iter();
        let topics: Vec<_> = declared.map(|it| it.mapping.topic.as_str()).collect();
        assert_eq!(topics, ["bills", "clicks"]);
    }

    #[test]
    fn two_files_may_change_places() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let identity = |id| format!("UUID = \"{}\"", Uuid::from_u128(id));
        declare(dir.path(), "a", "tt", &identity(1));
        declare(dir.path(), "b", "uu", &identity(2));
        let mut store = Store::open(&config).unwrap();
        declare(dir.path(), "a", "uu", &identity(2));
        declare(dir.path(), "b", "tt", &identity(1));
        assert_eq!(store.reload(&config).problems, []);
        assert_eq!(store.declared()[0].mapping.topic, "uu");
    }
}
