//! Against rustls's own server, in each version of TLS.

use std::io::{Read, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::net::stream::OpenError;
use crate::net::trial::on_each_driver;
use crate::net::trial::tls::{
    Pki, Signed, VERSIONS, open, open_as, serve, serve_tls, server, server_builder,
};
use crate::trust::TlsError;

/// A server's certificate that is its own root.
fn self_signed(not_after: i32) -> Signed {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(not_after, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    (vec![certificate.der().clone()], key)
}

fn trusting(roots: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    client_config(Roots::Private(roots.to_vec()), None).unwrap()
}

fn presenting(pki: &Pki, (chain, key): Signed) -> Arc<ClientConfig> {
    let identity = CertifiedKey::from_der(chain, key, &provider()).unwrap();
    let roots = Roots::Private(vec![pki.issuer.der().clone()]);
    client_config(roots, Some(Arc::new(identity))).unwrap()
}

/// Connects, says hello and hears the answer.
async fn greet(
    host: &str,
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<(), OpenError> {
    let mut stream = open_as(host, address, config).await?;
    let hello = Bytes::from_static(b"hello");
    stream.writer.write_all(hello).await.0.unwrap();
    let (read, answer) = stream.reader.read(Vec::with_capacity(2), 2).await;
    assert!(read.unwrap() > 0);
    assert!(b"hi".starts_with(&answer));
    Ok(())
}

/// Answers to one client, if it gets so far, and says what it has seen of it.
fn answer(config: Arc<ServerConfig>) -> (SocketAddr, std::thread::JoinHandle<Seen>) {
    serve(move |socket| {
        let connection = ServerConnection::new(config).unwrap();
        let mut peer = StreamOwned::new(connection, socket);
        let hello = peer.read_exact(&mut [0; 5]);
        if hello.is_ok() {
            peer.write_all(b"hi").unwrap();
        }
        let chain = peer.conn.peer_certificates();
        Seen {
            certificates: chain.map_or(0, <[_]>::len),
            kind: hello.ok().and(peer.conn.handshake_kind()),
        }
    })
}

#[derive(Debug, PartialEq)]
struct Seen {
    certificates: usize,
    kind: Option<HandshakeKind>,
}

async fn refused(host: &str, config: ServerConfig, client: Arc<ClientConfig>) -> TlsError {
    let (address, server) = answer(Arc::new(config));
    let error = match greet(host, address, client).await {
        Err(OpenError::Tls(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(server.join().unwrap().kind, None);
    error
}

#[test]
fn a_server_that_is_its_own_root_is_trusted_by_its_name_and_in_its_time() {
    on_each_driver(async || {
        let signed = self_signed(4000);
        let client = trusting(&signed.0);
        for version in VERSIONS {
            let config = only(version, server((signed.0.clone(), signed.1.clone_key())));
            let (address, server) = answer(Arc::new(config));
            greet("127.0.0.1", address, Arc::clone(&client))
                .await
                .unwrap();
            assert_eq!(server.join().unwrap().kind, Some(HandshakeKind::Full));
        }
        match refused("kafka.test", server(signed), client).await {
            TlsError::ServerNotTrusted(reason) => {
                assert!(reason.contains("kafka.test"), "{reason}");
            }
            other => panic!("{other}"),
        }
        let expired = self_signed(2001);
        let client = trusting(&expired.0);
        match refused("127.0.0.1", server(expired), client).await {
            TlsError::ServerNotTrusted(reason) => assert_eq!(reason, "it has expired"),
            other => panic!("{other}"),
        }
        let client = trusting(&self_signed(4000).0);
        match refused("127.0.0.1", server(self_signed(4000)), client).await {
            TlsError::ServerNotTrusted(_) => {}
            other => panic!("{other}"),
        }
    });
}

/// A server that speaks no other version.
fn only(version: &'static rustls::SupportedProtocolVersion, config: ServerConfig) -> ServerConfig {
    let mut only = server_builder(&[version])
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&config.cert_resolver));
    only.session_storage = config.session_storage;
    only
}

#[test]
fn another_key_under_a_trusted_certificate_is_refused() {
    on_each_driver(async || {
        let (chain, _) = self_signed(4000);
        let (_, key) = self_signed(4000);
        let provider = provider();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let stolen = CertifiedKey::new(chain.clone(), key);
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
        for version in VERSIONS {
            let mut config = only(version, server(self_signed(4000)));
            config.cert_resolver = Arc::<rustls::sign::SingleCertAndKey>::clone(&resolver);
            match refused("127.0.0.1", config, trusting(&chain)).await {
                TlsError::ServerNotTrusted(reason) => assert!(!reason.is_empty()),
                other => panic!("{other}"),
            }
        }
    });
}

#[test]
fn an_intermediate_leads_to_the_root() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "middle");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let middle = CertifiedIssuer::signed_by(params, key, &pki.issuer).unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &middle).unwrap();
        let signed = |chain| (chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()));

        let whole = signed(vec![leaf.der().clone(), middle.der().clone()]);
        let (address, thread) = answer(Arc::new(server(whole)));
        let client = trusting(&[pki.issuer.der().clone()]);
        greet("127.0.0.1", address, Arc::clone(&client))
            .await
            .unwrap();
        thread.join().unwrap();

        let bare = signed(vec![leaf.der().clone()]);
        match refused("127.0.0.1", server(bare), client).await {
            TlsError::ServerNotTrusted(reason) => {
                assert_eq!(reason, "none of the trusted roots has signed it");
            }
            other => panic!("{other}"),
        }
    });
}

