//! The region of functions that do not name one, from the file or the environment.
//!
//! Invariant: a [`Region`] has a name that can be one.

use toml::Spanned;

use super::{Findings, Surroundings};

/// What a name that cannot be a region's is told.
pub(crate) const WANTED: &str = "must be an AWS region, such as eu-central-1";

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Who named it: the configuration file, an environment variable, or the AWS profile.
    pub source: &'static str,
}

impl Region {
    /// Checks the name.
    pub fn parse(name: &str, source: &'static str) -> Option<Self> {
        let valid = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        valid.then(|| Self {
            name: name.to_owned(),
            source,
        })
    }
}

pub(super) fn of_node(
    value: Option<Spanned<String>>,
    around: &Surroundings,
    findings: &mut Findings<'_>,
) -> Option<Region> {
    if let Some(given) = value {
        let region = Region::parse(given.get_ref(), "the configuration file");
        if region.is_none() {
            findings.at(given.span(), "region", given.get_ref(), WANTED);
        }
        return region;
    }
    let (variable, name) = around.region.as_ref()?;
    let region = Region::parse(name, variable);
    if region.is_none() {
        findings.missing(variable, format!("{WANTED}, not {name}"));
    }
    region
}
