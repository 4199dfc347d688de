//! Every form and scheme, by vectors that others made, and by what the installed OpenSSL makes.

use proptest::prelude::*;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::super::encrypted::{ITERATIONS_MAX, SCRYPT_BYTES_MAX};
use super::super::vectors::{JAVA_PASSWORD, PASSWORD, openssl, public_half, vector};
use super::*;

const OPENSSL: [&str; 19] = [
    "p256-PBE-MD5-DES",
    "p256-PBE-MD5-RC2-64",
    "p256-PBE-SHA1-DES",
    "p256-PBE-SHA1-RC2-64",
    "p256-PBE-SHA1-3DES",
    "p256-PBE-SHA1-2DES",
    "p256-PBE-SHA1-RC2-128",
    "p256-PBE-SHA1-RC2-40",
    "p256-aes-128-cbc",
    "p256-aes-192-cbc",
    "p256-aes-256-cbc",
    "p256-des3",
    "p256-des-cbc",
    "p256-hmacWithSHA1",
    "p256-hmacWithSHA224",
    "p256-hmacWithSHA256",
    "p256-hmacWithSHA384",
    "p256-hmacWithSHA512",
    "p256-scrypt",
];

const JAVA: [&str; 5] = [
    "java-PBEWithSHA1AndDESede",
    "java-PBEWithSHA1AndRC2_40",
    "java-PBEWithSHA1AndRC2_128",
    "java-PBEWithHmacSHA1AndAES_128",
    "java-PBEWithHmacSHA512AndAES_256",
];

fn plain(name: &str) -> Vec<u8> {
    public_half(&private_key(&vector(name), None).unwrap())
}

fn error(text: &str, password: Option<&str>) -> KeyError {
    match private_key(text, password) {
        Ok(_) => panic!("it is to be refused"),
        Err(error) => error,
    }
}

/// A PEM of these bytes.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = base64_simd::STANDARD.encode_to_string(der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

/// The only block of a vector.
fn der(name: &str) -> Vec<u8> {
    pem::blocks(&vector(name)).unwrap()[0].der.to_vec()
}

#[test]
fn each_form_of_a_key_is_that_key() {
    for (form, of) in [
        ("rsa-pkcs1", "rsa"),
        ("p256-sec1", "p256"),
        ("p256-sec1-parameters", "p256"),
        ("p384-sec1-no-public", "p384"),
        ("ed25519", "ed25519"),
    ] {
        assert_eq!(plain(form), plain(of), "{form}");
    }
}

#[test]
fn keys_that_java_wrote_get_their_public_half() {
    for curve in ["java-secp256r1", "java-secp384r1"] {
        let public = der(&format!("{curve}-public"));
        let public = SubjectPublicKeyInfoRef::from_der(&public).unwrap();
        assert_eq!(
            plain(curve),
            public.subject_public_key.raw_bytes(),
            "{curve}"
        );
    }
}

#[test]
fn each_scheme_is_decrypted_by_its_password_alone() {
    let expected = plain("p256");
    let openssl = OPENSSL.map(|name| (name, PASSWORD));
    let java = JAVA.map(|name| (name, JAVA_PASSWORD));
    for (name, password) in openssl.into_iter().chain(java) {
        let text = vector(name);
        let key = private_key(&text, Some(password)).unwrap_or_else(|it| panic!("{name}: {it}"));
        assert_eq!(public_half(&key), expected, "{name}");
        assert_eq!(error(&text, None), KeyError::PasswordMissing, "{name}");
        for wrong in ["", "sesam", "sesam-öffne-dich "] {
            assert_eq!(error(&text, Some(wrong)), KeyError::PasswordWrong, "{name}");
        }
    }
}

#[test]
fn a_password_that_nothing_needs_is_not_looked_at() {
    private_key(&vector("rsa"), Some("any")).unwrap();
}

#[test]
fn what_a_wrong_password_leaves_is_no_key_even_where_its_padding_is_right() {
    let text = vector("p256-PBE-SHA1-3DES");
    for number in 0..1000 {
        let wrong = number.to_string();
        assert_eq!(error(&text, Some(&wrong)), KeyError::PasswordWrong);
    }
}

