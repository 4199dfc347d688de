//! Brokers that want to know who we are: each mechanism, old brokers, sessions that end, credentials that change, and
//! servers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_protocol::delivery::{Budget, Disconnect, Fault as Shown, Input};
use forebay_protocol::kafka::sasl::{Mechanism, SaslCredentials};
use forebay_tests::fake_kafka::{Config, Fault, GroupChange, Lie, Sasl};
use forebay_tests::story::{GROUP, Story, TOPIC, consumer_config, succeeded};
use kafka_protocol::messages::ApiKey;

const MECHANISMS: [Mechanism; 3] = [
    Mechanism::Plain,
    Mechanism::ScramSha256,
    Mechanism::ScramSha512,
];

fn credentials(mechanism: Mechanism, username: &str, password: &str) -> Input {
    Input::Credentials(Some(Arc::new(SaslCredentials {
        mechanism,
        username: username.to_owned(),
        password: password.to_owned().into(),
    })))
}

/// A cluster that lets `anna` in with `swordfish`.
fn guarded(brokers: i32) -> Config {
    let mut config = Config::new(brokers);
    config.sasl = Some(Sasl::new("anna", "swordfish"));
    config
}

fn guarded_for(brokers: i32, lifetime: Duration) -> Config {
    let mut config = guarded(brokers);
    if let Some(sasl) = &mut config.sasl {
        sasl.session_lifetime = Some(lifetime);
    }
    config
}

/// One before 1.0.
fn old(config: Config) -> Config {
    config
        .without(ApiKey::SaslAuthenticate)
        .with_max_version(ApiKey::SaslHandshake, 0)
}

/// A consumer with these credentials on such a cluster.
fn story(config: Config, partitions: i32, first: Input) -> Story {
    let mut story = Story::of_cluster_with(config, partitions);
    story.join_told(consumer_config(), Budget::new(64 << 20), [first]);
    story
}

fn sasl(story: &mut Story) -> &mut Sasl {
    let sasl = story.kafka.sasl().as_mut();
    sasl.expect("the cluster is guarded")
}

fn delivers(story: &mut Story, value: &str) {
    let before = story.delivered.len();
    story.produce(0, value);
    story.until("the record is delivered", |story| {
        story.delivered.len() > before
    });
}

fn fault(story: &Story) -> String {
    let fault = story.consumer(0).status().fault;
    fault.map_or(String::new(), |fault| fault.to_string())
}

fn generations(story: &Story) -> usize {
    let events = story.kafka.group_events().iter();
    events
        .filter(|event| matches!(event.change, GroupChange::Generation { .. }))
        .count()
}

#[test]
fn each_mechanism_lets_us_in() {
    for mechanism in MECHANISMS {
        for config in [guarded(2), old(guarded(2))] {
            let mut story = story(config, 2, credentials(mechanism, "anna", "swordfish"));
            delivers(&mut story, "a");
            story.until("it is committed", |story| story.committed(0) == Some(1));
            assert_eq!(fault(&story), "");
            assert_eq!((story.kafka.refusals(), story.kafka.trespasses()), (0, 0));
            assert!(story.kafka.authentications() >= 4);
        }
    }
}

#[test]
fn a_password_is_hashed_once_for_all_connections() {
    let config = guarded(3);
    let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let mut story = story(config, 3, right);
    story.until("it owns its partitions", |story| story.owned(0).len() == 3);
    delivers(&mut story, "a");
    assert!(story.kafka.authentications() >= 5);
    assert_eq!(story.derivations, 1);
}

#[test]
fn names_with_commas_and_equals_signs_are_let_in() {
    for mechanism in MECHANISMS {
        let mut config = Config::new(1);
        config.sasl = Some(Sasl::new("a,b=c=2C", "p,=\u{e4}\u{1f41f}"));
        let odd = credentials(mechanism, "a,b=c=2C", "p,=\u{e4}\u{1f41f}");
        delivers(&mut story(config, 1, odd), "a");
    }
}

