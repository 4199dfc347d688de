//! X.509 certificates from a PEM text, and what they say of themselves.
//!
//! Source: RFC 5280.

use rustls::pki_types::CertificateDer;
use x509_cert::der::{DateTime, Decode};

use super::pem::{self, PemError};
use crate::trust::Roots;

/// A certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    /// As RFC 4514 writes it, such as `CN=client,O=Example`.
    pub(crate) subject: String,
    /// Likewise.
    pub(crate) issuer: String,
    /// Seconds since 1970, the first at which it is valid.
    pub(crate) not_before: u64,
    /// Seconds since 1970, the last at which it is valid.
    pub(crate) not_after: u64,
    /// The key itself, without its algorithm.
    pub(super) public_key: Vec<u8>,
}

/// Why there is no certificate. Counted from 1, as they stand in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The text is no PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// It holds other things.
    #[error("it holds no CERTIFICATE, but {0}")]
    None(String),
    /// A certificate together with what OpenSSL trusts it for.
    #[error(
        "it holds a TRUSTED CERTIFICATE, which is a format of OpenSSL's own; convert it: \
         openssl x509 -in certificate.pem -out plain.pem"
    )]
    Trusted,
    /// A request for one.
    #[error(
        "it holds a CERTIFICATE REQUEST, which is what a certificate is asked for with; \
         take the certificate that was issued for it"
    )]
    Request,
    /// A bundle.
    #[error(
        "it holds a PKCS #7 bundle; take the certificates out of it: \
         openssl pkcs7 -in bundle.pem -print_certs -out certificates.pem"
    )]
    Bundle,
    /// It is none inside.
    #[error("certificate {number} cannot be read: {reason}")]
    Unreadable {
        /// Which.
        number: usize,
        /// Why.
        reason: String,
    },
}

/// All certificates of a PEM text in their order, one at least; other blocks are ignored beside them.
pub(crate) fn certificates(text: &str) -> Result<Vec<Certificate>, CertificateError> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    for block in pem::blocks(text)? {
        match block.label.as_str() {
            // The second is what the first was called once.
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                let read = Certificate::read(&block.der);
                found.push(read.map_err(|reason| CertificateError::Unreadable {
                    number: found.len() + 1,
                    reason,
                })?);
            }
            "TRUSTED CERTIFICATE" => return Err(CertificateError::Trusted),
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                return Err(CertificateError::Request);
            }
            "PKCS7" | "CMS" => return Err(CertificateError::Bundle),
            _ => others.push(block.shown_label()),
        }
    }
    match found.is_empty() {
        true => Err(CertificateError::None(others.join(", "))),
        false => Ok(found),
    }
}

/// Certificates as the roots that a server's certificate must lead to.
pub(crate) fn roots(of: Vec<Certificate>) -> Roots {
    Roots::Private(of.into_iter().map(|it| it.der).collect())
}

impl Certificate {
    fn read(der: &[u8]) -> Result<Self, String> {
        let certificate =
            x509_cert::Certificate::from_der(der).map_err(|error| error.to_string())?;
        let tbs = certificate.tbs_certificate();
        let validity = tbs.validity();
        let public_key = tbs.subject_public_key_info().subject_public_key.raw_bytes();
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            subject: printable(tbs.subject().to_string()),
            issuer: printable(tbs.issuer().to_string()),
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
            public_key: public_key.to_vec(),
        })
    }
}

/// A time as certificates have it, such as `2026-01-31T00:00:00Z`.
pub(crate) fn time(unix_seconds: u64) -> String {
    let since_1970 = std::time::Duration::from_secs(unix_seconds);
    match DateTime::from_unix_duration(since_1970) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{unix_seconds} s after 1970"),
    }
}

/// A name comes from outside, and goes into log lines.
fn printable(name: String) -> String {
    name.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::vector;
    use super::*;

    fn error(text: &str) -> String {
        certificates(text).unwrap_err().to_string()
    }

    #[test]
    fn a_chain_says_of_each_certificate_what_it_is() {
        let text = vector("client") + &vector("intermediate") + &vector("root");
        let chain = certificates(&text).unwrap();
        let told: Vec<_> = chain
            .iter()
            .map(|it| (it.subject.as_str(), it.issuer.as_str()))
            .collect();
        let [client, intermediate, root] =
            ["client", "intermediate", "root"].map(|name| format!("CN={name},O=Example"));
        let expected = [
            (client.as_str(), intermediate.as_str()),
            (&intermediate, &root),
            (&root, &root),
        ];
        assert_eq!(told, expected);
        for certificate in &chain {
            let days = (certificate.not_after - certificate.not_before) / 86_400;
            assert_eq!(days, 36_500);
        }
    }

    #[test]
    fn an_older_label_and_blocks_of_other_kinds_do_no_harm() {
        let older = vector("root").replace("CERTIFICATE", "X509 CERTIFICATE");
        assert_eq!(certificates(&older).unwrap().len(), 1);
        let text = vector("p256") + &vector("root");
        assert_eq!(certificates(&text).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_certificate_is_told_what_to_do() {
        let cases = [
            ("refused-trusted", "openssl x509 -in certificate.pem"),
            ("refused-pkcs7", "openssl pkcs7 -in bundle.pem"),
            ("p256", "it holds no CERTIFICATE, but PRIVATE KEY"),
        ];
        for (name, expected) in cases {
            let said = error(&vector(name));
            assert!(said.contains(expected), "{said}");
        }
        let request = vector("root").replace("CERTIFICATE", "CERTIFICATE REQUEST");
        assert!(error(&request).contains("what a certificate is asked for with"));
        let key = vector("p256").replace("PRIVATE KEY", "CERTIFICATE");
        let said = error(&(vector("root") + &key));
        assert!(said.starts_with("certificate 2 cannot be read: "), "{said}");
    }

    #[test]
    fn what_is_cut_off_cannot_be_read() {
        let text = vector("client");
        for end in 0..text.len() - 1 {
            error(text.split_at(end).0);
        }
        let whole = pem::blocks(&text).unwrap()[0].der.to_vec();
        for end in 0..whole.len() {
            Certificate::read(&whole[..end]).unwrap_err();
        }
    }

    #[test]
    fn a_time_is_shown_as_a_date() {
        assert_eq!(time(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 s after 1970");
    }

    proptest! {
        #[test]
        fn any_change_of_a_certificate_gives_one_or_an_error(
            name in prop::sample::select(vec!["root", "client"]),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
        ) {
            let mut der = pem::blocks(&vector(name)).unwrap()[0].der.to_vec();
            let at = at.index(der.len());
            der[at] = to;
            let _shown = format!("{:?}", Certificate::read(&der));
        }
    }
}
