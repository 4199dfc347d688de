//! What `check` finds of where a mapping's failed records go.
//!
//! Invariant: who may only write, as AWS's own role does, has no problem because of that.

use std::sync::Arc;

use super::{Finding, Report, Severity, WITHOUT_KEYS, failed_topic};
use crate::config::Config;
use crate::control::aws::{Aws, Keys, Settings, credentials};
use crate::control::destinations::{Seen, Writer};
use crate::mapping::{Declared, Destination, Mapping};

/// What a destination has done that was tried out.
pub(super) const TAKEN: &str =
    "has taken a document whose condition is Probe and that tells of no record";

/// Writes to the destination of each mapping that is enabled, what tells of no record and says so.
pub async fn probe(config: &Config, set: &[Declared]) -> Vec<Finding> {
    let mut report = Report::default();
    let of = |declared: &&Declared| {
        let destination = declared.mapping.destination.as_ref();
        destination.filter(|_| declared.mapping.enabled).cloned()
    };
    let writing: Vec<(&Declared, Destination)> = set
        .iter()
        .filter_map(|declared| Some((declared, of(&declared)?)))
        .collect();
    if writing.is_empty() {
        let message = "no mapping that is enabled has one that could be tried";
        report.add(Severity::Note, "destinations", message);
        return report.0;
    }
    // That there are none is said where the world is asked.
    let keys = credentials::fetch(&Settings::of(config)).await.ok();
    let keys = Keys::fixed(keys.map(|(keys, _)| keys));
    let aws = Arc::new(Aws::new(Settings::of(config), keys));
    let writer = Writer::over(Arc::clone(&aws));
    for (declared, destination) in writing {
        let (mapping, mut own) = (&declared.mapping, Report::default());
        match &destination {
            Destination::Topic(topic) => {
                failed_topic::try_out(&aws, mapping, topic, &mut own).await;
            }
            _ => try_out(&writer, mapping, &mut own).await,
        }
        report.take(&[&declared.name()], own);
    }
    report.0
}

/// Reads whether it is there.
pub(super) async fn look(writer: &Writer, has_keys: bool, mapping: &Mapping, report: &mut Report) {
    if !has_keys {
        report.add(Severity::Note, subject(mapping), WITHOUT_KEYS);
        return;
    }
    let (severity, message) = match writer.look(mapping).await {
        Seen::There => (Severity::Right, "exists".to_owned()),
        Seen::Denied(said) => (
            Severity::Note,
            format!(
                "may not be read ({said}), which a node need not; forebay check --probe writes to it"
            ),
        ),
        Seen::Unfit(reason) => (Severity::Problem, reason),
    };
    report.add(severity, subject(mapping), message);
}

async fn try_out(writer: &Writer, mapping: &Mapping, report: &mut Report) {
    let (severity, message) = match writer.probe(mapping).await {
        Ok(()) => (Severity::Right, TAKEN.to_owned()),
        Err(reason) => (Severity::Problem, reason),
    };
    report.add(severity, subject(mapping), message);
}

pub(super) fn subject(mapping: &Mapping) -> String {
    match &mapping.destination {
        Some(destination) => format!("destination {destination}"),
        None => "destination".to_owned(),
    }
}
