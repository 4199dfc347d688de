//! Reads the answer to one request, in whatever pieces it arrives.
//!
//! ```text
//! Head --(1xx: again)--> Head --(status, headers)--> Body --> Complete
//!   any --(against the rules, over a limit)--> error;   any --(end of input)--> error or Complete
//! ```
//!
//! Source: RFC 9112 sections 4 to 9.
//!
//! Invariant: `Complete` is said once, and only of a whole answer.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::body::{Body, Framing};
use crate::limits::{RESPONSE_BODY_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};

/// Interim (1xx) answers before the final one.
const INTERIM_MAX: u32 = 16;

/// How a TLS alert begins, by which a server refuses what is not TLS (RFC 8446 section 5.1).
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// Reads one answer.
#[derive(Debug)]
pub struct ResponseParser {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Head(HeadParser),
    Body { response: Response, body: Body },
    Ended,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The final status.
    pub status: u16,
    /// `X-Amz-Function-Error`.
    pub function_error: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `x-amzn-ErrorType`.
    pub error_type: Option<String>,
    /// `x-amzn-RequestId`.
    pub request_id: Option<String>,
    /// `X-Amz-Executed-Version`.
    pub executed_version: Option<String>,
    /// The body, without its transfer coding.
    pub body: Bytes,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
}

/// How far the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed, or the end of the input.
    NeedMore,
    /// That was all of it.
    Complete(Response),
}

/// Why there is no answer. The connection is of no more use, and the function may have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The peer closed before a byte of an answer.
    #[error(
        "the connection was closed before an answer came; if that goes on, forebay check says what endpoint_url leads to"
    )]
    NoAnswer,
    /// The peer speaks TLS, and we did not.
    #[error(
        "that is a listener with TLS; begin endpoint_url with https://, or name its port without TLS"
    )]
    Tls,
    /// The peer closed inside the head.
    #[error("half an answer: the connection was closed after {received} bytes of its head")]
    HalfHead {
        /// Bytes of the head that came.
        received: usize,
    },
    /// The peer closed inside the body.
    #[error("half an answer: the connection was closed after {received} bytes of its body{}",
        expected.map(|all| format!(" of {all}")).unwrap_or_default())]
    HalfBody {
        /// Bytes of the body that came.
        received: usize,
        /// Bytes that were announced; `None` for a chunked body.
        expected: Option<usize>,
    },
    /// Against the rules of HTTP/1.1.
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// Status and headers are longer than we read.
    #[error("the answer's head is longer than {RESPONSE_HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    /// The body is, or will be, longer than we read.
    #[error("the answer's body is longer than {RESPONSE_BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    /// The parser has said its last word already.
    #[error("bytes came after the answer")]
    AfterEnd,
}

impl ResponseParser {
    /// A parser for the answer to the request that was just begun.
    pub fn new() -> Self {
        Self {
            phase: Phase::Head(HeadParser::default()),
        }
    }

    /// Takes what was received.
    ///
    /// # Errors
    ///
    /// When it breaks the rules or a limit; the parser and the connection are done with then.
    pub fn push(&mut self, mut input: &[u8]) -> Result<Progress, ResponseError> {
        loop {
            match &mut self.phase {
                Phase::Ended => return Err(ResponseError::AfterEnd),
                Phase::Head(head) => match head.take(&mut input) {
                    Ok(None) => return Ok(Progress::NeedMore),
                    Ok(Some((response, framing))) => {
                        let body = Body::new(framing).inspect_err(|_| self.phase = Phase::Ended)?;
                        self.phase = Phase::Body { response, body };
                    }
                    Err(error) => {
                        self.phase = Phase::Ended;
                        return Err(error);
                    }
                },
                Phase::Body { body, .. } => match body.take(&mut input) {
                    Ok(false) => return Ok(Progress::NeedMore),
                    Ok(true) => {
                        // Whoever sends more than an answer cannot be trusted with another request.
                        let surplus = !input.is_empty();
                        return self.complete(|body| Ok(body.into_bytes()), surplus);
                    }
                    Err(error) => {
                        self.phase = Phase::Ended;
                        return Err(error);
                    }
                },
            }
        }
    }

    /// The peer has closed: the answer, if that is how it ends.
    ///
    /// # Errors
    ///
    /// When there is no whole answer.
    pub fn close(mut self) -> Result<Response, ResponseError> {
        if let Phase::Head(head) = &self.phase {
            return Err(match head.received {
                0 => ResponseError::NoAnswer,
                _ if head.buffer.starts_with(&TLS_ALERT) => ResponseError::Tls,
                received => ResponseError::HalfHead { received },
            });
        }
        match self.complete(Body::close, true)? {
            Progress::Complete(response) => Ok(response),
            Progress::NeedMore => Err(ResponseError::NoAnswer),
        }
    }

    /// Whether any byte of an answer has come.
    pub fn has_begun(&self) -> bool {
        !matches!(&self.phase, Phase::Head(head) if head.received == 0)
    }

    fn complete(
        &mut self,
        end: impl FnOnce(Body) -> Result<Vec<u8>, ResponseError>,
        last: bool,
    ) -> Result<Progress, ResponseError> {
        let Phase::Body { mut response, body } = std::mem::replace(&mut self.phase, Phase::Ended)
        else {
            return Err(ResponseError::AfterEnd);
        };
        response.body = Bytes::from(end(body)?);
        response.keep_alive &= !last;
        Ok(Progress::Complete(response))
    }
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new()
    }
}

/// Gathers a head and reads it once it is whole.
#[derive(Debug, Default)]
struct HeadParser {
    buffer: Vec<u8>,
    /// Bytes that came, of interim answers too.
    received: usize,
    interim: u32,
}

