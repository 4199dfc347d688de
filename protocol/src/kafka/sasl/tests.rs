//! The RFCs' own exchanges, and what a hostile server may say.

use proptest::prelude::*;

use super::*;
use crate::limits::SCRAM_ITERATIONS_MAX;

fn credentials(mechanism: Mechanism, username: &str, password: &str) -> Arc<SaslCredentials> {
    Arc::new(SaslCredentials {
        mechanism,
        username: username.to_owned(),
        password: Zeroizing::new(password.to_owned()),
    })
}

fn exchange(mechanism: Mechanism, nonce: &str) -> Exchange {
    Exchange::new(credentials(mechanism, "user", "pencil"), nonce.to_owned())
}

fn text(token: &Token) -> &str {
    std::str::from_utf8(token.bytes()).unwrap()
}

/// One exchange with a server whose messages are known.
struct Vector {
    mechanism: Mechanism,
    nonce: &'static str,
    server_first: &'static str,
    client_final: &'static str,
    server_final: &'static str,
}

/// RFC 7677 section 3.
const SHA_256: Vector = Vector {
    mechanism: Mechanism::ScramSha256,
    nonce: "rOprNGfwEbeRWgbNEkqO",
    server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

/// No RFC has one for SHA-512: the same user, password, nonces and salt, worked out with Python's hashlib and
/// hmac.
const SHA_512: Vector = Vector {
    mechanism: Mechanism::ScramSha512,
    nonce: SHA_256.nonce,
    server_first: SHA_256.server_first,
    client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
    server_final: "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
};

/// An exchange up to the server's last word.
fn proving(vector: &Vector) -> Exchange {
    let mut exchange = exchange(vector.mechanism, vector.nonce);
    let first = exchange.first();
    assert_eq!(text(&first), format!("n,,n=user,r={}", vector.nonce));
    let Ok(Step::Derive(derivation)) = exchange.receive(vector.server_first.as_bytes()) else {
        panic!("no key is asked for");
    };
    let token = exchange.derived(&derivation.run()).unwrap();
    assert_eq!(text(&token), vector.client_final);
    exchange
}

#[test]
fn scram_is_that_of_the_rfc() {
    for vector in [SHA_256, SHA_512] {
        let mut exchange = proving(&vector);
        let done = exchange.receive(vector.server_final.as_bytes());
        assert_eq!(done, Ok(Step::Done));
    }
}

#[test]
fn plain_is_that_of_the_rfc() {
    let credentials = credentials(Mechanism::Plain, "tim", "tanstaaftanstaaf");
    let mut exchange = Exchange::new(credentials, String::new());
    assert_eq!(exchange.first().bytes(), b"\0tim\0tanstaaftanstaaf");
    assert_eq!(exchange.receive(b""), Ok(Step::Done));
}

#[test]
fn names_are_escaped_and_nothing_is_prepared() {
    let credentials = credentials(Mechanism::ScramSha256, "a,=b=2C \u{ad}\u{2168}", "p");
    let exchange = Exchange::new(credentials, "nonce".to_owned());
    let expected = "n,,n=a=2C=3Db=3D2C \u{ad}\u{2168},r=nonce";
    assert_eq!(text(&exchange.first()), expected);
}

fn check_first(server_first: &str, expected: &str) {
    let mut exchange = exchange(Mechanism::ScramSha256, "ours");
    let error = exchange.receive(server_first.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), format!("SCRAM-SHA-256: {expected}"));
}

#[test]
fn a_server_that_breaks_the_rules_gets_no_proof() {
    let nonce = "the server's nonce does not begin with ours";
    check_first("r=other,s=c2FsdA==,i=4096", nonce);
    check_first("r=ours,s=c2FsdA==,i=4096", nonce);
    check_first("r=oursa b,s=c2FsdA==,i=4096", nonce);
    check_first("r=ours\u{e4},s=c2FsdA==,i=4096", nonce);
    let missing = "the server's first message has no nonce";
    check_first("", missing);
    check_first("s=c2FsdA==,r=ours1,i=4096", missing);
    let salt = "the server's first message has no salt";
    check_first("r=ours1", salt);
    check_first("r=ours1,s=,i=4096", salt);
    check_first("r=ours1,s=c2FsdA,i=4096", salt);
    let count = "the server's first message has no iteration count";
    check_first("r=ours1,s=c2FsdA==", count);
    check_first("r=ours1,s=c2FsdA==,i=", count);
    check_first("r=ours1,s=c2FsdA==,i=-4096", count);
    check_first("r=ours1,s=c2FsdA==,i=+4096", count);
    let extension = "the server wants an extension that we lack";
    check_first("m=x,r=ours1,s=c2FsdA==,i=4096", extension);
    let bounds = "outside of 4096 to 1000000";
    for (asked, shown) in [
        ("0", "0"),
        ("4095", "4095"),
        ("1000001", "1000001"),
        ("2147483648", "2147483648"),
        ("99999999999999999999999", "18446744073709551615"),
    ] {
        let expected = format!("an iteration count of {shown}, {bounds}");
        check_first(&format!("r=ours1,s=c2FsdA==,i={asked}"), &expected);
    }
    check_first("e=unknown-user", "the server says \"unknown-user\"");
}

