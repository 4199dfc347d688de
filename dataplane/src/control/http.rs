//! HTTP for the control side's cold calls: STS, the instance's metadata, GetFunctionConfiguration, destinations.
//!
//! Invariant: rustls with ring, passed explicitly, is the only TLS; an answer is read up to a limit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use forebay_protocol::limits::IDLE_CONNECTION_AGE_MAX;
use reqwest::header::HeaderMap;
use rustls::ClientConfig;
use serde::Deserialize;

use super::secret::certificate::{self, certificates};
use super::secrets::local;
use crate::mapping::SecretSource;
use crate::trust::{self, CLOSED_IN_HANDSHAKE, Roots, TlsError};

/// An answer of the control side's calls is at most this long.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Addresses that nobody listens at (the instance's metadata, off EC2) must not hold up the chain.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A call of the control side takes at most this long.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Of what a service says of an error so much is repeated.
const MESSAGE_CHARS_MAX: usize = 500;

/// What came back.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What AWS's services say of an error, in JSON or XML; empty where they say nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(rename = "__type")]
    kind: String,
    /// Some services have the one member, some the other, and some both.
    message: String,
    #[serde(rename = "Message")]
    titled: String,
}

impl Answer {
    pub(super) fn refusal(&self) -> Refusal {
        let of_json = serde_json::from_slice(&self.body);
        of_json.unwrap_or_else(|_| Refusal {
            kind: self.element("Code").unwrap_or_default(),
            message: self.element("Message").unwrap_or_default(),
            titled: String::new(),
        })
    }

    /// The status, and of a refusal its name and its words.
    pub(super) fn said(&self) -> String {
        let (status, refusal) = (self.status, self.refusal());
        match (refusal.kind(), refusal.message().as_str()) {
            ("", _) => format!("HTTP {status}"),
            (kind, "") => format!("HTTP {status}, {kind}"),
            (kind, message) => format!("HTTP {status}, {kind} ({message})"),
        }
    }

    /// The text of the first element of that name, where the body is XML.
    pub(super) fn element(&self, name: &str) -> Option<String> {
        self.elements(name).into_iter().next()
    }

    /// The texts of all elements of that name, where the body is XML and none stands in another.
    pub(super) fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = String::from_utf8_lossy(&self.body);
        let inside = text.split(&open).skip(1);
        let inside = inside.filter_map(|rest| rest.split_once(&close));
        inside.map(|(inside, _)| Self::plain(inside)).collect()
    }

    /// XML's text, as it reads.
    fn plain(inside: &str) -> String {
        let entities = [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&apos;", "'"),
        ];
        let plain = |text: String, (entity, char): (&str, &str)| text.replace(entity, char);
        let inside = entities.into_iter().fold(inside.to_owned(), plain);
        inside.replace("&amp;", "&")
    }

    /// A header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Refusal {
    /// The error's name, without what is the same for all.
    pub(super) fn kind(&self) -> &str {
        let kind = self.kind.rsplit('#').next().unwrap_or_default();
        kind.strip_suffix("Exception").unwrap_or(kind)
    }

    pub(super) fn message(&self) -> String {
        let message = match self.message.is_empty() {
            true => &self.titled,
            false => &self.message,
        };
        message.chars().take(MESSAGE_CHARS_MAX).collect()
    }
}

/// Whom https endpoints must be vouched for by: the roots in that file, or the system's.
pub(super) async fn tls(ca_bundle: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_bundle {
        None => Roots::System,
        Some(path) => {
            let source = SecretSource::CaBundle(path.to_owned());
            let text = local::read(&source).await?;
            let found = certificates(&text).map_err(|error| format!("{source}: {error}"))?;
            certificate::roots(found)
        }
    };
    trust::client_config(roots, None).map_err(|error| error.to_string())
}

/// A client for AWS's own services, through the environment's proxy if there is one.
pub(super) fn aws_client(tls: Option<Arc<ClientConfig>>) -> Result<reqwest::Client, String> {
    client(reqwest::Client::builder(), tls)
}

/// A client for Lambda endpoints, reached directly as the data plane reaches them.
pub(super) fn endpoint_client(tls: Option<Arc<ClientConfig>>) -> Result<reqwest::Client, String> {
    client(reqwest::Client::builder().no_proxy(), tls)
}

/// Without a configuration for TLS it trusts nobody.
fn client(
    builder: reqwest::ClientBuilder,
    tls: Option<Arc<ClientConfig>>,
) -> Result<reqwest::Client, String> {
    let tls = tls.unwrap_or_else(trust::nobody);
    builder
        .tls_backend_preconfigured((*tls).clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .pool_idle_timeout(IDLE_CONNECTION_AGE_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The two have not come to an understanding.
    #[error("{0}")]
    Tls(TlsError),
    /// Anything else.
    #[error("{0}")]
    Broken(String),
}

/// Sends a request and reads its whole answer, up to the limit.
pub(super) async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
    exchange_within(request, ANSWER_BYTES_MAX).await
}

/// The same, where an answer may be longer or must be shorter.
pub(super) async fn exchange_within(
    request: reqwest::RequestBuilder,
    answer_bytes_max: usize,
) -> Result<Answer, Failure> {
    let sent = request.send().await;
    let mut response = sent.map_err(|error| match of_tls(&error) {
        Some(error) => Failure::Tls(error),
        None => Failure::Broken(causes(&error)),
    })?;
    let body = read(&mut response, answer_bytes_max).await;
    let body = body.map_err(Failure::Broken)?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: std::mem::take(response.headers_mut()),
        body,
    })
}

