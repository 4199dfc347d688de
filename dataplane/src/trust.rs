//! Whom a TLS client trusts, and as whom it presents itself.
//!
//! [`client_config`] makes what a connection needs of roots and an identity. It lies below control and
//! the shards, because both speak TLS.
//!
//! A server that asks for no certificate lets a client in that it does not know, and the ACLs then refuse
//! that one everywhere. So a client with an identity refuses such a server, and says why. It does so while it
//! verifies the server's certificate, which is after the server could have asked and before any session could
//! be kept: a resumed one was asked for in the handshake that it stems from.
//!
//! Sources: RFC 8446 sections 4.3.2 and 4.4.2, RFC 5246 section 7.3.
//!
//! Invariant: rustls with ring, passed explicitly, is the only TLS; the signature of a handshake is always
//! verified.

mod failure;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, OtherError,
    RootCertStore, SignatureScheme,
};
use thiserror::Error;
use x509_cert::der::Decode;

#[cfg(test)]
pub(crate) use failure::NO_TLS;
pub(crate) use failure::{CLOSED_IN_HANDSHAKE, TlsError, server_name};

/// Who may vouch for a server.
#[derive(Clone, Debug)]
pub(crate) enum Roots {
    /// Whom the system trusts.
    System,
    /// These alone.
    Private(Vec<CertificateDer<'static>>),
}

/// Why nobody can be trusted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum TrustError {
    /// There are none to be read.
    #[error(
        "the system has no root certificates ({0}); install its package ca-certificates, \
         or configure the brokers' own root"
    )]
    NoSystemRoots(String),
    /// An empty list trusts nobody.
    #[error("there is no root certificate")]
    NoRoots,
    /// It cannot vouch for anybody.
    #[error("root certificate {number} cannot be used: {reason}")]
    Root {
        /// Where it stands, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
}

/// The server does not want to know who we are.
#[derive(Debug, Error)]
#[error(
    "the server asked for no certificate: its listener has client authentication switched off (ssl.client.auth); \
     switch that on, name another port, or take CLIENT_CERTIFICATE_TLS_AUTH out"
)]
pub(crate) struct NotAsked;

thread_local! {
    /// Whether the handshake that this thread works at was asked for a certificate.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// TLS 1.2 and 1.3, with whom to trust and, if there is one, the certificate to present.
///
/// The system's roots are read from their files: not for a shard.
pub(crate) fn client_config(
    roots: Roots,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = provider();
    let verifier = match roots {
        Roots::System => system(&provider)?,
        Roots::Private(roots) => Arc::new(Private::new(roots, &provider)?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for both versions")
        .dangerous();
    let verifier = match identity {
        Some(_) => Arc::new(Presenting(verifier)),
        None => verifier,
    };
    let builder = builder.with_custom_certificate_verifier(verifier);
    Ok(Arc::new(
        builder.with_client_cert_resolver(Arc::new(Identity(identity))),
    ))
}

/// Trusts nobody: for a client that is never to speak TLS.
pub(crate) fn nobody() -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for both versions");
    let roots = RootCertStore::empty();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The cryptography of all TLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The system's root certificates, as they are now.
pub(crate) fn system(
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
    match rustls_platform_verifier::Verifier::new(Arc::clone(provider)) {
        Ok(verifier) => Ok(Arc::new(verifier)),
        Err(error) => Err(TrustError::NoSystemRoots(error.to_string())),
    }
}

/// Takes a step of a handshake, which may be one of many on this thread. `asked` says whether the server has
/// asked for a certificate in the steps before, and then in this one.
pub(crate) fn step<T>(asked: &mut bool, step: impl FnOnce() -> T) -> T {
    ASKED.set(*asked);
    let done = step();
    *asked = ASKED.get();
    done
}

/// Trusts what leads to a root, and a root itself: a broker may serve the very certificate that it is known
/// by, which webpki refuses as a server's if it says that it is a CA's.
#[derive(Debug)]
struct Private {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    der: CertificateDer<'static>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Private {
    fn new(
        certificates: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let mut store = RootCertStore::empty();
        let mut roots = Vec::with_capacity(certificates.len());
        for (at, der) in certificates.into_iter().enumerate() {
            let refused = |reason| TrustError::Root {
                number: at + 1,
                reason,
            };
            let added = store.add(der.clone());
            added.map_err(|error| refused(error.to_string()))?;
            roots.push(Root::new(der).map_err(|error| refused(error.to_string()))?);
        }
        let webpki =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
        // Without revocation lists it fails for that alone.
        let webpki = webpki.build().map_err(|_| TrustError::NoRoots)?;
        Ok(Self { webpki, roots })
    }
}

impl ServerCertVerifier for Private {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        match self.roots.iter().find(|root| root.der == *end_entity) {
            Some(root) => {
                root.check_validity(now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            None => self.webpki.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let webpki = &self.webpki;
        webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let webpki = &self.webpki;
        webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

impl Root {
    fn new(der: CertificateDer<'static>) -> Result<Self, x509_cert::der::Error> {
        let certificate = x509_cert::Certificate::from_der(&der)?;
        let validity = certificate.tbs_certificate().validity();
        let time =
            |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
        Ok(Self {
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
            der,
        })
    }

    fn check_validity(&self, time: UnixTime) -> Result<(), CertificateError> {
        let (not_before, not_after) = (self.not_before, self.not_after);
        if time > not_after {
            return Err(CertificateError::ExpiredContext { time, not_after });
        }
        if time < not_before {
            return Err(CertificateError::NotValidYetContext { time, not_before });
        }
        Ok(())
    }
}

/// Trusts whom another verifier does, if they have asked who we are.
#[derive(Debug)]
struct Presenting(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Presenting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let verified = self.0.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        match ASKED.get() {
            true => Ok(verified),
            false => Err(RustlsError::Other(OtherError(Arc::new(NotAsked)))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Presents the same certificate to all who ask, if there is one, and notes that they did.
struct Identity(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

#[cfg(test)]
mod tests;
