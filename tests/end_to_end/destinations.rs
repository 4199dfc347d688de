//! Failed records on their way to the destination of their mapping, and what is said where it does not take them.

use std::sync::Arc;

use forebay::contract::Credentials;
use forebay::control::destinations::Writer;
use forebay::mapping::Mapping;
use forebay_protocol::delivery::{Diversion, Taken, Undelivered};
use forebay_protocol::lambda::failure::Origin;
use forebay_tests::eventually;
use forebay_tests::failure::diversion;
use forebay_tests::fake_aws::{Account, FakeAws};
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Reply;
use forebay_tests::harness::{Declared, Site, Stage};
use serde_json::Value;

use crate::secrets::{is_inside, keys};

pub(crate) const QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:failed";
pub(crate) const QUEUE_PATH: &str = "/123456789012/failed";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:failed";
const BUCKET: &str = "arn:aws:s3:::failed";
const ROLE: &str = "arn:aws:iam::123456789012:role/orders";

/// AWS with one destination of each kind.
pub(crate) async fn aws() -> FakeAws {
    let aws = FakeAws::start(keys("node")).await;
    aws.with(|Account { destinations, .. }| {
        destinations
            .queues
            .insert(QUEUE_PATH.to_owned(), Vec::new());
        destinations.topics.insert(TOPIC.to_owned(), Vec::new());
        destinations
            .buckets
            .insert("failed".to_owned(), Default::default());
    })
    .await;
    aws
}

/// The next answer of a destination is that one.
async fn answer_next(aws: &FakeAws, status: u16, body: &str) {
    let answer = (status, body.to_owned());
    aws.with(|it| it.destinations.refusals.push_back(answer))
        .await;
}

/// A node's directory with a mapping to that destination.
pub(crate) fn site(aws: &FakeAws, stage: &Stage, destination: &str) -> Site {
    let url = aws.url();
    let urls = format!("{{ sqs = {url:?}, sns = {url:?}, s3 = {url:?}, sts = {url:?} }}");
    let site = stage.site().key("region", "\"eu-central-1\"");
    let mut site = site.key("endpoint_urls", &urls);
    let member = format!("DestinationConfig.OnFailure.Destination = {destination:?}\n");
    site.declare(&Declared::new("orders").with(&member));
    site
}

fn mapping(site: &Site) -> Arc<Mapping> {
    let set = forebay::control::load(&site.config());
    let set = set.unwrap_or_else(|problems| panic!("{problems}"));
    Arc::clone(&set[0].mapping)
}

fn credentials(of: &str) -> Credentials {
    let keys = keys(of);
    Credentials {
        access_key_id: keys.access_key_id,
        secret_access_key: keys.secret_access_key.into(),
        session_token: keys.session_token.map(Into::into),
    }
}

/// Writes it as the node.
async fn write(site: &Site, diversion: &Diversion) -> Result<Taken, Undelivered> {
    let writer = Writer::new(&site.config(), Some(credentials("node")));
    writer.write(&mapping(site), diversion).await
}

fn record(site: &Site, diversion: &Diversion) -> String {
    let mapping = mapping(site);
    let origin = Origin {
        function_arn: &mapping.function.arn,
        bootstrap_servers: &mapping.bootstrap_servers,
    };
    diversion.failure.invocation_record(origin)
}

/// The partitions that a document speaks of.
fn partitions(text: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(text).expect("it is JSON");
    let infos = &document["KafkaBatchInfo"]["recordsInfo"];
    infos
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect()
}

#[tokio::test]
async fn a_queue_and_a_topic_take_the_invocation_record_and_nothing_else() {
    let (aws, stage) = (aws().await, Stage::new());
    for destination in [QUEUE, TOPIC] {
        let site = site(&aws, &stage, destination);
        write(&site, &diversion(2)).await.unwrap();
        let expected = vec![record(&site, &diversion(2))];
        let found = aws
            .with(|Account { destinations, .. }| match destination {
                QUEUE => destinations.queues[QUEUE_PATH].clone(),
                _ => destinations.topics[TOPIC].clone(),
            })
            .await;
        assert_eq!(found, expected, "{destination}");
    }
}

