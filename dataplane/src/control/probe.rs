//! One broker asked over a tokio socket, for `check` and `redrive`: it joins no group.
//!
//! Invariant: every wait has a deadline, and a frame is at most what the protocol's limit allows.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_protocol::delivery::Endpoint;
use forebay_protocol::kafka::connection::{Connection, ConnectionError, Received};
use forebay_protocol::kafka::messages::{
    ApiKey, MetadataRequest, MetadataResponse, Request, Response,
};
use forebay_protocol::kafka::sasl::Exchange;
use forebay_protocol::kafka::stranger::{
    CLOSES_ON_VERSIONS, IS_HTTP, SILENT_ON_VERSIONS, WANTS_SASL, stranger,
};
use forebay_protocol::limits::{CONNECT_TIMEOUT, FRAME_BYTES_MAX};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use uuid::Uuid;

use super::names;
use crate::contract::Access;
use crate::trust::{self, TlsError, server_name};

/// How long a peer that does not speak Kafka may take to answer as an HTTP server.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

const CLOSES: &str = "closes the connection";
const SILENT: &str = "is silent";

/// What bytes go over.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Why a broker cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Unfit {
    reason: String,
    pub(super) kind: Kind,
}

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was not reached, or is no broker.
    Unreachable,
    /// It was reached, and one of us does not let the other in.
    Refusal,
    /// It was reached, and is not what it was taken for, or has no version in common with us: the reason says what to
    /// change.
    Misfit,
}

impl From<String> for Unfit {
    fn from(reason: String) -> Self {
        Self {
            reason,
            kind: Kind::Unreachable,
        }
    }
}

impl From<TlsError> for Unfit {
    fn from(error: TlsError) -> Self {
        Self {
            reason: error.of_broker(),
            kind: match error {
                TlsError::ServerNotTrusted(_) | TlsError::ClientNotTrusted(_) => Kind::Refusal,
                _ if error.is_lack_of_tls() => Kind::Misfit,
                TlsError::Stranger(_) | TlsError::Failed(_) | TlsError::Broken(_) => {
                    Kind::Unreachable
                }
            },
        }
    }
}

impl Unfit {
    fn misfit(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            kind: Kind::Misfit,
        }
    }
}

impl From<ConnectionError> for Unfit {
    fn from(error: ConnectionError) -> Self {
        Self {
            reason: error.to_string(),
            kind: match error {
                ConnectionError::Sasl(_) => Kind::Refusal,
                ConnectionError::Unsupported(_) => Kind::Misfit,
                _ => Kind::Unreachable,
            },
        }
    }
}

/// A connection whose versions are known.
pub(super) struct Probe {
    stream: Box<dyn Socket>,
    connection: Connection,
    timeout: Duration,
    /// It says nothing of who we are.
    is_anonymous: bool,
}

impl Probe {
    /// Connects to the first address that answers, asks for the broker's versions, and authenticates where that
    /// is asked for.
    pub(super) async fn open(
        endpoint: &Endpoint,
        access: &Access,
        timeout: Duration,
    ) -> Result<Self, Unfit> {
        let stream = connect(endpoint).await?;
        if let Some(config) = &access.brokers {
            let (stream, lacks_certificate) = secure(stream, endpoint, config).await?;
            let probe = Self::introduce(Box::new(stream), access, timeout).await;
            return probe.map_err(|error| {
                match lacks_certificate && error.kind == Kind::Unreachable {
                    true => TlsError::Broken(error.reason).without_certificate().into(),
                    false => error,
                }
            });
        }
        match Self::introduce(Box::new(stream), access, timeout).await {
            // Some servers wait for the end of a line that Kafka never sends.
            Err(error) if error.kind == Kind::Unreachable && speaks_http(endpoint).await => {
                Err(Unfit::misfit(IS_HTTP))
            }
            Err(error) if error.reason.starts_with(CLOSES) => {
                Err(format!("{error}; is it a Kafka listener without TLS?").into())
            }
            other => other,
        }
    }

    async fn introduce(
        stream: Box<dyn Socket>,
        access: &Access,
        timeout: Duration,
    ) -> Result<Self, Unfit> {
        let exchange = access
            .sasl
            .as_ref()
            .map(|credentials| Exchange::new(Arc::clone(credentials), Uuid::new_v4().to_string()));
        let mut probe = Self {
            stream,
            is_anonymous: exchange.is_none(),
            connection: Connection::new("forebay-check", exchange),
            timeout,
        };
        let mut next = Some(probe.connection.open());
        while !probe.connection.is_ready() {
            if let Some(frame) = next.take() {
                probe.write(&frame).await?;
            }
            let received = probe.receive().await;
            match received.map_err(|error| probe.explain(error))? {
                Received::Send(frame) => next = Some(frame),
                Received::Derive(derivation) => {
                    let key = tokio::task::spawn_blocking(move || derivation.run()).await;
                    let key = key.map_err(|error| error.to_string())?;
                    next = probe.connection.derived(&key)?;
                }
                Received::Ready | Received::Response { .. } => break,
            }
        }
        Ok(probe)
    }

