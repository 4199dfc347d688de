//! The declared mappings: read at the start, read again at SIGHUP (decision 30).
//!
//! Invariant: a file that is wrong, or that changes what only a new mapping may have, leaves what ran
//! as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;

use crate::config::{Config, Problem, Problems};
use crate::mapping::{self, Declared, Mapping};

use super::plan::capacity;

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
        let mut set: BTreeMap<PathBuf, Declared> = BTreeMap::new();
        for declared in &self.declared {
            if reading.files.contains(&declared.file) {
                set.insert(declared.file.clone(), declared.clone());
            }
        }
        for declared in reading.declared {
            let old = set.get(&declared.file).cloned();
            if let Some(problem) = old.as_ref().and_then(|old| frozen(old, &declared)) {
                problems.push(problem);
                continue;
            }
            let file = declared.file.clone();
            set.insert(file.clone(), declared);
            let candidate: Vec<Declared> = set.values().cloned().collect();
            let mut wrong = mapping::conflicts(&candidate);
            if wrong.is_empty() {
                wrong = capacity(config, &candidate);
            }
            if !wrong.is_empty() {
                problems.extend(wrong);
                match old {
                    Some(old) => set.insert(file, old),
                    None => set.remove(&file),
                };
            }
        }
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

    /// The topic of a mapping.
    pub(super) fn topic(&self, uuid: Uuid) -> Option<&str> {
        let mut all = self.declared.iter().map(|declared| &declared.mapping);
        all.find(|mapping| mapping.uuid == uuid)
            .map(|mapping| mapping.topic.as_str())
    }
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
        ..Problem::of_file(
            &new.file,
            "may only be given when a mapping is created; undo the change, or give the file a new UUID or name",
        )
    })
}
