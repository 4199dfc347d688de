//! The URL of an endpoint: Lambda's, or another service's.
//!
//! Invariant: an endpoint has a host and a port, and nothing that would have to be left out of a request.

use reqwest::Url;
use toml::Spanned;

use super::partition::{Flavour, Partition};
use super::{Findings, Surroundings, without_userinfo};

/// Where to send calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl {
    /// Under TLS.
    pub tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The `Host` header.
    pub host_header: String,
}

const HOW: &str = "write http://host:port or https://host:port";

impl EndpointUrl {
    /// Reads a URL, or says what is wrong with it and what to do.
    pub fn read(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}); {HOW}"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(format!("has the scheme {other}; {HOW}")),
        };
        let host = url.host_str().unwrap_or_default();
        let extra = !matches!(url.path(), "" | "/")
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some();
        if host.is_empty() || extra {
            return Err(
                "must be http://host:port or https://host:port, and nothing more".to_owned(),
            );
        }
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            // `Url` leaves out the port that its scheme implies.
            port: url
                .port_or_known_default()
                .unwrap_or(if tls { 443 } else { 80 }),
            host_header: match url.port() {
                None => host.to_owned(),
                Some(port) => format!("{host}:{port}"),
            },
        })
    }

    /// AWS's own endpoint in that region.
    pub(crate) fn of_region(region: &str, flavour: Flavour) -> Self {
        Self::of_host(Partition::of(region).host("lambda", region, flavour))
    }

    /// One of AWS's hosts.
    pub(super) fn of_host(host: String) -> Self {
        Self {
            tls: true,
            port: 443,
            host_header: host.clone(),
            host,
        }
    }

    /// Whether it is one of AWS's own hosts, where every call is signed.
    pub fn is_aws(&self) -> bool {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        Partition::domains().any(|domain| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// As a URL.
    pub fn url(&self) -> String {
        url(self.tls, &self.host_header)
    }
}

/// An endpoint's URL by what a request says of it.
pub(crate) fn url(tls: bool, host_header: &str) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{host_header}")
}

pub(super) fn parse(
    key: &str,
    given: &Spanned<String>,
    findings: &mut Findings<'_>,
) -> Option<EndpointUrl> {
    EndpointUrl::read(given.get_ref())
        .inspect_err(|message| findings.at(given.span(), key, given.get_ref(), message))
        .ok()
}

/// The node's endpoint: its key, else what the environment says, as in AWS's SDKs.
pub(super) fn of_node(
    value: Option<Spanned<String>>,
    around: &Surroundings,
    findings: &mut Findings<'_>,
) -> Option<EndpointUrl> {
    if let Some(given) = value {
        return parse("endpoint_url", &given, findings);
    }
    let (variable, url) = around.endpoint_url.as_ref()?;
    of_environment(variable, url, findings)
}

/// What a variable of the environment names.
pub(super) fn of_environment(
    variable: &str,
    url: &str,
    findings: &mut Findings<'_>,
) -> Option<EndpointUrl> {
    EndpointUrl::read(url)
        .inspect_err(|message| {
            let message = format!("{}: {message}", without_userinfo(url));
            findings.missing(&format!("{variable} in the environment"), message);
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_host_header_are_taken_apart() {
        let url = EndpointUrl::read("http://[::1]:9001/").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.host_header.as_str()),
            ("::1", 9001, "[::1]:9001")
        );
        let url = EndpointUrl::read("http://lambda.local").unwrap();
        assert_eq!((url.port, url.host_header.as_str()), (80, "lambda.local"));
        let url = EndpointUrl::read("https://lambda.local:443").unwrap();
        assert!(url.tls);
        assert_eq!((url.port, url.host_header.as_str()), (443, "lambda.local"));
        assert_eq!(url.url(), "https://lambda.local");
    }

    #[test]
    fn paths_users_and_other_schemes_are_refused() {
        for url in [
            "http://h/p",
            "http://u@h",
            "ftp://h",
            "h:80",
            "https://h?x=1",
        ] {
            assert!(EndpointUrl::read(url).is_err(), "{url}");
        }
    }

    #[test]
    fn amazons_hosts_are_known() {
        let aws = |host: &str| {
            EndpointUrl::read(&format!("http://{host}"))
                .unwrap()
                .is_aws()
        };
        assert!(aws("lambda.eu-central-1.amazonaws.com"));
        assert!(aws("lambda.cn-north-1.amazonaws.com.cn"));
        assert!(aws("lambda.eu-central-1.api.aws."));
        assert!(aws("lambda.eusc-de-east-1.amazonaws.eu"));
        assert!(aws("abcdef.lambda-url.eu-central-1.on.aws"));
        assert!(!aws("notamazonaws.com"));
        assert!(!aws("amazonaws.com.example.net"));
    }
}
