//! Each kind of key, encryption and chain, made by openssl, at the listener of a real Kafka that wants a certificate.
//!
//! Invariant: what openssl reads out of a key is what its certificate says, so a key that we read otherwise fails here.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use forebay_tests::harness::Site;
use forebay_tests::rig::{Broker, Forebay, Rig, Settings, eventually, file_uri};
use tempfile::TempDir;

use super::{NEWEST, rig};

const PASSWORD: &str = "keys of every kind";
const TOPIC: &str = "keys";

/// What openssl makes a key of.
const ALGORITHMS: [(&str, &[&str]); 5] = [
    (
        "rsa-2048",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ),
    (
        "rsa-4096",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    ),
    (
        "p-256",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ),
    (
        "p-384",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ),
    ("ed25519", &["-algorithm", "ED25519"]),
];

/// How openssl encrypts one: PBES1 of PKCS #5 and of PKCS #12, PBES2 with its ciphers and hashes.
const ENCRYPTIONS: [(&str, &[&str]); 16] = [
    ("pbes1-md5-des", &["-v1", "PBE-MD5-DES"]),
    ("pbes1-sha1-des", &["-v1", "PBE-SHA1-DES"]),
    ("pbes1-md5-rc2", &["-v1", "PBE-MD5-RC2-64"]),
    ("pbes1-sha1-rc2", &["-v1", "PBE-SHA1-RC2-64"]),
    ("pkcs12-3des", &["-v1", "PBE-SHA1-3DES"]),
    ("pkcs12-2des", &["-v1", "PBE-SHA1-2DES"]),
    ("pkcs12-rc2-128", &["-v1", "PBE-SHA1-RC2-128"]),
    ("pkcs12-rc2-40", &["-v1", "PBE-SHA1-RC2-40"]),
    ("pbes2-aes-128", &["-v2", "aes-128-cbc"]),
    ("pbes2-aes-192", &["-v2", "aes-192-cbc"]),
    ("pbes2-aes-256", &["-v2", "aes-256-cbc"]),
    ("pbes2-3des", &["-v2", "des3"]),
    (
        "pbes2-sha1",
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"],
    ),
    (
        "pbes2-sha384",
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA384"],
    ),
    (
        "pbes2-sha512",
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"],
    ),
    ("pbes2-scrypt", &["-scrypt"]),
];

#[tokio::test]
async fn every_kind_of_key_and_chain_lets_us_in() {
    let Some(rig) = rig("every_kind_of_key_and_chain") else {
        return;
    };
    let broker = Broker::start_secure(&rig, NEWEST).await;
    broker.topic(TOPIC, 1, &[]).await;
    let shop = Workshop::new(&broker);
    let mut secrets = shop.plain_keys();
    secrets.extend(shop.encrypted_keys());
    secrets.push(shop.chain());
    let stranger = shop.stranger();
    let said = check(&rig, &broker, secrets.iter().chain([&stranger]));
    for Secret { name, .. } in &secrets {
        let function = format!("mapping {name}: function");
        let of =
            |line: &&str| line.contains(&format!("mapping {name}: ")) && !line.contains(&function);
        let lines: Vec<&str> = said.lines().filter(of).collect();
        let is_right = |line: &&str| line.starts_with("right: ");
        assert!(lines.iter().all(is_right), "{name}: {lines:#?}");
        // Its secrets, the broker, the topic and the group.
        assert_eq!(lines.len(), 4, "{name}: {said}");
    }
    let refused = format!("problem: mapping {}: broker", stranger.name);
    assert!(said.contains(&refused), "{said}");
    keys_of_no_use_are_told(&broker, &shop).await;
}

