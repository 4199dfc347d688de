//! The server's side of SCRAM (RFC 5802), on other crates than Forebay's.
//!
//! Invariant: a client that does not know the password never gets a signature.

use base64_simd::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// A SCRAM mechanism's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// What the server keeps of a password.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    hash: Hash,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// One exchange whose first message was answered.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    verifier: Verifier,
    nonce: String,
    client_first_bare: String,
    server_first: String,
}

/// What a client says first.
pub(super) struct ClientFirst {
    pub(super) user: String,
    pub(super) nonce: String,
    bare: String,
}

impl Hash {
    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        macro_rules! with {
            ($hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice(key).expect("any length will do");
                mac.update(message);
                mac.finalize().into_bytes().to_vec()
            }};
        }
        match self {
            Self::Sha256 => with!(Sha256),
            Self::Sha512 => with!(Sha512),
        }
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    /// `Hi` of the RFC.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut last = self.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut salted = last.clone();
        for _ in 1..iterations {
            last = self.hmac(password, &last);
            xor(&mut salted, &last);
        }
        salted
    }
}

impl Verifier {
    pub(super) fn new(hash: Hash, user: &str, password: &str, iterations: u32) -> Self {
        // As after a change in a real cluster, another password has another salt.
        let salt = Sha256::digest(format!("{user} {password}"))[..16].to_vec();
        let salted = hash.salted(password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        Self {
            hash,
            salt,
            iterations,
            stored_key: hash.digest(&client_key),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }
}

impl ClientFirst {
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let bare = std::str::from_utf8(message).ok()?.strip_prefix("n,,")?;
        let (user, nonce) = bare.split_once(',')?;
        let user = user.strip_prefix("n=")?;
        Some(Self {
            user: user.replace("=2C", ",").replace("=3D", "="),
            nonce: nonce
                .strip_prefix("r=")
                .filter(|it| !it.is_empty())?
                .to_owned(),
            bare: bare.to_owned(),
        })
    }
}

impl Exchange {
    /// The exchange, and what the server says first.
    pub(super) fn begin(verifier: Verifier, first: &ClientFirst, nonce: &str) -> (Self, String) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = STANDARD.encode_to_string(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let exchange = Self {
            verifier,
            nonce,
            client_first_bare: first.bare.clone(),
            server_first: server_first.clone(),
        };
        (exchange, server_first)
    }

    /// What the server says at last, if the client knows the password.
    pub(super) fn finish(&self, message: &[u8]) -> Option<String> {
        let message = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        if without_proof != format!("c=biws,r={}", self.nonce) {
            return None;
        }
        let (first, answer) = (&self.client_first_bare, &self.server_first);
        let auth_message = format!("{first},{answer},{without_proof}");
        let Verifier {
            hash,
            stored_key,
            server_key,
            ..
        } = &self.verifier;
        let mut client_key = STANDARD.decode_to_vec(proof).ok()?;
        xor(
            &mut client_key,
            &hash.hmac(stored_key, auth_message.as_bytes()),
        );
        if hash.digest(&client_key) != *stored_key {
            return None;
        }
        let signature = hash.hmac(server_key, auth_message.as_bytes());
        Some(format!("v={}", STANDARD.encode_to_string(&signature)))
    }
}

fn xor(into: &mut [u8], with: &[u8]) {
    for (into, with) in into.iter_mut().zip(with) {
        *into ^= with;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_that_of_rfc_7677() {
        let mut verifier = Verifier::new(Hash::Sha256, "user", "pencil", 1);
        let salt = STANDARD.decode_to_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = Hash::Sha256.salted(b"pencil", &salt, 4096);
        verifier.stored_key = Hash::Sha256.digest(&Hash::Sha256.hmac(&salted, b"Client Key"));
        verifier.server_key = Hash::Sha256.hmac(&salted, b"Server Key");
        (verifier.salt, verifier.iterations) = (salt, 4096);
        let first = ClientFirst::read(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (exchange, said) = Exchange::begin(verifier, &first, nonce);
        assert_eq!(
            said,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let proved = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let last = exchange.finish(proved.as_bytes()).unwrap();
        assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(
            exchange.finish(proved.replace("dHz", "dHy").as_bytes()),
            None
        );
    }
}
