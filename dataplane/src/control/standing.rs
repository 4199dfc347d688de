//! `State` and `LastModified` of each mapping (contract 7.5).
//!
//! ```text
//!  new file --> Creating ---+                     (not enabled: Disabled at once)
//!  Enabled = true  --> Enabling --+--applied--> Enabled
//!  another setting --> Updating --+         (or Disabled, if it is that)
//!  Enabled = false --> Disabling ----applied--> Disabled
//!  file removed --> Deleting ----applied--> gone
//! ```
//!
//! Invariant: a fault changes no state (decision 26).

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::mapping::Declared;

/// AWS's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Creating,
    Enabling,
    Enabled,
    Disabling,
    Disabled,
    Updating,
    Deleting,
}

impl State {
    /// As AWS spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Enabling => "Enabling",
            Self::Enabled => "Enabled",
            Self::Disabling => "Disabling",
            Self::Disabled => "Disabled",
            Self::Updating => "Updating",
            Self::Deleting => "Deleting",
        }
    }
}

/// What has changed since the node began.
#[derive(Debug, Default)]
pub(super) struct Standings {
    /// Until the shards have done what the newest reading asks for.
    passing: BTreeMap<Uuid, State>,
    /// When a state last changed, since 1970.
    changed: BTreeMap<Uuid, Duration>,
}

impl Standings {
    /// A reading has changed what is declared, at that time since 1970.
    pub(super) fn read(&mut self, before: &[Declared], now: &[Declared], at: Duration) {
        let old: BTreeMap<Uuid, &Declared> =
            before.iter().map(|it| (it.mapping.uuid, it)).collect();
        for declared in now {
            let enabled = declared.mapping.enabled;
            let passing = match old.get(&declared.mapping.uuid) {
                Some(old) if old.mapping == declared.mapping => continue,
                None if enabled => Some(State::Creating),
                None => None,
                Some(old) => Some(match (old.mapping.enabled, enabled) {
                    (false, true) => State::Enabling,
                    (true, false) => State::Disabling,
                    _ => State::Updating,
                }),
            };
            self.changed.insert(declared.mapping.uuid, at);
            if let Some(passing) = passing {
                self.passing.insert(declared.mapping.uuid, passing);
            }
        }
        let declared = |uuid: &Uuid| now.iter().any(|it| it.mapping.uuid == *uuid);
        self.passing.retain(|uuid, _| declared(uuid));
        self.changed.retain(|uuid, _| declared(uuid));
    }

    /// The shards have done all that was asked of them, at that time since 1970.
    pub(super) fn settle(&mut self, at: Duration) {
        for uuid in std::mem::take(&mut self.passing).into_keys() {
            self.changed.insert(uuid, at);
        }
    }

    /// How a declared mapping stands, and when its file or its state last changed, since 1970.
    pub(super) fn of(&self, declared: &Declared) -> (State, Duration) {
        let uuid = declared.mapping.uuid;
        let steady = match declared.mapping.enabled {
            true => State::Enabled,
            false => State::Disabled,
        };
        let state = self.passing.get(&uuid).copied().unwrap_or(steady);
        let changed = self.changed.get(&uuid).copied().unwrap_or_default();
        (state, changed.max(declared.modified))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Surroundings};
    use crate::mapping;

    fn declared(enabled: bool, batch_size: u32) -> Declared {
        let dir = tempfile::tempdir().unwrap();
        let text = "mappings_dir = \".\"\nendpoint_url = \"http://127.0.0.1:1\"\n[functions.f]\nsigning = \"none\"\n";
        let file = dir.path().join("forebay.conf");
        let config = Config::parse(text, &file, &Surroundings::here()).unwrap();
        let text = format!(
            "UUID = \"{}\"\nFunctionName = \"f\"\nTopics = [\"orders\"]\nEnabled = {enabled}\nBatchSize = {batch_size}\n\
             SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n",
            Uuid::from_u128(7)
        );
        std::fs::write(dir.path().join("orders.toml"), text).unwrap();
        let reading = mapping::read(&config);
        assert_eq!(reading.problems, []);
        let modified = Duration::from_secs(5);
        let [declared] = &reading.declared[..] else {
            panic!("one file is there");
        };
        Declared {
            modified,
            mapping: Arc::clone(&declared.mapping),
            ..declared.clone()
        }
    }

    #[track_caller]
    fn check(before: &[Declared], now: &Declared, passing: State, steady: State) {
        let mut standings = Standings::default();
        standings.read(before, std::slice::from_ref(now), Duration::from_secs(10));
        assert_eq!(standings.of(now), (passing, Duration::from_secs(10)));
        standings.settle(Duration::from_secs(11));
        let changed = if passing == steady { 10 } else { 11 };
        assert_eq!(standings.of(now), (steady, Duration::from_secs(changed)));
    }

    #[test]
    fn a_change_has_a_state_of_its_own_until_it_is_carried_out() {
        let on = declared(true, 1);
        let off = declared(false, 1);
        check(&[], &on, State::Creating, State::Enabled);
        check(&[], &off, State::Disabled, State::Disabled);
        let of = std::slice::from_ref;
        check(of(&off), &on, State::Enabling, State::Enabled);
        check(of(&on), &off, State::Disabling, State::Disabled);
        check(of(&on), &declared(true, 2), State::Updating, State::Enabled);
        check(
            of(&off),
            &declared(false, 2),
            State::Updating,
            State::Disabled,
        );
    }

    #[test]
    fn what_no_reading_has_changed_is_as_old_as_its_file() {
        let on = declared(true, 1);
        let mut standings = Standings::default();
        let steady = (State::Enabled, Duration::from_secs(5));
        assert_eq!(standings.of(&on), steady);
        let set = std::slice::from_ref(&on);
        standings.read(set, set, Duration::from_secs(10));
        standings.settle(Duration::from_secs(11));
        assert_eq!(standings.of(&on), steady);
    }
}