/// A key of `tests/vectors/keys`.
fn vector(name: &str) -> KeyPair {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/keys");
    let text = std::fs::read_to_string(folder.join(format!("{name}.pem"))).unwrap();
    KeyPair::from_pem(&text).unwrap()
}

#[test]
fn each_kind_of_key_presents_its_certificate() {
    on_each_driver(async || {
        for version in VERSIONS {
            for kind in ["rsa", "p256", "p384", "ed25519"] {
                let pki = Pki::new("root");
                let params = CertificateParams::new(["client".to_owned()]).unwrap();
                let client = presenting(&pki, pki.sign_as(params, &vector(kind)));
                let (address, thread) = answer(Arc::new(pki.asking_server(&[version])));
                greet("127.0.0.1", address, client).await.unwrap();
                let expected = Seen {
                    certificates: 1,
                    kind: Some(HandshakeKind::Full),
                };
                assert_eq!(thread.join().unwrap(), expected, "{kind}");
            }
        }
    });
}

#[test]
fn a_certificate_that_nobody_asks_for_is_an_error_again_and_again() {
    on_each_driver(async || {
        for version in VERSIONS {
            let pki = Pki::new("root");
            let client = presenting(&pki, pki.sign("client"));
            let config = Arc::new(only(version, pki.server()));
            for _ in 0..3 {
                let (address, thread) = answer(Arc::clone(&config));
                match greet("127.0.0.1", address, Arc::clone(&client)).await {
                    Err(OpenError::Tls(TlsError::ClientNotTrusted(said))) => {
                        assert_eq!(said, NotAsked.to_string());
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(thread.join().unwrap().kind, None);
            }
        }
    });
}

#[test]
fn who_was_asked_once_may_resume() {
    on_each_driver(async || {
        for version in VERSIONS {
            let pki = Pki::new("root");
            let client = presenting(&pki, pki.sign("client"));
            let config = Arc::new(pki.asking_server(&[version]));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (address, thread) = answer(Arc::clone(&config));
                greet("127.0.0.1", address, Arc::clone(&client))
                    .await
                    .unwrap();
                assert_eq!(thread.join().unwrap().kind, Some(kind));
            }
        }
    });
}

#[test]
fn handshakes_on_one_thread_are_told_apart() {
    let (mut first, mut second) = (false, false);
    step(&mut first, || ASKED.set(true));
    step(&mut second, || assert!(!ASKED.get()));
    step(&mut first, || assert!(ASKED.get()));
    assert!(first && !second);
}

#[test]
fn a_server_that_is_not_trusted_is_called_that_whether_it_asks_or_not() {
    on_each_driver(async || {
        let (pki, other) = (Pki::new("ours"), Pki::new("theirs"));
        let client = presenting(&pki, pki.sign("client"));
        let (address, thread) = serve_tls(other.server(), |mut peer| {
            peer.read(&mut [0]).unwrap_err();
        });
        match open(address, client).await.map(|_| ()) {
            Err(OpenError::Tls(TlsError::ServerNotTrusted(_))) => {}
            other => panic!("{other:?}"),
        }
        thread.join().unwrap();
    });
}

#[test]
fn roots_that_are_none_are_named() {
    let error = |roots| client_config(Roots::Private(roots), None).unwrap_err();
    assert_eq!(error(Vec::new()), TrustError::NoRoots);
    let root = Pki::new("root").issuer.der().clone();
    match error(vec![root, CertificateDer::from(vec![1, 2, 3])]) {
        TrustError::Root { number: 2, .. } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn the_systems_roots_are_there_or_it_says_what_to_install() {
    match client_config(Roots::System, None) {
        Ok(config) => assert!(!config.client_auth_cert_resolver.has_certs()),
        Err(error) => {
            let said = error.to_string();
            assert!(
                said.contains("install its package ca-certificates"),
                "{said}"
            );
        }
    }
}

#[test]
fn an_identity_is_not_shown() {
    let pki = Pki::new("root");
    let config = presenting(&pki, pki.sign("client"));
    assert_eq!(
        format!("{:?}", config.client_auth_cert_resolver),
        "Identity(***)"
    );
}