#[test]
fn attributes_and_a_public_half_behind_the_key_do_no_harm() {
    let mut key = der("p256");
    let attributes = b"\xa0\x0d\x30\x0b\x06\x03\x55\x1d\x0f\x31\x04\x03\x02\x00\x80";
    key.extend_from_slice(attributes);
    key.extend_from_slice(b"\xa1\x02\x00\x04");
    // Of a sequence below 256 bytes the third is the length.
    assert_eq!(key[1], 0x81);
    key[2] += u8::try_from(attributes.len() + 4).unwrap();
    let key = private_key(&pem("PRIVATE KEY", &key), None).unwrap();
    assert_eq!(public_half(&key), plain("p256"));
}

#[test]
fn what_is_refused_is_told_what_to_do() {
    let cases = [
        ("refused-proc-type", "openssl pkcs8 -topk8 -in key.pem"),
        (
            "refused-rc2",
            "encrypted with RC2-CBC under PBES2, which is not supported; encrypt it",
        ),
        (
            "refused-rc4",
            "encrypted with pbeWithSHAAnd128BitRC4, which is not supported",
        ),
        (
            "refused-iterations",
            "costs too much (2000001 iterations, of 2000000)",
        ),
        (
            "refused-p521",
            "a key for EC on P-521, which is not supported; take RSA with 2048",
        ),
        ("refused-explicit", "openssl ec -param_enc named_curve"),
        ("refused-ed448", "a key for Ed448, which"),
        ("refused-dsa", "a key for DSA, which"),
        ("refused-rsa-pss", "a key for RSASSA-PSS, which"),
        (
            "refused-rsa1024",
            "an RSA key of 1024 bits; take one of 2048",
        ),
        ("client", "holds no PRIVATE KEY, but CERTIFICATE"),
        (
            "java-secp256r1-public",
            "holds no PRIVATE KEY, but PUBLIC KEY",
        ),
    ];
    for (name, expected) in cases {
        let said = error(&vector(name), Some(PASSWORD)).to_string();
        assert!(said.contains(expected), "{name}: {said}");
    }
}

#[test]
fn there_is_one_key() {
    let two = vector("p256") + &vector("rsa");
    assert_eq!(error(&two, None), KeyError::Several(2));
    assert_eq!(error("sesam", None), KeyError::Pem(PemError::NoBlock));
    private_key(&(vector("client") + &vector("p256")), None).unwrap();
}

#[test]
fn a_label_that_lies_is_named() {
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ] {
        let said = error(&pem(label, &der("client")), Some("any"));
        assert_eq!(said, KeyError::Malformed(label.to_owned()));
    }
    let said = error(&pem("OPENSSH PRIVATE KEY", b"openssh-key-v1"), None).to_string();
    assert!(said.contains("a key for OPENSSH, which"), "{said}");
    let said = error(&pem("DSA PRIVATE KEY", &der("p256")), None).to_string();
    assert!(said.contains("a key for DSA, which"), "{said}");
}

/// Where `part` begins.
fn find(whole: &[u8], part: &[u8]) -> usize {
    let mut places = whole.windows(part.len());
    places.position(|it| it == part).unwrap()
}

#[test]
fn scrypt_is_bounded_and_its_parameters_are_checked() {
    // N=16384, r=8, p=1.
    let numbers = b"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x01";
    let key = der("p256-scrypt");
    let at = find(&key, numbers);
    let with = |numbers: &[u8; 10]| {
        let mut key = key.clone();
        key[at..at + 10].copy_from_slice(numbers);
        error(&pem("ENCRYPTED PRIVATE KEY", &key), Some(PASSWORD))
    };
    let malformed = KeyError::Malformed("ENCRYPTED PRIVATE KEY".to_owned());
    // N is 0 (not minimal, so no DER), 1, no power of two; r and p are 0.
    assert_eq!(with(b"\x02\x02\x00\x00\x02\x01\x08\x02\x01\x01"), malformed);
    assert_eq!(with(b"\x02\x02\x40\x01\x02\x01\x08\x02\x01\x01"), malformed);
    assert_eq!(with(b"\x02\x02\x40\x00\x02\x01\x00\x02\x01\x01"), malformed);
    assert_eq!(with(b"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x00"), malformed);
    assert_eq!(16384 * 8 * 128 * 4, SCRYPT_BYTES_MAX);
    let expected = "scrypt with N=16384, r=33, p=1";
    let costly = KeyError::TooCostly(expected.to_owned());
    assert_eq!(with(b"\x02\x02\x40\x00\x02\x01\x21\x02\x01\x01"), costly);
    let expected = "scrypt with N=16384, r=8, p=5";
    let costly = KeyError::TooCostly(expected.to_owned());
    assert_eq!(with(b"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x05"), costly);
}

