//! Where the node keeps what ends with it.
//!
//! Invariant: two nodes of one machine whose state directories differ have different runtime directories.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{Findings, STATE_DIR_DEFAULT, Surroundings};

/// Where systemd says that the unit's runtime directory is.
const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// That of the unit that Forebay ships.
const OF_THE_UNIT: &str = "/run/forebay";

/// A socket's whole path has at most 107 bytes.
const LENGTH_MAX: usize = 90;

/// Where a node that runs as the unit says keeps it, whatever its configuration.
pub fn default() -> PathBuf {
    of_environment().unwrap_or_else(|| PathBuf::from(OF_THE_UNIT))
}

/// The first directory that systemd has made, if there is any.
pub(super) fn of_environment() -> Option<PathBuf> {
    let directories = std::env::var(RUNTIME_DIRECTORY).ok()?;
    let first = directories.split(':').find(|path| !path.is_empty())?;
    Some(PathBuf::from(first))
}

/// That of a node with this state directory, whose file stands in `base`.
pub(super) fn of_node(
    given: Option<Spanned<String>>,
    base: &Path,
    state_dir: &Path,
    around: &Surroundings,
    findings: &mut Findings<'_>,
) -> PathBuf {
    let Some(given) = given else {
        let by_state_dir = || match state_dir == Path::new(STATE_DIR_DEFAULT) {
            true => PathBuf::from(OF_THE_UNIT),
            false => state_dir.to_owned(),
        };
        return around.runtime_dir.clone().unwrap_or_else(by_state_dir);
    };
    let dir = base.join(given.get_ref());
    if dir.as_os_str().len() > LENGTH_MAX {
        let message = format!(
            "must be at most {LENGTH_MAX} bytes, with the directory that it starts from: the path of a socket has a limit"
        );
        findings.at(given.span(), "runtime_dir", given.get_ref(), message);
    }
    dir
}

#[cfg(test)]
mod tests {
    use super::super::tests::around;
    use super::super::{Config, Surroundings};
    use super::*;

    #[track_caller]
    fn check(text: &str, environment: Option<&str>, expected: &str) {
        let around = Surroundings {
            runtime_dir: environment.map(PathBuf::from),
            ..around()
        };
        let config = Config::parse(text, Path::new("/etc/forebay/forebay.toml"), &around);
        assert_eq!(config.unwrap().runtime_dir, Path::new(expected), "{text}");
    }

    #[test]
    fn the_file_comes_before_systemd_and_systemd_before_the_state_directory() {
        let state = "state_dir = \"state\"\n";
        check("", None, "/run/forebay");
        check(state, None, "/etc/forebay/state");
        check(state, Some("/run/forebay-b"), "/run/forebay-b");
        check("runtime_dir = \"run\"", Some("/run/b"), "/etc/forebay/run");
    }

    #[test]
    fn what_is_too_long_for_a_socket_is_refused() {
        let text = format!("runtime_dir = \"/{}\"", "x".repeat(90));
        let refused = Config::parse(&text, Path::new("f.toml"), &around()).unwrap_err();
        assert!(
            refused.to_string().contains("at most 90 bytes"),
            "{refused}"
        );
    }
}
