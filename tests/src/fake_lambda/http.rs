//! Just enough HTTP/1.1 for an Invoke endpoint: heads by httparse, bodies by length or in chunks.
//!
//! Invariant: a body larger than the limit is read to its end and not kept, so that the answer 413
//! reaches a client that is still sending.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::secure::Accepted;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// A request's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// The query as sent, without `?`.
    pub query: String,
    /// The headers as sent, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// One connection, between requests.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Accepted,
    buffer: BytesMut,
}

/// What a body came to.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Bytes),
    TooLarge,
}

impl Connection {
    pub(super) fn new(stream: Accepted) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next request's head, or `None` when the peer has closed.
    pub(super) async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = self.parse_head()? {
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.buffer.reserve(8 * 1024);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    pub(super) async fn read_body(&mut self, head: &Head, limit: usize) -> io::Result<Body> {
        if head
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if head.header("transfer-encoding").is_some() {
            return self.read_chunks(limit).await;
        }
        let length = head
            .header("content-length")
            .map_or(Ok(0), str::parse::<usize>);
        let length = length.map_err(|_| io::ErrorKind::InvalidData)?;
        if length > limit {
            self.skip(length).await?;
            return Ok(Body::TooLarge);
        }
        Ok(Body::Whole(self.take(length).await?))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Ends when the peer closes or sends anything.
    pub(super) async fn wait_for_peer(&mut self) {
        // Either way the call is over for the peer: how it ended does not matter.
        self.stream.read_buf(&mut self.buffer).await.ok();
    }

    /// Lets the connection go with a reset instead of an orderly end.
    pub(super) fn reset(self) {
        // A lingering time of zero makes the close a reset; if the socket is gone that is as good.
        self.stream.socket().set_zero_linger().ok();
    }

    fn parse_head(&mut self) -> io::Result<Option<Head>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&self.buffer);
        let parsed = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let target = request.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let head = Head {
            method: request.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: request
                .headers
                .iter()
                .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
                .collect(),
        };
        self.buffer.advance(length);
        Ok(Some(head))
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        self.buffer
            .reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            self.fill(length - self.buffer.len()).await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn skip(&mut self, mut length: usize) -> io::Result<()> {
        loop {
            let here = length.min(self.buffer.len());
            self.buffer.advance(here);
            length -= here;
            if length == 0 {
                return Ok(());
            }
            self.buffer.reserve(64 * 1024);
            self.fill(length.min(64 * 1024)).await?;
        }
    }

    async fn fill(&mut self, at_most: usize) -> io::Result<()> {
        let read = (&mut self.stream)
            .take(at_most as u64)
            .read_buf(&mut self.buffer)
            .await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn read_chunks(&mut self, limit: usize) -> io::Result<Body> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = std::str::from_utf8(&line).unwrap_or_default();
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                break;
            }
            let chunk = self.take(size).await?;
            body.extend_from_slice(&chunk);
            self.line().await?;
        }
        if body.len() > limit {
            return Ok(Body::TooLarge);
        }
        Ok(Body::Whole(body.freeze()))
    }

    async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(at).freeze();
                self.buffer.advance(2);
                return Ok(line);
            }
            self.buffer.reserve(1024);
            self.fill(1024).await?;
        }
    }
}