async fn read(response: &mut reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("the answer is longer than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What rustls says, if it was rustls: deep inside, in errors of the socket, which do not name it as their cause. A
/// server that hangs up while a connection is being made does so in the handshake.
fn of_tls(error: &reqwest::Error) -> Option<TlsError> {
    let is_new = error.is_connect();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(TlsError::of(error, true));
        }
        let held = error.downcast_ref::<std::io::Error>();
        if is_new && held.is_some_and(|it| it.kind() == std::io::ErrorKind::UnexpectedEof) {
            return Some(TlsError::Broken(CLOSED_IN_HANDSHAKE.to_owned()));
        }
        next = match held.and_then(std::io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// An error with what is behind it: reqwest's own words leave out why.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Lets AWS's credentials chain speak through reqwest.
#[derive(Clone, Debug)]
pub(super) struct Adapter(pub(super) reqwest::Client);

#[derive(Debug)]
struct Connector {
    client: reqwest::Client,
    timeout: Option<Duration>,
}

impl HttpClient for Adapter {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            client: self.0.clone(),
            timeout: settings.read_timeout(),
        })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, timeout) = (self.client.clone(), self.timeout);
        HttpConnectorFuture::new(async move { carry(client, timeout, request).await })
    }
}

async fn carry(
    client: reqwest::Client,
    timeout: Option<Duration>,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let method = reqwest::Method::from_bytes(request.method().as_bytes())
        .map_err(|error| ConnectorError::user(error.into()))?;
    let mut builder = client.request(method, request.uri());
    for (name, value) in request.headers().iter_bytes() {
        builder = builder.header(name, value);
    }
    if let Some(timeout) = timeout {
        builder = builder.timeout(timeout);
    }
    if let Some(body) = request.body().bytes() {
        builder = builder.body(body.to_vec());
    }
    let mut response = builder
        .send()
        .await
        .map_err(|error| match error.is_timeout() {
            true => ConnectorError::timeout(error.into()),
            false => ConnectorError::io(error.into()),
        })?;
    let body = read(&mut response, ANSWER_BYTES_MAX)
        .await
        .map_err(|message| ConnectorError::io(message.into()))?;
    let status = response
        .status()
        .as_u16()
        .try_into()
        .map_err(|_| ConnectorError::io("the status is out of range".into()))?;
    let mut answer = HttpResponse::new(status, body.into());
    for (name, value) in response.headers() {
        if let Ok(value) = value.to_str() {
            answer
                .headers_mut()
                .append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn a_refusal_is_read_from_json_and_from_xml() {
        let said = |status, body: &str| {
            let body = body.as_bytes().to_vec();
            let answer = Answer {
                status,
                body,
                ..Answer::default()
            };
            answer.said()
        };
        let json = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"It is gone."}"#;
        assert_eq!(said(400, json), "HTTP 400, QueueDoesNotExist (It is gone.)");
        let both = json.replace('}', ",\"Message\":\"It is gone.\"}");
        assert_eq!(said(400, &both), said(400, json));
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code><Message>&lt;t&gt; &amp;amp;</Message>\
                   </Error></ErrorResponse>";
        assert_eq!(said(404, xml), "HTTP 404, NotFound (<t> &amp;)");
        assert_eq!(said(503, "<html>busy"), "HTTP 503");
        assert_eq!(said(404, ""), "HTTP 404");
    }

    /// A certificate for loopback that vouches for itself, and its key.
    fn own() -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap(), key)
    }

    #[tokio::test]
    async fn a_server_that_is_not_trusted_is_told_from_one_that_is_not_there() {
        let (certificate, key) = own();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(trust::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(|_| ())
        });
        let (stranger, _) = own();
        let roots = Roots::Private(vec![stranger.der().clone()]);
        let client = endpoint_client(Some(trust::client_config(roots, None).unwrap())).unwrap();
        let url = format!("https://{address}/");
        let failure = exchange(client.get(&url)).await.err();
        let untrusted = "the trusted root with its issuer's name has not signed it".to_owned();
        assert_eq!(
            failure,
            Some(Failure::Tls(TlsError::ServerNotTrusted(untrusted)))
        );
        serving.await.unwrap().unwrap_err();
        let failure = exchange(client.get(&url)).await.err();
        assert!(matches!(failure, Some(Failure::Broken(_))), "{failure:?}");
    }
}
