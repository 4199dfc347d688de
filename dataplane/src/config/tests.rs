use forebay_protocol::delivery::GroupProtocol;
use serde::de::DeserializeOwned;

use super::*;

const REFERENCE: &str = include_str!("../../../systemd/forebay.toml");
const UNIT: &str = include_str!("../../../systemd/forebay.service");
const FILE: &str = "/etc/forebay/forebay.toml";

pub(super) fn around() -> Surroundings {
    Surroundings::without_environment(Machine {
        cpus: vec![0, 1, 2, 3],
        cpu_quota: None,
        memory_bytes: 8 << 30,
    })
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new(FILE), &around())
}

fn check_refused(text: &str, expected: &str) {
    let problems = parse(text).unwrap_err().to_string();
    assert!(problems.contains(expected), "{problems}");
}

/// The settings of the reference, as (text to parse, key, whether the line is an example).
fn settings() -> Vec<(String, String, bool)> {
    let mut table = String::new();
    let mut settings = Vec::new();
    for line in REFERENCE.lines() {
        let Some(setting) = line
            .strip_prefix('#')
            .filter(|it| !it.starts_with([' ', '#']))
        else {
            continue;
        };
        if setting.starts_with('[') {
            table = format!("{setting}\n");
        } else if let Some((key, _)) = setting.split_once(" = ") {
            // Every function has the same keys.
            let prefix = match table.trim_matches(['[', ']', '\n']) {
                "" => String::new(),
                name => format!("{}.", name.split('.').next().unwrap()),
            };
            let example = setting.ends_with("# example");
            settings.push((
                format!("{table}{setting}\n"),
                format!("{prefix}{key}"),
                example,
            ));
        }
    }
    settings
}

/// The keys that a struct of a file knows, out of the parser's own words about the `nonsense` in `text`.
pub(crate) fn known_keys<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let refused = toml::from_str::<T>(text).err();
    let refused = refused.expect("there is no such key").to_string();
    let (_, list) = refused
        .split_once("expected ")
        .expect("the parser lists the keys");
    list.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_reference_as_it_stands_is_the_default() {
    assert_eq!(parse(REFERENCE), parse(""));
    assert!(parse("").is_ok());
}

#[test]
fn every_default_in_the_reference_is_the_codes() {
    for (text, key, example) in settings() {
        let config = parse(&text).unwrap_or_else(|problems| panic!("{key}: {problems}"));
        if example {
            assert_ne!(
                Ok(config),
                parse(""),
                "{key} is an example of something else"
            );
        } else if key.starts_with("functions.") {
            let function = &config.functions["orders"];
            assert_eq!(function, &FunctionConfig::default(), "{key}");
        } else {
            assert_eq!(Ok(config), parse(""), "{key}");
        }
    }
}

#[test]
fn every_key_is_documented() {
    let mut known = known_keys::<ConfigFile>("nonsense = 1");
    known.retain(|key| !["endpoint_urls", "functions"].contains(&key.as_str()));
    for (table, name) in [
        ("endpoint_urls", "endpoint_urls"),
        ("functions.orders", "functions"),
    ] {
        let own = known_keys::<ConfigFile>(&format!("[{table}]\nnonsense = 1"));
        known.extend(own.into_iter().map(|key| format!("{name}.{key}")));
    }
    let documented: Vec<String> = settings().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_unit_waits_longer_than_the_grace() {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let seconds: u64 = line.expect("the unit has a stop timeout").parse().unwrap();
    let grace = parse("").unwrap().grace;
    assert!(Duration::from_secs(seconds) > grace + crate::control::shards::GIVE_UP_WAIT);
}

#[test]
fn the_unit_makes_the_directories_that_are_the_default() {
    let setting = |key: &str| {
        let mut lines = UNIT.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let config = parse("").unwrap();
    let below = |base: &str, name: Option<&str>| Path::new(base).join(name.unwrap_or_default());
    assert_eq!(
        config.state_dir,
        below("/var/lib", setting("StateDirectory"))
    );
    assert_eq!(
        config.runtime_dir,
        below("/run", setting("RuntimeDirectory"))
    );
    assert_eq!(setting("RuntimeDirectoryMode"), Some("0700"));
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    check_refused(
        "\nlisten = \"here\"",
        "forebay.toml:2: listen = here: must be an address",
    );
    check_refused(
        "grace_ms = 3600001",
        "grace_ms = 3600001: must be between 0 and 3600000",
    );
    check_refused(
        "isolation_level = \"x\"",
        "must be one of: read_committed, read_uncommitted",
    );
    check_refused(
        "on_destination_failure = \"x\"",
        "must be one of: retry, drop",
    );
    check_refused(
        "group_protocol = \"x\"",
        "must be one of: classic, consumer",
    );
    check_refused("account_id = \"12\"", "12 digits");
    check_refused("heartbeat_interval_ms = 20000", "at most a third");
    check_refused("body_limit_bytes = 6291457", "between 4096 and 6291456");
}

#[test]
fn the_group_protocol_is_a_choice() {
    let protocol = |text: &str| parse(text).unwrap().kafka.group_protocol;
    assert_eq!(protocol(""), GroupProtocol::Classic);
    for (name, chosen) in [
        ("classic", GroupProtocol::Classic),
        ("consumer", GroupProtocol::Consumer),
    ] {
        assert_eq!(protocol(&format!("group_protocol = {name:?}")), chosen);
    }
}

#[test]
fn a_misspelt_key_is_refused() {
    check_refused("a = 1\n", "forebay.toml:1");
    check_refused(
        "grace = 1\n",
        "forebay.toml:1: grace: is not known; did you mean `grace_ms`?",
    );
}

#[test]
fn an_unsigned_call_to_aws_is_refused() {
    let text = "[functions.f]\nsigning = \"none\"\nendpoint_url = \"http://lambda.eu-central-1.amazonaws.com\"";
    check_refused(
        text,
        "functions.f.signing = none: AWS's own hosts check signatures",
    );
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let url = "http://user:secret@127.0.0.1:9001";
    let environment = Surroundings {
        endpoint_url: Some(("AWS_ENDPOINT_URL".to_owned(), url.to_owned())),
        ..around()
    };
    for (text, around) in [
        (format!("endpoint_url = {url:?}"), around()),
        (format!("[functions.f]\nendpoint_url = {url:?}"), around()),
        (format!("listen = {url:?}"), around()),
        (String::new(), environment),
    ] {
        let problems = Config::parse(&text, Path::new(FILE), &around).unwrap_err();
        let said = problems.to_string();
        assert!(
            said.contains("***@127.0.0.1:9001") && !said.contains("secret"),
            "{said}"
        );
    }
}
