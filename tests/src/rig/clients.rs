//! The clients of others: Kafka's own and librdkafka's, each a program of `tests/rig`.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use super::{Broker, Expected, eventually};

/// Whose producer or member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    /// Kafka's own client.
    Java,
    /// Python's confluent-kafka.
    Librdkafka,
}

/// How many records a producer has written.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Produced {
    /// Records that a reader of committed records sees.
    pub committed: u64,
    /// Records of aborted transactions.
    pub aborted: u64,
}

/// A producer that writes until it is told to stop.
pub struct Load {
    child: Child,
}

/// What `kafka-consumer-groups --describe` says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: i32,
    /// The group's offset.
    pub committed: Option<i64>,
    /// The partition's end.
    pub end: i64,
    /// How far the group is behind.
    pub lag: Option<i64>,
    /// The member that owns it.
    pub member: Option<String>,
}

/// One line that a foreign member said.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// `assigned`, `revoked`, `processed`, `uncommitted` or `left`.
    pub event: String,
    /// Milliseconds since 1970.
    pub at: u64,
    /// The partition, but for `left`.
    #[serde(default)]
    pub partition: i32,
    /// The first offset processed.
    #[serde(default)]
    pub first: i64,
    /// The last offset processed.
    #[serde(default)]
    pub last: i64,
}

/// A foreign member of a group.
pub struct Member {
    child: Child,
    input: Option<ChildStdin>,
    heard: mpsc::UnboundedReceiver<Said>,
    /// What it has said up to now.
    pub said: Vec<Said>,
}

impl Broker {
    /// Creates a topic.
    pub async fn topic(&self, name: &str, partitions: u32, configs: &[&str]) {
        let partitions = partitions.to_string();
        let mut arguments = vec![self.bootstrap.as_str(), name, partitions.as_str()];
        arguments.extend(configs);
        self.finish(self.java("Topic", &arguments)).await;
    }

    /// Gives a user of SCRAM a new password, for each mechanism.
    pub async fn set_password(&self, user: &str, password: &str) {
        let arguments = [&self.bootstrap, "scram", user, password];
        self.finish(self.python("admin.py", &arguments)).await;
    }

    /// Lets a user describe and read a `topic` or `group`.
    pub async fn allow(&self, user: &str, kind: &str, name: &str) {
        let arguments = [&self.bootstrap, "allow", user, kind, name];
        self.finish(self.python("admin.py", &arguments)).await;
    }

    /// All topics but Kafka's own, as Kafka's own tool sees them.
    pub async fn topics(&self) -> Vec<String> {
        let mut command = self.tool(
            "kafka.admin.TopicCommand",
            "org.apache.kafka.tools.TopicCommand",
        );
        command.args(["--bootstrap-server", &self.bootstrap, "--list"]);
        let said = self.finish(command).await;
        let topics = said
            .lines()
            .filter(|name| !name.is_empty() && !name.starts_with("__"));
        topics.map(str::to_owned).collect()
    }

    /// Writes so many records of every kind that the broker has, and waits for it.
    pub async fn produce(&self, by: Producer, topic: &str, count: u64, seed: u64) -> Produced {
        self.produce_without(&self.lacks(), by, topic, count, seed)
            .await
    }

    /// Writes so many records without what a topic's format does not have, and waits for it.
    pub async fn produce_without(
        &self,
        without: &[&str],
        by: Producer,
        topic: &str,
        count: u64,
        seed: u64,
    ) -> Produced {
        let producer = self.producer(without, by, topic, count, seed, 0);
        last_json(&self.finish(producer).await)
    }

