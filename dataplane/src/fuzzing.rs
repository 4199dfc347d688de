//! What fuzz targets reach of this crate: a function for each, which panics if a promise is broken.
//!
//! It exists for `tests/fuzz` (`cfg(fuzzing)`) and for tests, which run the fuzzer's seeds through it.
//!
//! Invariant: no seam for anything else; what it calls is what the node calls.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use crate::control::secret::certificate::certificates;
use crate::control::secret::document::Document;
use crate::control::secret::identity::identity;
use crate::control::secret::key::private_key;

mod tls;

/// More than any message about a secret takes.
const MESSAGE_CHARS_MAX: usize = 2048;

/// The password of the keys among the seeds, which no message may tell.
const PASSWORD: &str = "sesam-öffne-dich";

/// Any text as a secret; the first byte says of which kind: a whole document, certificates, or a key with the
/// password of the seeds.
pub fn secret(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match kind {
        b'd' => document(text),
        b'c' => told(&[], certificates(text).map(drop)),
        b'k' => told(&[text], private_key(text, Some(PASSWORD)).map(drop)),
        _ => {}
    }
}

/// As `control::access` does it, for each use that a document may be of.
fn document(text: &str) {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => return told(&[], Err(error)),
    };
    assert_eq!(format!("{document:?}"), "Document(***)");
    told(&[], document.sasl().map(drop));
    match document.root_certificates() {
        Ok(roots) => told(&[], certificates(&roots).map(drop)),
        Err(error) => told(&[], Err(error)),
    }
    match document.client_certificate() {
        Ok(own) => {
            let password = own.private_key_password.as_ref().map(|it| it.as_str());
            let texts = [own.certificate.as_str(), own.private_key.as_str()];
            told(&texts, identity(texts[0], texts[1], password).map(drop));
        }
        Err(error) => told(&[], Err(error)),
    }
}

/// An error is fit for a log line. What it may quote of these texts are labels and names, which are no secret
/// unless somebody writes one there.
fn told<E: std::error::Error>(quoted: &[&str], outcome: Result<(), E>) {
    let Err(error) = outcome else {
        return;
    };
    let text = error.to_string();
    // A label is told without its control characters.
    let printable = |text: &&str| text.replace(char::is_control, "");
    let is_quoted = quoted.iter().map(printable).any(|it| it.contains(PASSWORD));
    let is_checked = !quoted.is_empty() && !is_quoted;
    assert!(!is_checked || !text.contains(PASSWORD), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.chars().count() <= MESSAGE_CHARS_MAX, "{text}");
}

/// A TLS connection of ours to a server of rustls's, whose bytes come in the pieces, and with the changes, that
/// `input` says.
pub fn tls(input: &[u8], server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) {
    tls::Play::new(server, client).play(input);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::net::trial::tls::{Pki, VERSIONS};

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds");
        let files = std::fs::read_dir(seeds.join(target)).unwrap();
        let seeds: Vec<_> = files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        assert!(!seeds.is_empty(), "no seeds for {target}");
        seeds
    }

    /// Seeds as they are, and with some of their bytes changed, lost or doubled: what a machine without a fuzzer
    /// can tell.
    fn for_seeds(target: &str, check: impl Fn(&[u8])) {
        let seeds = seeds(target);
        seeds.iter().for_each(|seed| check(seed));
        let changes = proptest::collection::vec(any::<(u16, u8, u8)>(), 1..5);
        let inputs = (proptest::sample::select(seeds), changes);
        let mut runner = TestRunner::new(Config::default());
        let survived = runner.run(&inputs, |(mut input, changes)| {
            for (at, kind, byte) in changes {
                let at = usize::from(at) % input.len();
                match kind % 4 {
                    0 => input[at] = byte,
                    1 => input[at] ^= 1 << (byte % 8),
                    2 => drop(input.drain(at..input.len().min(at + usize::from(byte % 16)))),
                    _ => input.insert(at, byte),
                }
                if input.is_empty() {
                    break;
                }
            }
            check(&input);
            Ok(())
        });
        survived.unwrap();
    }

    #[test]
    fn seeds_of_secrets_are_survived() {
        for_seeds("secret", secret);
    }

    #[test]
    fn seeds_of_tls_are_survived() {
        for version in VERSIONS {
            let pki = Pki::new("root");
            let (server, client) = (Arc::new(pki.server()), pki.client(version));
            for_seeds("tls", |input| {
                tls(input.get(1..).unwrap_or_default(), &server, &client);
            });
        }
    }
}
