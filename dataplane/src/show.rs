//! `forebay status`: asks the node that runs, and prints.
//!
//! Invariant: it changes nothing, of the node or of the files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use forebay::config::{Config, default_runtime_dir};
use forebay::status::ask::{AskError, ask};
use forebay::status::{Document, details, overview, socket};

use crate::{EX_UNAVAILABLE, complain, refuse};

/// sysexits.h: the node speaks another version's language, or none.
const EX_PROTOCOL: u8 = 76;
/// sysexits.h: the socket may not be read.
const EX_NOPERM: u8 = 77;

/// Names that an unknown mapping is answered with at most.
const NAMES_MAX: usize = 20;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Question {
    /// A mapping, by its file's name without the ending or by its UUID: then all that is known of it.
    mapping: Option<String>,
    /// The configuration file of the node. Default: the node that systemd runs.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's socket, status.sock in its runtime directory.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Print the status document, one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub(crate) fn run(question: Question) -> ExitCode {
    let path = match place(
        question.socket.as_deref(),
        question.config.as_deref(),
        socket::path,
    ) {
        Ok(path) => path,
        Err(code) => return code,
    };
    let mut document = match asked(&path) {
        Ok(document) => document,
        Err(code) => return code,
    };
    if let Some(name) = &question.mapping
        && let Err(error) = narrow(&mut document, name)
    {
        complain(&format_args!("forebay: {error}"));
        return ExitCode::FAILURE;
    }
    let text = match (question.json, &question.mapping) {
        (true, _) => match serde_json::to_string(&document) {
            Ok(text) => text + "\n",
            Err(error) => {
                complain(&format_args!("forebay: {error}"));
                return ExitCode::FAILURE;
            }
        },
        (false, Some(_)) => details(&document),
        (false, None) => overview(&document),
    };
    // Who reads may have seen enough.
    io::stdout().write_all(text.as_bytes()).unwrap_or_default();
    ExitCode::SUCCESS
}

/// The socket of the node that is meant.
pub(crate) fn place(
    socket: Option<&Path>,
    config: Option<&Path>,
    in_runtime_dir: fn(&Path) -> PathBuf,
) -> Result<PathBuf, ExitCode> {
    match (socket, config) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(file)) => match Config::load(file) {
            Ok(config) => Ok(in_runtime_dir(&config.runtime_dir)),
            Err(problems) => {
                let code = refuse(&problems);
                let name = in_runtime_dir(Path::new("")).display().to_string();
                let advice = format_args!(
                    "forebay: a node that runs still answers at --socket PATH, {name} in its runtime_dir or state_dir"
                );
                complain(&advice);
                Err(code)
            }
        },
        (None, None) => Ok(in_runtime_dir(&default_runtime_dir())),
    }
}

fn asked(path: &Path) -> Result<Document, ExitCode> {
    wait_for(ask(path))
}

/// Waits for a node's answer, or says why there is none.
pub(crate) fn wait_for<T>(asked: impl Future<Output = Result<T, AskError>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        complain(&format_args!("forebay: nothing can be asked: {error}"));
        ExitCode::FAILURE
    })?;
    runtime.block_on(asked).map_err(|error| {
        complain(&format_args!("forebay: {error}"));
        let code = match error {
            AskError::NoNode { .. } => EX_UNAVAILABLE,
            AskError::Denied { .. } => EX_NOPERM,
            AskError::OtherFormat { .. } | AskError::Silent { .. } => EX_PROTOCOL,
        };
        code.into()
    })
}

/// Leaves the one mapping that is meant.
fn narrow(document: &mut Document, name: &str) -> Result<(), String> {
    let is_meant =
        |mapping: &forebay::status::Mapping| mapping.name == name || mapping.uuid == name;
    if document.mappings.iter().any(is_meant) {
        document.mappings.retain(is_meant);
        return Ok(());
    }
    let names = document.mappings.iter().map(|it| it.name.as_str());
    let mut names: Vec<&str> = names.take(NAMES_MAX + 1).collect();
    if names.len() > NAMES_MAX {
        names[NAMES_MAX] = "and more";
    }
    Err(match names.is_empty() {
        true => format!("the node has no mapping {name}; it has none at all"),
        false => format!(
            "the node has no mapping {name}; it has {}",
            names.join(", ")
        ),
    })
}
