//! `forebay check`: what it says of a cluster that denies something.

use forebay_protocol::kafka::error::ErrorCode;
use forebay_tests::fake_kafka::Fault;
use forebay_tests::harness::{Declared, Stage};
use kafka_protocol::messages::ApiKey;

/// The problems that are found when the first request of that API has that fault.
async fn problems(api: ApiKey, fault: Fault) -> Vec<String> {
    let stage = Stage::new();
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", 1);
            kafka.script(api, [fault]);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let config = site.config();
    let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let findings = forebay::control::check::outside(&config, &set).await;
    let problems = findings.iter().filter(|finding| finding.is_problem());
    problems.map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_topic_that_is_denied_is_a_problem() {
    let denied = Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED.0);
    let expected = "problem: topic orders: is not allowed; grant Describe and Read on it";
    assert_eq!(problems(ApiKey::Metadata, denied).await, [expected]);
}

#[tokio::test]
async fn a_group_that_is_denied_is_a_problem() {
    let expected = "problem: group orders: is not allowed; grant Describe and Read on it";
    for api in [ApiKey::FindCoordinator, ApiKey::Heartbeat] {
        let denied = Fault::Error(ErrorCode::GROUP_AUTHORIZATION_FAILED.0);
        assert_eq!(problems(api, denied).await, [expected], "{api:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_allows_everything_has_no_problem() {
    assert_eq!(problems(ApiKey::Metadata, Fault::Serve).await, [""; 0]);
}