#[test]
fn a_wrong_password_is_told_and_the_right_one_heals() {
    for mechanism in MECHANISMS {
        for is_old in [false, true] {
            let config = if is_old { old(guarded(1)) } else { guarded(1) };
            let mut story = story(config, 1, credentials(mechanism, "anna", "hunter2"));
            story.until("it is told", |story| {
                matches!(
                    story.consumer(0).status().fault,
                    Some(Shown::AuthenticationFailed(_))
                )
            });
            let words = if is_old {
                "the broker closed the connection during authentication"
            } else {
                "the broker answers SASL_AUTHENTICATION_FAILED (58): Authentication failed"
            };
            let expected =
                format!("authentication failed: broker fake-1:9092: {mechanism}: {words}");
            assert!(fault(&story).starts_with(&expected), "{}", fault(&story));
            story.play(Duration::from_secs(600));
            let tries = story.kafka.refusals();
            assert!((8..=20).contains(&tries), "{tries} tries in ten minutes");
            assert!(fault(&story).starts_with(&expected), "it stays");
            let said = format!("{:?} {:?}", story.notices, story.consumer(0).status());
            assert!(!said.contains("hunter2") && !said.contains("swordfish"));
            story.tell(0, credentials(mechanism, "anna", "swordfish"));
            story.play(Duration::from_secs(1));
            assert_eq!(fault(&story), "");
            delivers(&mut story, "a");
        }
    }
}

#[test]
fn a_user_that_is_made_later_heals_by_itself() {
    let config = guarded(1);
    let mut story = story(config, 1, credentials(Mechanism::ScramSha512, "bert", "b"));
    story.play(Duration::from_secs(60));
    assert!(fault(&story).starts_with("authentication failed"));
    let users = &mut sasl(&mut story).users;
    users.insert("bert".to_owned(), "b".to_owned());
    story.until("the fault is gone", |story| fault(story).is_empty());
    delivers(&mut story, "a");
}

#[test]
fn a_mechanism_that_is_not_offered_is_named_with_those_that_are() {
    let mut config = guarded(1);
    if let Some(sasl) = &mut config.sasl {
        sasl.mechanisms = vec!["GSSAPI", "SCRAM-SHA-512"];
    }
    let mut story = story(
        config,
        1,
        credentials(Mechanism::Plain, "anna", "swordfish"),
    );
    story.play(Duration::from_secs(5));
    assert_eq!(
        fault(&story),
        "authentication failed: broker fake-1:9092: the broker does not offer PLAIN, but GSSAPI, SCRAM-SHA-512"
    );
    assert!(story.was_said("Authentication with a broker failed; it is tried again"));
    story.tell(0, credentials(Mechanism::ScramSha512, "anna", "swordfish"));
    delivers(&mut story, "a");
}

#[test]
fn a_listener_without_sasl_is_told() {
    let right = credentials(Mechanism::Plain, "anna", "swordfish");
    let mut story = story(Config::new(1), 1, right);
    story.play(Duration::from_secs(5));
    assert!(
        fault(&story).contains("the listener does not expect SASL"),
        "{}",
        fault(&story)
    );
    story.tell(0, Input::Credentials(None));
    delivers(&mut story, "a");
}

#[test]
fn sessions_are_renewed_in_mid_traffic_without_a_lost_record_or_connection() {
    for mechanism in MECHANISMS {
        let config = guarded_for(2, Duration::from_secs(4));
        let mut story = story(config, 2, credentials(mechanism, "anna", "swordfish"));
        delivers(&mut story, "warm");
        let connections = story.kafka.connections();
        let (first, joined) = (story.kafka.authentications(), generations(&story));
        let views = story.kafka.requests(ApiKey::Metadata);
        let mut expected = vec!["warm".to_owned()];
        for second in 0..60 {
            story.produce(0, &second.to_string());
            expected.push(second.to_string());
            story.play(Duration::from_millis(997));
        }
        story.play(Duration::from_secs(1));
        assert_eq!(story.values(0), expected);
        // A session of 4 s is renewed after 3.4 to 3.8 s, on each of four connections; the seed's is idle.
        let renewals = story.kafka.authentications() - first;
        assert!((60..=100).contains(&renewals), "{renewals} renewals");
        assert_eq!(story.kafka.connections(), connections);
        assert_eq!((story.kafka.refusals(), story.kafka.trespasses()), (0, 0));
        assert_eq!(generations(&story), joined);
        assert_eq!(
            story.kafka.requests(ApiKey::Metadata),
            views,
            "nobody is late"
        );
        assert!(!story.was_said("Connection to a broker ended"));
        assert_eq!(fault(&story), "");
    }
}

#[test]
fn a_join_that_waits_for_longer_than_its_session_is_let_in_all_the_same() {
    let mut config = guarded_for(1, Duration::from_secs(3));
    config.initial_rebalance_delay = Duration::from_secs(20);
    let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let mut story = story(config, 1, right);
    delivers(&mut story, "a");
    assert_eq!(story.kafka.requests(ApiKey::JoinGroup), 2);
    assert_eq!((story.kafka.refusals(), story.kafka.trespasses()), (0, 0));
}

