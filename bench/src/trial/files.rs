//! The files of the appliance on trial: those of the user, or none, with what the command line says instead.
//!
//! Whatever they say, the group is a fresh one and begins at the beginning, and nothing outside a temporary folder
//! is written: the node has a state and a port of its own, and is no static member, so that it leaves the group
//! when it stops.
//!
//! Invariant: a member or a key that this does not have to change is as the user wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use toml::{Table, Value};

use crate::rig::Signing;

/// What the command line says of the node and its mapping; the files say the rest.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Brokers to begin with.
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        required_unless_present = "mapping"
    )]
    bootstrap_servers: Vec<String>,
    /// The topic. It must exist and hold records.
    #[arg(long, value_name = "NAME", required_unless_present = "mapping")]
    topic: Option<String>,
    /// The function's name or ARN. It WILL be called with the topic's records.
    #[arg(long, value_name = "NAME", required_unless_present = "mapping")]
    function: Option<String>,
    /// Where Lambda's Invoke is served; AWS_ENDPOINT_URL_LAMBDA if left out.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    endpoint_url: Option<String>,
    /// How calls are signed.
    #[arg(long, value_enum, conflicts_with = "config")]
    signing: Option<Signing>,
    /// Calls in flight at once; a Lambda container takes 1.
    #[arg(long, value_name = "N", conflicts_with = "config")]
    max_in_flight: Option<u32>,
    /// Records in a call at most (`BatchSize`); the mapping's, else AWS's 100.
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// `MaximumBatchingWindowInSeconds`; the mapping's, else half a second.
    #[arg(long, value_name = "SECONDS")]
    window: Option<u32>,
    /// Shards; the configuration's, else one per CPU.
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// A mapping as in mappings.d; options given beside it win.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// A forebay.toml; its mappings_dir, state_dir, runtime_dir, listen and node_id have no effect.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A folder that the appliance reads.
#[derive(Debug)]
pub(super) struct Files {
    dir: TempDir,
    pub(super) bootstrap: Vec<String>,
    pub(super) topic: String,
    pub(super) function: String,
    /// `BatchSize`, where it is said.
    pub(super) batch_size: Option<u32>,
    /// `shards`, where it is said.
    pub(super) shards: Option<u32>,
}

impl Files {
    pub(super) fn write(options: &Options, group: &str) -> Result<Self, String> {
        let mapping = options.mapping(group)?;
        let function = text(&mapping, "FunctionName")?;
        let config = options.config(&function)?;
        let dir = TempDir::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let mappings = dir.path().join("mappings.d");
        fs::create_dir(&mappings).map_err(|error| format!("{}: {error}", mappings.display()))?;
        write(&mappings.join("trial.toml"), &mapping)?;
        write(&dir.path().join("forebay.toml"), &config)?;
        let number = |table: &Table, key| {
            let number = table.get(key).and_then(Value::as_integer);
            number.and_then(|number| u32::try_from(number).ok())
        };
        Ok(Self {
            bootstrap: bootstrap(&mapping)?,
            topic: topic(&mapping)?,
            function,
            batch_size: number(&mapping, "BatchSize"),
            shards: number(&config, "shards"),
            dir,
        })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.path().join("forebay.toml")
    }

    /// What the paths of all files begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.dir.path().display())
    }

    /// Where the appliance's log goes.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Options {
    fn mapping(&self, group: &str) -> Result<Table, String> {
        let mut mapping = read(self.mapping.as_deref())?;
        if !self.bootstrap_servers.is_empty() {
            let servers = self.bootstrap_servers.iter().cloned();
            let servers: Vec<Value> = servers.map(Value::String).collect();
            let source = inner(&mut mapping, "SelfManagedEventSource")?;
            inner(source, "Endpoints")?
                .insert("KAFKA_BOOTSTRAP_SERVERS".to_owned(), servers.into());
        }
        if let Some(topic) = &self.topic {
            mapping.insert("Topics".to_owned(), vec![topic.clone()].into());
        }
        if let Some(function) = &self.function {
            mapping.insert("FunctionName".to_owned(), function.clone().into());
        }
        let numbers = [
            ("BatchSize", self.batch_size),
            ("MaximumBatchingWindowInSeconds", self.window),
        ];
        set(&mut mapping, &numbers);
        mapping.insert("Enabled".to_owned(), true.into());
        mapping.insert("StartingPosition".to_owned(), "TRIM_HORIZON".into());
        mapping.remove("StartingPositionTimestamp");
        inner(&mut mapping, "SelfManagedKafkaEventSourceConfig")?
            .insert("ConsumerGroupId".to_owned(), group.into());
        Ok(mapping)
    }

    fn config(&self, function: &str) -> Result<Table, String> {
        let mut config = read(self.config.as_deref())?;
        let own = [
            ("mappings_dir", "mappings.d"),
            ("state_dir", "state"),
            ("runtime_dir", "run"),
            ("listen", "127.0.0.1:0"),
            ("log_format", "text"),
            ("log_level", "info"),
        ];
        for (key, value) in own {
            config.insert(key.to_owned(), value.into());
        }
        config.remove("node_id");
        set(&mut config, &[("shards", self.shards)]);
        if let Some(url) = &self.endpoint_url {
            config.insert("endpoint_url".to_owned(), url.clone().into());
        }
        if self.signing.is_some() || self.max_in_flight.is_some() {
            let section = inner(inner(&mut config, "functions")?, function)?;
            if let Some(signing) = self.signing {
                section.insert("signing".to_owned(), signing.to_string().into());
            }
            set(section, &[("max_in_flight", self.max_in_flight)]);
        }
        Ok(config)
    }
}

fn set(table: &mut Table, numbers: &[(&str, Option<u32>)]) {
    for (key, number) in numbers {
        if let Some(number) = number {
            table.insert((*key).to_owned(), i64::from(*number).into());
        }
    }
}

