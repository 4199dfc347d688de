//! A function as a mapping names it, resolved to where calls go (contract 3.1, decisions 28 and 37).
//!
//! Invariant: the endpoint is one that this version can reach, and never AWS's own without a signature.

use forebay_protocol::lambda::function::FunctionName;

use super::{Function, Signing};
use crate::config::{Config, FunctionConfig};

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
    let own = config
        .functions
        .get(given)
        .or_else(|| config.functions.get(name.name()))
        .unwrap_or(&nothing);
    let region = name
        .region()
        .map(str::to_owned)
        .or_else(|| config.region.clone());
    let endpoint = own.endpoint.as_ref().or(config.endpoint.as_ref()).ok_or_else(|| {
        let region = region.as_deref().unwrap_or("REGION");
        format!(
            "would be called at https://lambda.{region}.amazonaws.com, but this version speaks plain \
             HTTP only and TLS comes in a later release; set endpoint_url = \"http://host:port\" in {} \
             or in its [functions.{}]",
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
                "has no region to sign for; set region in {} or AWS_REGION, or signing = \"none\" in \
                 [functions.{}] where nobody checks",
                config.file.display(),
                name.name(),
            ));
        }
    };
    Ok(Function {
        name: given.to_owned(),
        arn: arn(&name, config, region.as_deref().unwrap_or(REGION_UNKNOWN)),
        host: endpoint.host.clone(),
        port: endpoint.port,
        host_header: endpoint.host_header.clone(),
        target: name.invoke_target(own.invoke_as.as_deref()),
        signing,
        timeout: own.timeout,
        max_in_flight: own.max_in_flight,
    })
}

fn arn(name: &FunctionName, config: &Config, region: &str) -> String {
    let partition = name.partition().unwrap_or(match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    });
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
