//! Why there is no secure connection, in words that say who must act.
//!
//! Sources: RFC 8446 section 6.2 (alerts).
//!
//! Invariant: whoever speaks TLS here says the same of the same failure.

use std::io;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error as RustlsError, OtherError};
use thiserror::Error;

use super::NotAsked;

/// Why there is no secure connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum TlsError {
    /// We do not trust the server.
    #[error("the server's certificate is refused: {0}")]
    ServerNotTrusted(String),
    /// The server does not trust us, or does not care who we are.
    #[error("{0}")]
    ClientNotTrusted(String),
    /// The server speaks something else.
    #[error("{0}")]
    Stranger(&'static str),
    /// Anything else.
    #[error("TLS: {0}")]
    Failed(String),
    /// The socket broke.
    #[error("{0}")]
    Broken(String),
}

/// What is said of such a server.
pub(crate) const NO_TLS: &str = "that is a listener without TLS";

/// What it mostly means.
pub(crate) const CLOSED_IN_HANDSHAKE: &str =
    "the server closed the connection during the TLS handshake, as a listener without TLS does";

/// What a server's certificate must be for, if it is reached by that name or address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Failed(format!("no certificate can be for the name {host}")))
}

impl TlsError {
    /// Out of what another user of rustls says of a connection.
    pub(crate) fn of_handshake(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Broken(CLOSED_IN_HANDSHAKE.to_owned());
        }
        match error.downcast::<RustlsError>() {
            Ok(error) => Self::of(&error, true),
            Err(error) => Self::Broken(error.to_string()),
        }
    }

    /// What it means before a server has said anything, if it had asked for a certificate and got none. Brokers
    /// refuse so in many ways: by an alert, by one that they encrypt wrongly (Kafka 2.8 on Java 17), by hanging up.
    pub(crate) fn without_certificate(self) -> Self {
        match self {
            Self::Failed(reason) | Self::Broken(reason) => Self::ClientNotTrusted(format!(
                "the server asked for a certificate, got none, and broke off ({reason})"
            )),
            other => other,
        }
    }

    /// Of a broker, with what to change where TLS is spoken to one without.
    pub(crate) fn of_broker(&self) -> String {
        match self {
            _ if self.is_lack_of_tls() => format!(
                "{self}; name its TLS port (SASL needs one), or take TLS out of SourceAccessConfigurations and tls_bootstrap_servers"
            ),
            Self::Failed(_) => format!("{self}; the broker's log says more"),
            _ => self.to_string(),
        }
    }

    /// The same of a function's endpoint.
    pub(crate) fn of_endpoint(&self) -> String {
        match self.is_lack_of_tls() {
            true => format!("{self}; begin endpoint_url with http://, or name its TLS port"),
            false => self.to_string(),
        }
    }

    /// Whether the server seems to speak no TLS at all.
    pub(crate) fn is_lack_of_tls(&self) -> bool {
        match self {
            Self::Stranger(_) => true,
            Self::Broken(reason) => reason == CLOSED_IN_HANDSHAKE,
            Self::ServerNotTrusted(_) | Self::ClientNotTrusted(_) | Self::Failed(_) => false,
        }
    }

    /// `is_new`: nothing that came was TLS.
    pub(crate) fn of(error: &RustlsError, is_new: bool) -> Self {
        match error {
            RustlsError::InvalidCertificate(error) => Self::ServerNotTrusted(reason(error)),
            RustlsError::AlertReceived(alert) if is_about_us(*alert) => {
                let said = format!("the server refuses our certificate, or wants one: {alert:?}");
                Self::ClientNotTrusted(said)
            }
            RustlsError::Other(OtherError(error)) if error.is::<NotAsked>() => {
                Self::ClientNotTrusted(error.to_string())
            }
            RustlsError::InvalidMessage(_) if is_new => Self::Stranger(NO_TLS),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Alerts by which a server says that it does not take our certificate, or that it misses one.
fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

fn reason(error: &CertificateError) -> String {
    use CertificateError as Wrong;
    let said = match error {
        Wrong::UnknownIssuer => "none of the trusted roots has signed it",
        Wrong::BadSignature => "the trusted root with its issuer's name has not signed it",
        Wrong::Expired | Wrong::ExpiredContext { .. } => "it has expired",
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => "it is not valid yet",
        error => return error.to_string(),
    };
    said.to_owned()
}
