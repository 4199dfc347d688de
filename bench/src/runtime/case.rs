//! One way to run the appliance: as it is shipped, or with one choice changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_tests::harness::Site;
use serde::{Deserialize, Serialize};

/// The exit code of an appliance whose ring the kernel refuses, see `systemd/README.md`.
const REFUSED: i32 = 71;

/// What is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Case {
    /// Nothing.
    Shipped,
    /// The driver.
    Epoll,
    /// The flags of the ring, to these.
    Ring(String),
    /// The allocator.
    SystemAllocator,
}

impl Case {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Shipped => "shipped".to_owned(),
            Self::Epoll => "epoll".to_owned(),
            Self::Ring(flags) => format!("ring {flags}"),
            Self::SystemAllocator => "system allocator".to_owned(),
        }
    }

    /// The name where there is little room.
    pub(super) fn short_name(&self) -> String {
        match self {
            Self::Ring(flags) => flags.replace("_taskrun", "").replace("_issuer", ""),
            Self::SystemAllocator => "allocator".to_owned(),
            Self::Shipped | Self::Epoll => self.name(),
        }
    }

    /// What it is chosen by.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Epoll => vec![("FOREBAY_DRIVER", "epoll".to_owned())],
            Self::Ring(flags) => vec![("FOREBAY_RING", flags.clone())],
            Self::Shipped | Self::SystemAllocator => Vec::new(),
        }
    }
}

/// A case, and who runs it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) case: Case,
    pub(super) program: PathBuf,
    /// This kernel has no such ring.
    pub(super) is_refused: bool,
}

impl Way {
    /// Asks the appliance whether it can run so. A word that it does not know is an error.
    pub(super) fn new(case: Case, program: &Path) -> Result<Self, String> {
        let site = Site::new("127.0.0.1:1", "http://127.0.0.1:1");
        let said = Command::new(program)
            .args(["check", "--offline", "--config"])
            .arg(site.config_file())
            .envs(case.variables())
            .output()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let code = said.status.code();
        if code != Some(0) && code != Some(REFUSED) {
            let text = String::from_utf8_lossy(&said.stderr);
            return Err(format!("{}: {}", case.name(), text.trim()));
        }
        Ok(Self {
            case,
            program: program.to_owned(),
            is_refused: code == Some(REFUSED),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_chosen_by_the_variables_that_it_names() {
        let check = |case: Case, name: &str, variables: &[(&str, &str)]| {
            assert_eq!(case.name(), name);
            let expected = variables
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()));
            assert_eq!(case.variables(), expected.collect::<Vec<_>>());
        };
        check(Case::Shipped, "shipped", &[]);
        check(Case::Epoll, "epoll", &[("FOREBAY_DRIVER", "epoll")]);
        let flags = "single_issuer,defer_taskrun";
        let ring = Case::Ring(flags.to_owned());
        assert_eq!(ring.short_name(), "single,defer");
        check(
            ring,
            "ring single_issuer,defer_taskrun",
            &[("FOREBAY_RING", flags)],
        );
        check(Case::SystemAllocator, "system allocator", &[]);
    }
}
