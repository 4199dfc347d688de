//! One broker asked over a tokio socket, for `check`: it never joins a group nor changes anything.
//!
//! Invariant: every wait has a deadline, and a frame is at most what the protocol's limit allows.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_protocol::delivery::Endpoint;
use forebay_protocol::kafka::connection::{Connection, Received};
use forebay_protocol::kafka::messages::{ApiKey, Request, Response};
use forebay_protocol::kafka::stranger::{IS_HTTP, stranger};
use forebay_protocol::limits::{CONNECT_TIMEOUT, FRAME_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::names;

/// How long a peer that does not speak Kafka may take to answer as an HTTP server.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection whose versions are known.
pub(super) struct Probe {
    stream: TcpStream,
    connection: Connection,
    timeout: Duration,
}

impl Probe {
    /// Connects to the first address that answers, and asks for the broker's versions.
    pub(super) async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<Self, String> {
        let stream = connect(endpoint).await?;
        match Self::introduce(stream, timeout).await {
            // Some servers wait for the end of a line that Kafka never sends.
            Err(_) if speaks_http(endpoint).await => Err(IS_HTTP.to_owned()),
            other => other,
        }
    }

    async fn introduce(stream: TcpStream, timeout: Duration) -> Result<Self, String> {
        let mut probe = Self {
            stream,
            connection: Connection::new("forebay-check", None),
            timeout,
        };
        let mut frame = probe.connection.open();
        while !probe.connection.is_ready() {
            probe.write(&frame).await?;
            match probe.receive().await? {
                Received::Send(again) => frame = again,
                Received::Derive(_) | Received::Ready | Received::Response { .. } => break,
            }
        }
        Ok(probe)
    }

    /// The version that both sides speak.
    pub(super) fn version(&self, api: ApiKey) -> Option<i16> {
        self.connection.version(api)
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Response, String> {
        let (_, frame) = self
            .connection
            .send(request)
            .map_err(|error| error.to_string())?;
        self.write(&frame).await?;
        match self.receive().await? {
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

    async fn receive(&mut self) -> Result<Received, String> {
        let frame = match tokio::time::timeout(self.timeout, read_frame(&mut self.stream)).await {
            Ok(frame) => frame?,
            Err(_) => return Err(self.silent()),
        };
        self.connection
            .receive(frame)
            .map_err(|error| error.to_string())
    }

    fn silent(&self) -> String {
        format!("is silent for {} ms", self.timeout.as_millis())
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

async fn read_frame(stream: &mut TcpStream) -> Result<Bytes, String> {
    let broke = |error: std::io::Error| {
        format!("closes the connection ({error}); is it a Kafka listener without TLS?")
    };
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(broke)?;
    if let Some(peer) = stranger(prefix) {
        return Err(peer.to_owned());
    }
    let length = usize::try_from(i32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err("does not speak Kafka".to_owned());
    }
    // What has not arrived is not reserved.
    let mut frame = BytesMut::new();
    while frame.len() < length {
        let mut rest = (&mut *stream).take((length - frame.len()) as u64);
        if rest.read_buf(&mut frame).await.map_err(broke)? == 0 {
            return Err("closes the connection in the middle of an answer".to_owned());
        }
    }
    Ok(frame.freeze())
}
