//! What a test does to the cluster and sees of it: brokers up and down, coordinators moved, commits and
//! group events read.
//!
//! Invariant: nothing here answers a request; effects on waiting ones come with the next `poll_output`.

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{StrBytes, VersionRange};

use super::group::State;
use super::{Broker, Commit, Committed, ConnectionId, FakeKafka, GroupEvent};

impl FakeKafka {
    /// Sets where a broker says that it can be reached.
    pub fn advertise(&mut self, node: i32, host: &str, port: u16) {
        if let Some(broker) = self
            .config
            .brokers
            .iter_mut()
            .find(|broker| broker.id == node)
        {
            host.clone_into(&mut broker.host);
            broker.port = port;
        }
    }

    /// Stops a broker: its connections close, what it led moves to the next broker that runs.
    pub fn stop_broker(&mut self, node: i32) {
        self.set_up(node, false);
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.node == node)
            .map(|(id, _)| *id)
            .collect();
        for connection in gone {
            self.close(connection);
        }
        let brokers = self.config.brokers.iter();
        let heir = brokers
            .filter(|broker| broker.is_up)
            .map(|broker| broker.id)
            .next();
        for topic in self.topics.values_mut() {
            for partition in &mut topic.partitions {
                if partition.leader == Some(node) {
                    partition.leader = heir;
                    partition.epoch += 1;
                }
            }
        }
        self.dirty = true;
    }

    /// Starts a stopped broker; it leads nothing until leaders are moved.
    pub fn start_broker(&mut self, node: i32) {
        self.set_up(node, true);
        self.dirty = true;
    }

    /// Lets another broker coordinate `group`.
    pub fn move_coordinator(&mut self, group: &str, node: i32) {
        self.coordinators.insert(group.to_owned(), node);
    }

    /// The brokers.
    pub fn brokers(&self) -> &[Broker] {
        &self.config.brokers
    }

    /// The broker at that address.
    pub fn broker_at(&self, host: &str, port: u16) -> Option<i32> {
        let brokers = self.config.brokers.iter();
        let mut found = brokers.filter(|broker| broker.host == host && broker.port == port);
        found.next().map(|broker| broker.id)
    }

    /// What a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        let group = self.groups.get(&StrBytes::from_string(group.to_owned()))?;
        group.offsets.get(&(topic.to_owned(), partition))
    }

    /// From now on the cluster does not know that API, as after a step back to an older release.
    pub fn hide_api(&mut self, api: ApiKey) {
        self.config.hidden_apis.insert(api as i16);
    }

    /// From now on the cluster tells these versions of that API, as after another release was rolled out; without
    /// them, those that it speaks.
    pub fn tell_versions(&mut self, api: ApiKey, versions: Option<(i16, i16)>) {
        let told = &mut self.config.told_versions;
        match versions {
            Some((min, max)) => told.insert(api as i16, VersionRange { min, max }),
            None => told.remove(&(api as i16)),
        };
    }

    /// Commits from outside, as Kafka's tool resets offsets.
    pub fn set_committed(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        let committed = Committed {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let group = self.group(&StrBytes::from_string(group.to_owned()));
        group
            .offsets
            .insert((topic.to_owned(), partition), committed);
    }

    /// Every commit that was accepted, in order.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// What happened to groups, in order.
    pub fn group_events(&self) -> &[GroupEvent] {
        &self.events
    }

    /// A group's members: id and client id.
    pub fn members(&self, group: &str) -> Vec<(String, String)> {
        let id = StrBytes::from_string(group.to_owned());
        let classic = self.groups.get(&id).into_iter();
        let classic = classic
            .flat_map(|group| &group.members)
            .map(|member| (member.id.to_string(), member.client_id.clone()));
        let consumers = self.consumer_groups.get(&id).into_iter();
        let consumers = consumers
            .flat_map(|group| &group.members)
            .map(|member| (member.id.to_string(), member.client_id.clone()));
        classic.chain(consumers).collect()
    }

    /// A group's generation, or the epoch of its first member; 0 before the first.
    pub fn generation(&self, group: &str) -> i32 {
        let id = StrBytes::from_string(group.to_owned());
        let consumers = self.consumer_groups.get(&id);
        if let Some(member) = consumers.and_then(|group| group.members.first()) {
            return member.epoch;
        }
        self.groups.get(&id).map_or(0, |group| group.generation)
    }

    /// Whether a group's members all have their assignment.
    pub fn is_stable(&self, group: &str) -> bool {
        let group = self.groups.get(&StrBytes::from_string(group.to_owned()));
        group.is_some_and(|group| group.state == State::Stable)
    }

    /// Forgets a member as if its session had ended.
    pub fn expel(&mut self, group: &str, member: &str) {
        let now = self.now;
        let id = StrBytes::from_string(group.to_owned());
        let member = StrBytes::from_string(member.to_owned());
        if let Some(group) = self.consumer_groups.get_mut(&id) {
            group.remove(&member, "expelled");
            self.flush_consumer_group(&id);
            return;
        }
        self.group(&id).remove(&member, "expelled", now);
        self.flush_group(&id);
    }

    /// Forgets a group and all that it has committed, as an unclean leader of `__consumer_offsets` has never heard of it.
    pub fn forget_group(&mut self, group: &str) {
        let id = StrBytes::from_string(group.to_owned());
        self.groups.remove(&id);
        self.consumer_groups.remove(&id);
    }

    /// How often a Metadata request would have created a topic on a broker that does so.
    pub fn auto_creations_asked(&self) -> u64 {
        self.auto_creations_asked
    }

    /// How many requests of `api` have come.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.requests.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Open connections to that broker.
    pub fn connections_to(&self, node: i32) -> Vec<ConnectionId> {
        let connections = self.connections.iter();
        let to = connections.filter(|(_, connection)| connection.node == node);
        to.map(|(id, _)| *id).collect()
    }

    fn set_up(&mut self, node: i32, is_up: bool) {
        if let Some(broker) = self
            .config
            .brokers
            .iter_mut()
            .find(|broker| broker.id == node)
        {
            broker.is_up = is_up;
        }
    }
}
