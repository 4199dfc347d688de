//! Peers that are no Kafka brokers, told apart by the first bytes of their answer.
//!
//! Sources: RFC 9112 section 4 (status line); RFC 8446 section 5.1 (a TLS alert's record).
//!
//! Invariant: no frame that a broker sends begins so: as lengths these are above any limit.

use super::frame::PREFIX_BYTES;

/// What is said of an HTTP server.
pub const IS_HTTP: &str = "that is an HTTP server, not Kafka; correct KAFKA_BOOTSTRAP_SERVERS";

/// What is said where a broker hangs up at the first request of a client that says nothing of who it is.
pub const WANTS_SASL: &str = "at the first request, as a listener that wants SASL does; name a user in SourceAccessConfigurations \
     (BASIC_AUTH, SASL_SCRAM_256_AUTH or SASL_SCRAM_512_AUTH), or another port";

/// What is said where a broker hangs up when it is asked for its versions (seen of 0.8.2.2).
pub const CLOSES_ON_VERSIONS: &str =
    "when asked for its versions, as Kafka 0.8 does, which is too old";

/// What is said where nothing comes back (seen of 0.9.0.1, which then never answers on that connection).
pub const SILENT_ON_VERSIONS: &str =
    "when asked for its versions: it hangs, or is Kafka 0.9, which is too old";

/// What is said of a listener with TLS.
const IS_TLS: &str = "that is a listener with TLS; name its root in SourceAccessConfigurations, or the server in tls_bootstrap_servers";

/// Who answers with these bytes in place of a frame's length, if it is not Kafka.
pub fn stranger(prefix: [u8; PREFIX_BYTES]) -> Option<&'static str> {
    match &prefix {
        b"HTTP" => Some(IS_HTTP),
        [0x15, 0x03, ..] => Some(IS_TLS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_BYTES_MAX;

    #[test]
    fn only_what_no_broker_sends_is_a_stranger() {
        let longest = i32::try_from(FRAME_BYTES_MAX).unwrap();
        for (prefix, is_stranger) in [
            (*b"HTTP", true),
            ([0x15, 0x03, 0x01, 0x00], true),
            (longest.to_be_bytes(), false),
            ([0, 0, 0, 10], false),
        ] {
            assert_eq!(stranger(prefix).is_some(), is_stranger, "{prefix:?}");
        }
        let least = i32::from_be_bytes([0x15, 0x03, 0, 0]);
        assert!(usize::try_from(least).is_ok_and(|bytes| bytes > FRAME_BYTES_MAX));
    }
}