/// Views and the coordinator are asked of it, and it is the coordinator itself: another is found all the same.
#[test]
fn a_seed_that_freezes_while_its_session_is_renewed_is_not_waited_for() {
    let config = guarded_for(2, Duration::from_secs(20));
    let mut story = story(
        config,
        1,
        credentials(Mechanism::Plain, "anna", "swordfish"),
    );
    story.kafka.move_coordinator(GROUP, 1);
    delivers(&mut story, "before");
    let joined = generations(&story);
    let is_frozen = Arc::new(AtomicBool::new(false));
    freeze_in_renewal(&mut story, 1, ApiKey::Metadata, Arc::clone(&is_frozen));
    story.kafka.move_leader(TOPIC, 0, Some(2));
    story.until("it freezes", |_| is_frozen.load(Ordering::Relaxed));
    story.play(Duration::from_secs(4));
    story.kafka.move_coordinator(GROUP, 2);
    story.produce(0, "after");
    story.play(Duration::from_secs(10));
    assert_eq!(story.values(0), ["before", "after"]);
    assert_eq!(story.committed(0), Some(2));
    assert_eq!(generations(&story), joined);
}

/// A broker answers nothing any more once the connection that it is asked for that on is to authenticate again.
fn freeze_in_renewal(story: &mut Story, node: i32, api: ApiKey, is_frozen: Arc<AtomicBool>) {
    let mut asked = None;
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.node == node && seen.api == api {
            asked = Some(seen.connection);
        }
        if seen.api == ApiKey::SaslHandshake && asked == Some(seen.connection) {
            is_frozen.store(true, Ordering::Relaxed);
        }
        match seen.node == node && is_frozen.load(Ordering::Relaxed) {
            true => Fault::Silence,
            false => Fault::Serve,
        }
    })));
}

#[test]
fn a_renewal_that_is_refused_ends_the_connection_and_heals() {
    let config = guarded_for(1, Duration::from_secs(10));
    let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let mut story = story(config, 1, right);
    delivers(&mut story, "a");
    let users = &mut sasl(&mut story).users;
    users.clear();
    story.play(Duration::from_secs(30));
    assert!(fault(&story).starts_with("authentication failed"));
    let users = &mut sasl(&mut story).users;
    users.insert("anna".to_owned(), "new".to_owned());
    story.tell(0, credentials(Mechanism::ScramSha256, "anna", "new"));
    delivers(&mut story, "b");
    assert_eq!(fault(&story), "");
    assert_eq!(story.kafka.trespasses(), 0);
}

/// New credentials while records flow: nothing is lost, nothing comes twice, nobody rejoins.
fn check_rotation(config: Config, old: Input, new: Input, change: impl FnOnce(&mut Sasl)) {
    let mut story = story(config, 2, old);
    delivers(&mut story, "warm");
    let (joined, generation) = (generations(&story), story.kafka.generation(GROUP));
    let mut expected = vec!["warm".to_owned()];
    change(sasl(&mut story));
    let before = story.kafka.authentications();
    story.tell(0, new);
    for at in 0..30 {
        story.produce(0, &at.to_string());
        expected.push(at.to_string());
        story.play(Duration::from_millis(331));
    }
    assert!(story.kafka.authentications() >= before + 4);
    assert_eq!(story.values(0), expected);
    assert_eq!(generations(&story), joined);
    assert_eq!(story.kafka.generation(GROUP), generation);
    assert_eq!((story.kafka.refusals(), story.kafka.trespasses()), (0, 0));
    assert_eq!(fault(&story), "");
    story.until("all is committed", |story| story.committed(0) == Some(31));
    let status = story.consumer(0).status();
    let errors = (status.counters.fetch_errors, status.counters.commit_errors);
    assert_eq!(errors, (0, 0));
}

#[test]
fn new_credentials_come_to_every_connection_without_a_rebalance() {
    let old = || credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let new_password = |sasl: &mut Sasl| {
        sasl.users.insert("anna".to_owned(), "new".to_owned());
    };
    let new_user = |sasl: &mut Sasl| {
        sasl.users.insert("bert".to_owned(), "b".to_owned());
    };
    let renewed = credentials(Mechanism::ScramSha256, "anna", "new");
    check_rotation(
        guarded_for(2, Duration::from_secs(3600)),
        old(),
        renewed,
        new_password,
    );
    let replaced = credentials(Mechanism::ScramSha256, "anna", "new");
    check_rotation(guarded(2), old(), replaced, new_password);
    let another = credentials(Mechanism::Plain, "bert", "b");
    check_rotation(
        guarded_for(2, Duration::from_secs(3600)),
        old(),
        another,
        new_user,
    );
}

