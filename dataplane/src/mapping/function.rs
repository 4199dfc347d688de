//! A function as a mapping names it, resolved to where calls go (contract 3.1, decisions 28 and 37).
//!
//! Invariant: the endpoint is one that this version can reach, and never AWS's own without a signature.

use std::collections::{BTreeMap, BTreeSet};

use forebay_protocol::lambda::function::FunctionName;

use super::{Declared, Function, FunctionKey, Signing};
use crate::config::{Config, EndpointUrl, FunctionConfig, Partition, nearest};

/// The account of a function that is not in AWS.
pub const ACCOUNT_UNKNOWN: &str = "000000000000";

/// The region in the ARN of a function where nothing names one.
const REGION_UNKNOWN: &str = "us-east-1";

/// Resolves `given`, or says what is missing and what to do.
pub(super) fn resolve(given: &str, config: &Config) -> Result<Function, String> {
    let name = FunctionName::parse(given).ok_or_else(|| {
        format!(
            "1 validation error detected: Value '{given}' at 'functionName' failed to satisfy \
             constraint: Member must be a function's name, name:qualifier, partial ARN or ARN"
        )
    })?;
    let nothing = FunctionConfig::default();
    let own = section(given, &name, config).and_then(|section| config.functions.get(section));
    let own = own.unwrap_or(&nothing);
    let region = name
        .region()
        .or_else(|| config.region_name())
        .map(str::to_owned);
    let own_or_nodes = own.endpoint.as_ref().or(config.endpoint.as_ref());
    let aws = || Some(EndpointUrl::of_region(region.as_deref()?, config.flavour));
    let endpoint = own_or_nodes.cloned().or_else(aws).ok_or_else(|| {
        format!(
            "is of no region, so that AWS's endpoint is not known; set region in {} or AWS_REGION or in the \
             AWS profile, or endpoint_url = \"http://host:port\" there or in its [functions.{}]",
            config.file.display(),
            name.name(),
        )
    })?;
    let signing = match (own.unsigned, &region) {
        (true, _) if endpoint.is_aws() => {
            return Err(format!(
                "signing = \"none\" is refused for AWS's own host {}; remove it or give another endpoint_url",
                endpoint.host
            ));
        }
        (true, _) => Signing::None,
        (false, Some(region)) => Signing::SigV4 {
            region: region.clone(),
        },
        (false, None) => {
            return Err(format!(
                "has no region to sign for; set region in {} or AWS_REGION or in the AWS profile, or \
                 signing = \"none\" in [functions.{}] where nobody checks",
                config.file.display(),
                name.name(),
            ));
        }
    };
    Ok(Function {
        name: given.to_owned(),
        arn: arn(&name, config, region.as_deref().unwrap_or(REGION_UNKNOWN)),
        tls: endpoint.tls,
        ca_bundle: match &own.endpoint {
            Some(_) => own.ca_bundle.as_ref().or(config.ca_bundle.as_ref()),
            None => config.ca_bundle.as_ref(),
        }
        .cloned(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        host_header: endpoint.host_header.clone(),
        target: name.invoke_target(own.invoke_as.as_deref()),
        signing,
        timeout: own.timeout,
        max_in_flight: own.max_in_flight,
        key: key(&name, own.invoke_as.as_deref(), &endpoint, config),
    })
}

/// The NAME of the `[functions.NAME]` that is for this function.
fn section<'a>(given: &'a str, name: &'a FunctionName, config: &Config) -> Option<&'a str> {
    let mut names = [given, name.name()].into_iter();
    names.find(|name| config.functions.contains_key(*name))
}

/// Each `[functions.NAME]` that no mapping uses, and what to do about it.
pub fn unused(config: &Config, set: &[Declared]) -> BTreeMap<String, String> {
    let mut unused: BTreeSet<&str> = config.functions.keys().map(String::as_str).collect();
    let mut called = BTreeSet::new();
    for declared in set {
        let given = &declared.mapping.function.name;
        let Some(name) = FunctionName::parse(given) else {
            continue;
        };
        match section(given, &name, config) {
            Some(section) => unused.remove(section),
            None => called.insert(name.name().to_owned()),
        };
    }
    let advised = unused.into_iter().map(|name| {
        let meant = nearest(name, called.iter().map(String::as_str));
        let advice = match meant {
            Some(meant) => format!("no mapping calls it; did you mean [functions.{meant}]?"),
            None => "no mapping calls it; write NAME as FunctionName does, or remove it".to_owned(),
        };
        (name.to_owned(), advice)
    });
    advised.collect()
}

/// A bare name may be of any region or account that the configuration does not name: then neither tells
/// functions apart.
fn key(
    name: &FunctionName,
    invoke_as: Option<&str>,
    endpoint: &EndpointUrl,
    config: &Config,
) -> FunctionKey {
    let renamed = invoke_as.and_then(FunctionName::parse);
    let called = renamed.as_ref().unwrap_or(name);
    let or_node = |own: Option<&str>, node: Option<&str>| Some(own.unwrap_or(node?).to_owned());
    FunctionKey {
        host: endpoint.host.clone(),
        port: endpoint.port,
        region: or_node(called.region(), config.region_name()),
        account: or_node(called.account(), config.account_id.as_deref()),
        name: match (invoke_as, &renamed) {
            (Some(other), None) => other,
            _ => called.name(),
        }
        .to_owned(),
    }
}

fn arn(name: &FunctionName, config: &Config, region: &str) -> String {
    let partition = name.partition().unwrap_or(Partition::of(region).name());
    let account = name
        .account()
        .or(config.account_id.as_deref())
        .unwrap_or(ACCOUNT_UNKNOWN);
    let mut arn = format!(
        "arn:{partition}:lambda:{region}:{account}:function:{}",
        name.name()
    );
    if let Some(qualifier) = name.qualifier() {
        arn.push(':');
        arn.push_str(qualifier);
    }
    arn
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, Surroundings};

    fn config(keys: &str) -> Config {
        let text =
            format!("endpoint_url = \"http://127.0.0.1:9001\"\nregion = \"eu-west-1\"\n{keys}");
        let around = Surroundings {
            machine: Machine::here(),
            region: None,
            endpoint_url: None,
            flavour: Default::default(),
            ca_bundle: None,
            runtime_dir: None,
        };
        Config::parse(&text, Path::new("/etc/forebay.toml"), &around).unwrap()
    }

    #[track_caller]
    fn check(keys: &str, one: &str, other: &str, same: bool) {
        let config = config(keys);
        let key = |name| resolve(name, &config).unwrap().key;
        assert_eq!(key(one) == key(other), same, "{one} and {other}");
    }

    const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders";

    #[test]
    fn every_name_of_a_function_has_one_key() {
        let account = "account_id = \"123456789012\"\n";
        for keys in ["", account] {
            check(keys, "orders", "orders:live", true);
            check(keys, "orders", "123456789012:function:orders", true);
            check(keys, "orders", ARN, true);
            check(keys, "orders:7", &format!("{ARN}:$LATEST"), true);
        }
    }

    #[test]
    fn other_functions_have_other_keys() {
        check("", "orders", "bills", false);
        check("", "orders", &ARN.replace("eu-west-1", "us-east-1"), false);
        let other = ARN.replace("123456789012", "210987654321");
        check("account_id = \"123456789012\"\n", "orders", &other, false);
        let elsewhere = "[functions.\"orders:live\"]\nendpoint_url = \"http://127.0.0.1:9002\"\n";
        check(elsewhere, "orders", "orders:live", false);
    }

    #[test]
    fn the_name_at_the_endpoint_is_what_counts() {
        let as_function = |name| format!("[functions.{name}]\ninvoke_as = \"function\"\n");
        let both = format!("{}{}", as_function("orders"), as_function("bills"));
        check(&both, "orders", "bills:live", true);
        check(&as_function("orders"), "orders", "bills", false);
    }
}
