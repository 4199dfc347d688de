//! `forebay check`: what it says of a cluster that denies something.

use forebay_protocol::kafka::error::ErrorCode;
use forebay_tests::fake_kafka::Fault;
use forebay_tests::harness::{Declared, Site, Stage};
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
    found(&site.key("request_timeout_ms", "1000")).await
}

/// The problems that are found at a site.
pub(crate) async fn found(site: &Site) -> Vec<String> {
    let mut said = said(site).await;
    said.retain(|line| line.starts_with("problem: "));
    said
}

/// Every line that is said of a site.
async fn said(site: &Site) -> Vec<String> {
    let config = site.config();
    let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let findings = forebay::control::check::outside(&config, &set).await;
    findings.iter().map(ToString::to_string).collect()
}

/// The stage's two addresses, exchanged.
async fn exchanged(stage: &Stage) -> Site {
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let function = stage.lambda.url();
    let function = function.trim_start_matches("http://").trim_end_matches('/');
    let mut site = Site::new(function, &format!("http://{}", stage.kafka.bootstrap()));
    site.declare(&Declared::new("orders"));
    site
}

#[tokio::test]
async fn a_broker_and_a_function_in_each_others_place_are_told_apart() {
    let stage = Stage::new();
    let problems = exchanged(&stage).await;
    let problems = found(&problems).await;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("that is an HTTP server, not Kafka"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("that is a Kafka broker, not a Lambda endpoint; correct endpoint_url"),
        "{problems:?}"
    );
}

/// Whether a problem says all of that of its subject, and nothing of those that are not reached.
fn says(problem: &str, subject: &str, all: &[&str]) -> bool {
    problem.contains(subject)
        && all.iter().all(|it| problem.contains(it))
        && !problem.contains("start it")
}

#[tokio::test]
async fn tls_that_one_side_alone_speaks_is_told_with_what_to_change() {
    let secure = Stage::secure();
    let url = secure.lambda.url().replace("https://", "http://");
    let mut site = Site::new(&secure.kafka.bootstrap(), &url);
    site.declare(&Declared::new("orders"));
    let plain_to_tls = found(&site).await;
    let is_tls = "that is a listener with TLS; ";
    let root = "name its root in SourceAccessConfigurations";
    let [broker, function] = &plain_to_tls[..] else {
        panic!("{plain_to_tls:?}");
    };
    assert!(
        says(broker, ": broker ", &["is of no use", is_tls, root]),
        "{broker}"
    );
    let https = "begin endpoint_url with https://";
    assert!(
        says(function, ": function ", &[is_tls, https]),
        "{function}"
    );
    let plain = Stage::new();
    let url = plain.lambda.url().replace("http://", "https://");
    let root = &secure.identity().expect("it has TLS").root_pem;
    let mut site = Site::new(&plain.kafka.bootstrap(), &url).trusting(root);
    site.declare(&Declared::new("orders"));
    let tls_to_plain = found(&site).await;
    let [broker, function] = &tls_to_plain[..] else {
        panic!("{tls_to_plain:?}");
    };
    let lacks = " listener without TLS";
    let port = "name its TLS port";
    assert!(
        says(broker, ": broker ", &["is of no use", lacks, port]),
        "{broker}"
    );
    let http = "begin endpoint_url with http://";
    assert!(says(function, ": function ", &[lacks, http]), "{function}");
}

#[tokio::test]
async fn a_broker_under_tls_in_the_place_of_a_function_is_told() {
    let stage = Stage::secure();
    let url = format!("https://{}", stage.kafka.bootstrap());
    let root = &stage.identity().expect("it has TLS").root_pem;
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let mut site = Site::new(&stage.kafka.bootstrap(), &url).trusting(root);
    site.declare(&Declared::new("orders"));
    let problems = found(&site).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let expected = "that is a Kafka broker, not a Lambda endpoint; correct endpoint_url";
    assert!(problems[0].ends_with(expected), "{problems:?}");
}

#[tokio::test]
async fn a_listener_that_wants_sasl_is_one_problem_that_says_what_to_change() {
    let problems = problems(ApiKey::Metadata, Fault::Drop).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let wants = "as a listener that wants SASL does; name a user in SourceAccessConfigurations";
    assert!(says(&problems[0], ": broker ", &[wants]), "{problems:?}");
}

#[tokio::test]
async fn a_topic_that_is_denied_is_a_problem() {
    let denied = Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED.0);
    let expected =
        "problem: mapping orders: topic orders: is not allowed; grant Describe and Read on it";
    assert_eq!(problems(ApiKey::Metadata, denied).await, [expected]);
}

#[tokio::test]
async fn a_group_that_is_denied_is_a_problem() {
    let expected =
        "problem: mapping orders: group orders: is not allowed; grant Describe and Read on it";
    for api in [ApiKey::FindCoordinator, ApiKey::Heartbeat] {
        let denied = Fault::Error(ErrorCode::GROUP_AUTHORIZATION_FAILED.0);
        assert_eq!(problems(api, denied).await, [expected], "{api:?}");
    }
}

