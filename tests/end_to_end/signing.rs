//! Signed calls, held against aws-sigv4 at the endpoint.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Keys;
use forebay_tests::harness::{Declared, Stage, get};
use tokio::net::TcpListener;

const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    (
        "AWS_SECRET_ACCESS_KEY",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    ),
    ("AWS_SESSION_TOKEN", "a/session+token=="),
];

/// Credentials come from the environment, which a process has once: so the test runs in one of its own.
fn in_a_process_with_keys(test: &str) -> bool {
    if std::env::var(KEYS[0].0).is_ok_and(|id| id == KEYS[0].1) {
        return false;
    }
    let binary = std::env::current_exe().expect("the test knows its binary");
    let status = Command::new(binary)
        .args(["--exact", test])
        .envs(KEYS)
        .status();
    assert!(status.expect("the binary starts again").success());
    true
}

#[tokio::test]
async fn signature_is_what_the_sdk_would_make() {
    if in_a_process_with_keys("signing::signature_is_what_the_sdk_would_make") {
        return;
    }
    // Bodies of one lane are hashed while they are written, those of two beside each other.
    for partitions in [2, 1] {
        deliver_signed(partitions).await;
    }
}

async fn deliver_signed(partitions: i32) {
    let stage = Stage::new();
    let [access_key_id, secret_access_key, session_token] = KEYS.map(|(_, value)| value.to_owned());
    let keys = Keys {
        access_key_id,
        secret_access_key,
        session_token: Some(session_token),
        region: "eu-west-1".to_owned(),
    };
    stage
        .on_lambda(move |functions| functions.require_signatures(keys))
        .await;
    let mut mapping = Declared::new("orders");
    // An ARN with a qualifier: percent-encoded once in the path, twice in what is signed.
    "arn:aws:lambda:eu-west-1:123456789012:function:orders:prod".clone_into(&mut mapping.function);
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", partitions);
            for partition in 0..partitions {
                // More than one send's worth, so that the hash takes more than one turn.
                let records = vec![NewRecord::value(vec![b'x'; 100_000]); 20];
                kafka.append("orders", partition, &records);
            }
        })
        .await;
    let site = stage.site();
    site.declare_signed(&mapping);
    let node = site.start().await;
    for partition in 0..partitions {
        eventually!(stage.committed("orders", "orders", partition).await == 20);
    }
    stage.assert_no_violation().await;
    node.shutdown().await;
}

/// How many faults the only mapping has.
async fn faults(node: &forebay::Appliance) -> Option<f64> {
    let (_, text) = get(node.metrics_addr(), "/metrics").await.ok()?;
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("forebay_mapping_faults{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn missing_credentials_are_a_fault_before_the_first_call_until_they_come() {
    const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
    const MARK: &str = "FOREBAY_TEST_WITHOUT_CREDENTIALS";
    if std::env::var_os(MARK).is_none() {
        let dir = tempfile::tempdir().unwrap();
        let test = "signing::missing_credentials_are_a_fault_before_the_first_call_until_they_come";
        let mut again = Command::new(std::env::current_exe().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"AWS_") {
                again.env_remove(name);
            }
        }
        let status = again
            .args(["--exact", test])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", dir.path().join("none"))
            .env(FILE, dir.path().join("credentials"))
            .env(MARK, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let site = stage.site();
    site.declare_signed(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(faults(&node).await == Some(1.0));
    let keys = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n";
    std::fs::write(std::env::var_os(FILE).unwrap(), keys).unwrap();
    eventually!(faults(&node).await == Some(0.0));
    node.shutdown().await;
}

/// An endpoint that lets nobody do anything; it says which calls were no dry runs.
async fn forbidding() -> (String, Arc<AtomicU32>) {
    let real_calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&real_calls);
    let answer = async move |request: Request<Body>| {
        let is_call = request.method() == Method::POST;
        let kind = request.headers().get("x-amz-invocation-type");
        let is_dry = kind.is_some_and(|kind| kind == "DryRun");
        counted.fetch_add(u32::from(is_call && !is_dry), Ordering::Relaxed);
        let action = if is_call {
            "InvokeFunction"
        } else {
            "GetFunctionConfiguration"
        };
        let message = format!("User: u is not authorized to perform: lambda:{action}");
        let json = serde_json::json!({ "Message": message });
        (StatusCode::FORBIDDEN, json.to_string())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let url = format!("http://{address}");
    // It ends with the test's runtime.
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
    (url, real_calls)
}

#[tokio::test]
async fn check_names_what_may_not_be_done_with_a_function_and_calls_it_dry() {
    let test = "signing::check_names_what_may_not_be_done_with_a_function_and_calls_it_dry";
    if in_a_process_with_keys(test) {
        return;
    }
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let (url, real_calls) = forbidding().await;
    let site = stage.site().key("endpoint_url", &format!("{url:?}"));
    site.declare_signed(&Declared::new("orders"));
    let config = site.config();
    let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let findings = forebay::control::check::outside(&config, &set).await;
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    for expected in [
        "may not be called (HTTP 403: User: u is not authorized to perform: lambda:InvokeFunction)",
        "its configuration may not be read (HTTP 403: User: u is not authorized to perform: lambda:GetFunctionConfiguration)",
    ] {
        assert!(said.iter().any(|line| line.contains(expected)), "{said:#?}");
    }
    assert_eq!(real_calls.load(Ordering::Relaxed), 0);
}
