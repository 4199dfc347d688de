//! Tools that build what is measured, and the folder that they build into.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a tool; what it says is shown only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?} does not run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("{command:?} failed, {}:\n{said}", done.status))
}

/// Whether there is such a program.
pub(crate) fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A folder of that name in `target`, beside the folder of this program.
pub(crate) fn folder(name: &str) -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = here.parent().and_then(Path::parent);
    let folder = target.ok_or("this program is in no folder")?.join(name);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}
