//! A response's body as it comes: by length, in chunks, or until the peer closes.
//!
//! Source: RFC 9112 sections 6 and 7.
//!
//! ```text
//! Fixed -------------------------------------------------> Ended
//! ChunkSize -> ChunkData -> ChunkEnd -> ChunkSize
//!     +--size 0--> Trailers -----------------------------> Ended
//! UntilClose ----(only the end of the input ends it)
//! ```
//!
//! Invariant: memory grows with the bytes that have come, never with a length that was announced.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::ResponseError;
use crate::limits::{RESPONSE_BODY_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};

/// A chunk's line: its size, and extensions that mean nothing to us.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many more bytes.
    Fixed {
        /// How many.
        left: usize,
    },
    /// A chunk's size comes next.
    ChunkSize,
    /// Inside a chunk.
    ChunkData {
        /// Its bytes that have not come yet; at least one.
        left: usize,
    },
    /// The line break after a chunk comes next.
    ChunkEnd {
        /// What has not come of it yet; at least one byte.
        left: &'static [u8],
    },
    /// Behind the last chunk.
    Trailers {
        /// Bytes of them so far.
        bytes: usize,
    },
    /// Where the peer closes.
    UntilClose,
    /// It has ended.
    Ended,
}

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Body {
    framing: Framing,
    bytes: Vec<u8>,
    /// A line of the chunked coding that has not ended yet.
    line: Vec<u8>,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Result<Self, ResponseError> {
        match framing {
            Framing::Fixed { left } if left > RESPONSE_BODY_BYTES_MAX => {
                Err(ResponseError::BodyTooLarge)
            }
            _ => Ok(Self {
                framing,
                bytes: Vec::new(),
                line: Vec::new(),
            }),
        }
    }

    /// Takes what belongs to the body from the front of `input`; true once it has ended.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<bool, ResponseError> {
        loop {
            self.framing = match self.framing {
                Framing::Ended | Framing::Fixed { left: 0 } => return Ok(true),
                _ if input.is_empty() => return Ok(false),
                Framing::Fixed { left } => Framing::Fixed {
                    left: left.saturating_sub(self.append(input, left)?),
                },
                Framing::ChunkSize => match self.take_line(input, CHUNK_LINE_BYTES_MAX)? {
                    true => self.begin_chunk()?,
                    false => return Ok(false),
                },
                Framing::ChunkData { left } => {
                    match left.saturating_sub(self.append(input, left)?) {
                        0 => Framing::ChunkEnd { left: b"\r\n" },
                        left => Framing::ChunkData { left },
                    }
                }
                Framing::ChunkEnd { left } => {
                    let ([wanted, left @ ..], [byte, rest @ ..]) = (left, *input) else {
                        return Ok(false);
                    };
                    if byte != wanted {
                        return Err(ResponseError::Malformed("a chunk is longer than its size"));
                    }
                    *input = rest;
                    match left {
                        [] => Framing::ChunkSize,
                        left => Framing::ChunkEnd { left },
                    }
                }
                Framing::Trailers { bytes } => {
                    let rest = RESPONSE_HEAD_BYTES_MAX.saturating_sub(bytes);
                    if !self.take_line(input, rest)? {
                        return Ok(false);
                    }
                    let bytes = bytes.saturating_add(self.line.len());
                    let last = self.line == b"\r\n";
                    self.line.clear();
                    if last {
                        Framing::Ended
                    } else {
                        Framing::Trailers { bytes }
                    }
                }
                Framing::UntilClose => {
                    self.append(input, usize::MAX)?;
                    Framing::UntilClose
                }
            };
        }
    }

    /// The peer has closed: the body, if that is where it ends.
    pub(super) fn close(self) -> Result<Vec<u8>, ResponseError> {
        match self.framing {
            Framing::UntilClose | Framing::Ended | Framing::Fixed { left: 0 } => Ok(self.bytes),
            Framing::Fixed { left } => Err(ResponseError::HalfBody {
                received: self.bytes.len(),
                expected: Some(self.bytes.len().saturating_add(left)),
            }),
            Framing::ChunkSize
            | Framing::ChunkData { .. }
            | Framing::ChunkEnd { .. }
            | Framing::Trailers { .. } => Err(ResponseError::HalfBody {
                received: self.bytes.len(),
                expected: None,
            }),
        }
    }

    /// What has come of it.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Moves at most `most` bytes of `input` into the body; returns how many.
    fn append(&mut self, input: &mut &[u8], most: usize) -> Result<usize, ResponseError> {
        let (taken, rest) = input.split_at_checked(most).unwrap_or((input, &[]));
        let room = RESPONSE_BODY_BYTES_MAX.saturating_sub(self.bytes.len());
        if taken.len() > room {
            return Err(ResponseError::BodyTooLarge);
        }
        self.bytes.extend_from_slice(taken);
        *input = rest;
        Ok(taken.len())
    }

    /// Moves `input` into the line up to its line feed; true once that has come.
    fn take_line(&mut self, input: &mut &[u8], most: usize) -> Result<bool, ResponseError> {
        let feed = input.iter().position(|byte| *byte == b'\n');
        let taken = feed.map_or(input.len(), |feed| feed.saturating_add(1));
        if self.line.len().saturating_add(taken) > most {
            return Err(ResponseError::Malformed(
                "a line of the chunked coding is too long",
            ));
        }
        let (taken, rest) = input.split_at_checked(taken).unwrap_or((input, &[]));
        self.line.extend_from_slice(taken);
        *input = rest;
        Ok(feed.is_some())
    }

    /// Reads the chunk's size from its whole line.
    fn begin_chunk(&mut self) -> Result<Framing, ResponseError> {
        // Why: httparse takes a line without any digit for a size of 0.
        let has_digit = self.line.first().is_some_and(u8::is_ascii_hexdigit);
        let size = match httparse::parse_chunk_size(&self.line) {
            Ok(httparse::Status::Complete((_, size))) if has_digit => size,
            _ => return Err(ResponseError::Malformed("a chunk's size is not a number")),
        };
        self.line.clear();
        let left = usize::try_from(size).unwrap_or(usize::MAX);
        if left > RESPONSE_BODY_BYTES_MAX.saturating_sub(self.bytes.len()) {
            return Err(ResponseError::BodyTooLarge);
        }
        Ok(match left {
            0 => Framing::Trailers { bytes: 0 },
            left => Framing::ChunkData { left },
        })
    }
}