    /// What it means that a broker did that before the connection was ready.
    fn explain(&self, error: Unfit) -> Unfit {
        let reason = &error.reason;
        let (closes, is_silent) = (reason.starts_with(CLOSES), reason.starts_with(SILENT));
        match self.connection.refused_by_closing() {
            Some(refusal) if closes => ConnectionError::from(refusal).into(),
            _ if !self.connection.awaits_versions() => error,
            _ if closes => format!("{reason} {CLOSES_ON_VERSIONS}").into(),
            _ if is_silent => format!("{reason} {SILENT_ON_VERSIONS}").into(),
            _ => error,
        }
    }

    /// The version that both sides speak.
    pub(super) fn version(&self, api: ApiKey) -> Option<i16> {
        self.connection.version(api)
    }

    /// The cluster, and that topic of it.
    pub(super) async fn metadata(&mut self, topic: &str) -> Result<MetadataResponse, String> {
        // Before version 4 a question by name may create the topic: then all are asked for.
        let by_name = self.version(ApiKey::Metadata).is_some_and(|it| it >= 4);
        let request = Request::Metadata(MetadataRequest {
            topics: by_name.then(|| vec![topic.to_owned()]),
        });
        match self.ask(&request).await? {
            Response::Metadata(metadata) => Ok(metadata),
            other => Err(format!("another answer than Metadata: {other:?}")),
        }
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Response, String> {
        let (_, frame) = self
            .connection
            .send(request)
            .map_err(|error| error.to_string())?;
        let is_first = self.connection.awaits_first_answer() && self.is_anonymous;
        let asked = async {
            self.write(&frame).await?;
            self.receive().await
        };
        let received = asked.await.map_err(|error| match is_first {
            true => format!("{error} {WANTS_SASL}"),
            false => error.reason,
        });
        match received? {
            Received::Response { response, .. } => Ok(response),
            Received::Ready | Received::Send(_) | Received::Derive(_) => {
                Err("answers something else".to_owned())
            }
        }
    }

    async fn write(&mut self, frame: &Bytes) -> Result<(), String> {
        let written = tokio::time::timeout(self.timeout, self.stream.write_all(frame)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_) => Err(self.silent()),
        }
    }

    async fn receive(&mut self) -> Result<Received, Unfit> {
        let frame = match tokio::time::timeout(self.timeout, read_frame(&mut *self.stream)).await {
            Ok(frame) => frame?,
            Err(_) => return Err(self.silent().into()),
        };
        Ok(self.connection.receive(frame)?)
    }

    fn silent(&self) -> String {
        format!("{SILENT} for {} ms", self.timeout.as_millis())
    }
}

/// Each address may take its share of the time.
async fn connect(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let ips = names::look_up(&endpoint.host).await?;
    let share = CONNECT_TIMEOUT / u32::try_from(ips.len()).unwrap_or(u32::MAX);
    let mut last = String::new();
    for ip in ips {
        let address = SocketAddr::new(ip, endpoint.port);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer"),
        }
    }
    Err(last)
}

async fn secure(
    stream: TcpStream,
    endpoint: &Endpoint,
    config: &Arc<ClientConfig>,
) -> Result<(TlsStream<TcpStream>, bool), Unfit> {
    let presents = config.client_auth_cert_resolver.has_certs();
    let name = server_name(&endpoint.host)?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let (mut handshake, mut asked) = (pin!(handshake), false);
    let handshake = poll_fn(|cx| trust::step(&mut asked, || handshake.as_mut().poll(cx)));
    match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok((stream, asked && !presents)),
        Ok(Err(error)) => {
            let error = TlsError::of_handshake(error);
            Err(match asked && !presents {
                true => error.without_certificate(),
                false => error,
            }
            .into())
        }
        Err(_) => Err(format!("no TLS handshake within {CONNECT_TIMEOUT:?}").into()),
    }
}

/// Whether TLS is spoken there, by whomever.
pub(super) async fn speaks_tls(endpoint: &Endpoint) -> bool {
    let Ok(stream) = connect(endpoint).await else {
        return false;
    };
    match secure(stream, endpoint, &trust::nobody()).await {
        Ok(_) => true,
        // Nobody is trusted here, which takes a certificate to find out.
        Err(error) => error.kind == Kind::Refusal,
    }
}

/// Whether an HTTP request is answered as one.
async fn speaks_http(endpoint: &Endpoint) -> bool {
    let asked = async {
        let mut stream = connect(endpoint).await.ok()?;
        let request = b"GET / HTTP/1.0\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).await.ok()?;
        (stranger(prefix) == Some(IS_HTTP)).then_some(())
    };
    let answered = tokio::time::timeout(HTTP_TIMEOUT, asked).await;
    answered.is_ok_and(|answer| answer.is_some())
}

async fn read_frame(stream: &mut dyn Socket) -> Result<Bytes, Unfit> {
    let broke = |error: std::io::Error| match error.downcast::<rustls::Error>() {
        Ok(error) => TlsError::of(&error, false).to_string(),
        Err(error) => {
            format!("{CLOSES} ({error})")
        }
    };
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(broke)?;
    if let Some(peer) = stranger(prefix) {
        return Err(Unfit::misfit(peer));
    }
    let length = usize::try_from(i32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err("does not speak Kafka".to_owned().into());
    }
    // What has not arrived is not reserved.
    let mut frame = BytesMut::new();
    while frame.len() < length {
        let mut rest = (&mut *stream).take((length - frame.len()) as u64);
        if rest.read_buf(&mut frame).await.map_err(broke)? == 0 {
            let reason = "ends the connection in the middle of an answer";
            return Err(reason.to_owned().into());
        }
    }
    Ok(frame.freeze())
}
