//! What a connection does with brokers that want to know who we are.

use std::sync::Arc;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiVersionsResponse as WireVersions, RequestHeader,
    SaslAuthenticateRequest as WireAuthenticate, SaslAuthenticateResponse as WireAuthenticated,
    SaslHandshakeRequest as WireHandshake, SaslHandshakeResponse as WireHandshaken,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use zeroize::Zeroizing;

use super::*;
use crate::kafka::sasl::{Derivation, Mechanism, SaslCredentials};

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
/// RFC 7677.
const SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn exchange(mechanism: Mechanism) -> Exchange {
    let credentials = SaslCredentials {
        mechanism,
        username: "user".to_owned(),
        password: Zeroizing::new("pencil".to_owned()),
    };
    Exchange::new(Arc::new(credentials), NONCE.to_owned())
}

/// A broker's frame; `tags` where the header is flexible.
fn frame(correlation: i32, tags: bool, version: i16, body: &impl Encodable) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(correlation);
    if tags {
        out.put_u8(0);
    }
    body.encode(&mut out, version).unwrap();
    out.freeze()
}

/// A broker with these versions of SaslHandshake and SaslAuthenticate.
fn versions(handshake: Option<i16>, authenticate: Option<i16>) -> WireVersions {
    let range = |api: ApiKey, max| {
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_max_version(max)
    };
    let others = ApiKey::ALL
        .into_iter()
        .filter(|api| !matches!(api, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate))
        .map(|api| range(api, 5));
    let handshake = handshake.map(|max| range(ApiKey::SaslHandshake, max));
    let authenticate = authenticate.map(|max| range(ApiKey::SaslAuthenticate, max));
    let all = others.chain(handshake).chain(authenticate);
    WireVersions::default().with_api_keys(all.collect())
}

/// A connection whose SaslHandshake was sent, and that frame.
fn opened(mechanism: Mechanism, told: &WireVersions) -> (Connection, Bytes) {
    let mut connection = Connection::new("a-0", Some(exchange(mechanism)));
    connection.open();
    let Ok(Received::Send(handshake)) = connection.receive(frame(0, false, 4, told)) else {
        panic!("no handshake");
    };
    assert!(connection.is_authenticating() && !connection.is_ready());
    (connection, handshake)
}

