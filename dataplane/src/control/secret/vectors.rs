//! For tests: what stands in `tests/vectors/keys`, and whether a key can sign.

use std::path::Path;
use std::process::{Command, Stdio};

use rustls::SignatureScheme;
use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use x509_cert::der::Decode;
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// Of all keys that OpenSSL has encrypted.
pub(super) const PASSWORD: &str = "sesam-öffne-dich";

/// Of those that Java has.
pub(super) const JAVA_PASSWORD: &str = "sesam-oeffne-dich";

/// The text of a file.
pub(super) fn vector(name: &str) -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/keys");
    let path = crates.join(format!("{name}.pem"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The public half of a key that signs and whose signature holds.
pub(super) fn public_half(key: &PrivateKeyDer<'_>) -> Vec<u8> {
    let key = any_supported_type(key).unwrap();
    let spki = key.public_key().unwrap();
    let spki = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
    let public = spki.subject_public_key.raw_bytes();
    let offered = [
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ED25519,
    ];
    let signer = key.choose_scheme(&offered).unwrap();
    let signature = signer.sign(b"a message").unwrap();
    let algorithms = default_provider().signature_verification_algorithms;
    let (_, verifiers) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signer.scheme())
        .unwrap();
    let holds = |message: &[u8]| {
        let mut verifiers = verifiers.iter();
        verifiers.any(|it| it.verify_signature(public, message, &signature).is_ok())
    };
    assert!(holds(b"a message"));
    assert!(!holds(b"another message"));
    public.to_vec()
}

/// What an `openssl` command writes; none, said aloud, where it cannot.
pub(super) fn openssl(arguments: &str, input: &str) -> Option<String> {
    let started = Command::new("openssl")
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = started.and_then(|mut child| {
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes())?;
        child.wait_with_output()
    });
    let failed = match output {
        Ok(output) if output.status.success() => {
            return Some(String::from_utf8(output.stdout).unwrap());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    // Past the capture of the test harness: a skipped test must not look like a passed one.
    let line = format!("SKIPPED openssl {arguments}: {}\n", failed.trim());
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    None
}
