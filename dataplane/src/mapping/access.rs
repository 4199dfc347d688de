//! How a mapping reaches its brokers: SourceAccessConfigurations, checked (contract 6.1, decisions 20 and 22).
//!
//! Invariant: what an operator asked for is carried out or refused: a cluster that was to be reached
//! under TLS is never reached without.

use std::path::{Path, PathBuf};

use forebay_protocol::kafka::sasl::Mechanism;
use toml::Spanned;

use super::file::AccessFile;
use crate::config::{Findings, Region};

const MEMBER: &str = "SourceAccessConfigurations";

/// AWS's bounds.
const ENTRIES_MAX: usize = 23;
const URI_LENGTH_MAX: usize = 200;

const KINDS: &str = "must be one of BASIC_AUTH, SASL_SCRAM_256_AUTH, SASL_SCRAM_512_AUTH, \
                     CLIENT_CERTIFICATE_TLS_AUTH, SERVER_ROOT_CA_CERTIFICATE, VPC_SUBNET, VPC_SECURITY_GROUP";
const NO_TYPE: &str = "is missing in this entry, which is to be { Type = \"...\", URI = \"...\" }";
const OAUTH: [&str; 7] = [
    "OAUTHBEARER_AUTH",
    "OAUTHBEARER_SCOPE",
    "OAUTHBEARER_LOGICAL_CLUSTER",
    "OAUTHBEARER_IDENTITY_POOL",
    "OAUTHBEARER_AUDIENCE",
    "IAM_AUTH",
    "IAM_OAUTHBEARER_AUTH",
];
const LATER: &str = "is not carried out by this version";
const NOT_KAFKA: &str = "does not apply to Kafka; remove it";
const TWICE: &str = "must stand once";
const ONE_AUTHENTICATION: &str =
    "a mapping authenticates in one way; remove this entry, or the one before it";
const SECRET: &str = "must be the ARN of a secret in AWS Secrets Manager, file:/path of a JSON file, or \
                      credential:NAME of a systemd credential";
const OTHER_HOST: &str =
    "names another machine; a file is read on this one alone: file:/path or file:///path";
const TOO_LONG: &str = "must be at most 200 characters";
const ARN: &str = "must be the whole ARN of a secret in AWS Secrets Manager, such as \
                   arn:aws:secretsmanager:eu-central-1:123456789012:secret:kafka-AbCdEf";

/// How brokers are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Under TLS.
    pub tls: bool,
    /// Their root; the system's roots, if there is none.
    pub root: Option<SecretSource>,
    /// Who we are.
    pub authentication: Option<Authentication>,
}

/// How we say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// `CLIENT_CERTIFICATE_TLS_AUTH`.
    Certificate(SecretSource),
    /// `BASIC_AUTH` (PLAIN) or one of the `SASL_SCRAM` kinds.
    Sasl(Mechanism, SecretSource),
}

/// Where a secret's JSON is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretSource {
    /// In AWS Secrets Manager.
    SecretsManager(ManagedSecret),
    /// `file:/path`.
    File(PathBuf),
    /// `credential:NAME`: a file in the directory that systemd names.
    Credential(String),
    /// `ca_bundle` of the node's configuration: no secret, but read as one.
    CaBundle(PathBuf),
}

/// A secret of AWS Secrets Manager, and who reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagedSecret {
    /// Its ARN.
    pub arn: String,
    /// The region that stands in that.
    pub region: String,
    /// The role that reads it; the node itself, if there is none.
    pub role_arn: Option<String>,
}

impl Access {
    /// The secrets that it takes.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretSource> {
        let own = self.authentication.as_ref().map(|authentication| {
            let (Authentication::Certificate(secret) | Authentication::Sasl(_, secret)) =
                authentication;
            secret
        });
        self.root.iter().chain(own)
    }

    /// Whether AWS keeps one of them.
    pub fn is_managed(&self) -> bool {
        self.secrets()
            .any(|it| matches!(it, SecretSource::SecretsManager(_)))
    }
}

impl SecretSource {
    /// Reads a URI; `role_arn` is asked for what AWS keeps.
    fn parse(uri: &str, role_arn: Option<&str>) -> Result<Self, &'static str> {
        if uri.len() > URI_LENGTH_MAX {
            return Err(TOO_LONG);
        }
        if let Some(path) = uri.strip_prefix("file:") {
            // RFC 8089: between two slashes and the path stands a host, which may be left out.
            let path = match path.strip_prefix("//") {
                Some(rest) if rest.starts_with('/') => rest,
                Some(_) => return Err(OTHER_HOST),
                None => path,
            };
            let path = Path::new(path);
            return match path.is_absolute() {
                true => Ok(Self::File(path.to_owned())),
                false => Err(SECRET),
            };
        }
        match uri.strip_prefix("credential:") {
            Some(name) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {
                Ok(Self::Credential(name.to_owned()))
            }
            None if uri.starts_with("arn:") => {
                let secret = ManagedSecret::parse(uri, role_arn).ok_or(ARN)?;
                Ok(Self::SecretsManager(secret))
            }
            _ => Err(SECRET),
        }
    }
}