fn sent(received: Result<Received, ConnectionError>) -> Bytes {
    match received {
        Ok(Received::Send(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

fn key_asked(received: Result<Received, ConnectionError>) -> Derivation {
    match received {
        Ok(Received::Derive(derivation)) => derivation,
        other => panic!("{other:?}"),
    }
}

fn version_of(frame: &Bytes) -> i16 {
    i16::from_be_bytes([frame[6], frame[7]])
}

fn agreed() -> WireHandshaken {
    WireHandshaken::default()
}

/// A mechanism's message in version 2.
fn said(correlation: i32, challenge: &'static [u8], lifetime_ms: i64) -> Bytes {
    let body = WireAuthenticated::default()
        .with_auth_bytes(Bytes::from_static(challenge))
        .with_session_lifetime_ms(lifetime_ms);
    frame(correlation, true, 2, &body)
}

fn token_of(sent: &Bytes) -> Bytes {
    let mut body = sent.slice(4..);
    let header = RequestHeader::decode(&mut body, 2).unwrap();
    assert_eq!(header.request_api_key, 36);
    WireAuthenticate::decode(&mut body, 2).unwrap().auth_bytes
}

#[test]
fn scram_goes_in_requests_and_the_session_has_its_lifetime() {
    let told = versions(Some(1), Some(2));
    let (mut connection, handshake) = opened(Mechanism::ScramSha256, &told);
    let mut body = handshake.slice(4..);
    let header = RequestHeader::decode(&mut body, 1).unwrap();
    let api = (header.request_api_key, header.request_api_version);
    assert_eq!(api, (17, 1));
    let body = WireHandshake::decode(&mut body, 1).unwrap();
    assert_eq!(&*body.mechanism, "SCRAM-SHA-256");
    let first = sent(connection.receive(frame(1, false, 1, &agreed())));
    assert_eq!(
        token_of(&first),
        format!("n,,n=user,r={NONCE}").into_bytes()
    );
    let derivation = key_asked(connection.receive(said(2, SERVER_FIRST, 0)));
    let key = derivation.run();
    let last = connection.derived(&key).unwrap().unwrap();
    assert!(token_of(&last).ends_with(b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
    assert_eq!(connection.derived(&key), Ok(None));
    assert!(!connection.is_ready());
    let received = connection.receive(said(3, SERVER_FINAL, 60_000));
    assert_eq!(received, Ok(Received::Ready));
    assert!(connection.is_ready());
    let lifetime = Some(Duration::from_secs(60));
    assert_eq!(connection.session_lifetime(), lifetime);
}

#[test]
fn session_is_renewed_on_the_same_connection() {
    let (mut connection, _) = opened(Mechanism::Plain, &versions(Some(1), Some(2)));
    let first = sent(connection.receive(frame(1, false, 1, &agreed())));
    assert_eq!(token_of(&first), &b"\0user\0pencil"[..]);
    assert_eq!(connection.receive(said(2, b"", 1000)), Ok(Received::Ready));
    let again = connection.authenticate_again(exchange(Mechanism::Plain));
    assert_eq!(version_of(&again.unwrap()), 1);
    assert!(!connection.is_ready());
    sent(connection.receive(frame(3, false, 1, &agreed())));
    let ready = connection.receive(said(4, b"", 0));
    assert_eq!(ready, Ok(Received::Ready));
    assert_eq!(connection.session_lifetime(), None);
}

#[test]
fn a_renewal_that_comes_too_soon_is_no_wrong_port() {
    let (mut connection, _) = opened(Mechanism::Plain, &versions(Some(1), Some(2)));
    sent(connection.receive(frame(1, false, 1, &agreed())));
    connection.receive(said(2, b"", 1000)).unwrap();
    connection
        .authenticate_again(exchange(Mechanism::Plain))
        .unwrap();
    check_refusal(
        connection.receive(frame(3, false, 1, &agreed().with_error_code(34))),
        "PLAIN: the broker answers ILLEGAL_SASL_STATE (34)",
    );
}

#[test]
fn old_brokers_take_the_messages_as_they_are() {
    for told in [versions(Some(0), None), versions(Some(1), None)] {
        let (mut connection, handshake) = opened(Mechanism::ScramSha256, &told);
        assert_eq!(version_of(&handshake), 0);
        assert_eq!(connection.refused_by_closing(), None);
        let first = sent(connection.receive(frame(1, false, 0, &agreed())));
        let expected = format!("n,,n=user,r={NONCE}");
        let length = i32::try_from(expected.len()).unwrap().to_be_bytes();
        assert_eq!(first, [&length, expected.as_bytes()].concat());
        let closed = connection.refused_by_closing().unwrap().to_string();
        assert!(closed.contains("closed the connection"), "{closed}");
        let derivation = key_asked(connection.receive(Bytes::from_static(SERVER_FIRST)));
        connection.derived(&derivation.run()).unwrap().unwrap();
        let ready = connection.receive(Bytes::from_static(SERVER_FINAL));
        assert_eq!(ready, Ok(Received::Ready));
        assert_eq!(connection.refused_by_closing(), None);
    }
}

#[test]
fn old_broker_answers_plain_with_nothing() {
    let (mut connection, _) = opened(Mechanism::Plain, &versions(Some(0), None));
    let first = sent(connection.receive(frame(1, false, 0, &agreed())));
    assert_eq!(&first[..], b"\0\0\0\x0c\0user\0pencil");
    assert_eq!(connection.receive(Bytes::new()), Ok(Received::Ready));
}

fn check_refusal(received: Result<Received, ConnectionError>, expected: &str) {
    let error = received.unwrap_err();
    assert!(matches!(error, ConnectionError::Sasl(_)), "{error}");
    let expected = format!("SASL authentication failed: {expected}");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn refusals_are_told_in_the_brokers_words() {
    let told = versions(Some(1), Some(2));
    let (mut connection, _) = opened(Mechanism::Plain, &told);
    let body = agreed()
        .with_error_code(33)
        .with_mechanisms(vec![StrBytes::from_static_str("GSSAPI")]);
    check_refusal(
        connection.receive(frame(1, false, 1, &body)),
        "the broker does not offer PLAIN, but GSSAPI",
    );
    let (mut connection, _) = opened(Mechanism::Plain, &told);
    check_refusal(
        connection.receive(frame(1, false, 1, &agreed().with_error_code(34))),
        "the listener does not expect SASL; name the port of one that does, or take the user out of SourceAccessConfigurations",
    );
    let (mut connection, _) = opened(Mechanism::Plain, &told);
    sent(connection.receive(frame(1, false, 1, &agreed())));
    let body = WireAuthenticated::default()
        .with_error_code(58)
        .with_error_message(Some(StrBytes::from_static_str("Invalid username")));
    check_refusal(
        connection.receive(frame(2, true, 2, &body)),
        "PLAIN: the broker answers SASL_AUTHENTICATION_FAILED (58): Invalid username",
    );
    let mut connection = Connection::new("a-0", Some(exchange(Mechanism::Plain)));
    connection.open();
    check_refusal(
        connection.receive(frame(0, false, 4, &versions(None, Some(2)))),
        "the broker offers no SASL",
    );
}

#[test]
fn a_broker_that_says_yes_too_early_is_not_believed() {
    let (mut connection, _) = opened(Mechanism::ScramSha256, &versions(Some(1), Some(2)));
    sent(connection.receive(frame(1, false, 1, &agreed())));
    check_refusal(
        connection.receive(said(2, b"", 0)),
        "SCRAM-SHA-256: the server's first message has no nonce",
    );
}

#[test]
fn a_broker_that_speaks_while_a_key_is_derived_is_refused() {
    for (told, first, more) in [
        (
            versions(Some(1), Some(2)),
            said(2, SERVER_FIRST, 0),
            said(3, b"", 0),
        ),
        (
            versions(Some(0), None),
            Bytes::from_static(SERVER_FIRST),
            Bytes::from_static(SERVER_FINAL),
        ),
    ] {
        let (mut connection, _) = opened(Mechanism::ScramSha256, &told);
        sent(connection.receive(frame(1, false, 1, &agreed())));
        key_asked(connection.receive(first));
        let error = connection.receive(more).unwrap_err();
        assert!(
            matches!(error, ConnectionError::NothingAsked { .. }),
            "{error}"
        );
    }
}

#[test]
fn the_password_is_not_shown() {
    let (connection, _) = opened(Mechanism::Plain, &versions(Some(1), Some(2)));
    assert!(!format!("{connection:?}").contains("pencil"));
}