#[test]
fn bounds_of_the_iteration_count_are_taken_and_what_follows_is_passed_over() {
    for iterations in [4096, SCRAM_ITERATIONS_MAX] {
        let mut exchange = exchange(Mechanism::ScramSha256, "ours");
        let server_first = format!("r=ours1,s=c2FsdA==,i={iterations},x=y");
        let step = exchange.receive(server_first.as_bytes());
        assert!(matches!(step, Ok(Step::Derive(_))), "{step:?}");
    }
}

#[test]
fn a_server_that_cannot_sign_is_not_believed() {
    let wrong = "SCRAM-SHA-256: the server's signature is wrong: it does not know the password";
    let missing = "SCRAM-SHA-256: the server's final message has no signature";
    for (server_final, expected) in [
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=", wrong),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95A==", wrong),
        ("v=", wrong),
        ("", missing),
        ("v=?", missing),
        (SHA_256.server_first, missing),
        (
            "e=invalid-proof",
            "SCRAM-SHA-256: the server says \"invalid-proof\"",
        ),
    ] {
        let error = proving(&SHA_256)
            .receive(server_final.as_bytes())
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_server_speaks_in_its_turn_alone() {
    let mut early = exchange(Mechanism::ScramSha256, SHA_256.nonce);
    early.receive(SHA_256.server_first.as_bytes()).unwrap();
    early.receive(SHA_256.server_final.as_bytes()).unwrap_err();
    let mut late = proving(&SHA_256);
    late.receive(SHA_256.server_final.as_bytes()).unwrap();
    late.receive(SHA_256.server_final.as_bytes()).unwrap_err();
}

#[test]
fn a_key_of_another_password_is_not_taken() {
    let mut exchange = exchange(Mechanism::ScramSha256, "ours");
    let Ok(Step::Derive(mut derivation)) = exchange.receive(b"r=ours1,s=c2FsdA==,i=4096") else {
        panic!("no key is asked for");
    };
    let right = derivation.run();
    derivation.credentials = credentials(Mechanism::ScramSha256, "user", "pen");
    assert_eq!(exchange.derived(&derivation.run()), None);
    assert!(exchange.derived(&right).is_some());
    assert_eq!(exchange.derived(&right), None);
}

#[test]
fn long_challenges_are_not_read() {
    let challenge = vec![b'x'; SASL_CHALLENGE_BYTES_MAX + 1];
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha512] {
        exchange(mechanism, "ours").receive(&challenge).unwrap_err();
    }
}

#[test]
fn secrets_are_shown_nowhere_even_if_the_broker_says_them() {
    let credentials = credentials(Mechanism::ScramSha256, "user", "pencil");
    let mut exchange = Exchange::new(Arc::clone(&credentials), "ours".to_owned());
    let shown = format!("{credentials:?} {exchange:?} {:?}", exchange.first());
    assert!(!shown.contains("pencil"), "{shown}");
    let plain = plain::message(&credentials);
    let Ok(Step::Derive(derivation)) = exchange.receive(b"r=ours1,s=c2FsdA==,i=4096") else {
        panic!("no key is asked for");
    };
    let shown = format!("{plain:?} {derivation:?} {:?}", derivation.run());
    assert!(!shown.contains("pencil"), "{shown}");
    let error = exchange.not_offered(&["GSSAPI".to_owned(), "pencil".to_owned()]);
    assert_eq!(
        error.to_string(),
        "the broker does not offer SCRAM-SHA-256, but GSSAPI, ***"
    );
    let error = exchange.refused(
        ErrorCode::SASL_AUTHENTICATION_FAILED,
        "no user with\npencil\u{1b}[31m",
    );
    assert_eq!(
        error.to_string(),
        "SCRAM-SHA-256: the broker answers SASL_AUTHENTICATION_FAILED (58): no user with *** [31m"
    );
}

#[test]
fn nonces_differ_by_turn_and_by_key() {
    let mut nonces = Nonces::new(NonceKey::new([1; 32]));
    let mut others = Nonces::new(NonceKey::new([2; 32]));
    let all = [
        nonces.next_nonce(),
        nonces.next_nonce(),
        others.next_nonce(),
    ];
    assert!(
        all.iter()
            .all(|nonce| nonce.len() == 32 && !nonce.contains(','))
    );
    assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    assert_eq!(Nonces::new(NonceKey::new([1; 32])).next_nonce(), all[0]);
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_a_step(first in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
        let mut exchange = exchange(Mechanism::ScramSha256, "ours");
        drop(exchange.receive(&first));
        let mut exchange = proving(&SHA_256);
        exchange.receive(&[b"v=", &tail[..]].concat()).unwrap_err();
    }
}
