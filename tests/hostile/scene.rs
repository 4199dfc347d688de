//! A whole life of a consumer: it finds its place, carries records, learns of new ones, and leaves.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use forebay_protocol::delivery::{Budget, ConsumerConfig, GroupProtocol, Input};
use forebay_protocol::kafka::sasl::{Mechanism, SaslCredentials};
use forebay_tests::fake_kafka::{Config, Fault, Sasl};
use forebay_tests::story::{Story, consumer_config};
use kafka_protocol::messages::ApiKey;

/// How long answers are recorded, and how long a consumer may then take to deliver what comes.
const RECORDED: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(300);

/// One kind of cluster and of member.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    cluster: fn() -> Config,
    group_protocol: GroupProtocol,
    mechanism: Option<Mechanism>,
}

/// What a broker has answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// To what; a raw message of SASL if to nothing.
    pub(crate) api: Option<ApiKey>,
    /// Without its length.
    pub(crate) bytes: Vec<u8>,
}

/// What came of the record that was produced last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// It was not, and the status says why.
    Told(String),
    /// The broker says that the partition is not ours, or is none: nobody can know better.
    Unowned,
    /// It was not, and nobody knows why.
    Stuck(String),
}

pub(crate) fn scenes() -> [Scene; 5] {
    let scene = |name, cluster, group_protocol, mechanism| Scene {
        name,
        cluster,
        group_protocol,
        mechanism,
    };
    let (classic, consumer) = (GroupProtocol::Classic, GroupProtocol::Consumer);
    [
        scene("classic", || Config::new(1), classic, None),
        scene("old", old, classic, None),
        scene("consumer", || Config::new(1), consumer, None),
        scene("plain", guarded, classic, Some(Mechanism::Plain)),
        scene(
            "scram, raw",
            old_guarded,
            classic,
            Some(Mechanism::ScramSha256),
        ),
    ]
}

/// As a broker of Kafka 1.1 speaks.
fn old() -> Config {
    let last = [
        (ApiKey::ApiVersions, 1),
        (ApiKey::Metadata, 5),
        (ApiKey::FindCoordinator, 1),
        (ApiKey::JoinGroup, 2),
        (ApiKey::SyncGroup, 1),
        (ApiKey::Heartbeat, 1),
        (ApiKey::LeaveGroup, 1),
        (ApiKey::OffsetFetch, 3),
        (ApiKey::OffsetCommit, 3),
        (ApiKey::ListOffsets, 2),
        (ApiKey::Fetch, 6),
    ];
    last.into_iter()
        .fold(Config::new(1), |config, (api, version)| {
            config.with_max_version(api, version)
        })
}

fn guarded() -> Config {
    let mut config = Config::new(1);
    config.sasl = Some(Sasl::new("anna", "swordfish"));
    config
}

/// One before 1.0, whose SASL has no frames of Kafka's.
fn old_guarded() -> Config {
    guarded()
        .without(ApiKey::SaslAuthenticate)
        .with_max_version(ApiKey::SaslHandshake, 0)
}

impl Scene {
    /// Plays it; `tamper` gets the number of each answer and may change it. Also the answers of the recorded time.
    pub(crate) fn play(
        &self,
        mut tamper: impl FnMut(usize, &mut Vec<u8>) + 'static,
    ) -> (Outcome, Vec<Answer>) {
        let answers = Rc::new(RefCell::new(Vec::<Answer>::new()));
        let mut story = Story::of_cluster_with((self.cluster)(), 1);
        let kept = Rc::clone(&answers);
        let (asks, asked) = mpsc::channel();
        story.kafka.set_hook(Some(Box::new(move |seen| {
            // The story may be over.
            asks.send((seen.connection, seen.api)).ok();
            Fault::Serve
        })));
        let mut open = Vec::new();
        story.tamper(move |connection, bytes| {
            open.extend(asked.try_iter());
            // A broker answers in the order of the requests.
            let found = open.iter().position(|(of, _)| *of == connection);
            let api = found.map(|at| open.remove(at).1);
            let mut kept = kept.borrow_mut();
            kept.push(Answer {
                api,
                bytes: bytes.clone(),
            });
            tamper(kept.len() - 1, bytes);
        });
        story.produce(0, "a");
        let user = self.mechanism.map(|mechanism| {
            Input::Credentials(Some(Arc::new(SaslCredentials {
                mechanism,
                username: "anna".to_owned(),
                password: "swordfish".to_owned().into(),
            })))
        });
        story.join_told(self.consumer(), Budget::new(64 << 20), user);
        story.play(RECORDED / 2);
        story.produce(0, "b");
        story.play(RECORDED / 2);
        let recorded = answers.borrow().clone();
        story.produce(0, "c");
        let mut waited = Duration::ZERO;
        while !is_delivered(&story) && waited < PATIENCE {
            let pause = Duration::from_secs(1);
            story.play(pause);
            waited += pause;
        }
        let outcome = outcome(&story);
        story.tell(0, Input::Stop);
        story.play(PATIENCE);
        assert!(story.has_ended(0), "it does not stop");
        (outcome, recorded)
    }

    fn consumer(&self) -> ConsumerConfig {
        ConsumerConfig {
            group_protocol: self.group_protocol,
            ..consumer_config()
        }
    }
}

fn is_delivered(story: &Story) -> bool {
    story.values(0).iter().any(|value| value == "c")
}

fn outcome(story: &Story) -> Outcome {
    let status = story.consumer(0).status();
    if is_delivered(story) {
        return Outcome::Delivered;
    }
    let mut halts = status.partitions.iter().filter_map(|it| it.halted.as_ref());
    let halted = halts.next().map(|halt| halt.reason.clone());
    let told = status.fault.as_ref().map(ToString::to_string).or(halted);
    match told {
        Some(text) => Outcome::Told(text),
        None if status.partitions.is_empty() => Outcome::Unowned,
        None => Outcome::Stuck(format!("{:?}, {:?}", status.phase, status.partitions)),
    }
}