impl ManagedSecret {
    fn parse(arn: &str, role_arn: Option<&str>) -> Option<Self> {
        let mut parts = arn.splitn(7, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (_, _, "secretsmanager") = (next()?, next()?, next()?) else {
            return None;
        };
        let region = Region::parse(next()?, "the secret's ARN")?.name;
        let (account, "secret", _) = (next()?, next()?, next()?) else {
            return None;
        };
        account.bytes().all(|b| b.is_ascii_digit()).then(|| Self {
            arn: arn.to_owned(),
            region,
            role_arn: role_arn.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SecretsManager(secret) => f.write_str(&secret.arn),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::CaBundle(path) => write!(f, "ca_bundle {}", path.display()),
        }
    }
}

/// Checks the entries. `tls`: the node's configuration asks for it; `role_arn` reads what AWS keeps.
pub(super) fn access(
    entries: Option<&Spanned<Vec<Spanned<AccessFile>>>>,
    tls: bool,
    role_arn: Option<&str>,
    findings: &mut Findings<'_>,
) -> Access {
    let mut access = Access {
        tls,
        ..Access::default()
    };
    let Some(entries) = entries else {
        return access;
    };
    if entries.get_ref().len() > ENTRIES_MAX {
        let message = format!("has more than {ENTRIES_MAX} entries");
        findings.at(entries.span(), MEMBER, entries.get_ref().len(), message);
    }
    for entry in entries.get_ref() {
        let (span, entry) = (entry.span(), entry.get_ref());
        let Some(given) = &entry.kind else {
            findings.at(span, &format!("{MEMBER}.Type"), "", NO_TYPE);
            continue;
        };
        let kind = given.get_ref().as_str();
        let mut refuse = |message: &str| {
            findings.at(given.span(), &format!("{MEMBER}.Type"), kind, message);
        };
        let authentication: Option<fn(SecretSource) -> Authentication> = match kind {
            "VPC_SUBNET" | "VPC_SECURITY_GROUP" => continue,
            "SERVER_ROOT_CA_CERTIFICATE" => None,
            "CLIENT_CERTIFICATE_TLS_AUTH" => Some(Authentication::Certificate),
            "BASIC_AUTH" => Some(|secret| Authentication::Sasl(Mechanism::Plain, secret)),
            "SASL_SCRAM_256_AUTH" => {
                Some(|secret| Authentication::Sasl(Mechanism::ScramSha256, secret))
            }
            "SASL_SCRAM_512_AUTH" => {
                Some(|secret| Authentication::Sasl(Mechanism::ScramSha512, secret))
            }
            "VIRTUAL_HOST" => {
                refuse(NOT_KAFKA);
                continue;
            }
            kind if OAUTH.contains(&kind) => {
                refuse(LATER);
                continue;
            }
            _ => {
                refuse(KINDS);
                continue;
            }
        };
        let Some(uri) = &entry.uri else {
            refuse("needs a URI");
            continue;
        };
        match (SecretSource::parse(uri.get_ref(), role_arn), authentication) {
            (Err(message), _) => {
                findings.at(uri.span(), &format!("{MEMBER}.URI"), uri.get_ref(), message);
            }
            (Ok(_), None) if access.root.is_some() => refuse(TWICE),
            (Ok(_), Some(_)) if access.authentication.is_some() => refuse(ONE_AUTHENTICATION),
            (Ok(root), None) => access.root = Some(root),
            (Ok(secret), Some(authentication)) => {
                access.authentication = Some(authentication(secret));
            }
        }
        access.tls = true;
    }
    access
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_where_their_uri_says() {
        let parse = |uri| SecretSource::parse(uri, None);
        let file = parse("file:/run/secrets/ca.json");
        assert_eq!(file, Ok(SecretSource::File("/run/secrets/ca.json".into())));
        let same = parse("file:///run/secrets/ca.json");
        assert_eq!(same, file, "one secret has one name");
        for uri in ["file://host/ca.json", "file://ca.json"] {
            assert_eq!(parse(uri), Err(OTHER_HOST), "{uri}");
        }
        let credential = parse("credential:kafka-ca");
        assert_eq!(
            credential,
            Ok(SecretSource::Credential("kafka-ca".to_owned()))
        );
        for uri in [
            "file:ca.json",
            "credential:",
            "credential:../ca",
            "credential:a/b",
            "/ca",
            "",
        ] {
            assert_eq!(parse(uri), Err(SECRET), "{uri}");
        }
    }

    #[test]
    fn a_secret_of_aws_is_asked_for_in_the_region_of_its_arn() {
        let arn = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:kafka-AbCdEf";
        let role = "arn:aws-cn:iam::123456789012:role/orders";
        let secret = ManagedSecret {
            arn: arn.to_owned(),
            region: "cn-north-1".to_owned(),
            role_arn: Some(role.to_owned()),
        };
        let parsed = SecretSource::parse(arn, Some(role));
        assert_eq!(parsed, Ok(SecretSource::SecretsManager(secret)));
        for arn in [
            "arn:aws:secretsmanager",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:",
            "arn:aws:secretsmanager::123456789012:secret:kafka",
            "arn:aws:secretsmanager:eu-central-1:me:secret:kafka",
            "arn:aws:ssm:eu-central-1:123456789012:secret:kafka",
        ] {
            assert_eq!(SecretSource::parse(arn, None), Err(ARN), "{arn}");
        }
    }
}