#[test]
fn any_change_of_the_parameters_gives_a_key_or_an_error() {
    for name in OPENSSL {
        let key = der(name);
        for at in 0..key.len().min(120) {
            let mut changed = key.clone();
            changed[at] = changed[at].wrapping_sub(1);
            // Numbers of rounds would only take time.
            if !changed.windows(2).any(|it| it == b"\x02\x03") {
                let _any = private_key(&pem("ENCRYPTED PRIVATE KEY", &changed), Some(PASSWORD));
            }
        }
    }
}

#[test]
fn what_is_cut_off_gives_an_error() {
    for name in [
        "rsa",
        "p384",
        "ed25519",
        "rsa-pkcs1",
        "p256-sec1",
        "p256-PBE-MD5-DES",
    ] {
        let text = vector(name);
        // All but the line break at the end.
        for end in 0..text.len() - 1 {
            error(text.split_at(end).0, Some(PASSWORD));
        }
        let label = pem::blocks(&text).unwrap()[0].label.clone();
        let whole = der(name);
        for end in 1..whole.len() {
            error(&pem(&label, &whole[..end]), Some(PASSWORD));
        }
    }
}

#[test]
fn what_this_machines_openssl_encrypts_is_decrypted() {
    let legacy = "-provider legacy -provider default";
    let mut options = Vec::new();
    for scheme in [
        "PBE-MD5-DES",
        "PBE-MD5-RC2-64",
        "PBE-SHA1-DES",
        "PBE-SHA1-RC2-64",
        "PBE-SHA1-3DES",
        "PBE-SHA1-2DES",
        "PBE-SHA1-RC2-128",
        "PBE-SHA1-RC2-40",
    ] {
        options.push(format!("-v1 {scheme} {legacy}"));
    }
    for cipher in ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "des3"] {
        for hash in ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"] {
            options.push(format!("-v2 {cipher} -v2prf hmacWith{hash}"));
        }
    }
    options.push("-scrypt".to_owned());
    options.push("-iter 100000 -v2 aes-256-cbc".to_owned());
    let passwords = [
        "Grüße, 世界",
        "",
        "a",
        "long enough to fill more than a block of the hash, of which one has 64 bytes",
    ];
    for kind in [
        "RSA -pkeyopt rsa_keygen_bits:2048",
        "EC -pkeyopt ec_paramgen_curve:P-256",
        "EC -pkeyopt ec_paramgen_curve:P-384",
        "ED25519",
    ] {
        let Some(text) = openssl(&format!("genpkey -algorithm {kind}"), "") else {
            continue;
        };
        let expected = public_half(&private_key(&text, None).unwrap());
        for options in &options {
            // What is encrypted makes no difference to the password.
            let all = kind.ends_with("P-256");
            for password in passwords.iter().take(if all { passwords.len() } else { 1 }) {
                let password = password.replace(' ', "_");
                let command = format!("pkcs8 -topk8 -passout pass:{password} {options}");
                if let Some(encrypted) = openssl(&command, &text) {
                    let key = private_key(&encrypted, Some(&password));
                    let key = key.unwrap_or_else(|error| panic!("{command}: {error}"));
                    assert_eq!(public_half(&key), expected, "{command}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_key_or_an_error(
        der in prop::collection::vec(any::<u8>(), 1..200),
        label in "(|RSA |EC |ENCRYPTED |DSA )PRIVATE KEY"
    ) {
        let _any = private_key(&pem(&label, &der), Some("any"));
    }

    #[test]
    fn any_change_of_a_key_gives_a_key_or_an_error(
        name in prop::sample::select(vec!["rsa", "p256", "p384", "ed25519", "java-secp256r1", "rsa-pkcs1", "p256-sec1", "p384-sec1-no-public"]),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let label = pem::blocks(&vector(name)).unwrap()[0].label.clone();
        let mut der = der(name);
        let at = at.index(der.len());
        der[at] = to;
        let _any = private_key(&pem(&label, &der), None);
    }

    #[test]
    fn the_bound_of_rounds_holds_whatever_their_number(count in u64::from(ITERATIONS_MAX) + 1..) {
        prop_assert!(encrypted::iterations(count).is_err());
    }
}