/// What is said of the start of a mapping that begins at a time, by a broker whose topic has no timestamps, where the
/// group has committed so many of its two partitions.
async fn start_without_timestamps(committed: i32) -> String {
    let stage = Stage::new();
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", 2);
            for partition in 0..committed {
                kafka.set_committed("orders", "orders", partition, 7);
            }
            let none = ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT.0;
            kafka.script(ApiKey::ListOffsets, [Fault::Error(none)]);
        })
        .await;
    let mut site = stage.site();
    let time = "StartingPositionTimestamp = 1700000000\n";
    site.declare(&Declared::new("orders").starting("AT_TIMESTAMP").with(time));
    let said = said(&site).await;
    let start = said
        .into_iter()
        .find(|line| line.contains(": start of topic orders: "));
    start.unwrap_or_default()
}

#[tokio::test]
async fn a_start_at_a_time_on_a_topic_without_timestamps_is_a_problem_until_there_are_commits() {
    for committed in [0, 1] {
        assert_eq!(
            start_without_timestamps(committed).await,
            "problem: mapping orders: start of topic orders: has no timestamps: its message format is v0: \
             raise the topic's message.format.version, or take another StartingPosition"
        );
    }
    assert_eq!(
        start_without_timestamps(2).await,
        "right: mapping orders: start of topic orders: the group has its commits, so no time is looked for"
    );
}

#[tokio::test]
async fn a_change_that_a_reload_of_the_running_node_would_refuse_is_noted() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            kafka.create_topic("bills", 1);
        })
        .await;
    let mut site = stage.site();
    let mut orders = Declared::new("orders");
    site.declare(&orders);
    let node = site.start().await;
    let noted = async |site: &Site| {
        let mut said = said(site).await;
        said.retain(|line| line.contains("SIGHUP"));
        said
    };
    assert_eq!(noted(&site).await, [""; 0]);
    // This may change.
    site.declare(&orders.clone().with("BatchSize = 7\n"));
    assert_eq!(noted(&site).await, [""; 0]);
    site.declare(&orders.clone().starting("LATEST"));
    let advice =
        "and SIGHUP will refuse the change: it may only be given when a mapping is created";
    let expected = |member: &str, old: &str| {
        format!("note: mapping orders: {member}: the node that runs has {old}, {advice}")
    };
    let said = noted(&site).await;
    assert!(
        said[0].starts_with(&expected("StartingPosition", "TRIM_HORIZON")),
        "{said:?}"
    );
    orders.topic = "bills".to_owned();
    site.declare(&orders);
    let said = noted(&site).await;
    assert!(
        said[0].starts_with(&expected("Topics", "orders")),
        "{said:?}"
    );
    node.reload();
    node.reloaded().await;
    node.shutdown().await;
    assert_eq!(
        noted(&site).await,
        [""; 0],
        "nothing runs that would read the files"
    );
}

/// The problem of a broker that speaks Fetch in these versions alone.
async fn misfit(versions: (i16, i16)) -> String {
    let stage = Stage::new();
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", 1);
            kafka.tell_versions(ApiKey::Fetch, Some(versions));
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let problems = found(&site).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap_or_default()
}

#[tokio::test]
async fn a_broker_without_a_version_in_common_is_a_problem_that_names_both_sides() {
    let old = misfit((0, 1)).await;
    assert!(
        old.ends_with("is of no use (it is too old: of Fetch it speaks version 0 to 1, and 2 to 18 is needed; Kafka has it from 0.10.1 on)"),
        "{old}"
    );
    let new = misfit((19, 19)).await;
    assert!(
        new.ends_with("is of no use (it is too new: of Fetch it speaks version 19, and Forebay 2 to 18; a newer Forebay is needed)"),
        "{new}"
    );
}

#[tokio::test]
async fn a_broker_that_tells_no_versions_is_a_problem() {
    for (fault, said) in [
        (
            Fault::Drop,
            "when asked for its versions, as Kafka 0.8 does, which is too old",
        ),
        (
            Fault::Silence,
            "ms when asked for its versions: it hangs, or is Kafka 0.9, which is too old",
        ),
    ] {
        let problems = problems(ApiKey::ApiVersions, fault).await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(said), "{problems:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_allows_everything_has_no_problem() {
    assert_eq!(problems(ApiKey::Metadata, Fault::Serve).await, [""; 0]);
}

#[tokio::test]
async fn limits_without_a_destination_are_noted() {
    const SAID: &str = "records are discarded once they have reached its limits";
    let limits = "MaximumRetryAttempts = 3\n";
    let destination = "DestinationConfig.OnFailure.Destination = \"kafka://failed\"\n";
    for (members, is_noted) in [
        ("", false),
        (limits, true),
        (&format!("{limits}{destination}"), false),
    ] {
        let stage = Stage::new();
        let mut site = stage.site();
        site.declare(&Declared::new("orders").with(members));
        let config = site.config();
        let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
        let findings = forebay::control::check::inside(&config, &set).await;
        let noted = findings.iter().any(|it| it.to_string().contains(SAID));
        assert_eq!(noted, is_noted, "{members}");
    }
}
