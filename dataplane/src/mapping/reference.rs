//! The commented mapping that operators start from, held to the code.

use std::path::Path;

use super::file::{DestinationFile, DestinationsFile, KafkaSourceFile, MappingFile, PollersFile};
use super::{Mapping, declared};
use crate::config::tests::known_keys;
use crate::config::{Config, Machine, Surroundings};

const REFERENCE: &str = include_str!("../../../systemd/mapping.toml");

fn parse(text: &str) -> Mapping {
    let around = Surroundings::without_environment(Machine {
        cpus: vec![0, 1],
        cpu_quota: None,
        memory_bytes: 8 << 30,
    });
    let node = "region = \"eu-central-1\"\nendpoint_url = \"http://127.0.0.1:9001\"";
    let config = Config::parse(node, Path::new("forebay.toml"), &around).unwrap();
    declared::parse(text, Path::new("orders.toml"), &config)
        .unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

/// The lines that are members behind a `#`, each with the table that it stands in.
fn members() -> Vec<(Option<&'static str>, &'static str)> {
    let mut table = None;
    let mut members = Vec::new();
    for line in REFERENCE.lines() {
        match line.strip_prefix('#') {
            Some(member) if member.starts_with('[') => table = Some(member),
            Some(member) if member.starts_with(|c: char| c.is_ascii_uppercase()) => {
                members.push((table, member));
            }
            _ => {}
        }
    }
    members
}

/// The reference with that member and, of its table or beside it, the ones that it cannot do without.
fn with(table: Option<&str>, member: &str) -> String {
    let position = match member.starts_with("StartingPositionTimestamp") {
        true => "StartingPosition = \"AT_TIMESTAMP\"\n",
        false => "",
    };
    match table {
        None => format!("{position}{member}\n{REFERENCE}"),
        Some(table) => format!("{REFERENCE}\n{table}\n{member}\n"),
    }
}

#[test]
fn every_default_in_the_reference_is_the_codes() {
    let plain = parse(REFERENCE);
    for (table, member) in members() {
        let changed = parse(&with(table, member)) != plain;
        assert_eq!(changed, member.ends_with("# example"), "{member}");
    }
}

#[test]
fn every_member_is_in_the_reference() {
    let nonsense = "nonsense = 1";
    let mut known = known_keys::<MappingFile>(nonsense);
    known.extend(known_keys::<KafkaSourceFile>(nonsense));
    known.extend(known_keys::<PollersFile>(nonsense));
    known.extend(known_keys::<DestinationsFile>(nonsense));
    known.extend(known_keys::<DestinationFile>(nonsense));
    for member in known {
        assert!(REFERENCE.contains(&member), "{member}");
    }
}
