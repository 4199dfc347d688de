//! The mappings of a directory, and what must hold between them.
//!
//! Invariant: no two mappings of a set share an identity, a group, or a topic of one cluster into one
//! function; all that call one function agree on its `max_in_flight`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::{Mapping, declared};
use crate::config::{Config, Problem, advice};

/// A mapping and the file that declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// The file.
    pub file: PathBuf,
    /// When that was last written, since 1970; zero where the file system does not tell.
    pub modified: Duration,
    /// The mapping.
    pub mapping: Arc<Mapping>,
}

impl Declared {
    /// What people call it: the file's name without its ending.
    pub fn name(&self) -> String {
        let stem = self.file.file_stem().unwrap_or(self.file.as_os_str());
        stem.to_string_lossy().into_owned()
    }
}

/// One reading of the directory: what can be served, and what is wrong with the rest.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The files that are right in themselves, in the order of their names.
    pub declared: Vec<Declared>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
    /// Every file that is there, right or wrong.
    pub files: Vec<PathBuf>,
}

/// Mappings that one node may declare; a directory with more files is refused.
pub const MAPPINGS_MAX: usize = 1_000;

/// A mapping's file may be this large.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads every `*.toml` of the configured directory.
pub fn read(config: &Config) -> Reading {
    let mut reading = Reading::default();
    match files(&config.mappings_dir) {
        Ok(files) => reading.files = files,
        Err(problem) => {
            reading.problems.push(problem);
            return reading;
        }
    }
    for file in &reading.files {
        match read_file(file, config) {
            Ok(declared) => reading.declared.push(declared),
            Err(problems) => reading.problems.extend(problems),
        }
    }
    reading
}

/// What must hold between the mappings of a set (contract 7.8 and 7.12). Each problem is blamed on the
/// later of the two.
pub fn conflicts(set: &[Declared]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, later) in set.iter().enumerate() {
        if let Some(problem) = set[..index].iter().find_map(|first| conflict(first, later)) {
            problems.push(problem);
        }
    }
    problems
}

