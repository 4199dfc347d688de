//! What control publishes of what it knows: plans, whom to ask, what to read.
//!
//! Invariant: it follows from the newest mappings, secrets and statuses alone: to publish again changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::function::{self, FunctionId};
use super::plan::Demand;
use super::{Control, access, by_mapping};
use crate::contract::watch;
use crate::mapping::{Function, Mapping, SecretSource, Signing, initial_call_deadline};

impl Control {
    /// Publishes what follows from the mappings: plans, whether keys are needed, whom to ask.
    pub(super) fn publish(&mut self) {
        let mappings: Vec<_> = self
            .store
            .declared()
            .iter()
            .map(|declared| Arc::clone(&declared.mapping))
            .filter(|mapping| !self.halted.contains(mapping))
            .collect();
        let enabled = || mappings.iter().filter(|mapping| mapping.enabled);
        let signs = mappings.iter().any(|mapping| {
            let calls = mapping.enabled && mapping.function.signing != Signing::None;
            let reads = mapping.runs() && mapping.access.is_managed();
            calls || reads || mapping.writes_to_service()
        });
        self.signs
            .send_if_modified(|old| std::mem::replace(old, signs) != signs);
        // A timeout that the configuration gives is not asked for.
        let asked: BTreeMap<FunctionId, Function> = enabled()
            .map(|mapping| &mapping.function)
            .filter(|function| function.timeout.is_none())
            .map(|it| (function::id(it), it.clone()))
            .collect();
        send_list(&self.functions, asked.into_values().collect());
        self.want_secrets(&mappings);
        let secrets = Arc::clone(&self.secrets.borrow());
        let accesses: Vec<_> = mappings
            .iter()
            .map(|mapping| self.accesses.of(mapping, &secrets))
            .collect();
        let statuses = self.shards.statuses();
        let consumers = by_mapping(&statuses);
        // How many partitions a topic has, as any of its consumers last said.
        let partitions = |uuid| {
            let own = consumers.get(&uuid)?.iter();
            own.filter_map(|consumer| consumer.topic_partitions).max()
        };
        let demands: Vec<Demand> = mappings
            .into_iter()
            .zip(accesses)
            .filter_map(|(mapping, access)| {
                Some(Demand {
                    call_deadline: self.call_deadline(&mapping.function),
                    access: access?,
                    partitions: partitions(mapping.uuid),
                    skips: self.skips.of(mapping.uuid),
                    mapping,
                })
            })
            .collect();
        let plans = self.planner.plan(&demands);
        self.shards.send(plans);
    }

    fn want_secrets(&self, mappings: &[Arc<Mapping>]) {
        let wanted: BTreeSet<SecretSource> = mappings
            .iter()
            .filter(|mapping| mapping.runs())
            .flat_map(|mapping| access::sources(mapping))
            .collect();
        send_list(&self.wanted_secrets, wanted.into_iter().collect());
    }

    fn call_deadline(&self, of: &Function) -> Duration {
        let told = self.deadlines.get(&function::id(of)).copied();
        match of.timeout {
            Some(_) => initial_call_deadline(of),
            None => told.unwrap_or_else(|| initial_call_deadline(of)),
        }
    }
}

/// Sends a list, unless it is what was sent last.
fn send_list<T: PartialEq>(to: &watch::Sender<Arc<[T]>>, list: Vec<T>) {
    to.send_if_modified(|old| {
        let changed = **old != list;
        if changed {
            *old = list.into();
        }
        changed
    });
}
