//! What `check` finds beside the node that runs: changes of the files that a reload would refuse.
//!
//! Invariant: that node is asked for its status, as `forebay status` asks, and for nothing else.

use super::{Report, Severity};
use crate::config::Config;
use crate::control::document;
use crate::control::store::CREATE_ONLY;
use crate::mapping::{Declared, Mapping};
use crate::status;
use crate::status::ask::{AskError, ask};
use crate::status::socket;

/// Compares what the files say with what runs.
pub(super) async fn compare(config: &Config, set: &[Declared], report: &mut Report) {
    let document = match ask(&socket::path(&config.runtime_dir)).await {
        Ok(document) => document,
        // Nothing is to be reloaded.
        Err(AskError::NoNode { .. }) => return,
        Err(error) => {
            let message = format!("whether a reload would take the files cannot be said: {error}");
            report.add(Severity::Note, "the node that runs", message);
            return;
        }
    };
    for declared in set {
        let mut running = document.mappings.iter();
        let running = running.find(|it| is_of(it, declared));
        let Some((member, runs_with)) = running.and_then(|it| changed(it, &declared.mapping))
        else {
            continue;
        };
        let mut own = Report::default();
        let message = format!(
            "the node that runs has {runs_with}, and SIGHUP will refuse the change: it {CREATE_ONLY}"
        );
        own.add(Severity::Note, member, message);
        report.take(&[&declared.name()], own);
    }
}

/// Whether a reload would make of the one the other.
fn is_of(running: &status::Mapping, declared: &Declared) -> bool {
    running.uuid == declared.mapping.uuid.to_string()
        && running.file == declared.file.display().to_string()
        && running.state != "Deleting"
}

/// The first create-only member that differs, and what runs.
fn changed(running: &status::Mapping, new: &Mapping) -> Option<(&'static str, String)> {
    let servers = running.source.as_ref();
    let servers = servers.map(|it| &it.endpoints.kafka_bootstrap_servers);
    let old_servers = servers.filter(|old| **old != document::servers(new));
    let time = running.starting_position_timestamp;
    let position = running.starting_position.as_ref().filter(|old| {
        *old != document::starting_position(new) || time != document::starting_time(new)
    });
    let position = position.map(|old| match time {
        Some(seconds) => format!("{old} {seconds}"),
        None => old.clone(),
    });
    let topics = Some(&running.topics).filter(|old| **old != [new.topic.clone()]);
    let group = Some(&running.consumer_group_id).filter(|old| **old != new.group_id);
    let members = [
        ("SelfManagedEventSource", old_servers.map(|it| it.join(","))),
        ("Topics", topics.map(|it| it.join(","))),
        ("StartingPosition", position),
        ("ConsumerGroupId", group.cloned()),
    ];
    let mut members = members.into_iter();
    members.find_map(|(member, old)| Some((member, old?)))
}