impl HeadParser {
    /// Takes what belongs to the head from the front of `input`; the final head once it is whole.
    fn take(&mut self, input: &mut &[u8]) -> Result<Option<(Response, Framing)>, ResponseError> {
        loop {
            let Some(end) = self.gather(input)? else {
                return Ok(None);
            };
            let head = self.buffer.get(..end).unwrap_or_default();
            let (response, framing) = read_head(head)?;
            self.buffer.clear();
            match response.status {
                101 => return Err(ResponseError::Malformed("it switches protocols unasked")),
                100..200 if self.interim >= INTERIM_MAX => {
                    return Err(ResponseError::Malformed(
                        "it has interim answers without end",
                    ));
                }
                100..200 => self.interim = self.interim.saturating_add(1),
                _ => return Ok(Some((response, framing))),
            }
        }
    }

    /// Moves `input` into the buffer, up to the head's empty line; then the head's length.
    fn gather(&mut self, input: &mut &[u8]) -> Result<Option<usize>, ResponseError> {
        while let Some(feed) = input.iter().position(|byte| *byte == b'\n') {
            let line = feed.saturating_add(1);
            self.append(input, line)?;
            // An empty line before the status line is passed over, one after it ends the head.
            match self.buffer.as_slice() {
                b"\n" | b"\r\n" => self.buffer.clear(),
                [.., b'\n', b'\r', b'\n'] | [.., b'\n', b'\n'] => {
                    return Ok(Some(self.buffer.len()));
                }
                _ => {}
            }
        }
        self.append(input, input.len())?;
        Ok(None)
    }

    fn append(&mut self, input: &mut &[u8], count: usize) -> Result<(), ResponseError> {
        self.received = self.received.saturating_add(count);
        if self.received > RESPONSE_HEAD_BYTES_MAX {
            return Err(ResponseError::HeadTooLarge);
        }
        let (taken, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
        self.buffer.extend_from_slice(taken);
        *input = rest;
        Ok(())
    }
}

/// Reads a whole head.
fn read_head(head: &[u8]) -> Result<(Response, Framing), ResponseError> {
    let mut headers = [httparse::EMPTY_HEADER; RESPONSE_HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => {
            return Err(ResponseError::Malformed("its head ends too early"));
        }
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLarge),
        Err(_) => return Err(ResponseError::Malformed("its head does not parse")),
    }
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(ResponseError::Malformed("its head ends too early"));
    };
    let mut response = Response {
        status,
        ..Response::default()
    };
    let mut fields = FramingFields::default();
    for header in parsed.headers.iter() {
        read_header(header, &mut response, &mut fields)?;
    }
    // RFC 9112 section 9.3.
    response.keep_alive = match minor {
        0 => fields.keep_alive && !fields.close,
        _ => !fields.close,
    };
    let framing = fields.framing(status, minor)?;
    if framing == Framing::UntilClose || (fields.chunked && fields.length.is_some()) {
        response.keep_alive = false;
    }
    Ok((response, framing))
}

fn read_header(
    header: &httparse::Header<'_>,
    response: &mut Response,
    fields: &mut FramingFields,
) -> Result<(), ResponseError> {
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    let text = || Some(String::from_utf8_lossy(header.value).into_owned());
    if is("content-length") {
        fields.read_length(header.value)?;
    } else if is("transfer-encoding") {
        fields.read_codings(header.value)?;
    } else if is("connection") {
        for token in list(header.value) {
            fields.close |= token.eq_ignore_ascii_case(b"close");
            fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    } else if is("x-amz-function-error") {
        response.function_error = text();
    } else if is("retry-after") {
        response.retry_after = text();
    } else if is("x-amzn-errortype") {
        response.error_type = text();
    } else if is("x-amzn-requestid") {
        response.request_id = text();
    } else if is("x-amz-executed-version") {
        response.executed_version = text();
    }
    Ok(())
}

/// The headers that say where the message ends and whether another may follow.
#[derive(Debug, Default)]
struct FramingFields {
    length: Option<usize>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl FramingFields {
    /// RFC 9112 section 6.3: the same length may be repeated, two lengths are an attack or a fault.
    fn read_length(&mut self, value: &[u8]) -> Result<(), ResponseError> {
        for token in list(value) {
            let digits = std::str::from_utf8(token).ok();
            let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            match (length, self.length) {
                (None, _) => return Err(ResponseError::Malformed("its length is not a number")),
                (Some(length), Some(before)) if length != before => {
                    return Err(ResponseError::Malformed("it has two lengths"));
                }
                (Some(length), _) => self.length = Some(length),
            }
        }
        Ok(())
    }

    /// We ask for no coding, so chunked alone is what may come.
    fn read_codings(&mut self, value: &[u8]) -> Result<(), ResponseError> {
        for coding in list(value) {
            if self.chunked || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(ResponseError::Malformed(
                    "its transfer coding is not chunked",
                ));
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn framing(&self, status: u16, minor: u8) -> Result<Framing, ResponseError> {
        match (status, self.chunked, self.length) {
            (100..200 | 204 | 304, _, _) => Ok(Framing::Fixed { left: 0 }),
            (_, true, _) if minor == 0 => {
                Err(ResponseError::Malformed("HTTP/1.0 has no chunked coding"))
            }
            (_, true, _) => Ok(Framing::ChunkSize),
            (_, false, Some(left)) => Ok(Framing::Fixed { left }),
            (_, false, None) => Ok(Framing::UntilClose),
        }
    }
}

/// The members of a comma-separated list.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