async fn keys_of_no_use_are_told(broker: &Broker, shop: &Workshop) {
    for secret in shop.keys_of_no_use() {
        let settings = Settings {
            access: vec![
                ("SERVER_ROOT_CA_CERTIFICATE", broker.secret_uri("root")),
                ("CLIENT_CERTIFICATE_TLS_AUTH", file_uri(&secret.file)),
            ],
            bootstrap: Some(broker.listener("MTLS").to_owned()),
            ..Settings::new(TOPIC, TOPIC, 1)
        };
        let mut forebay = Forebay::start(broker, &settings);
        let text = "PROBLEM: Provided certificate or private key is invalid.";
        eventually(text, Duration::from_secs(30), async || {
            forebay.has_logged(text).then_some(())
        })
        .await;
        let detail = format!("{}: ", file_uri(&secret.file));
        assert!(forebay.has_logged(&detail), "{}", forebay.log());
        forebay.assert_running();
    }
}

/// A client's certificate and key in a secret's file.
struct Secret {
    name: String,
    file: PathBuf,
}

/// Where openssl works, for a broker whose root signs.
struct Workshop {
    dir: TempDir,
    root: PathBuf,
}

impl Workshop {
    fn new(broker: &Broker) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            root: broker.keys().to_owned(),
        }
    }

    /// Of each algorithm, in PKCS #8 and, where there is one, in the form that was before it: PKCS #1, SEC 1.
    fn plain_keys(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for (name, algorithm) in ALGORITHMS {
            let key = self.key(name, algorithm);
            let certificate = self.certificate(name, &key, ("root", &self.root));
            secrets.push(self.secret(name, &[&certificate], &key, None));
            let older = match name {
                "ed25519" => continue,
                _ => self.path(&format!("{name}-older.key")),
            };
            self.openssl(
                "pkey",
                &["-in", &text(&key), "-traditional", "-out", &text(&older)],
            );
            secrets.push(self.secret(&format!("{name}-older"), &[&certificate], &older, None));
        }
        secrets
    }

    /// One key under a password, in every way.
    fn encrypted_keys(&self) -> Vec<Secret> {
        let key = self.key("encrypted", ALGORITHMS[0].1);
        let certificate = self.certificate("encrypted", &key, ("root", &self.root));
        let password = format!("pass:{PASSWORD}");
        let of_certificate =
            self.openssl("x509", &["-in", &text(&certificate), "-noout", "-pubkey"]);
        let encrypted = ENCRYPTIONS.map(|(name, encryption)| {
            let file = self.path(&format!("{name}.key"));
            let (from, to) = (text(&key), text(&file));
            let mut arguments = vec!["-topk8", "-in", &from, "-out", &to, "-passout", &password];
            arguments.extend(LEGACY);
            arguments.extend(encryption);
            self.openssl("pkcs8", &arguments);
            let mut arguments = vec!["-in", &to, "-passin", &password, "-pubout"];
            arguments.extend(LEGACY);
            let of_key = self.openssl("pkey", &arguments);
            assert_eq!(of_key, of_certificate, "{name}: openssl reads another key");
            self.secret(name, &[&certificate], &file, Some(PASSWORD))
        });
        encrypted.into()
    }

    /// Under another password than the secret's, for another certificate, and no key at all.
    fn keys_of_no_use(&self) -> Vec<Secret> {
        let certificate = self.path("encrypted.pem");
        let encrypted = self.path("pkcs12-3des.key");
        vec![
            self.secret(
                "wrong-password",
                &[&certificate],
                &encrypted,
                Some("another"),
            ),
            self.secret("of-another", &[&certificate], &self.path("p-256.key"), None),
            self.secret("no-key", &[&certificate], &certificate, None),
        ]
    }

    /// A client whose certificate the root has not signed itself.
    fn chain(&self) -> Secret {
        let key = self.key("intermediate", ALGORITHMS[2].1);
        let signer = ("root", self.root.as_path());
        let intermediate = self.signed(
            "intermediate",
            &key,
            signer,
            "basicConstraints=critical,CA:TRUE",
        );
        let own = self.key("chained", ALGORITHMS[2].1);
        let certificate = self.certificate("chained", &own, ("intermediate", self.dir.path()));
        self.secret("chained", &[&certificate, &intermediate], &own, None)
    }

    /// A client of a root that the broker does not know.
    fn stranger(&self) -> Secret {
        let key = self.key("unknown", ALGORITHMS[2].1);
        let certificate = self.certificate("unknown", &key, ("stranger", &self.root));
        self.secret("unknown", &[&certificate], &key, None)
    }

    fn key(&self, name: &str, algorithm: &[&str]) -> PathBuf {
        let key = self.path(&format!("{name}.key"));
        let to = text(&key);
        self.openssl("genpkey", &[algorithm, &["-out", &to]].concat());
        key
    }

    fn certificate(&self, name: &str, key: &Path, signer: (&str, &Path)) -> PathBuf {
        self.signed(name, key, signer, "keyUsage=digitalSignature")
    }

    fn signed(&self, name: &str, key: &Path, signer: (&str, &Path), extension: &str) -> PathBuf {
        let (request, extensions) = (self.path("request"), self.path("extensions"));
        let certificate = self.path(&format!("{name}.pem"));
        std::fs::write(&extensions, format!("{extension}\n")).expect("the folder takes files");
        let subject = format!("/CN={name}");
        let (key, of_request) = (text(key), text(&request));
        self.openssl(
            "req",
            &["-new", "-key", &key, "-subj", &subject, "-out", &of_request],
        );
        let signer_file = |ending: &str| text(&signer.1.join(format!("{}.{ending}", signer.0)));
        let (ca, ca_key, extensions) = (signer_file("pem"), signer_file("key"), text(&extensions));
        let to = text(&certificate);
        self.openssl(
            "x509",
            &[
                "-req",
                "-in",
                &of_request,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-set_serial",
                "7",
                "-days",
                "90",
                "-extfile",
                &extensions,
                "-out",
                &to,
            ],
        );
        certificate
    }

    fn secret(&self, name: &str, chain: &[&Path], key: &Path, password: Option<&str>) -> Secret {
        let read = |path: &Path| std::fs::read_to_string(path).expect("openssl has written it");
        let chain: String = chain.iter().map(|path| read(path)).collect();
        let mut members = serde_json::json!({ "certificate": chain, "privateKey": read(key) });
        if let Some(password) = password {
            members["privateKeyPassword"] = password.into();
        }
        let file = self.path(&format!("{name}.json"));
        std::fs::write(&file, members.to_string()).expect("the folder takes files");
        Secret {
            name: name.to_owned(),
            file,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, command: &str, arguments: &[&str]) -> String {
        let mut openssl = Command::new("openssl");
        let Output {
            status,
            stdout,
            stderr,
        } = openssl
            .arg(command)
            .args(arguments)
            .output()
            .expect("openssl runs");
        let errors = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{openssl:?}: {errors}");
        String::from_utf8(stdout).expect("it writes PEM")
    }
}

