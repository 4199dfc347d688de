//! A client certificate and its key, put together for TLS.
//!
//! Invariant: the key is that of the first certificate, each certificate is followed by its issuer, and all
//! of them are valid now.

use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use super::certificate::{self, Certificate, CertificateError};
use super::key::{self, KeyError};
use crate::clock;

/// Why the two do not make an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The certificates cannot be read.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The key cannot be read.
    #[error("privateKey: {0}")]
    Key(#[from] KeyError),
    /// It belongs to none.
    #[error("privateKey is not the key of the certificate ({subject})")]
    OtherKey {
        /// Of the first certificate.
        subject: String,
    },
    /// The right one does not come first.
    #[error(
        "privateKey is the key of certificate {number} ({subject}), which must come first: \
         the client's certificate, then intermediates, then the root"
    )]
    NotFirst {
        /// Where it stands, from 1.
        number: usize,
        /// Whose it is.
        subject: String,
    },
    /// The chain leads elsewhere.
    #[error(
        "certificate {number} ({subject}) is not that of the issuer of the one before ({issuer}): \
         the client's certificate, then intermediates, then the root"
    )]
    Order {
        /// Where it stands, from 1.
        number: usize,
        /// Whose it is.
        subject: String,
        /// Whose it ought to be.
        issuer: String,
    },
    /// Too late.
    #[error("certificate {number} ({subject}) has expired: it was valid until {until}")]
    Expired {
        /// Where it stands, from 1.
        number: usize,
        /// Whose it is.
        subject: String,
        /// When.
        until: String,
    },
    /// Too early.
    #[error("certificate {number} ({subject}) is not valid before {from}")]
    NotYetValid {
        /// Where it stands, from 1.
        number: usize,
        /// Whose it is.
        subject: String,
        /// When.
        from: String,
    },
}

/// Reads and checks what a client presents.
pub(crate) fn identity(
    certificate_pem: &str,
    key_pem: &str,
    password: Option<&str>,
) -> Result<Arc<CertifiedKey>, IdentityError> {
    identity_at(
        clock::unix_now().as_secs(),
        certificate_pem,
        key_pem,
        password,
    )
}

fn identity_at(
    now: u64,
    certificate_pem: &str,
    key_pem: &str,
    password: Option<&str>,
) -> Result<Arc<CertifiedKey>, IdentityError> {
    let chain = certificate::certificates(certificate_pem)?;
    let key = Zeroizing::new(key::private_key(key_pem, password)?);
    let key = any_supported_type(&key).expect("a key that is returned can sign");
    let spki = key
        .public_key()
        .expect("ring's keys know their public half");
    let public = SubjectPublicKeyInfoRef::from_der(&spki).expect("rustls encodes it");
    check_owner(&chain, public.subject_public_key.raw_bytes())?;
    check_order(&chain)?;
    check_validity(&chain, now)?;
    let chain = chain.into_iter().map(|certificate| certificate.der);
    // Why not `from_der`: its check refuses version 1, which OpenSSL's `x509 -req` makes by default.
    Ok(Arc::new(CertifiedKey::new(chain.collect(), key)))
}

/// Compares the keys themselves: some name RSA with other parameters.
fn check_owner(chain: &[Certificate], public_key: &[u8]) -> Result<(), IdentityError> {
    let owner = chain.iter().position(|it| it.public_key == public_key);
    match owner {
        Some(0) => Ok(()),
        Some(at) => Err(IdentityError::NotFirst {
            number: at + 1,
            subject: chain[at].subject.clone(),
        }),
        None => Err(IdentityError::OtherKey {
            subject: chain[0].subject.clone(),
        }),
    }
}

fn check_order(chain: &[Certificate]) -> Result<(), IdentityError> {
    let mut pairs = chain.windows(2).enumerate();
    match pairs.find(|(_, pair)| pair[0].issuer != pair[1].subject) {
        None => Ok(()),
        Some((at, pair)) => Err(IdentityError::Order {
            number: at + 2,
            subject: pair[1].subject.clone(),
            issuer: pair[0].issuer.clone(),
        }),
    }
}

fn check_validity(chain: &[Certificate], now: u64) -> Result<(), IdentityError> {
    for (at, certificate) in chain.iter().enumerate() {
        let (number, subject) = (at + 1, certificate.subject.clone());
        if now > certificate.not_after {
            let until = certificate::time(certificate.not_after);
            return Err(IdentityError::Expired {
                number,
                subject,
                until,
            });
        }
        if now < certificate.not_before {
            let from = certificate::time(certificate.not_before);
            return Err(IdentityError::NotYetValid {
                number,
                subject,
                from,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
