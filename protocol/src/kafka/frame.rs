//! Frames: a 4-byte big-endian length, then that many bytes that begin with a header.
//!
//! Sources: Kafka protocol guide, "Common Request and Response Structure"; KIP-482 (flexible headers);
//! KIP-511 (an ApiVersions answer keeps header version 0, so that a client can read it whatever it asked).
//!
//! Invariant: no length above [`FRAME_BYTES_MAX`] is ever believed.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::api::ApiKey;
use super::wire::{DecodeError, EncodeError, Reader};
use crate::limits::FRAME_BYTES_MAX;

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// A frame begins with a correlation id, so it is never shorter than this.
const FRAME_BYTES_MIN: usize = 4;

/// A length prefix that no Kafka broker sends: the peer is something else, or the stream is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is below zero.
    #[error("frame length {0} is negative")]
    Negative(i32),
    /// Not even a correlation id fits.
    #[error("frame length {0} is below the least of 4 bytes")]
    TooSmall(i32),
    /// More than we are willing to hold.
    #[error("frame length {0} is above the limit of {FRAME_BYTES_MAX} bytes")]
    TooLarge(i32),
}

/// The length of the frame that follows this prefix.
pub fn frame_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let bytes = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if bytes < FRAME_BYTES_MIN {
        return Err(FrameError::TooSmall(length));
    }
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    Ok(bytes)
}

/// Takes one whole frame, without its prefix, off the front of what has arrived; `None` while it is not
/// whole yet.
pub fn split_frame(arrived: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = arrived.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = frame_length(*prefix)?;
    if arrived.len().saturating_sub(PREFIX_BYTES) < length {
        return Ok(None);
    }
    arrived.advance(PREFIX_BYTES);
    Ok(Some(arrived.split_to(length).freeze()))
}

/// Writes a request header, version 2 where the API's version is flexible and 1 otherwise.
pub(super) fn put_request_header(
    api: ApiKey,
    version: i16,
    correlation: i32,
    client_id: &StrBytes,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let header_version = if api.is_flexible(version) { 2 } else { 1 };
    RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(client_id.clone()))
        .encode(out, header_version)
        .map_err(|error| EncodeError(error.to_string()))
}

/// Writes the length of what stands behind the prefix into it.
pub(super) fn finish(out: &mut BytesMut) -> Result<(), EncodeError> {
    let bytes = out.len().saturating_sub(PREFIX_BYTES);
    let length = i32::try_from(bytes)
        .map_err(|_| EncodeError(format!("{bytes} bytes do not fit a frame")))?;
    if let Some(prefix) = out.first_chunk_mut::<PREFIX_BYTES>() {
        *prefix = length.to_be_bytes();
    }
    Ok(())
}

/// The correlation id that a frame begins with, and the rest of it.
pub(super) fn take_correlation(mut frame: Bytes) -> Result<(i32, Bytes), DecodeError> {
    let left = frame.len();
    let correlation = frame.try_get_i32().map_err(|_| DecodeError::Truncated {
        field: "correlation_id",
        needed: 4,
        left,
    })?;
    Ok((correlation, frame))
}

/// A reader of the answer's body: passes over the tagged fields of header version 1, where there are any.
pub(super) fn body_reader(api: ApiKey, version: i16, rest: Bytes) -> Result<Reader, DecodeError> {
    let flexible = api.is_flexible(version);
    let mut reader = Reader::new(rest, flexible);
    reader.skip_tags("header")?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(length: i32, expected: Result<usize, FrameError>) {
        assert_eq!(frame_length(length.to_be_bytes()), expected);
    }

    #[test]
    fn length_outside_the_limits_is_refused_by_name() {
        check(i32::MIN, Err(FrameError::Negative(i32::MIN)));
        check(-1, Err(FrameError::Negative(-1)));
        check(0, Err(FrameError::TooSmall(0)));
        check(3, Err(FrameError::TooSmall(3)));
        check(4, Ok(4));
        let limit = i32::try_from(FRAME_BYTES_MAX).unwrap();
        check(limit, Ok(FRAME_BYTES_MAX));
        check(limit + 1, Err(FrameError::TooLarge(limit + 1)));
        check(i32::MAX, Err(FrameError::TooLarge(i32::MAX)));
        let text = FrameError::TooLarge(i32::MAX).to_string();
        assert!(text.contains(&FRAME_BYTES_MAX.to_string()), "{text}");
        // What a TLS or HTTP server answers, read as a length.
        check(
            i32::from_be_bytes(*b"HTTP"),
            Err(FrameError::TooLarge(0x4854_5450)),
        );
    }

    #[test]
    fn frame_is_taken_once_it_is_whole() {
        let mut arrived = BytesMut::new();
        for byte in [0, 0, 0, 5, 1, 2, 3, 4] {
            arrived.extend_from_slice(&[byte]);
            assert_eq!(split_frame(&mut arrived), Ok(None));
        }
        arrived.extend_from_slice(&[5, 0, 0]);
        assert_eq!(
            split_frame(&mut arrived),
            Ok(Some(Bytes::from_static(&[1, 2, 3, 4, 5])))
        );
        assert_eq!(&arrived[..], [0, 0]);
    }

    #[test]
    fn bad_length_is_refused_before_the_frame_arrives() {
        let mut arrived = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(split_frame(&mut arrived), Err(FrameError::Negative(-1)));
    }
}
