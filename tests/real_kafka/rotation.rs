//! What lets us in changes under load: passwords, certificates, roots and AWS's keys.
//!
//! Two nodes read one topic, each in a group of its own: one comes by SCRAM, with secrets that AWS Secrets Manager
//! keeps and calls that are signed, the other by a client certificate, with secrets in files.
//!
//! Invariant: no record is lost or comes again, and nobody joins the group anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_tests::fake_aws::FakeAws;
use forebay_tests::fake_lambda::Keys;
use forebay_tests::rig::{
    Broker, Expected, Forebay, Producer, Settings, Sink, await_all, eventually, file_uri,
};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{NEWEST, PARTITIONS, rig};

const TOPIC: &str = "rotated";
/// Records a second.
const RATE: u64 = 300;
const WITHIN: Duration = Duration::from_secs(40);
const ROOT: &str = "SERVER_ROOT_CA_CERTIFICATE";
const ROOT_ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:root-AbCdEf";
const USER_ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:user-AbCdEf";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lets_us_in_changes_under_load_and_no_record_is_lost_or_comes_again() {
    let Some(rig) = rig("what_lets_us_in_changes_under_load") else {
        return;
    };
    let broker = Broker::start_secure(&rig, NEWEST).await;
    broker.topic(TOPIC, PARTITIONS, &[]).await;
    let load = broker.load(Producer::Librdkafka, TOPIC, 1, RATE);
    let mut managed = Managed::start(&broker).await;
    let mut local = Local::start(&broker).await;
    managed.node.is_at_work().await;
    local.node.is_at_work().await;

    broker.set_password("forebay", "another").await;
    managed
        .rotates("the password", USER_ARN, user("another"))
        .await;
    managed
        .rotates("the root", ROOT_ARN, two_roots(&broker))
        .await;
    managed.rotates_keys().await;
    local
        .rotates("the certificate", "client.json", &broker.secret("second"))
        .await;
    let roots = local.write("roots", &two_roots(&broker));
    local.rotates("the root", "root.json", &roots).await;

    load.stop().await;
    let expected = broker.expected(TOPIC).await;
    managed.node.has_all(&expected).await;
    local.node.has_all(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_are_renewed_under_load() {
    let Some(rig) = rig("sessions_that_end_are_renewed") else {
        return;
    };
    const LIFETIME: Duration = Duration::from_secs(4);
    let broker = Broker::start_with_sessions(&rig, NEWEST, LIFETIME).await;
    broker.topic(TOPIC, PARTITIONS, &[]).await;
    let load = broker.load(Producer::Librdkafka, TOPIC, 1, RATE);
    let mut nodes = Vec::new();
    for kind in ["BASIC_AUTH", "SASL_SCRAM_512_AUTH"] {
        let sink = Sink::new();
        let settings = Settings {
            access: vec![
                (ROOT, broker.secret_uri("root")),
                (kind, broker.secret_uri("user")),
            ],
            bootstrap: Some(broker.listener("SASL").to_owned()),
            ..Settings::new(TOPIC, kind, sink.listen().await)
        };
        nodes.push(Node::start(&broker, &settings, sink));
    }
    for node in &mut nodes {
        node.is_at_work().await;
    }
    tokio::time::sleep(3 * LIFETIME).await;
    load.stop().await;
    let expected = broker.expected(TOPIC).await;
    for mut node in nodes {
        node.has_all(&expected).await;
        let ended = node.forebay.times_logged("Connection to a broker ended");
        assert_eq!(ended, 0, "{}", node.forebay.log());
    }
}

fn user(password: &str) -> String {
    serde_json::json!({ "username": "forebay", "password": password }).to_string()
}

/// The broker's root, and the one that is to follow it.
fn two_roots(broker: &Broker) -> String {
    let pem = |name: &str| {
        let path = broker.keys().join(name);
        std::fs::read_to_string(path).expect("the rig has written it")
    };
    let both = pem("root.pem") + &pem("stranger.pem");
    serde_json::json!({ "certificate": both }).to_string()
}

/// A node, and what its function has received.
struct Node {
    forebay: Forebay,
    sink: Sink,
}

impl Node {
    fn start(broker: &Broker, settings: &Settings, sink: Sink) -> Self {
        let forebay = Forebay::start(broker, settings);
        Self { forebay, sink }
    }

    async fn is_at_work(&mut self) {
        eventually("records come", WITHIN, async || {
            (self.sink.ledger().calls.len() > 5).then_some(())
        })
        .await;
    }

    fn renewed(&self) -> usize {
        self.forebay.times_logged("it is made anew")
    }

    /// Waits until every connection was made anew: of the seed, of the coordinator twice, and of the broker that is
    /// fetched from.
    async fn is_renewed(&self, what: &str, before: usize) {
        eventually(what, WITHIN, async || {
            (self.renewed() >= before + 4).then_some(())
        })
        .await;
    }

    async fn has_all(&mut self, expected: &Expected) {
        let verdict = await_all(&mut self.sink, expected, WITHIN).await;
        verdict.assert_sound();
        assert!(verdict.again.is_empty(), "{:?}", verdict.again);
        assert_eq!(self.forebay.times_logged("Joined the group"), 1);
        self.forebay.assert_running();
    }
}

/// The node whose secrets AWS keeps.
struct Managed {
    node: Node,
    aws: FakeAws,
    dir: TempDir,
}

impl Managed {
    async fn start(broker: &Broker) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let aws = FakeAws::start(keys("AKIDFIRST")).await;
        let root = std::fs::read_to_string(broker.secret("root")).expect("a secret");
        aws.with(|account| {
            account.secrets.insert(ROOT_ARN.to_owned(), root);
            account
                .secrets
                .insert(USER_ARN.to_owned(), user("forebay-rig"));
        })
        .await;
        write_keys(dir.path(), "AKIDFIRST");
        let sink = Sink::new();
        let file = dir.path().join("credentials").display().to_string();
        let settings = Settings {
            signed: true,
            access: vec![
                (ROOT, ROOT_ARN.to_owned()),
                ("SASL_SCRAM_512_AUTH", USER_ARN.to_owned()),
            ],
            bootstrap: Some(broker.listener("SASL").to_owned()),
            environment: vec![
                ("AWS_ACCESS_KEY_ID", String::new()),
                ("AWS_SHARED_CREDENTIALS_FILE", file),
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.url()),
            ],
            ..Settings::new(TOPIC, "managed", sink.listen().await)
        };
        let node = Node::start(broker, &settings, sink);
        Self { node, aws, dir }
    }

    async fn rotates(&self, what: &str, arn: &str, text: String) {
        let before = self.node.renewed();
        self.aws
            .with(|account| account.secrets.insert(arn.to_owned(), text))
            .await;
        self.node.forebay.signal(Signal::HUP);
        self.node.is_renewed(what, before).await;
    }

    /// The old keys are refused by the function's endpoint and by Secrets Manager, the new ones are in the file.
    async fn rotates_keys(&mut self) {
        write_keys(self.dir.path(), "AKIDSECOND");
        self.aws
            .with(|account| account.keys = keys("AKIDSECOND"))
            .await;
        self.node.sink.require_key("AKIDSECOND");
        let calls = self.node.sink.ledger().calls.len();
        eventually("calls are signed with the new keys", WITHIN, async || {
            (self.node.sink.ledger().calls.len() > calls + 5).then_some(())
        })
        .await;
        self.node.forebay.signal(Signal::HUP);
        eventually("secrets are read with the new keys", WITHIN, async || {
            let asked = self.aws.with(|account| account.asked.last().cloned()).await;
            (asked?.access_key_id == "AKIDSECOND").then_some(())
        })
        .await;
    }
}