/// The table of that name in a table, made if it is missing.
fn inner<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Table, String> {
    let entry = table.entry(name).or_insert_with(|| Table::new().into());
    entry
        .as_table_mut()
        .ok_or_else(|| format!("{name} is no table"))
}

fn read(file: Option<&Path>) -> Result<Table, String> {
    let Some(file) = file else {
        return Ok(Table::new());
    };
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    text.parse().map_err(|error| wrong(&error))
}

fn write(file: &Path, table: &Table) -> Result<(), String> {
    let text = toml::to_string(table).map_err(|error| error.to_string())?;
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn text(mapping: &Table, member: &str) -> Result<String, String> {
    let text = mapping.get(member).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| format!("the mapping has no {member}"))
}

fn topic(mapping: &Table) -> Result<String, String> {
    let topics = mapping.get("Topics").and_then(Value::as_array);
    let topic = topics.and_then(|topics| topics.first()?.as_str());
    topic
        .map(str::to_owned)
        .ok_or_else(|| "the mapping has no Topics".to_owned())
}

fn bootstrap(mapping: &Table) -> Result<Vec<String>, String> {
    let endpoints = mapping
        .get("SelfManagedEventSource")
        .and_then(|source| source.get("Endpoints"));
    let servers = endpoints
        .and_then(|endpoints| endpoints.get("KAFKA_BOOTSTRAP_SERVERS"))
        .and_then(Value::as_array);
    let servers = servers.into_iter().flatten().filter_map(Value::as_str);
    let servers: Vec<String> = servers.map(str::to_owned).collect();
    if servers.is_empty() {
        return Err("the mapping has no KAFKA_BOOTSTRAP_SERVERS".to_owned());
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Result<Options, clap::Error> {
        let typed = Typed::try_parse_from(std::iter::once("trial").chain(line.split_whitespace()));
        typed.map(|typed| typed.options)
    }

    fn kept(dir: &Path, name: &str, text: &str) -> String {
        let file = dir.join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    #[test]
    fn command_line_alone_makes_both_files() {
        let typed = "--bootstrap-servers a:1,b:2 --topic t --function f --endpoint-url http://h:9 \
                     --signing none --max-in-flight 1 --batch-size 500 --window 0 --shards 2";
        let files = Files::write(&options(typed).unwrap(), "fresh").unwrap();
        assert_eq!(files.bootstrap, ["a:1", "b:2"]);
        assert_eq!((files.topic.as_str(), files.function.as_str()), ("t", "f"));
        assert_eq!((files.batch_size, files.shards), (Some(500), Some(2)));
        let config = read(Some(&files.config())).unwrap();
        assert_eq!(config["functions"]["f"]["signing"].as_str(), Some("none"));
        assert_eq!(config["endpoint_url"].as_str(), Some("http://h:9"));
        let mapping = read(Some(&files.dir.path().join("mappings.d/trial.toml"))).unwrap();
        let window = &mapping["MaximumBatchingWindowInSeconds"];
        assert_eq!(window.as_integer(), Some(0));
    }

    #[test]
    fn files_are_as_the_user_wrote_them_but_for_group_and_start() {
        let dir = TempDir::new().unwrap();
        let mapping = "FunctionName = \"f\"\nTopics = [\"t\"]\nStartingPosition = \"AT_TIMESTAMP\"\n\
                       StartingPositionTimestamp = 2026-01-01T00:00:00Z\nEnabled = false\nBatchSize = 7\n\
                       [SelfManagedEventSource.Endpoints]\nKAFKA_BOOTSTRAP_SERVERS = [\"a:1\"]\n\
                       [SelfManagedKafkaEventSourceConfig]\nConsumerGroupId = \"theirs\"\n";
        let config = "node_id = \"n\"\nstate_dir = \"/var/lib/forebay\"\nruntime_dir = \"/run/forebay\"\nmemory_bytes = 1000000\n\
                      [functions.f]\nsigning = \"none\"\n";
        let mapping = kept(dir.path(), "m.toml", mapping);
        let config = kept(dir.path(), "c.toml", config);
        let typed = format!("--mapping {mapping} --config {config} --batch-size 9");
        let files = Files::write(&options(&typed).unwrap(), "fresh").unwrap();
        let config = read(Some(&files.config())).unwrap();
        assert_eq!(config["memory_bytes"].as_integer(), Some(1_000_000));
        assert_eq!(config["state_dir"].as_str(), Some("state"));
        assert_eq!(config["runtime_dir"].as_str(), Some("run"));
        assert_eq!(config["functions"]["f"]["signing"].as_str(), Some("none"));
        assert!(config.get("node_id").is_none());
        let mapping = read(Some(&files.dir.path().join("mappings.d/trial.toml"))).unwrap();
        let group = &mapping["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"];
        assert_eq!(group.as_str(), Some("fresh"));
        let start = mapping["StartingPosition"].as_str();
        assert_eq!(start, Some("TRIM_HORIZON"));
        assert!(mapping.get("StartingPositionTimestamp").is_none());
        assert_eq!(mapping["BatchSize"].as_integer(), Some(9));
    }

    #[test]
    fn what_neither_says_is_refused() {
        assert!(options("--topic t --function f").is_err());
        assert!(options("--mapping m --config c --signing none").is_err());
        let dir = TempDir::new().unwrap();
        let mapping = kept(
            dir.path(),
            "m.toml",
            "FunctionName = \"f\"\nTopics = [\"t\"]\n",
        );
        let refused = Files::write(&options(&format!("--mapping {mapping}")).unwrap(), "fresh");
        assert!(refused.unwrap_err().contains("KAFKA_BOOTSTRAP_SERVERS"));
    }
}
