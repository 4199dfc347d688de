//! For tests: servers of rustls with certificates of rcgen, and clients of ours.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use super::LIMIT;
use crate::net::stream::{OpenError, Stream};
use crate::net::tcp::Handle;
use crate::net::tls::Target;

/// Those that we speak.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A chain, of one certificate mostly, and the key of the first.
pub(crate) type Signed = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A root, and what it has signed.
pub(crate) struct Pki {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// A certificate for the name.
    pub(crate) fn sign(&self, name: &str) -> Signed {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        self.sign_as(params, &KeyPair::generate().unwrap())
    }

    /// Any certificate.
    pub(crate) fn sign_as(&self, params: CertificateParams, key: &KeyPair) -> Signed {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        (vec![certificate.der().clone()], key)
    }

    /// A client that trusts the root.
    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap();
        let roots = self.roots();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// A server at 127.0.0.1.
    pub(crate) fn server(&self) -> ServerConfig {
        server(self.sign("127.0.0.1"))
    }

    /// The same; it asks its clients for certificates that the root has signed.
    pub(crate) fn asking_server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let (chain, key) = self.sign("127.0.0.1");
        server_builder(versions)
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap()
    }
}

/// A server with this certificate, which asks for none.
pub(crate) fn server((chain, key): Signed) -> ServerConfig {
    server_builder(&VERSIONS)
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

pub(crate) fn server_builder(
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A connection as the server has it.
pub(crate) type Peer = StreamOwned<ServerConnection, TcpStream>;

/// What a server does with its only connection, on a thread of its own.
pub(crate) fn serve<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || script(listener.accept().unwrap().0));
    (address, thread)
}

pub(crate) fn serve_tls<T: Send + 'static>(
    config: ServerConfig,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    serve(move |socket| {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        script(StreamOwned::new(connection, socket))
    })
}

pub(crate) async fn open(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<Stream, OpenError> {
    open_as("127.0.0.1", address, config).await
}

pub(crate) async fn open_as(
    host: &str,
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<Stream, OpenError> {
    let target = Target::new(config, host).unwrap();
    Stream::open(&[address], Some(&target), LIMIT, &Handle::default()).await
}

pub(crate) async fn refusal(address: SocketAddr, config: Arc<ClientConfig>) -> OpenError {
    match open(address, config).await {
        Ok(_) => panic!("it is to be refused"),
        Err(error) => error,
    }
}
