//! The URL of a Lambda endpoint.
//!
//! Invariant: an endpoint that exists can be reached by this version, which speaks plain HTTP only.

use reqwest::Url;
use toml::Spanned;

use super::{Findings, Surroundings, without_userinfo};

/// Where to send calls, over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl {
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The `Host` header.
    pub host_header: String,
}

impl EndpointUrl {
    /// Reads a URL, or says what is wrong with it and what to do.
    pub fn read(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("is not a URL ({error}); write http://host:port"))?;
        match url.scheme() {
            "http" => {}
            "https" => {
                return Err(
                    "this version speaks plain HTTP only and TLS comes in a later release; give an http:// URL"
                        .to_owned(),
                );
            }
            other => return Err(format!("has the scheme {other}; write http://host:port")),
        }
        let host = url.host_str().unwrap_or_default();
        let extra = !matches!(url.path(), "" | "/")
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some();
        if host.is_empty() || extra {
            return Err("must be http://host:port and nothing more".to_owned());
        }
        let port = url.port().unwrap_or(80);
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            host_header: match port {
                80 => host.to_owned(),
                port => format!("{host}:{port}"),
            },
        })
    }

    /// Whether it is one of AWS's own hosts, where every call is signed.
    pub fn is_aws(&self) -> bool {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        ["amazonaws.com", "amazonaws.com.cn", "api.aws", "on.aws"]
            .iter()
            .any(|domain| {
                host.strip_suffix(domain)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
    }
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
    let url = around.endpoint_url.as_deref()?;
    EndpointUrl::read(url)
        .inspect_err(|message| {
            findings.missing(
                "AWS_ENDPOINT_URL_LAMBDA or AWS_ENDPOINT_URL in the environment",
                format!("{}: {message}", without_userinfo(url)),
            );
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
    }

    #[test]
    fn https_is_refused_with_a_sentence() {
        let message = EndpointUrl::read("https://lambda.eu-central-1.amazonaws.com").unwrap_err();
        assert!(
            message.contains("TLS comes in a later release"),
            "{message}"
        );
    }

    #[test]
    fn paths_users_and_other_schemes_are_refused() {
        for url in [
            "http://h/p",
            "http://u@h",
            "ftp://h",
            "h:80",
            "http://h?x=1",
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
        assert!(!aws("notamazonaws.com"));
        assert!(!aws("amazonaws.com.example.net"));
    }
}
