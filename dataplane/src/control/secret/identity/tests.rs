//! The chain of `tests/vectors/keys`, whole and out of order, and keys that are not its own.

use super::super::vectors::{PASSWORD, vector};
use super::*;

/// 2027, at which all of them are valid.
const NOW: u64 = 1_800_000_000;

fn chain(names: &[&str]) -> String {
    names.iter().map(|name| vector(name)).collect()
}

fn error(now: u64, certificates: &[&str], key: &str) -> String {
    match identity_at(now, &chain(certificates), &vector(key), None) {
        Ok(_) => panic!("it is to be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_chain_and_the_key_of_its_first_certificate_are_an_identity() {
    for names in [
        &["client", "intermediate", "root"][..],
        &["client", "intermediate"],
        &["client"],
    ] {
        let identity = identity_at(NOW, &chain(names), &vector("p256"), None).unwrap();
        assert_eq!(identity.cert.len(), names.len());
        let expected = certificate::certificates(&chain(names)).unwrap();
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(identity.cert[at], expected.der);
        }
    }
    let key = vector("p256-PBE-SHA1-3DES");
    identity(&vector("client"), &key, Some(PASSWORD)).unwrap();
    identity(&vector("root"), &vector("rsa-pkcs1"), None).unwrap();
    identity(
        &vector("intermediate"),
        &vector("p384-sec1-no-public"),
        None,
    )
    .unwrap();
}

#[test]
fn a_key_of_another_certificate_is_told_where_its_own_stands() {
    let said = error(NOW, &["client", "intermediate", "root"], "ed25519");
    assert_eq!(
        said,
        "privateKey is not the key of the certificate (CN=client,O=Example)"
    );
    let said = error(NOW, &["root", "intermediate", "client"], "p256");
    let expected = "privateKey is the key of certificate 3 (CN=client,O=Example), which must";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn each_certificate_is_followed_by_its_issuer() {
    let said = error(NOW, &["client", "root", "intermediate"], "p256");
    let expected = "certificate 2 (CN=root,O=Example) is not that of the issuer of the one before \
                    (CN=intermediate,O=Example): ";
    assert!(said.starts_with(expected), "{said}");
    error(NOW, &["client", "client"], "p256");
}

#[test]
fn out_of_its_time_a_certificate_is_refused_with_that_time() {
    let [client] = &certificate::certificates(&vector("client")).unwrap()[..] else {
        panic!("there is one");
    };
    let until = certificate::time(client.not_after);
    let said = error(client.not_after + 1, &["client"], "p256");
    let expected =
        format!("certificate 1 (CN=client,O=Example) has expired: it was valid until {until}");
    assert_eq!(said, expected);
    let from = certificate::time(client.not_before);
    let said = error(client.not_before - 1, &["client"], "p256");
    let expected = format!("certificate 1 (CN=client,O=Example) is not valid before {from}");
    assert_eq!(said, expected);
    for now in [client.not_before, client.not_after] {
        identity_at(now, &vector("client"), &vector("p256"), None).unwrap();
    }
}

#[test]
fn an_error_says_which_of_the_two_is_meant() {
    let said = identity(&vector("p256"), &vector("p256"), None).unwrap_err();
    assert_eq!(
        said.to_string(),
        "certificate: it holds no CERTIFICATE, but PRIVATE KEY"
    );
    let said = identity(&vector("client"), &vector("client"), None).unwrap_err();
    assert_eq!(
        said.to_string(),
        "privateKey: it holds no PRIVATE KEY, but CERTIFICATE"
    );
}