#[test]
fn connections_that_stand_are_made_anew_one_by_one() {
    let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let mut story = story(guarded(2), 2, right);
    delivers(&mut story, "a");
    let standing = story.kafka.connections();
    story.fewest_connections = standing;
    story.tell(0, credentials(Mechanism::Plain, "anna", "swordfish"));
    story.play(Duration::from_secs(10));
    assert_eq!(story.kafka.connections(), standing);
    assert_eq!(story.fewest_connections, standing - 1);
}

#[test]
fn new_credentials_that_are_wrong_cost_one_connection() {
    let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let mut story = story(guarded(1), 1, right);
    delivers(&mut story, "a");
    let joined = generations(&story);
    story.tell(0, credentials(Mechanism::ScramSha256, "anna", "wrong"));
    for at in 0..100 {
        delivers(&mut story, &at.to_string());
        story.play(Duration::from_secs(1));
        let fault = fault(&story);
        assert!(
            at < 1 || fault.starts_with("authentication failed"),
            "{fault}"
        );
    }
    assert_eq!(generations(&story), joined);
    story.tell(0, credentials(Mechanism::ScramSha256, "anna", "swordfish"));
    story.play(Duration::from_secs(5));
    assert_eq!(fault(&story), "");
}

#[test]
fn one_broker_of_three_that_refuses_is_told_all_the_time() {
    let right = || credentials(Mechanism::ScramSha256, "anna", "swordfish");
    let mut story = story(guarded(3), 3, right());
    delivers(&mut story, "a");
    let shut_out = story.kafka.leader("orders", 2).0.unwrap();
    story.kafka.shut(shut_out, true);
    for connection in story.kafka.connections_to(shut_out) {
        story.close(connection);
    }
    story.play(Duration::from_secs(5));
    for _ in 0..300 {
        assert!(fault(&story).starts_with("authentication failed: broker fake-"));
        story.play(Duration::from_secs(1));
    }
    story.kafka.shut(shut_out, false);
    story.until("the fault is gone", |story| fault(story).is_empty());
}

#[test]
fn a_seed_that_refuses_is_passed_over_and_told() {
    let mut config = consumer_config();
    let mut second = config.bootstrap[0].clone();
    second.host = "fake-2".to_owned();
    config.bootstrap.push(second);
    let mut story = Story::of_cluster_with(guarded(2), 2);
    story.kafka.shut(1, true);
    let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
    story.join_told(config, Budget::new(64 << 20), [right]);
    story.play(Duration::from_secs(10));
    assert_eq!(story.consumer(0).status().topic_partitions, Some(2));
    for _ in 0..300 {
        let fault = fault(&story);
        assert!(fault.contains("broker fake-1:9092: SCRAM"), "{fault}");
        story.play(Duration::from_secs(1));
    }
    assert!(!story.was_said("Broker cannot be used; it is tried again"));
    story.kafka.shut(1, false);
    delivers(&mut story, "a");
    assert_eq!(fault(&story), "");
}

#[test]
fn hostile_servers_are_named_and_not_believed() {
    let large = vec![b'r'; 20_000];
    for (lie, expected) in [
        (Lie::Signature, "the server's signature is wrong"),
        (Lie::Nonce, "the server's nonce does not begin with ours"),
        (Lie::Iterations(1 << 31), "an iteration count of 2147483648"),
        (Lie::Iterations(1), "an iteration count of 1,"),
        (Lie::Welcome, "the server's first message has no nonce"),
        (
            Lie::Challenge(Vec::new()),
            "the server's first message has no nonce",
        ),
        (Lie::Challenge(large), "the server says more than is read"),
        (
            Lie::Challenge(vec![0xff, 0, 1]),
            "what the server says is no text",
        ),
        (
            Lie::Refusal("no\u{0}\u{1b}[2J\nswordfish\u{202e}".to_owned()),
            "(58): no  [2J ***",
        ),
    ] {
        for is_old in [false, true] {
            let mut config = if is_old { old(guarded(1)) } else { guarded(1) };
            config.sasl.as_mut().unwrap().lie = Some(lie.clone());
            let right = credentials(Mechanism::ScramSha256, "anna", "swordfish");
            let mut story = story(config, 1, right);
            story.play(Duration::from_secs(30));
            let expected = match (&lie, is_old) {
                (Lie::Refusal(_), true) => "the broker closed the connection",
                _ => expected,
            };
            assert!(
                fault(&story).contains(expected),
                "{lie:?}: {}",
                fault(&story)
            );
            assert!(fault(&story).starts_with("authentication failed: broker"));
            assert_eq!(story.kafka.requests(ApiKey::Metadata), 0);
            sasl(&mut story).lie = None;
            delivers(&mut story, "a");
        }
    }
}

