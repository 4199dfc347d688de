//! AWS's services beside Lambda: their names, and the endpoints that stand in for their own.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Service-specific endpoints".
//!
//! Invariant: where nobody names an endpoint, it is AWS's own in the region of what is asked for.

use std::collections::BTreeMap;

use super::endpoint::{self, EndpointUrl};
use super::file::EndpointUrlsFile;
use super::partition::{Flavour, Partition};
use super::{Findings, Surroundings};

/// A service that the node calls beside Lambda.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// It has what mappings name by a secret's ARN.
    SecretsManager,
    /// It gives the keys of a role.
    Sts,
    /// Its queues are destinations of failed records.
    Sqs,
    /// And so are its topics,
    Sns,
    /// and its buckets.
    S3,
}

/// `[endpoint_urls]`, and what the environment says: a URL for a service that is not asked at AWS's own.
pub type EndpointUrls = BTreeMap<Service, EndpointUrl>;

impl Service {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::SecretsManager,
        Self::Sts,
        Self::Sqs,
        Self::Sns,
        Self::S3,
    ];

    /// What its hosts begin with, and what requests are signed for.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "sts",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::S3 => "s3",
        }
    }

    /// As people call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SecretsManager => "Secrets Manager",
            Self::Sts => "STS",
            Self::Sqs => "SQS",
            Self::Sns => "SNS",
            Self::S3 => "S3",
        }
    }

    /// As AWS's SDKs spell it in settings.
    fn key(self) -> &'static str {
        match self {
            Self::SecretsManager => "secrets_manager",
            Self::Sts | Self::Sqs | Self::Sns | Self::S3 => self.name(),
        }
    }

    /// The variable of the environment that names its endpoint.
    pub(super) fn variable(self) -> String {
        format!("AWS_ENDPOINT_URL_{}", self.key().to_ascii_uppercase())
    }

    /// AWS's own endpoint in that region.
    pub(crate) fn endpoint(self, region: &str, flavour: Flavour) -> EndpointUrl {
        let partition = Partition::of(region);
        EndpointUrl::of_host(match self {
            Self::S3 => partition.bucket_host(region, flavour),
            Self::SecretsManager | Self::Sts | Self::Sqs | Self::Sns => {
                partition.host(self.name(), region, flavour)
            }
        })
    }
}

/// The endpoints that are not AWS's own: each has its key, else what the environment says.
pub(super) fn endpoint_urls(
    file: Option<EndpointUrlsFile>,
    around: &Surroundings,
    findings: &mut Findings<'_>,
) -> EndpointUrls {
    let EndpointUrlsFile {
        secrets_manager,
        sts,
        sqs,
        sns,
        s3,
    } = file.unwrap_or_default();
    let given = [
        (Service::SecretsManager, secrets_manager),
        (Service::Sts, sts),
        (Service::Sqs, sqs),
        (Service::Sns, sns),
        (Service::S3, s3),
    ];
    let mut urls = EndpointUrls::new();
    for (service, given) in given {
        let url = match (given, around.endpoint_urls.get(&service)) {
            (Some(given), _) => {
                let key = format!("endpoint_urls.{}", service.key());
                endpoint::parse(&key, &given, findings)
            }
            (None, Some((variable, url))) => endpoint::of_environment(variable, url, findings),
            (None, None) => None,
        };
        urls.extend(url.map(|url| (service, url)));
    }
    urls
}