#[tokio::test]
async fn a_bucket_takes_the_event_as_well() {
    let (aws, stage) = (aws().await, Stage::new());
    let site = site(&aws, &stage, BUCKET);
    write(&site, &diversion(1)).await.unwrap();
    let objects = aws
        .with(|it| it.destinations.buckets["failed"].clone())
        .await;
    let (key, (kind, text)) = objects.first_key_value().expect("one was put");
    let uuid = mapping(&site).uuid;
    let folder = format!("aws/lambda/{uuid}/orders-0/2024/03/01/2024-03-01T10.00.00-");
    assert!(
        key.starts_with(&folder) && key.len() == folder.len() + 36,
        "{key}"
    );
    assert_eq!(kind, "application/json");
    let mut document: Value = serde_json::from_str(text).unwrap();
    assert_eq!(document["payload"], "{\"records\":{}}");
    document.as_object_mut().unwrap().remove("payload");
    let record: Value = serde_json::from_str(&record(&site, &diversion(1))).unwrap();
    assert_eq!(document, record);
}

#[tokio::test]
async fn what_is_too_long_for_one_message_becomes_several_by_partition() {
    let (aws, stage) = (aws().await, Stage::new());
    // Of SNS we know the limit, of a queue it is the owner's.
    aws.with(|it| it.destinations.message_bytes_max = Some(2048))
        .await;
    for (destination, count, limit) in [(TOPIC, 2000, 262_144), (QUEUE, 20, 2048)] {
        let site = site(&aws, &stage, destination);
        write(&site, &diversion(count)).await.unwrap();
        let found = aws
            .with(|Account { destinations, .. }| match destination {
                QUEUE => destinations.queues[QUEUE_PATH].clone(),
                _ => destinations.topics[TOPIC].clone(),
            })
            .await;
        assert!(found.len() > 1 && found.iter().all(|text| text.len() <= limit));
        let mut told: Vec<String> = found.iter().flat_map(|text| partitions(text)).collect();
        let mut expected: Vec<String> = (0..count).map(|it| format!("orders-{it}")).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "each partition stands in one of them");
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_split_is_said_to_be_too_long() {
    let (aws, stage) = (aws().await, Stage::new());
    aws.with(|it| it.destinations.message_bytes_max = Some(300))
        .await;
    let undelivered = write(&site(&aws, &stage, QUEUE), &diversion(3))
        .await
        .unwrap_err();
    let said = undelivered.reason;
    assert!(
        said.contains("must be shorter than 300 bytes.); raise its MaximumMessageSize"),
        "{said}"
    );
}

#[tokio::test]
async fn a_bucket_without_room_for_the_event_takes_the_rest() {
    let (aws, stage) = (aws().await, Stage::new());
    let site = site(&aws, &stage, BUCKET);
    let too_large = "<Error><Code>EntityTooLarge</Code><Message>It is too large</Message></Error>";
    answer_next(&aws, 400, too_large).await;
    let taken = write(&site, &diversion(1)).await;
    assert_eq!(taken, Ok(Taken::WithoutEvent));
    let objects = aws
        .with(|it| it.destinations.buckets["failed"].clone())
        .await;
    let texts: Vec<String> = objects.into_values().map(|(_, text)| text).collect();
    assert_eq!(texts, [record(&site, &diversion(1))]);
}

#[tokio::test]
async fn a_role_writes_where_the_function_has_one() {
    let (aws, stage) = (aws().await, Stage::new());
    aws.with(|account| account.roles.insert(ROLE.to_owned(), keys("role")))
        .await;
    for destination in [QUEUE, TOPIC, BUCKET] {
        let mut site = site(&aws, &stage, destination);
        site.function_key("orders", "role_arn", &format!("{ROLE:?}"));
        write(&site, &diversion(1)).await.unwrap();
        let asked = aws.with(|account| account.asked.clone()).await;
        let last = asked.last().expect("it was asked");
        assert_eq!(last.access_key_id, keys("role").access_key_id);
        site.function_key(
            "orders",
            "role_arn",
            &format!("{:?}", ROLE.replace("orders", "other")),
        );
    }
}

/// Holds what is said of a destination that answers so against what is expected.
async fn check_refused(destination: &str, status: u16, body: &str, expected: &str) {
    let (aws, stage) = (aws().await, Stage::new());
    answer_next(&aws, status, body).await;
    let written = write(&site(&aws, &stage, destination), &diversion(1)).await;
    let said = written.expect_err("it was refused").reason;
    let begin = format!("{destination}: ");
    assert!(
        said.starts_with(&begin) && said.contains(expected),
        "{said}"
    );
}

fn json(kind: &str, message: &str) -> String {
    serde_json::json!({ "__type": kind, "message": message }).to_string()
}

fn xml(code: &str, message: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")
}

#[tokio::test]
async fn what_a_queue_refuses_is_told_with_what_to_do() {
    let denied = json("com.amazon.coral.service#AccessDeniedException", "not you");
    let expected = "AccessDenied (not you); allow sqs:SendMessage on it to the node's principal";
    check_refused(QUEUE, 403, &denied, expected).await;
    let kms = json("com.amazonaws.sqs#KmsAccessDenied", "no");
    let expected = "allow kms:GenerateDataKey and kms:Decrypt on the key that encrypts it";
    check_refused(QUEUE, 400, &kms, expected).await;
    let fifo = json(
        "MissingParameter",
        "The request must contain the parameter MessageGroupId.",
    );
    let expected = "it is FIFO, which no failure destination can be";
    check_refused(QUEUE, 400, &fifo, expected).await;
    let expected = "the answer is not SQS's to SendMessage";
    check_refused(QUEUE, 200, "{}", expected).await;
    let expected = "SQS answers HTTP 503; it may pass by itself";
    check_refused(QUEUE, 503, "busy", expected).await;
}

#[tokio::test]
async fn what_a_topic_refuses_is_told_with_what_to_do() {
    let denied = xml("AuthorizationError", "not you");
    let expected = "HTTP 403, AuthorizationError (not you); allow sns:Publish on it";
    check_refused(TOPIC, 403, &denied, expected).await;
    let expected = "the keys of the node's principal are no good; renew them";
    check_refused(TOPIC, 403, &xml("ExpiredToken", "old"), expected).await;
    let expected = "the answer is not SNS's to Publish";
    check_refused(TOPIC, 200, "<html>", expected).await;
}

#[tokio::test]
async fn what_a_bucket_refuses_is_told_with_what_to_do() {
    let expected = "allow s3:PutObject on it to the node's principal";
    check_refused(BUCKET, 403, &xml("AccessDenied", "not you"), expected).await;
    let kms = "User is not authorized to perform: kms:GenerateDataKey on this resource";
    let expected = "allow kms:GenerateDataKey on the key that encrypts it";
    check_refused(BUCKET, 403, &xml("AccessDenied", kms), expected).await;
    let expected = "the answer is not S3's to PutObject";
    check_refused(BUCKET, 200, "", expected).await;
    let elsewhere =
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>";
    let expected = "it is in us-west-2, where the endpoint is not; correct s3 in [endpoint_urls]";
    check_refused(BUCKET, 400, elsewhere, expected).await;
}

#[tokio::test]
async fn a_destination_that_is_not_there_or_not_reached_is_told() {
    let (aws, stage) = (FakeAws::start(keys("node")).await, Stage::new());
    for destination in [QUEUE, TOPIC, BUCKET] {
        let said = write(&site(&aws, &stage, destination), &diversion(1)).await;
        let said = said.unwrap_err().reason;
        assert!(
            said.contains("create it, or correct DestinationConfig"),
            "{said}"
        );
        let site = site(&aws, &stage, destination);
        let nowhere = "{ sqs = \"http://127.0.0.1:1\", sns = \"http://127.0.0.1:1\", s3 = \"http://127.0.0.1:1\" }";
        let site = site.key("endpoint_urls", nowhere);
        let said = write(&site, &diversion(1)).await.unwrap_err().reason;
        assert!(
            said.contains("open the way to it, set HTTPS_PROXY, or name another endpoint"),
            "{said}"
        );
        let mut site = site;
        site.function_key("orders", "role_arn", &format!("{ROLE:?}"));
        let site = site.key("endpoint_urls", &format!("{{ sts = {:?} }}", aws.url()));
        let said = write(&site, &diversion(1)).await.unwrap_err().reason;
        assert!(
            said.contains(&format!("role {ROLE} cannot be assumed")),
            "{said}"
        );
    }
}

/// What is found of destinations, problems or not.
async fn findings(site: &Site, probe: bool) -> Vec<String> {
    let config = site.config();
    let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let found = match probe {
        true => forebay::control::check::probe(&config, &set).await,
        false => forebay::control::check::outside(&config, &set).await,
    };
    let lines = found.iter().map(ToString::to_string);
    lines.filter(|line| line.contains("destination ")).collect()
}

#[tokio::test]
async fn check_reads_destinations_and_writes_only_where_it_is_asked_to() {
    let test = "destinations::check_reads_destinations_and_writes_only_where_it_is_asked_to";
    if !is_inside(test, &[]) {
        return;
    }
    let (aws, stage) = (aws().await, Stage::new());
    let kept = async || {
        aws.with(|Account { destinations, .. }| {
            let objects = destinations.buckets["failed"]
                .values()
                .map(|(_, text)| text);
            let queue = destinations.queues[QUEUE_PATH].iter();
            let all = queue.chain(&destinations.topics[TOPIC]).chain(objects);
            all.cloned().collect::<Vec<String>>()
        })
        .await
    };
    for (count, destination) in [QUEUE, TOPIC, BUCKET].into_iter().enumerate() {
        let site = site(&aws, &stage, destination);
        let line = format!("mapping orders: destination {destination}: ");
        let right = format!("right: {line}");
        assert_eq!(findings(&site, false).await, [format!("{right}exists")]);
        assert_eq!(kept().await.len(), count, "nothing was written");
        let tried = findings(&site, true).await;
        assert!(
            tried[0].starts_with(&format!(
                "{right}has taken a document whose condition is Probe"
            )),
            "{tried:?}"
        );
        let texts = kept().await;
        assert_eq!(texts.len(), count + 1);
        let newest = texts
            .iter()
            .filter(|text| text.contains("\"condition\":\"Probe\""));
        assert_eq!(newest.count(), count + 1, "{texts:?}");
        answer_next(&aws, 403, "").await;
        let denied = findings(&site, false).await;
        assert!(
            denied[0].starts_with(&format!("note: {line}may not be read (HTTP 403)")),
            "{denied:?}"
        );
        answer_next(&aws, 404, "").await;
        let missing = findings(&site, false).await;
        assert!(
            missing[0].starts_with(&format!("problem: {line}")),
            "{missing:?}"
        );
    }
}

#[test]
fn a_destination_brings_ten_retries_unless_another_number_is_given() {
    let stage = Stage::new();
    let attempts = |members: &str| {
        let mut site = stage.site();
        site.declare(&Declared::new("orders").with(members));
        mapping(&site).retry.max_attempts
    };
    let with = |members: &str| {
        attempts(&format!(
            "DestinationConfig.OnFailure.Destination = {QUEUE:?}\n{members}"
        ))
    };
    assert_eq!(with(""), Some(10));
    assert_eq!(with("MaximumRetryAttempts = -1\n"), Some(10));
    assert_eq!(with("MaximumRetryAttempts = 10000\n"), Some(10_000));
    assert_eq!(with("MaximumRetryAttempts = 0\n"), Some(0));
    assert_eq!(
        attempts("DestinationConfig.OnFailure.Destination = \"\"\n"),
        None
    );
    assert_eq!(attempts("DestinationConfig = { OnFailure = {} }\n"), None);
}

#[test]
fn what_is_no_destination_is_refused_with_its_line() {
    let stage = Stage::new();
    let refused = |members: &str| {
        let mut site = stage.site();
        site.declare(&Declared::new("orders").with(members));
        match forebay::control::load(&site.config()) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    };
    let unsupported =
        "Unsupported DestinationConfig parameter for given event source mapping type.";
    for (destination, expected) in [
        ("OnSuccess.Destination = \"\"", unsupported),
        (
            "OnFailure.Destination = \"kafka://orders\"",
            "is the mapping's own topic",
        ),
        (
            "OnFailure.Destination = \"here\"",
            "failed to satisfy constraint",
        ),
        ("OnFailure.Topic = \"\"", "is not known"),
    ] {
        let said = refused(&format!("DestinationConfig.{destination}\n"));
        assert!(
            said.contains("orders.toml:4: ") && said.contains(expected),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_node_writes_what_its_function_cannot_digest_and_commits_it() {
    let test = "destinations::a_node_writes_what_its_function_cannot_digest_and_commits_it";
    if !is_inside(test, &[]) {
        return;
    }
    let (aws, stage) = (aws().await, Stage::new());
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            for at in 0..2 {
                let record = NewRecord::value(format!("value-{at}")).at(1_700_000_000_000 + at);
                kafka.append("orders", 0, &[record]);
            }
        })
        .await;
    stage
        .on_lambda(|functions| functions.always("orders", Reply::function_error()))
        .await;
    let members = format!(
        "DestinationConfig.OnFailure.Destination = {BUCKET:?}\nMaximumRetryAttempts = 0\n\
         MaximumBatchingWindowInSeconds = 0\n"
    );
    let mut site = site(&aws, &stage, BUCKET);
    site.declare(&Declared::new("orders").with(&members));
    // The first writing finds no room, so that it comes again.
    answer_next(&aws, 503, "busy").await;
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    let objects = aws
        .with(|it| it.destinations.buckets["failed"].clone())
        .await;
    let texts = objects.values().map(|(_, text)| text);
    let documents: Vec<Value> = texts
        .map(|text| serde_json::from_str(text).expect("it is JSON"))
        .collect();
    let mut told = 0;
    for document in &documents {
        let condition = &document["requestContext"]["condition"];
        assert_eq!(condition, "RetryAttemptsExhausted", "{document}");
        assert_eq!(document["responseContext"]["functionError"], "Unhandled");
        told += document["KafkaBatchInfo"]["batchSize"].as_i64().unwrap();
        let payload = document["payload"].as_str().expect("a bucket has it");
        let event: Value = serde_json::from_str(payload).expect("it is the event");
        assert_eq!(event["eventSource"], "SelfManagedKafka");
    }
    assert_eq!(told, 2, "{documents:?}");
    node.shutdown().await;
}

/// The documents in a topic of failed records.
async fn documents(stage: &Stage, topic: &'static str) -> Vec<(Option<String>, Value)> {
    let records = stage
        .on_kafka(move |kafka| {
            let partitions = 0..kafka.partition_count(topic);
            let records = partitions.flat_map(|it| kafka.records(topic, it));
            records.collect::<Vec<_>>()
        })
        .await;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is UTF-8");
    records
        .into_iter()
        .map(|record| {
            let value = record.value.expect("a document has text");
            let document = serde_json::from_slice(&value).expect("it is JSON");
            (record.key.as_deref().map(text), document)
        })
        .collect()
}

#[tokio::test]
async fn a_node_writes_to_a_topic_of_the_same_cluster_without_any_keys() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            kafka.create_topic("failed", 2);
            for key in ["a", "b", "c"] {
                let record = NewRecord::value("poison").with_key(key);
                kafka.append("orders", 0, &[record.at(1_700_000_000_000)]);
            }
        })
        .await;
    stage
        .on_lambda(|functions| functions.always("orders", Reply::function_error()))
        .await;
    let mut site = stage.site();
    let members = "DestinationConfig.OnFailure.Destination = \"kafka://failed\"\n\
                   MaximumRetryAttempts = 0\nMaximumBatchingWindowInSeconds = 0\n";
    site.declare(&Declared::new("orders").with(members));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    node.shutdown().await;
    let mut found = documents(&stage, "failed").await;
    found.sort_by_key(|(key, _)| key.clone());
    let keys: Vec<_> = found.iter().filter_map(|(key, _)| key.as_deref()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    for (at, (_, document)) in found.iter().enumerate() {
        assert_eq!(document["requestContext"]["condition"], "RetriesExhausted");
        let records = &document["payload"]["records"]["orders-0"];
        assert_eq!(records[0]["offset"], at);
    }
}