    /// Writes numbered records with the console producer of the broker's own version, in that codec.
    pub async fn produce_by_console(&self, topic: &str, codec: &str, count: u64) {
        let mut command = self.own("kafka.tools.ConsoleProducer");
        command.args(["--broker-list", &self.bootstrap, "--topic", topic]);
        command.args(["--compression-codec", codec, "--property", "parse.key=true"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut input = child.stdin.take().expect("stdin is piped");
        let lines: String = (0..count)
            .map(|n| format!("key-{n}\t{codec} {n} {}\n", "paid ".repeat(20)))
            .collect();
        input
            .write_all(lines.as_bytes())
            .await
            .expect("the program reads");
        drop(input);
        let done = child.wait_with_output().await.expect("the program ends");
        succeeded(&command, done);
    }

    /// Writes records of every kind, `rate` a second, until it is stopped.
    pub fn load(&self, by: Producer, topic: &str, seed: u64, rate: u64) -> Load {
        let child = self
            .producer(&self.lacks(), by, topic, 0, seed, rate)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the producer runs");
        Load { child }
    }

    /// What Kafka's own consumer reads of the topic: committed records only.
    pub async fn expected(&self, topic: &str) -> Expected {
        let verify = self.java("Verify", &[&self.bootstrap, topic, self.isolation()]);
        Expected::parse(&self.finish(verify).await)
    }

    /// The group as Kafka's own tool sees it.
    pub async fn describe(&self, group: &str) -> Vec<Claim> {
        let mut command = if self.is_before_0_11() {
            // Why its own: a newer one asks for all of a group's offsets at once, which came with 0.10.2.
            let mut command = self.own("kafka.admin.ConsumerGroupCommand");
            command.arg("--new-consumer");
            command
        } else {
            self.tool(
                "kafka.admin.ConsumerGroupCommand",
                "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            )
        };
        command.args([
            "--bootstrap-server",
            &self.bootstrap,
            "--describe",
            "--group",
            group,
        ]);
        let said = self.finish(command).await;
        said.lines().filter_map(|line| claim(line, group)).collect()
    }

    /// By partition, the first offset at or after that time as Kafka's own tool sees it.
    pub async fn offsets_at(&self, topic: &str, unix_millis: u64) -> BTreeMap<i32, i64> {
        let mut command = self.tool(
            "kafka.tools.GetOffsetShell",
            "org.apache.kafka.tools.GetOffsetShell",
        );
        let time = unix_millis.to_string();
        let bootstrap = if self.is_before_3() {
            "--broker-list"
        } else {
            "--bootstrap-server"
        };
        let of = [bootstrap, &self.bootstrap, "--topic", topic];
        command.args(of).args(["--time", &time]);
        let said = self.finish(command).await;
        let lines = said.lines().filter_map(|line| {
            let (partition, offset) = line
                .strip_prefix(topic)?
                .strip_prefix(':')?
                .split_once(':')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        });
        lines.collect()
    }

    /// One of Kafka's own tools, which moved between packages.
    fn tool(&self, before_3: &str, since: &str) -> Command {
        if self.is_before_3() {
            java(
                &[],
                &self.rig.jars(&format!("kafka-{}", self.clients)),
                before_3,
            )
        } else {
            java(&[], &self.rig.jars("tools-4.3.1"), since)
        }
    }

    /// One of Kafka's own tools, as it came with the broker.
    fn own(&self, class: &str) -> Command {
        let jars = self.rig.jars(&format!("kafka-{}", self.version));
        java(&self.rig.archived(self.version), &jars, class)
    }

    fn is_before_0_11(&self) -> bool {
        self.version.starts_with("0.10.")
    }

    fn is_before_3(&self) -> bool {
        ["0.", "1.", "2."]
            .iter()
            .any(|major| self.version.starts_with(major))
    }

    /// Waits until the group has committed everything, by Kafka's own tool.
    pub async fn await_no_lag(&self, group: &str, partitions: usize) {
        eventually(
            "the group's lag is 0",
            Duration::from_secs(90),
            async || {
                let claims = self.describe(group).await;
                let done = claims.iter().filter(|claim| claim.lag == Some(0)).count();
                (done == partitions).then_some(())
            },
        )
        .await;
    }

    /// Starts a member of another kind.
    pub fn member(&self, by: Producer, topic: &str, group: &str, session: Duration) -> Member {
        let session = session.as_millis().to_string();
        let arguments = [self.bootstrap.as_str(), topic, group, session.as_str()];
        Member::start(match by {
            Producer::Java => {
                let arguments = [&arguments[..], &[self.isolation()]].concat();
                self.java("Member", &arguments)
            }
            Producer::Librdkafka => self.python("member.py", &arguments),
        })
    }

    /// Starts a member by Kafka's own client that knows range alone, as all did before cooperative assignors.
    pub fn range_member(&self, topic: &str, group: &str, session: Duration) -> Member {
        let session = session.as_millis().to_string();
        let (at, isolation) = (self.bootstrap.as_str(), self.isolation());
        let arguments = [at, topic, group, &session, isolation, "RangeAssignor"];
        Member::start(self.java("Member", &arguments))
    }

    /// Why not always for committed records: who asks a broker without transactions for them is refused by his own client.
    fn isolation(&self) -> &'static str {
        match self.lacks().contains(&"transactions") {
            true => "read_uncommitted",
            false => "read_committed",
        }
    }

    /// Starts a member of the consumer protocol (KIP-848) by Kafka's own client.
    pub fn consumer_member(&self, topic: &str, group: &str) -> Member {
        let isolation = self.isolation();
        let arguments = [&self.bootstrap, topic, group, "consumer", isolation];
        Member::start(self.java("Member", &arguments))
    }

    fn producer(
        &self,
        without: &[&str],
        by: Producer,
        topic: &str,
        count: u64,
        seed: u64,
        rate: u64,
    ) -> Command {
        let [count, seed, rate] = [count, seed, rate].map(|number| number.to_string());
        let without = without.join(",");
        let mut arguments = vec![self.bootstrap.as_str(), topic, &count, &seed, &rate];
        if !without.is_empty() {
            arguments.push(&without);
        }
        match by {
            Producer::Java => self.java("Produce", &arguments),
            Producer::Librdkafka => self.python("produce.py", &arguments),
        }
    }

    fn java(&self, class: &str, arguments: &[&str]) -> Command {
        let class_path = self.rig.class_path(&self.clients);
        let mut command = java(&self.rig.archived(&self.clients), &class_path, class);
        command.args(arguments);
        command
    }

    fn python(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.rig.python());
        command
            .arg(self.rig.scripts.join(script))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Waits for a program that has to succeed; returns what it wrote.
    async fn finish(&self, mut command: Command) -> String {
        let done = command.output().await.expect("the program runs");
        succeeded(&command, done)
    }
}

impl Load {
    /// Tells the producer to stop and waits until all is acknowledged.
    pub async fn stop(mut self) -> Produced {
        drop(self.child.stdin.take());
        let done = self
            .child
            .wait_with_output()
            .await
            .expect("the producer ends");
        assert!(done.status.success(), "the producer failed");
        last_json(&String::from_utf8_lossy(&done.stdout))
    }
}

impl Member {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .expect("the member runs");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let said = serde_json::from_str(&line).expect("a member speaks JSON");
                if tell.send(said).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Self {
            child,
            input,
            heard,
            said: Vec::new(),
        }
    }

    /// Takes in what it has said since.
    pub fn catch_up(&mut self) {
        while let Ok(said) = self.heard.try_recv() {
            self.said.push(said);
        }
    }

    /// How many batches it has processed.
    pub fn processed(&mut self) -> usize {
        self.catch_up();
        self.said
            .iter()
            .filter(|said| said.event == "processed")
            .count()
    }

    /// Leaves the group; returns all it has said.
    pub async fn leave(mut self) -> Vec<Said> {
        drop(self.input.take());
        let status = self.child.wait().await.expect("the member ends");
        while let Some(said) = self.heard.recv().await {
            self.said.push(said);
        }
        assert!(status.success(), "the member failed: {status}");
        self.said
    }
}

fn java(options: &[String], class_path: &str, class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(options)
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args([
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp",
            class_path,
            class,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a program wrote that had to succeed.
fn succeeded(command: &Command, done: Output) -> String {
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?} failed: {errors}");
    String::from_utf8(done.stdout).expect("programs write UTF-8")
}

fn last_json(said: &str) -> Produced {
    let line = said.lines().last().expect("a producer says what it wrote");
    serde_json::from_str(line).expect("a producer's last line is JSON")
}

/// `GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID`.
fn claim(line: &str, group: &str) -> Option<Claim> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [of, _, partition, committed, end, lag, member, ..] = fields[..] else {
        return None;
    };
    (of == group).then_some(())?;
    Some(Claim {
        partition: partition.parse().ok()?,
        committed: committed.parse().ok(),
        end: end.parse().ok()?,
        lag: lag.parse().ok(),
        member: (member != "-").then(|| member.to_owned()),
    })
}
