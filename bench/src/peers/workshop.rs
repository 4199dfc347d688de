//! Builds the peers, each with its ecosystem's own tool and lock file, into `target/peers`.
//!
//! Invariant: a peer that cannot be built here is named with the reason; it is never skipped in silence.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::roster::Peer;
use crate::say;
use crate::tool::{self, is_in_path, run};

/// What builds a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    Go,
    Cargo,
    Python,
    Maven,
}

impl Toolchain {
    /// The programs that it needs; the first tells its version.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Go => &["go"],
            // librdkafka is built from source.
            Self::Cargo => &["rustc", "cargo", "cc", "c++", "make"],
            Self::Python => &["python3"],
            Self::Maven => &["java", "javac", "mvn"],
        }
    }

    fn version_argument(self) -> &'static str {
        match self {
            Self::Go => "version",
            Self::Cargo | Self::Python | Self::Maven => "--version",
        }
    }

    /// What it is not there without.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let missing = |program: &&&str| !is_in_path(program);
        self.programs().iter().find(missing).copied()
    }

    /// As it calls itself.
    pub(crate) fn version(self) -> String {
        let [program, ..] = self.programs() else {
            return String::new();
        };
        let said = Command::new(program).arg(self.version_argument()).output();
        let said = said.map(|said| said.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        text.lines().next().unwrap_or_default().trim().to_owned()
    }
}

/// Builds what is missing or older than its source.
pub(crate) fn build(peer: &Peer) -> Result<(), String> {
    say(&format!("building {}, unless that is done", peer.name));
    let (out, source) = (folder()?, peer.source());
    match peer.toolchain {
        Toolchain::Go => run(Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(out.join(peer.name))
            .arg(format!("./cmd/{}", peer.name))
            .current_dir(source)),
        Toolchain::Cargo => run(Command::new("cargo")
            .args(["build", "--release", "--locked", "--bin", peer.name])
            .arg("--target-dir")
            .arg(out.join(peer.folder))
            .current_dir(source)),
        Toolchain::Python => python_environment(&source.join(peer.lock), &out.join(peer.folder)),
        Toolchain::Maven => java_classes(&source, &out.join(peer.folder)),
    }
}

/// How it is started.
pub(crate) fn command(peer: &Peer) -> Result<Command, String> {
    let out = folder()?;
    Ok(match peer.toolchain {
        Toolchain::Go => program(&out.join(peer.name)),
        Toolchain::Cargo => {
            let mut command = program(&out.join(peer.folder).join("release").join(peer.name));
            // Mimalloc's 10 ms let the kernel clear the pages of every body anew: a sixth of the CPU time.
            command.env("MIMALLOC_PURGE_DELAY", "2000");
            command
        }
        Toolchain::Python => {
            let mut command = program(&out.join(peer.folder).join("bin/python"));
            command.arg(peer.source().join("consumer.py"));
            command
        }
        Toolchain::Maven => {
            let mut command = program(Path::new("java"));
            let out = out.join(peer.folder);
            let class_path = format!("{0}/classes:{0}/lib/*", out.display());
            command.args([
                "-XX:+UseParallelGC",
                "-Xmx512m",
                "-cp",
                &class_path,
                "peer.Main",
            ]);
            command
        }
    })
}

/// A virtual environment with what the lock file says.
fn python_environment(lock: &Path, out: &Path) -> Result<(), String> {
    fresh(&[lock.to_owned()], out, || {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(out))?;
        run(Command::new(out.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "-q",
                "--no-cache-dir",
                "--require-hashes",
                "-r",
            ])
            .arg(lock))
    })
}

/// Classes and jars side by side.
fn java_classes(source: &Path, out: &Path) -> Result<(), String> {
    let mut sources = vec![source.join("pom.xml")];
    let java = source.join("src/main/java/peer");
    let entries =
        std::fs::read_dir(&java).map_err(|error| format!("{}: {error}", java.display()))?;
    sources.extend(entries.flatten().map(|entry| entry.path()));
    fresh(&sources, out, || {
        run(Command::new("mvn")
            .args(["-q", "-B", "clean", "prepare-package"])
            .arg(format!("-Dpeer.out={}", out.display()))
            .current_dir(source))
    })
}

/// Makes `out` unless it was made of just these sources.
fn fresh(
    sources: &[PathBuf],
    out: &Path,
    make: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut text = Vec::new();
    for source in sources {
        let read = std::fs::read(source).map_err(|error| format!("{}: {error}", source.display()));
        text.extend(read?);
    }
    let stamp = out.join("made-of");
    if std::fs::read(&stamp).is_ok_and(|made_of| made_of == text) {
        return Ok(());
    }
    make()?;
    std::fs::write(&stamp, text).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// A program that dies with us, also when we are killed.
fn program(path: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(path);
    command
}

/// What it last had to say.
pub(crate) fn log(peer: &Peer) -> Result<PathBuf, String> {
    Ok(folder()?.join(format!("{}.log", peer.name)))
}

/// The versions of its libraries, out of its lock file.
pub(crate) fn libraries(peer: &Peer) -> Result<Vec<String>, String> {
    let path = peer.source().join(peer.lock);
    let lock =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let of = |library: &&str| {
        let version = pinned(&lock, library)
            .ok_or_else(|| format!("{} does not pin {library}", path.display()))?;
        Ok(format!("{library} {version}"))
    };
    peer.libraries.iter().map(of).collect()
}

/// The version behind a library's whole name: every lock file here has it as the next text with a dot.
fn pinned<'a>(lock: &'a str, library: &str) -> Option<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let mut rest = lock;
    loop {
        let (_, behind) = rest.split_once(library)?;
        rest = behind;
        if !behind.starts_with(is_part) {
            let from = behind.find(|c: char| c.is_ascii_digit())?;
            let version = behind.get(from..)?;
            let is_version = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
            return version.split(|c| !is_version(c)).next();
        }
    }
}

/// `target/peers`, beside the folder of this program.
fn folder() -> Result<PathBuf, String> {
    tool::folder("peers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_found_in_every_kind_of_lock_file() {
        let check = |lock: &str, library: &str, version: &str| {
            assert_eq!(pinned(lock, library), Some(version));
        };
        check("a/b/sub v0.1.0\na/b v1.2.3\n", "a/b", "1.2.3");
        check(
            "name = \"rdkafka-sys\"\nversion = \"4.9.0+2.10.0\"\n",
            "rdkafka-sys",
            "4.9.0+2.10.0",
        );
        check("boto3==1.44.8 \\\n    --hash=sha256:0", "boto3", "1.44.8");
        check(
            "<artifactId>x</artifactId>\n  <version>2.0</version>",
            "x",
            "2.0",
        );
        assert_eq!(pinned("other 1.0", "x"), None);
    }
}
