//! The simulated network: frames arrive in order on each connection, late, or not at all.

use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{ConnectionId, Disconnect, Endpoint, Input};
use forebay_protocol::time::Instant;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, OffsetCommitRequest, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::{Event, GROUP, Mutation, NodeRef, Violation, World};
use crate::fake_kafka::{self, Output};

/// One connection of a node.
#[derive(Debug)]
pub(super) struct Link {
    broker: Option<fake_kafka::ConnectionId>,
    /// No frame overtakes another: the next arrives no earlier.
    to_broker_at: Instant,
    to_node_at: Instant,
}

impl World {
    pub(super) fn connect(
        &mut self,
        of: NodeRef,
        id: ConnectionId,
        endpoint: &Endpoint,
    ) -> Result<(), Violation> {
        if self.living(of).is_none() {
            return Ok(());
        }
        let cut = self.now < self.nodes[of.node].cut_until;
        let broker = self
            .kafka
            .broker_at(&endpoint.host, endpoint.port)
            .filter(|_| !cut)
            .and_then(|node| self.kafka.connect(node));
        let input = if broker.is_some() {
            let link = Link {
                broker,
                to_broker_at: self.now,
                to_node_at: self.now,
            };
            self.nodes[of.node].links.insert(id, link);
            Input::Connected(id)
        } else {
            Input::Disconnected(id, Disconnect::Unreachable("connection refused".to_owned()))
        };
        self.hand_to_node(of, input)
    }

    pub(super) fn send_to_broker(&mut self, of: NodeRef, id: ConnectionId, frame: Bytes) {
        let latency = self.latency();
        let Some(link) = self.nodes[of.node].links.get_mut(&id) else {
            return;
        };
        let at = (self.now + latency).max(link.to_broker_at);
        link.to_broker_at = at;
        // The broker sees frames without their length prefix.
        let frame = self.mutate(frame.slice(4..));
        self.at(
            at,
            Event::ToBroker {
                node: of,
                id,
                frame,
            },
        );
    }

    pub(super) fn reach_broker(
        &mut self,
        of: NodeRef,
        id: ConnectionId,
        frame: Bytes,
    ) -> Result<(), Violation> {
        let node = &self.nodes[of.node];
        if node.life == of.life
            && let Some(broker) = node.links.get(&id).and_then(|link| link.broker)
        {
            self.kafka.handle(broker, frame, self.now);
        }
        Ok(())
    }

    /// Carries what the cluster has to say.
    pub(super) fn carry_outputs(&mut self) {
        while let Some(output) = self.kafka.poll_output() {
            match output {
                Output::Frame(connection, frame) => {
                    let frame = Bytes::from(frame).slice(4..);
                    self.send_to_node(connection, |id| Input::Frame(id, frame));
                }
                Output::Close(connection) => {
                    self.send_to_node(connection, |id| {
                        Input::Disconnected(
                            id,
                            Disconnect::Closed("closed by the broker".to_owned()),
                        )
                    });
                }
            }
        }
    }

    fn send_to_node(
        &mut self,
        connection: fake_kafka::ConnectionId,
        input: impl FnOnce(ConnectionId) -> Input,
    ) {
        let latency = self.latency();
        let now = self.now;
        let found = self.nodes.iter_mut().enumerate().find_map(|(at, node)| {
            let life = node.life;
            node.links
                .iter_mut()
                .find(|(_, link)| link.broker == Some(connection))
                .map(|(id, link)| (NodeRef { node: at, life }, *id, link))
        });
        let Some((of, id, link)) = found else { return };
        let at = (now + latency).max(link.to_node_at);
        link.to_node_at = at;
        let input = input(id);
        if matches!(input, Input::Disconnected(..)) {
            link.broker = None;
        }
        self.at(at, Event::ToNode { node: of, input });
    }

    pub(super) fn close(&mut self, of: NodeRef, id: ConnectionId) {
        if let Some(link) = self.nodes[of.node].links.remove(&id)
            && let Some(broker) = link.broker
        {
            self.kafka.disconnect(broker);
        }
    }

    /// All connections of a node break.
    pub(super) fn break_links(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let links = std::mem::take(&mut self.nodes[node].links);
        for (id, link) in links {
            if let Some(broker) = link.broker {
                self.kafka.disconnect(broker);
                let reason = Disconnect::Closed("connection reset".to_owned());
                let input = Input::Disconnected(id, reason);
                let after = self.latency();
                self.after(
                    after,
                    Event::ToNode {
                        node: NodeRef { node, life },
                        input,
                    },
                );
            }
        }
    }

    fn mutate(&mut self, frame: Bytes) -> Bytes {
        let mutation = self.schedule.mutation;
        match mutation {
            Some(Mutation::CommitEarly) => edit(&frame, ApiKey::OffsetCommit, early_commit),
            Some(Mutation::SkipGap) if self.chance(4) => edit(&frame, ApiKey::Fetch, late_fetch),
            Some(Mutation::OldGeneration) if self.chance(3) => {
                let generation = self.kafka.generation(GROUP);
                let members = self.kafka.members(GROUP);
                let member = members
                    .first()
                    .map(|(id, _)| id.clone())
                    .unwrap_or_default();
                edit(
                    &frame,
                    ApiKey::OffsetCommit,
                    |commit: &mut OffsetCommitRequest| {
                        commit.generation_id_or_member_epoch = generation;
                        commit.member_id = member.into();
                        each_offset(commit, |offset| (offset - 2).max(0));
                    },
                )
            }
            _ => frame,
        }
    }

    pub(super) fn delay_a_little(&mut self) -> Duration {
        self.random_micros(1_000, 400_000)
    }
}

fn early_commit(commit: &mut OffsetCommitRequest) {
    each_offset(commit, |offset| offset + 1);
}

fn late_fetch(fetch: &mut FetchRequest) {
    for topic in &mut fetch.topics {
        for partition in &mut topic.partitions {
            partition.fetch_offset += 1;
        }
    }
}

fn each_offset(commit: &mut OffsetCommitRequest, change: impl Fn(i64) -> i64) {
    for topic in &mut commit.topics {
        let _: &TopicName = &topic.name;
        for partition in &mut topic.partitions {
            partition.committed_offset = change(partition.committed_offset);
        }
    }
}

/// Decodes a request of that API, changes it, and encodes it again; any other frame stays as it is.
fn edit<R>(frame: &Bytes, api: ApiKey, change: impl FnOnce(&mut R)) -> Bytes
where
    R: Decodable + Encodable + HeaderVersion,
{
    let key = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    if key != api as i16 {
        return frame.clone();
    }
    let header_version = R::header_version(version);
    let mut rest = frame.clone();
    let header = RequestHeader::decode(&mut rest, header_version).expect("our own header decodes");
    let mut request = R::decode(&mut rest, version).expect("our own request decodes");
    change(&mut request);
    let mut edited = bytes::BytesMut::new();
    header
        .encode(&mut edited, header_version)
        .expect("it was encoded before");
    request
        .encode(&mut edited, version)
        .expect("it was encoded before");
    edited.freeze()
}

impl World {
    /// The node is dead: its end of the connection is gone.
    pub(super) fn forget_link(&mut self, link: &Link) {
        if let Some(broker) = link.broker {
            self.kafka.disconnect(broker);
        }
    }
}
