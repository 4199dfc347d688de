//! The address of a broker: `host:port`, or `[IPv6]:port` beyond AWS.
//!
//! Invariant: a host is an address, or labels of letters, digits, hyphens and underscores.

use forebay_protocol::delivery::Endpoint;
use toml::Spanned;

use super::Findings;

/// AWS's bound.
const LENGTH_MAX: usize = 300;

/// Reads one, or says how they are written.
pub(crate) fn bootstrap_server(text: &str) -> Result<Endpoint, &'static str> {
    parse(text)
        .ok_or("must be host:port with at most 300 characters, such as kafka-1.example.net:9092")
}

/// Those of a key.
pub(super) fn servers(
    key: &str,
    given: Option<Vec<Spanned<String>>>,
    findings: &mut Findings<'_>,
) -> Vec<Endpoint> {
    let mut servers = Vec::new();
    for server in given.unwrap_or_default() {
        match bootstrap_server(server.get_ref()) {
            Ok(endpoint) => servers.push(endpoint),
            Err(message) => findings.at(server.span(), key, server.get_ref(), message),
        }
    }
    servers
}

fn parse(text: &str) -> Option<Endpoint> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let (host, port) = text.rsplit_once(':')?;
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|port| digits && *port > 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let address = rest.strip_suffix(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            address
        }
        None => host,
    };
    let labels = host.parse::<std::net::Ipv6Addr>().is_ok()
        || (!host.is_empty()
            && host.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            }));
    labels.then(|| Endpoint {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_or_an_address_with_a_port() {
        for (text, host) in [
            ("kafka-1.example.net:9092", "kafka-1.example.net"),
            ("[::1]:9092", "::1"),
            ("::1:9092", "::1"),
        ] {
            let endpoint = bootstrap_server(text).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, 9092));
        }
        for text in [
            "kafka",
            "kafka:0",
            "kafka:127.0.0.1:9092",
            "http://kafka:9092",
            "[kafka]:9092",
        ] {
            assert!(bootstrap_server(text).is_err(), "{text}");
        }
    }
}