/// What must hold between two mappings, blamed on the later.
pub fn conflict(first: &Declared, later: &Declared) -> Option<Problem> {
    let (a, b) = (&first.mapping, &later.mapping);
    let problem = |key: &str, value: &str, message: String| {
        Some(Problem {
            file: later.file.clone(),
            line: None,
            key: key.to_owned(),
            value: value.to_owned(),
            message,
        })
    };
    let file = first.file.display();
    if a.uuid == b.uuid {
        let message = format!("is also the UUID of {file}; give each mapping its own");
        return problem("UUID", &b.uuid.to_string(), message);
    }
    if a.group_id == b.group_id {
        let message =
            format!("is also the consumer group of {file}; it must be unique among all mappings");
        return problem("ConsumerGroupId", &b.group_id, message);
    }
    if a.function.key == b.function.key && a.function.max_in_flight != b.function.max_in_flight {
        let cap = |it: Option<u32>| it.map_or("absent".to_owned(), |cap| cap.to_string());
        let message = format!(
            "calls the same function as {file}, where max_in_flight is {}, but is {} here; give both the same, \
             or leave only the [functions.NAME] of the bare name",
            cap(a.function.max_in_flight),
            cap(b.function.max_in_flight),
        );
        return problem("FunctionName", &b.function.name, message);
    }
    let shared_server = a
        .bootstrap
        .iter()
        .any(|server| b.bootstrap.contains(server));
    if a.function.arn == b.function.arn && a.topic == b.topic && shared_server {
        // AWS's own text for the same conflict.
        let message = format!(
            "An event source mapping with event source (\"{}\"), function (\"{}\"), topics (\"{}\") \
             already exists. Please update or delete the existing mapping with UUID {} ({file})",
            b.bootstrap_servers, b.function.arn, b.topic, a.uuid,
        );
        return problem("Topics", &b.topic, message);
    }
    None
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable = |error: std::io::Error| {
        let advice = advice(&error, "create it or correct mappings_dir");
        let message = format!("cannot be read: {error}; {advice}");
        Problem::of_file(dir, message)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    if files.len() > MAPPINGS_MAX {
        let message = format!(
            "holds {} mappings; a node takes {MAPPINGS_MAX}",
            files.len()
        );
        return Err(Problem::of_file(dir, message));
    }
    files.sort();
    Ok(files)
}

fn read_file(file: &Path, config: &Config) -> Result<Declared, Vec<Problem>> {
    let problem = |message: String| vec![Problem::of_file(file, message)];
    let unreadable = |error: std::io::Error| {
        let advice = advice(&error, "correct it, or remove it");
        problem(format!("cannot be read: {error}; {advice}"))
    };
    let found = std::fs::metadata(file).map_err(unreadable)?;
    let size = found.len();
    if size > FILE_BYTES_MAX {
        return Err(problem(format!(
            "has {size} bytes; a mapping takes {FILE_BYTES_MAX}"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let modified = found.modified().ok();
    let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(Declared {
        file: file.to_owned(),
        modified: modified.unwrap_or_default(),
        mapping: Arc::new(declared::parse(&text, file, config)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Surroundings};

    /// Mappings of those functions, each of its own topic.
    fn read_set(functions: &[&str], keys: &str) -> (Config, Vec<Declared>) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "mappings_dir = \".\"\nendpoint_url = \"http://127.0.0.1:1\"\nregion = \"eu-west-1\"\n{keys}"
        );
        let around = Surroundings::without_environment(Machine::here());
        let config = Config::parse(&text, &dir.path().join("forebay.conf"), &around).unwrap();
        for (index, function) in functions.iter().enumerate() {
            let text = format!(
                "FunctionName = \"{function}\"\nTopics = [\"t{index}\"]\n\
                 SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n"
            );
            std::fs::write(dir.path().join(format!("m{index}.toml")), text).unwrap();
        }
        let reading = read(&config);
        assert_eq!(reading.problems, []);
        (config, reading.declared)
    }

    /// The problems between them.
    fn problems(functions: &[&str], keys: &str) -> Vec<String> {
        let (_, set) = read_set(functions, keys);
        let problems = conflicts(&set).into_iter();
        problems.map(|problem| problem.message).collect()
    }

    #[test]
    fn a_section_that_no_mapping_uses_is_found() {
        let check = |functions: &[&str], section: &str, expected: Option<&str>| {
            let keys = format!("[functions.{section}]\nmax_in_flight = 2\n");
            let (config, set) = read_set(functions, &keys);
            let unused = crate::mapping::unused_functions(&config, &set);
            let advice: Vec<_> = unused.values().map(String::as_str).collect();
            assert_eq!(advice, expected.as_slice());
        };
        check(&["orders"], "orders", None);
        check(&["bills", "orders:live"], "orders", None);
        let meant = "no mapping calls it; did you mean [functions.orders]?";
        check(&["orders:live"], "order", Some(meant));
        let other = "no mapping calls it; write NAME as FunctionName does, or remove it";
        check(&["orders"], "clicks", Some(other));
    }

    #[test]
    fn one_function_has_one_max_in_flight() {
        let capped = "[functions.orders]\nmax_in_flight = 2\n";
        let names = ["orders", "orders:live"];
        assert_eq!(problems(&names, capped), [""; 0]);
        let both = format!("{capped}[functions.\"orders:live\"]\nmax_in_flight = 3\n");
        let found = problems(&names, &both);
        assert!(
            found.len() == 1 && found[0].contains("max_in_flight is 2, but is 3 here"),
            "{found:?}"
        );
        let uncapped = format!("{capped}[functions.\"orders:live\"]\ntimeout_seconds = 3\n");
        let found = problems(&names, &uncapped);
        assert!(
            found.len() == 1 && found[0].contains("but is absent here"),
            "{found:?}"
        );
    }
}
