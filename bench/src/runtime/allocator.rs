//! The appliance with the system's allocator. Which one it has is decided when it is compiled.
//!
//! Invariant: what is measured as such has no mimalloc in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{say, tool};

/// What it takes to build it; the last compiles what is written in C.
const TOOLS: [&str; 3] = ["cargo", "rustc", "cc"];

/// A binary that somebody has built.
pub(super) fn checked(program: &Path) -> Result<PathBuf, String> {
    let shown = program.display();
    let text = fs::read(program).map_err(|error| format!("{shown}: {error}"))?;
    if has_mimalloc(&text) {
        return Err(format!(
            "{shown} has mimalloc; build it with --no-default-features"
        ));
    }
    Ok(program.to_owned())
}

/// Builds it into `target/system-allocator`, unless that is done.
pub(super) fn built() -> Result<PathBuf, String> {
    if let Some(missing) = TOOLS.iter().find(|tool| !tool::is_in_path(tool)) {
        return Err(format!("{missing} is missing, so it cannot be built"));
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !sources.join("Cargo.lock").is_file() {
        return Err(format!(
            "the sources are not in {} any more, so it cannot be built",
            sources.display()
        ));
    }
    say("building the appliance with the system's allocator, unless that is done");
    let out = tool::folder("system-allocator")?;
    tool::run(
        Command::new("cargo")
            // The whole workspace chooses the features of the dependencies, as it does for the shipped one.
            .args(["build", "--release", "--locked", "--workspace"])
            .args(["--bin", "forebay", "--no-default-features"])
            .arg("--target-dir")
            .arg(&out)
            .current_dir(sources),
    )?;
    checked(&out.join("release/forebay"))
}

/// Its functions and its messages have the name.
fn has_mimalloc(program: &[u8]) -> bool {
    let name = b"mimalloc";
    program.windows(name.len()).any(|bytes| bytes == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_with_mimalloc_is_not_taken_for_one_without() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &str| {
            let program = dir.path().join("forebay");
            fs::write(&program, text).unwrap();
            checked(&program).map(drop)
        };
        assert_eq!(check("malloc, mi"), Ok(()));
        assert!(
            check("..mimalloc: error")
                .unwrap_err()
                .contains("has mimalloc")
        );
        assert!(checked(&dir.path().join("none")).is_err());
    }
}
