//! A function as a mapping names it, resolved to where calls go (contract 3.1, decisions 28 and 37).
//!
//! Invariant: the endpoint is one that this version can reach, and never AWS's own without a signature.

use crate::config::{Config, FunctionConfig};

use super::{Function, InvokeTarget, Signing};

/// The account of a function that is not in AWS.
pub const ACCOUNT_UNKNOWN: &str = "000000000000";

/// The region in the ARN of a function where nothing names one.
const REGION_UNKNOWN: &str = "us-east-1";

const NAME_LENGTH_MAX: usize = 256;
const BARE_NAME_LENGTH_MAX: usize = 64;
const QUALIFIER_LENGTH_MAX: usize = 128;

/// `FunctionName` in any of its forms: name, partial ARN or ARN, each with or without a qualifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    partition: Option<String>,
    region: Option<String>,
    account: Option<String>,
    name: String,
    qualifier: Option<String>,
}

impl FunctionName {
    /// Takes the text apart; `None` if it has none of the forms.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > NAME_LENGTH_MAX {
            return None;
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (partition, region, account, rest) = match parts.as_slice() {
            [
                "arn",
                partition,
                "lambda",
                region,
                account,
                "function",
                rest @ ..,
            ] => (Some(*partition), Some(*region), Some(*account), rest),
            [account, "function", rest @ ..] => (None, None, Some(*account), rest),
            ["function", rest @ ..] if !rest.is_empty() => (None, None, None, rest),
            rest => (None, None, None, rest),
        };
        let (name, qualifier) = match rest {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some(*qualifier)),
            _ => return None,
        };
        let valid = is_name(name)
            && qualifier.is_none_or(is_qualifier)
            && partition.is_none_or(|partition| partition.starts_with("aws"))
            && region.is_none_or(|region| !region.is_empty())
            && account.is_none_or(is_account);
        valid.then(|| Self {
            partition: partition.map(str::to_owned),
            region: region.map(str::to_owned),
            account: account.map(str::to_owned),
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
        })
    }

    /// The bare name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn arn(&self, config: &Config, region: &str) -> String {
        let partition = self.partition.as_deref().unwrap_or(match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        });
        let account = self
            .account
            .as_deref()
            .or(config.account_id.as_deref())
            .unwrap_or(ACCOUNT_UNKNOWN);
        let mut arn = format!(
            "arn:{partition}:lambda:{region}:{account}:function:{}",
            self.name
        );
        if let Some(qualifier) = &self.qualifier {
            arn.push(':');
            arn.push_str(qualifier);
        }
        arn
    }

    /// The name without its qualifier, as given otherwise.
    fn unqualified(&self) -> String {
        match (&self.partition, &self.region, &self.account) {
            (Some(partition), Some(region), Some(account)) => {
                format!(
                    "arn:{partition}:lambda:{region}:{account}:function:{}",
                    self.name
                )
            }
            (_, _, Some(account)) => format!("{account}:function:{}", self.name),
            _ => self.name.clone(),
        }
    }
}

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
    let region = name.region.clone().or_else(|| config.region.clone());
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
        arn: name.arn(config, region.as_deref().unwrap_or(REGION_UNKNOWN)),
        host: endpoint.host.clone(),
        port: endpoint.port,
        host_header: endpoint.host_header.clone(),
        target: target(&name, own.invoke_as.as_deref()),
        signing,
        timeout: own.timeout,
        max_in_flight: own.max_in_flight,
    })
}

fn target(name: &FunctionName, invoke_as: Option<&str>) -> InvokeTarget {
    let called = invoke_as.map_or_else(|| name.unqualified(), str::to_owned);
    let qualifier = name.qualifier.as_deref();
    InvokeTarget {
        path: format!("/2015-03-31/functions/{}/invocations", encode(&called)),
        query: qualifier.map_or_else(String::new, |it| format!("Qualifier={}", encode(it))),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters, as SigV4 wants it.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn is_name(text: &str) -> bool {
    (1..=BARE_NAME_LENGTH_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_qualifier(text: &str) -> bool {
    matches!(text, "$LATEST" | "$LATEST.PUBLISHED")
        || ((1..=QUALIFIER_LENGTH_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_has_its_target() {
        let check = |given: &str, path: &str, query: &str| {
            let name = FunctionName::parse(given).expect(given);
            let target = target(&name, None);
            assert_eq!(
                target.path,
                format!("/2015-03-31/functions/{path}/invocations")
            );
            assert_eq!(target.query, query, "{given}");
        };
        check("orders", "orders", "");
        check("orders:prod", "orders", "Qualifier=prod");
        check("orders:$LATEST", "orders", "Qualifier=%24LATEST");
        check(
            "123456789012:function:orders",
            "123456789012%3Afunction%3Aorders",
            "",
        );
        check(
            "arn:aws:lambda:eu-central-1:123456789012:function:orders:7",
            "arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Aorders",
            "Qualifier=7",
        );
    }

    #[test]
    fn other_texts_are_no_function() {
        let long = "n".repeat(65);
        for text in [
            "",
            "a b",
            "a:b:c",
            "arn:aws:s3:::bucket",
            "x:function:f",
            "f:",
            &long,
        ] {
            assert_eq!(FunctionName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn invoke_as_replaces_the_name_and_keeps_the_qualifier() {
        let name = FunctionName::parse("orders:prod").unwrap();
        let target = target(&name, Some("function"));
        assert_eq!(target.path, "/2015-03-31/functions/function/invocations");
        assert_eq!(target.query, "Qualifier=prod");
    }
}