/// Without it openssl knows no DES and no RC2.
const LEGACY: [&str; 4] = ["-provider", "legacy", "-provider", "default"];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What `forebay check` says of a mapping for each secret.
fn check<'a>(rig: &Rig, broker: &Broker, secrets: impl Iterator<Item = &'a Secret>) -> String {
    let bootstrap = broker.listener("MTLS");
    let site = Site::new(bootstrap, "http://127.0.0.1:1").key("memory_bytes", "8589934592");
    for Secret { name, file } in secrets {
        let root = broker.secret_uri("root");
        let own = file_uri(file);
        let text = format!(
            "FunctionName = \"{name}\"\nTopics = [\"{TOPIC}\"]\nSourceAccessConfigurations = [\n\
             {{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"{root}\" }},\n\
             {{ Type = \"CLIENT_CERTIFICATE_TLS_AUTH\", URI = \"{own}\" }}]\n\
             [SelfManagedEventSource.Endpoints]\nKAFKA_BOOTSTRAP_SERVERS = [\"{bootstrap}\"]\n"
        );
        site.write_mapping(name, &text);
    }
    let mut forebay = Command::new(&rig.forebay);
    let done = forebay
        .args(["check", "--config"])
        .arg(site.config_file())
        .output();
    let Output { stdout, stderr, .. } = done.expect("forebay runs");
    format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    )
}
