//! Signed calls, held against aws-sigv4 at the endpoint.

use std::process::Command;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Keys;
use forebay_tests::harness::{Declared, Stage};

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
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 2);
            for partition in 0..2 {
                // More than one send's worth, so that the hash takes more than one turn.
                let records = vec![NewRecord::value(vec![b'x'; 100_000]); 20];
                kafka.append("orders", partition, &records);
            }
        })
        .await;
    let site = stage.site();
    site.declare_signed(&mapping);
    let node = site.start().await;
    for partition in 0..2 {
        eventually!(stage.committed("orders", "orders", partition).await == 20);
    }
    stage.assert_no_violation().await;
    node.shutdown().await;
}