#[tokio::test]
async fn a_topic_is_looked_for_and_tried_out() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let mut site = stage.site();
    let members = "DestinationConfig.OnFailure.Destination = \"kafka://failed\"\n";
    site.declare(&Declared::new("orders").with(members));
    let said = async |probes: bool| {
        let config = site.config();
        let set = forebay::control::load(&config).expect("it is right");
        let findings = match probes {
            true => forebay::control::check::probe(&config, &set).await,
            false => forebay::control::check::outside(&config, &set).await,
        };
        let lines = findings.iter().map(ToString::to_string);
        lines
            .filter(|line| line.contains("destination kafka://failed"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for probes in [false, true] {
        let line = said(probes).await;
        assert!(
            line.starts_with("problem: ") && line.contains("does not exist; create it"),
            "{line}"
        );
    }
    stage
        .on_kafka(|kafka| kafka.create_topic("failed", 1))
        .await;
    let line = said(false).await;
    assert!(
        line.starts_with("right: ") && line.contains("exists"),
        "{line}"
    );
    assert!(
        documents(&stage, "failed").await.is_empty(),
        "nobody asked for more"
    );
    let line = said(true).await;
    assert!(
        line.starts_with("right: ") && line.contains("condition is Probe"),
        "{line}"
    );
    let found = documents(&stage, "failed").await;
    assert_eq!(found[0].1["requestContext"]["condition"], "Probe");
}
