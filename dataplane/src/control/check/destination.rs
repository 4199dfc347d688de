//! What `check` finds of where a mapping's failed records go.
//!
//! Invariant: who may only write, as AWS's own role does, has no problem because of that.

use super::{Finding, Report, Severity};
use crate::config::Config;
use crate::control::aws::{Settings, credentials};
use crate::control::destinations::{Seen, Writer};
use crate::mapping::{Declared, Mapping};

/// Writes to the destination of each mapping that is enabled, what tells of no record and says so.
pub async fn probe(config: &Config, set: &[Declared]) -> Vec<Finding> {
    let mut report = Report::default();
    let writing = || {
        let all = set.iter();
        all.filter(|declared| declared.mapping.writes_to_service())
    };
    if writing().next().is_none() {
        let message = "no mapping that is enabled has one that could be tried";
        report.add(Severity::Note, "destinations", message);
        return report.0;
    }
    // That there are none is said where the world is asked.
    let keys = credentials::fetch(&Settings::of(config)).await.ok();
    let writer = Writer::new(config, keys.map(|(keys, _)| keys));
    for declared in writing() {
        let mut own = Report::default();
        try_out(&writer, &declared.mapping, &mut own).await;
        report.take(&[&declared.name()], own);
    }
    report.0
}

/// Reads whether it is there.
pub(super) async fn look(writer: &Writer, mapping: &Mapping, report: &mut Report) {
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
        Ok(()) => (
            Severity::Right,
            "has taken a document whose condition is Probe and that tells of no record".to_owned(),
        ),
        Err(reason) => (Severity::Problem, reason),
    };
    report.add(severity, subject(mapping), message);
}

fn subject(mapping: &Mapping) -> String {
    match &mapping.destination {
        Some(destination) => format!("destination {destination}"),
        None => "destination".to_owned(),
    }
}
