//! The fakes' connections, which may be under TLS, with a root of their own.
//!
//! Invariant: a root vouches for 127.0.0.1 and localhost alone, and its keys are in no file.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Who the fakes' servers are, and the root that says so.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The root's certificate, as PEM.
    pub root_pem: String,
    /// For whoever serves.
    pub server: Arc<ServerConfig>,
    root: CertificateDer<'static>,
}

impl Identity {
    /// With keys that nobody else has.
    pub fn new() -> Self {
        let key = || KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "The fakes' root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, key()).expect("a root signs itself");
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let own = key();
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&own, &root))
            .expect("the root signs names that are names");
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for both versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(own.serialize_der().into()),
            )
            .expect("the key is the certificate's");
        Self {
            root_pem: root.pem(),
            server: Arc::new(server),
            root: root.der().clone(),
        }
    }

    /// A client that the root suffices.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.root.clone())
            .expect("a root can vouch for others");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for both versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client's connection, from the server's side.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// As it is on the wire.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Accepted {
    /// Ready to be used; under TLS, if there is an identity.
    pub(crate) async fn new(
        stream: TcpStream,
        identity: Option<&Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        match identity {
            None => Ok(Self::Plain(stream)),
            Some(config) => {
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                Ok(Self::Tls(Box::new(acceptor.accept(stream).await?)))
            }
        }
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
