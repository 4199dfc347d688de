//! Secrets that AWS keeps: who asks for them, where, and what is said where they are not given.

use std::process::Command;

use forebay_tests::eventually;
use forebay_tests::fake_aws::{Asked, FakeAws};
use forebay_tests::fake_lambda::Keys;
use forebay_tests::harness::{Declared, Site, Stage};

const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:kafka-root-AbCdEf";
const ROLE: &str = "arn:aws:iam::123456789012:role/orders";

/// Keys come from the environment, which a process has once: so each test runs in a process of its own. True in
/// that process.
pub(crate) fn is_inside(test: &str, variables: &[(&str, &str)]) -> bool {
    const MARK: &str = "FOREBAY_TEST_SECRETS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let binary = std::env::current_exe().expect("the test knows its binary");
    let node = keys("node");
    let status = Command::new(binary)
        .args(["--exact", test])
        .env(MARK, "1")
        .env("AWS_ACCESS_KEY_ID", node.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", node.secret_access_key)
        .env_remove("AWS_SESSION_TOKEN")
        .envs(variables.iter().copied())
        .status();
    assert!(status.expect("the binary starts again").success());
    false
}

/// That principal's, for the region of the secrets and destinations.
pub(crate) fn keys(of: &str) -> Keys {
    Keys {
        access_key_id: format!("AKID-{of}"),
        secret_access_key: format!("secret of {of}"),
        session_token: (of != "node").then(|| format!("token of {of}")),
        region: "eu-central-1".to_owned(),
    }
}

/// A mapping of that topic whose brokers have their root in Secrets Manager.
fn declared(topic: &str) -> Declared {
    let entry = format!("{{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = {SECRET:?} }}");
    Declared::new(topic).with(&format!("SourceAccessConfigurations = [{entry}]\n"))
}

/// A root in a secret's JSON.
fn root() -> String {
    let key = rcgen::generate_simple_self_signed(["broker".to_owned()]).expect("a certificate");
    serde_json::json!({ "certificate": key.cert.pem() }).to_string()
}

/// AWS that has the secret, and a node's directory that finds it; the node's region is the secret's.
async fn aws(stage: &Stage) -> (FakeAws, Site) {
    let aws = FakeAws::start(keys("node")).await;
    aws.with(|account| account.secrets.insert(SECRET.to_owned(), root()))
        .await;
    let urls = format!("{{ secrets_manager = {0:?}, sts = {0:?} }}", aws.url());
    let site = stage.site().key("endpoint_urls", &urls);
    (aws, site.key("region", "\"eu-central-1\""))
}

/// What `check` says of a secret that it does not get.
async fn refusal(site: &Site) -> String {
    let config = site.config();
    let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let findings = forebay::control::check::outside(&config, &set).await;
    let mut problems = findings.iter().filter(|finding| finding.is_problem());
    let found = problems.find(|it| it.to_string().contains(SECRET));
    found.map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn a_secret_is_read_as_the_node_and_as_the_role_of_a_function() {
    let test = "secrets::a_secret_is_read_as_the_node_and_as_the_role_of_a_function";
    if !is_inside(test, &[]) {
        return;
    }
    let stage = Stage::new();
    let (aws, mut site) = aws(&stage).await;
    aws.with(|account| account.roles.insert(ROLE.to_owned(), keys("role")))
        .await;
    for topic in ["orders", "bills"] {
        site.declare(&declared(topic));
    }
    site.function_key("orders", "role_arn", &format!("{ROLE:?}"));
    let node = site.start().await;
    let host = aws.url().replace("http://", "");
    let asked = |who: &str, arn: &str| Asked {
        host: host.clone(),
        access_key_id: keys(who).access_key_id,
        arn: arn.to_owned(),
    };
    for expected in [
        asked("node", SECRET),
        asked("node", ROLE),
        asked("role", SECRET),
    ] {
        eventually!(aws.with(|account| account.asked.contains(&expected)).await);
    }
    // Nobody asks again before minutes have passed.
    assert_eq!(aws.with(|account| account.asked.len()).await, 3);
    node.shutdown().await;
}

#[tokio::test]
async fn what_keeps_a_secret_from_us_is_told_with_what_to_do() {
    let test = "secrets::what_keeps_a_secret_from_us_is_told_with_what_to_do";
    if !is_inside(test, &[]) {
        return;
    }
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let (aws, mut site) = aws(&stage).await;
    site.declare(&declared("orders"));
    assert_eq!(refusal(&site).await, "");
    let denied = r#"{"__type":"AccessDeniedException","Message":"User: me is not authorized"}"#;
    for (answer, expected) in [
        (
            (400, denied),
            "allow secretsmanager:GetSecretValue on it to the node's principal",
        ),
        (
            (503, "busy"),
            "Secrets Manager answers HTTP 503; it is asked again",
        ),
        (
            (200, "<html>"),
            "Secrets Manager's answer is not that of GetSecretValue",
        ),
        (
            (200, r#"{"SecretString":"{}"}"#),
            "it has no member certificate",
        ),
    ] {
        let (status, body) = (answer.0, answer.1.to_owned());
        aws.with(|account| account.refusal = Some((status, body)))
            .await;
        let said = refusal(&site).await;
        assert!(said.contains(SECRET) && said.contains(expected), "{said}");
    }
    site.function_key("orders", "role_arn", &format!("{ROLE:?}"));
    let said = refusal(&site).await;
    let expected = format!("role {ROLE} cannot be assumed (");
    assert!(said.contains(&expected), "{said}");
    assert!(
        said.contains("(AccessDenied: User is not authorized to perform: sts:AssumeRole"),
        "{said}"
    );
    let site = site.key("endpoint_urls", "{ sts = \"http://127.0.0.1:1\" }");
    let said = refusal(&site).await;
    assert!(
        said.contains(&format!("sts, for role {ROLE}, is not reached (")),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_asked_for_through_the_proxy_of_the_environment() {
    const AT: &str = "FOREBAY_TEST_PROXY";
    let test = "secrets::secrets_are_asked_for_through_the_proxy_of_the_environment";
    if let Some(url) = std::env::var_os(AT) {
        let stage = Stage::new();
        let urls = "{ secrets_manager = \"http://secretsmanager.example.invalid\" }";
        let mut site = stage.site().key("endpoint_urls", urls);
        site.declare(&declared("orders"));
        assert_eq!(refusal(&site).await, "", "through {}", url.display());
        return;
    }
    let aws = FakeAws::start(keys("node")).await;
    aws.with(|account| account.secrets.insert(SECRET.to_owned(), root()))
        .await;
    let url = aws.url();
    let inside = tokio::task::spawn_blocking(move || {
        is_inside(test, &[(AT, &url), ("HTTP_PROXY", &url), ("NO_PROXY", "")])
    });
    assert!(!inside.await.expect("the process ends"));
    let asked = aws.with(|account| account.asked.clone()).await;
    let hosts: Vec<_> = asked.iter().map(|asked| asked.host.as_str()).collect();
    assert_eq!(hosts, ["secretsmanager.example.invalid"]);
}
