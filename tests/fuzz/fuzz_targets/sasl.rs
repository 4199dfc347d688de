//! Any lines as what a server says in a SCRAM exchange; the first byte picks the hash.
#![no_main]

use std::sync::Arc;

use forebay_protocol::kafka::sasl::{Exchange, Mechanism, SaslCredentials, Step};
use forebay_protocol::limits::ERROR_TEXT_CHARS_MAX;
use libfuzzer_sys::fuzz_target;

/// More than that takes too long for many runs.
const ITERATIONS_MAX: u32 = 4100;

fuzz_target!(|input: &[u8]| {
    let [hash, rest @ ..] = input else {
        return;
    };
    let mechanism = match hash & 1 {
        0 => Mechanism::ScramSha256,
        _ => Mechanism::ScramSha512,
    };
    let credentials = SaslCredentials {
        mechanism,
        username: "user".to_owned(),
        password: "pencil".to_owned().into(),
    };
    // RFC 7677, and so the seeds.
    let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
    let mut exchange = Exchange::new(Arc::new(credentials), nonce);
    for said in rest.split(|byte| *byte == b'\n') {
        match exchange.receive(said) {
            Ok(Step::Derive(derivation)) => {
                if derivation.iterations() > ITERATIONS_MAX {
                    return;
                }
                assert!(exchange.derived(&derivation.run()).is_some());
            }
            // Whoever does not know the password cannot sign, but for the RFC's own exchange, which is a seed.
            Ok(Step::Done) => {
                let known = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
                assert!(said.starts_with(known), "a signature was forged");
            }
            Ok(Step::Send(_)) => panic!("a client says nothing before it has a key"),
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains("pencil"), "{text}");
                assert!(text.chars().count() <= 2 * ERROR_TEXT_CHARS_MAX, "{text}");
                return;
            }
        }
    }
});