#[test]
fn certificates_that_are_not_trusted_are_told_and_heal() {
    type End = fn(String) -> Disconnect;
    let server: End = Disconnect::ServerNotTrusted;
    let client: End = Disconnect::ClientNotTrusted;
    for (end, expected) in [
        (server, "broker not trusted"),
        (client, "not trusted by the broker"),
    ] {
        let mut story = Story::of_cluster(1, 1);
        story.refuse_with(move |_| Some(end("unknown issuer".to_owned())));
        story.join(consumer_config(), Budget::new(64 << 20));
        story.play(Duration::from_secs(60));
        let told = format!("{expected}: broker fake-1:9092: unknown issuer");
        assert_eq!(fault(&story), told);
        story.refuse_with(|_| None);
        delivers(&mut story, "a");
        assert_eq!(fault(&story), "");
    }
}

#[test]
fn a_member_without_credentials_is_cut_off_and_comes_in_with_them() {
    let mut story = Story::of_cluster_with(guarded(1), 1);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.play(Duration::from_secs(10));
    assert!(story.kafka.trespasses() > 0);
    story.tell(0, credentials(Mechanism::ScramSha256, "anna", "swordfish"));
    delivers(&mut story, "a");
    story.hold_calls();
    story.produce(0, "b");
    story.until("a call is open", |story| story.open_calls.len() == 1);
    story.end_call(succeeded());
    story.tell(0, Input::Stop);
    story.until("it has stopped", |story| story.has_ended(0));
}

#[test]
fn whoever_says_nothing_of_himself_is_told_what_the_broker_may_want() {
    let mut story = Story::of_cluster_with(guarded(1), 1);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.until("a fault is told", |story| !fault(story).is_empty());
    let told = fault(&story);
    assert!(
        told.contains(
            "as a listener that wants SASL does; name a user in SourceAccessConfigurations"
        ) && !told.contains("start it"),
        "{told}"
    );
}

#[test]
fn a_new_way_to_connect_comes_to_every_connection_without_a_rebalance() {
    let mut story = Story::new(2, 2);
    delivers(&mut story, "a");
    let (joined, standing) = (generations(&story), story.kafka.connections());
    let before: Vec<_> = (1..=2)
        .flat_map(|it| story.kafka.connections_to(it))
        .collect();
    story.fewest_connections = standing;
    story.tell(0, Input::MakeAnew);
    story.play(Duration::from_secs(10));
    let after: Vec<_> = (1..=2)
        .flat_map(|it| story.kafka.connections_to(it))
        .collect();
    assert!(after.iter().all(|connection| !before.contains(connection)));
    assert_eq!(story.kafka.connections(), standing);
    assert_eq!(story.fewest_connections, standing - 1);
    assert_eq!(generations(&story), joined);
    delivers(&mut story, "b");
}

#[test]
fn a_new_way_to_connect_that_is_refused_costs_one_connection() {
    let mut story = Story::new(2, 1);
    delivers(&mut story, "a");
    let (joined, standing) = (generations(&story), story.kafka.connections());
    story.refuse_with(|_| {
        Some(Disconnect::ServerNotTrusted(
            "it is not for this name".to_owned(),
        ))
    });
    story.fewest_connections = standing;
    story.tell(0, Input::MakeAnew);
    for at in 0..50 {
        delivers(&mut story, &at.to_string());
        story.play(Duration::from_secs(1));
    }
    assert_eq!(story.fewest_connections, standing - 1);
    assert_eq!(generations(&story), joined);
    assert!(fault(&story).contains("not trusted"), "{}", fault(&story));
    story.refuse_with(|_| None);
    story.tell(0, Input::MakeAnew);
    story.play(Duration::from_secs(10));
    assert_eq!(fault(&story), "");
}
