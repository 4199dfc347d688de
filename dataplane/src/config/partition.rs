//! AWS's partitions: which one a region is of, and the names of its endpoints.
//!
//! Source: `partitions.json` and the endpoint rules of Lambda, Secrets Manager, SQS, SNS and S3 in botocore 1.44.
//!
//! Invariant: a region whose name no partition claims is of the commercial one, as in AWS's SDKs.

/// Regions that share a domain and a root of trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    name: &'static str,
    /// What the names of its regions begin with.
    prefix: &'static str,
    domain: &'static str,
    dual_stack_domain: &'static str,
}

/// Which of a region's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flavour {
    /// With cryptography validated by FIPS 140.
    pub fips: bool,
    /// With IPv6 as well.
    pub dual_stack: bool,
}

const COMMERCIAL: Partition = Partition {
    name: "aws",
    prefix: "",
    domain: "amazonaws.com",
    dual_stack_domain: "api.aws",
};

const OTHERS: [Partition; 7] = [
    Partition {
        name: "aws-cn",
        prefix: "cn-",
        domain: "amazonaws.com.cn",
        dual_stack_domain: "api.amazonwebservices.com.cn",
    },
    Partition {
        name: "aws-eusc",
        prefix: "eusc-",
        domain: "amazonaws.eu",
        dual_stack_domain: "api.amazonwebservices.eu",
    },
    Partition {
        name: "aws-iso",
        prefix: "us-iso-",
        domain: "c2s.ic.gov",
        dual_stack_domain: "api.aws.ic.gov",
    },
    Partition {
        name: "aws-iso-b",
        prefix: "us-isob-",
        domain: "sc2s.sgov.gov",
        dual_stack_domain: "api.aws.scloud",
    },
    Partition {
        name: "aws-iso-e",
        prefix: "eu-isoe-",
        domain: "cloud.adc-e.uk",
        dual_stack_domain: "api.cloud-aws.adc-e.uk",
    },
    Partition {
        name: "aws-iso-f",
        prefix: "us-isof-",
        domain: "csp.hci.ic.gov",
        dual_stack_domain: "api.aws.hci.ic.gov",
    },
    Partition {
        name: "aws-us-gov",
        prefix: "us-gov-",
        domain: "amazonaws.com",
        dual_stack_domain: "api.aws",
    },
];

/// Hosts of AWS that are of no partition: function URLs.
const FUNCTION_URLS: &str = "on.aws";

impl Partition {
    /// That of a region.
    pub(crate) fn of(region: &str) -> Self {
        let mut others = OTHERS.into_iter();
        others
            .find(|partition| region.starts_with(partition.prefix))
            .unwrap_or(COMMERCIAL)
    }

    /// As it stands in ARNs.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// Where a service answers in a region.
    pub(super) fn host(self, service: &str, region: &str, flavour: Flavour) -> String {
        // What these are in GovCloud under their plain name is validated already.
        let is_plain = matches!(service, "sqs" | "sns") && self.name == "aws-us-gov";
        let fips = match flavour.fips && (flavour.dual_stack || !is_plain) {
            true => "-fips",
            false => "",
        };
        let domain = match flavour.dual_stack {
            true => self.dual_stack_domain,
            false => self.domain,
        };
        format!("{service}{fips}.{region}.{domain}")
    }

    /// Where S3 answers, whose endpoints are named otherwise: IPv6 has no domain of its own.
    pub(super) fn bucket_host(self, region: &str, flavour: Flavour) -> String {
        let fips = if flavour.fips { "-fips" } else { "" };
        let dual_stack = match flavour.dual_stack {
            true => ".dualstack",
            false => "",
        };
        format!("s3{fips}{dual_stack}.{region}.{}", self.domain)
    }

    /// The domains of all partitions.
    pub(super) fn domains() -> impl Iterator<Item = &'static str> {
        let all = OTHERS.into_iter().chain([COMMERCIAL]);
        all.flat_map(|it| [it.domain, it.dual_stack_domain])
            .chain([FUNCTION_URLS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(region: &str, fips: bool, dual_stack: bool, host: &str) {
        let flavour = Flavour { fips, dual_stack };
        let service = host.split(['.', '-']).next().unwrap();
        let found = Partition::of(region).host(service, region, flavour);
        assert_eq!(found, host);
    }

    #[test]
    fn regions_have_the_endpoints_that_awss_sdks_give_them() {
        for host in [
            "lambda.eu-central-1.amazonaws.com",
            "lambda.cn-north-1.amazonaws.com.cn",
            "lambda.us-gov-west-1.amazonaws.com",
            "lambda.us-iso-east-1.c2s.ic.gov",
            "lambda.us-isob-east-1.sc2s.sgov.gov",
            "lambda.eu-isoe-west-1.cloud.adc-e.uk",
            "lambda.us-isof-south-1.csp.hci.ic.gov",
            "lambda.eusc-de-east-1.amazonaws.eu",
            "lambda.mars-north-1.amazonaws.com",
        ] {
            let region = host.split('.').nth(1).unwrap();
            check(region, false, false, host);
        }
    }

    #[test]
    fn flavours_have_hosts_of_their_own() {
        let (cn, eusc) = ("cn-north-1", "eusc-de-east-1");
        check(
            "us-east-1",
            true,
            false,
            "lambda-fips.us-east-1.amazonaws.com",
        );
        check("eu-central-1", false, true, "lambda.eu-central-1.api.aws");
        check(
            "us-gov-west-1",
            true,
            false,
            "secretsmanager-fips.us-gov-west-1.amazonaws.com",
        );
        check("us-west-2", true, true, "lambda-fips.us-west-2.api.aws");
        check(
            cn,
            false,
            true,
            "lambda.cn-north-1.api.amazonwebservices.com.cn",
        );
        check(
            eusc,
            true,
            true,
            "lambda-fips.eusc-de-east-1.api.amazonwebservices.eu",
        );
        check(
            "us-iso-east-1",
            false,
            true,
            "lambda.us-iso-east-1.api.aws.ic.gov",
        );
    }

    #[test]
    fn queues_and_topics_have_one_name_in_govcloud() {
        let region = "us-gov-west-1";
        for (fips, dual_stack, host) in [
            (true, false, "sqs.us-gov-west-1.amazonaws.com"),
            (true, true, "sqs-fips.us-gov-west-1.api.aws"),
            (true, false, "sns.us-gov-west-1.amazonaws.com"),
        ] {
            check(region, fips, dual_stack, host);
        }
        check(
            "eu-central-1",
            true,
            false,
            "sqs-fips.eu-central-1.amazonaws.com",
        );
    }

    #[test]
    fn buckets_have_hosts_of_another_form() {
        let check = |region: &str, fips, dual_stack, host: &str| {
            let flavour = Flavour { fips, dual_stack };
            assert_eq!(Partition::of(region).bucket_host(region, flavour), host);
        };
        check(
            "eu-central-1",
            false,
            false,
            "s3.eu-central-1.amazonaws.com",
        );
        let (gov, cn) = ("us-gov-east-1", "cn-north-1");
        check(gov, true, false, "s3-fips.us-gov-east-1.amazonaws.com");
        check(cn, false, true, "s3.dualstack.cn-north-1.amazonaws.com.cn");
        let both = "s3-fips.dualstack.us-east-1.amazonaws.com";
        check("us-east-1", true, true, both);
    }
}