fn keys(access_key_id: &str) -> Keys {
    Keys {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: format!("secret of {access_key_id}"),
        session_token: None,
        region: "eu-central-1".to_owned(),
    }
}

/// As AWS's tools write them.
fn write_keys(dir: &Path, access_key_id: &str) {
    let Keys {
        access_key_id,
        secret_access_key,
        ..
    } = keys(access_key_id);
    let text = format!(
        "[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret_access_key}\n"
    );
    replace(&dir.join("credentials"), text.as_bytes());
}

/// The node whose secrets are files.
struct Local {
    node: Node,
    dir: TempDir,
}

impl Local {
    async fn start(broker: &Broker) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let access = [(ROOT, "root"), ("CLIENT_CERTIFICATE_TLS_AUTH", "client")];
        let access = access.map(|(kind, name)| {
            let own = dir.path().join(format!("{name}.json"));
            std::fs::copy(broker.secret(name), &own).expect("the secret is copied");
            (kind, file_uri(&own))
        });
        let sink = Sink::new();
        let settings = Settings {
            access: access.to_vec(),
            bootstrap: Some(broker.listener("MTLS").to_owned()),
            ..Settings::new(TOPIC, "local", sink.listen().await)
        };
        let node = Node::start(broker, &settings, sink);
        Self { node, dir }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("the folder takes files");
        path
    }

    /// Nobody tells the node: it looks at its files.
    async fn rotates(&self, what: &str, name: &str, by: &Path) {
        let before = self.node.renewed();
        let text = std::fs::read(by).expect("a secret");
        replace(&self.dir.path().join(name), &text);
        self.node.is_renewed(what, before).await;
    }
}

/// All of a file at once, as who rotates secrets should.
fn replace(path: &Path, text: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the folder takes files");
    std::fs::rename(&new, path).expect("the folder takes files");
}
