//! Our side of TLS before a server whose bytes come in any pieces, changed or not: the first byte picks the
//! version, the rest is the script.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

struct Sides {
    server: Arc<ServerConfig>,
    /// One for each version.
    clients: [Arc<ClientConfig>; 2],
}

static SIDES: LazyLock<Sides> = LazyLock::new(|| {
    // Its signatures are all of one length, so that a script finds everything in its place again.
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let clients = [&TLS13, &TLS12].map(|version| {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = builder.with_root_certificates(roots.clone());
        let mut client = builder.with_no_client_auth();
        // Each run is the first.
        client.resumption = rustls::client::Resumption::disabled();
        Arc::new(client)
    });
    Sides {
        server: Arc::new(server),
        clients,
    }
});

fuzz_target!(|input: &[u8]| {
    let Some((version, script)) = input.split_first() else {
        return;
    };
    let client = &SIDES.clients[usize::from(version & 1)];
    forebay::fuzzing::tls(script, &SIDES.server, client);
});
