//! Several machines, each with a member and its calls, a coordinator, and a network between them.
//!
//! At every step it holds that no two living machines may start a call for the same partition, that no
//! call starts while another machine with a valid lease has one open, and that no commit is accepted of
//! a partition that another machine may work on.

use std::collections::{BTreeMap, BTreeSet};

use super::coordinator::{Coordinator, Ticket};
use super::*;
use crate::kafka::messages::Request;

const STEP: Duration = Duration::from_millis(20);

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) random: Random,
    pub(super) coordinator: Coordinator,
    pub(super) machines: Vec<Machine>,
    pub(super) partitions: i32,
    /// The longest call.
    pub(super) longest_call: Duration,
    /// Partitions that were lost instead of given up.
    pub(super) losses: usize,
    /// Offers range from the start.
    pub(super) eager: bool,
    wire: Vec<(Instant, Packet)>,
    tickets: BTreeMap<Ticket, Sender>,
    tickets_given: Ticket,
    born: u64,
}

pub(super) struct Machine {
    pub(super) member: Membership,
    pub(super) asleep_until: Instant,
    /// When its connections stand (again).
    connected_at: Instant,
    /// Its connections so far.
    connections: u64,
    name: u64,
    lanes: BTreeMap<i32, Lane>,
    revoked: BTreeSet<i32>,
    counts_at: Option<Instant>,
    stopping: bool,
}

/// What happens to a partition's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Calling { until: Instant },
    OwesCommit,
    Committing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sender {
    machine: u64,
    connection: u64,
}

enum Packet {
    Request(Ticket, Request),
    Answer(Ticket, Response),
    Commit(Sender, Commit),
    Committed(Sender, Commit, ErrorCode),
}

#[derive(Clone)]
struct Commit {
    partition: i32,
    generation: i32,
    member_id: String,
}

impl World {
    pub(super) fn new(seed: u64, partitions: i32) -> Self {
        Self {
            now: Instant::from_micros(1_000_000_000),
            random: Random::new(seed),
            coordinator: Coordinator::default(),
            machines: Vec::new(),
            partitions,
            longest_call: Duration::from_secs(4),
            losses: 0,
            eager: false,
            wire: Vec::new(),
            tickets: BTreeMap::new(),
            tickets_given: 0,
            born: 0,
        }
    }

    pub(super) fn start(&mut self, instance_id: Option<&str>) {
        self.born += 1;
        let config = MembershipConfig {
            group_instance_id: instance_id.map(str::to_owned),
            ..config("")
        };
        let mut member = Membership::new(config, self.random.next_u64());
        if self.eager {
            member.assignor = Assignor::Range;
        }
        self.machines.push(Machine {
            member,
            asleep_until: self.now,
            connected_at: self.now,
            connections: 0,
            name: self.born,
            lanes: BTreeMap::new(),
            revoked: BTreeSet::new(),
            counts_at: None,
            stopping: false,
        });
    }

    /// Lets a machine end its calls, commit and leave.
    pub(super) fn stop(&mut self, at: usize) {
        self.machines[at].stopping = true;
    }

    pub(super) fn kill(&mut self, at: usize) {
        self.machines.remove(at);
    }

    /// Its connections break, and stand again after that time.
    pub(super) fn cut_off(&mut self, at: usize, outage: Duration) {
        self.machines[at].member.handle_connection_lost(self.now);
        self.reconnect(at, outage);
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.step();
        }
    }

    /// Whether every partition is worked on, evenly, and the group rests.
    pub(super) fn is_settled(&self) -> bool {
        let owned = |machine: &Machine| {
            let may = |p: &i32| machine.member.may_start_call(*p, self.now);
            (0..self.partitions).filter(may).count()
        };
        let loads: Vec<usize> = self.machines.iter().map(owned).collect();
        let even = loads.iter().max().zip(loads.iter().min());
        let even = even.is_none_or(|(most, least)| most - least <= 1);
        let all = i32::try_from(loads.iter().sum::<usize>()) == Ok(self.partitions);
        let staying = self.machines.iter().all(|machine| !machine.stopping);
        even && all && staying && self.coordinator.is_stable()
    }

    fn step(&mut self) {
        self.now += STEP;
        self.deliver();
        self.coordinator.tick(self.now);
        while let Some((ticket, answer)) = self.coordinator.poll_answer() {
            self.send(Packet::Answer(ticket, answer));
        }
        for at in 0..self.machines.len() {
            if self.now >= self.machines[at].asleep_until {
                self.drive(at);
            }
            self.check();
        }
        self.machines.retain(|machine| !machine.member.is_left());
    }

    fn check(&self) {
        for partition in 0..self.partitions {
            let may = |m: &&Machine| m.member.may_start_call(partition, self.now);
            let may: Vec<u64> = self.machines.iter().filter(may).map(|m| m.name).collect();
            assert!(
                may.len() <= 1,
                "{may:?} may call for {partition} at {:?}",
                self.now
            );
        }
    }

    fn send(&mut self, packet: Packet) {
        let latency = self.random.jitter(Duration::from_millis(50));
        self.wire.push((self.now + latency, packet));
    }

    fn deliver(&mut self) {
        let mut due: Vec<_> = self
            .wire
            .extract_if(.., |(at, _)| *at <= self.now)
            .collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, packet) in due {
            match packet {
                Packet::Request(ticket, request) => {
                    self.coordinator.handle(ticket, &request, self.now);
                }
                Packet::Answer(ticket, answer) => {
                    let sender = self.tickets.remove(&ticket).expect("asked once");
                    if let Some(at) = self.listener(sender) {
                        self.machines[at].member.handle_response(&answer, self.now);
                    }
                }
                Packet::Commit(sender, commit) => {
                    let error = self
                        .coordinator
                        .commit(&commit.member_id, commit.generation);
                    if error.is_ok() {
                        self.check_commit(sender, commit.partition);
                    }
                    self.send(Packet::Committed(sender, commit, error));
                }
                Packet::Committed(sender, commit, error) => {
                    if let Some(at) = self.listener(sender) {
                        self.committed(at, &commit, error);
                    }
                }
            }
        }
    }

    /// Nobody else may be at work on what has just been committed.
    fn check_commit(&self, sender: Sender, partition: i32) {
        for machine in &self.machines {
            let other = machine.name != sender.machine;
            let may = machine.member.may_start_call(partition, self.now);
            assert!(
                !(other && may),
                "{partition} is committed by {}",
                sender.machine
            );
        }
    }

    fn listener(&self, sender: Sender) -> Option<usize> {
        self.machines
            .iter()
            .position(|m| m.name == sender.machine && m.connections == sender.connection)
    }

    fn committed(&mut self, at: usize, commit: &Commit, error: ErrorCode) {
        let machine = &mut self.machines[at];
        let lane = machine.lanes.get_mut(&commit.partition);
        match lane {
            Some(lane @ Lane::Committing) if !error.is_ok() => *lane = Lane::OwesCommit,
            Some(Lane::Committing) => drop(machine.lanes.remove(&commit.partition)),
            _ => {}
        }
        machine
            .member
            .handle_commit_error(error, commit.generation, self.now);
    }

    fn reconnect(&mut self, at: usize, outage: Duration) {
        let machine = &mut self.machines[at];
        let gone = Sender {
            machine: machine.name,
            connection: machine.connections,
        };
        machine.connections += 1;
        machine.connected_at = self.now + outage + Duration::from_millis(100);
        for lane in machine.lanes.values_mut() {
            if *lane == Lane::Committing {
                *lane = Lane::OwesCommit;
            }
        }
        // What was sent may arrive nevertheless; nobody hears the answer.
        let (random, tickets) = (&mut self.random, &self.tickets);
        self.wire.retain(|(_, packet)| match packet {
            Packet::Request(ticket, _) => {
                tickets.get(ticket) != Some(&gone) || random.below(2) == 0
            }
            Packet::Commit(sender, _) => *sender != gone || random.below(2) == 0,
            Packet::Answer(..) | Packet::Committed(..) => true,
        });
    }

    /// What a delivery core does with its member.
    fn drive(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        if machine.member.poll_timeout().is_some_and(|due| now >= due) {
            machine.member.handle_timeout(now);
        }
        self.take_events(at);
        self.work_lanes(at);
        let machine = &mut self.machines[at];
        if machine.counts_at.is_some_and(|due| now >= due) {
            machine.counts_at = None;
            let counts = BTreeMap::from([(TOPIC.to_owned(), self.partitions)]);
            machine.member.set_partition_counts(&counts, now);
        }
        if machine.stopping && machine.lanes.is_empty() {
            machine.member.leave(now);
        }
        if now < machine.connected_at {
            return;
        }
        let sender = Sender {
            machine: machine.name,
            connection: machine.connections,
        };
        while let Some(request) = self.machines[at].member.poll_request(true, now) {
            self.tickets_given += 1;
            self.tickets.insert(self.tickets_given, sender);
            self.send(Packet::Request(self.tickets_given, request));
        }
        self.take_events(at);
    }

    fn take_events(&mut self, at: usize) {
        while let Some(event) = self.machines[at].member.poll_event() {
            let machine = &mut self.machines[at];
            match event {
                MembershipEvent::Joined { .. }
                | MembershipEvent::Halt(_)
                | MembershipEvent::ConsumerProtocolUnsupported => {}
                MembershipEvent::Assigned { partitions } => {
                    for partition in partitions {
                        let held = machine.lanes.contains_key(&partition)
                            || machine.revoked.contains(&partition);
                        assert!(!held, "{partition} is assigned anew before its release");
                    }
                }
                MembershipEvent::Revoke { partitions } => machine.revoked.extend(partitions),
                MembershipEvent::Lost { partitions } => {
                    for partition in partitions {
                        machine.lanes.remove(&partition);
                        machine.revoked.remove(&partition);
                        self.losses += 1;
                    }
                }
                MembershipEvent::CoordinatorStale => {
                    let search = self.random.jitter(Duration::from_millis(300));
                    self.reconnect(at, search);
                }
                MembershipEvent::NeedPartitionCounts { .. } => {
                    let delay = self.random.jitter(Duration::from_millis(300));
                    machine.counts_at = Some(self.now + delay);
                }
            }
        }
    }

    fn work_lanes(&mut self, at: usize) {
        for partition in 0..self.partitions {
            let machine = &mut self.machines[at];
            match machine.lanes.get(&partition) {
                None if machine.revoked.remove(&partition) => {
                    machine.member.released(partition, self.now);
                }
                None if !machine.stopping => self.start_call(at, partition),
                Some(Lane::Calling { until }) if self.now >= *until => {
                    machine.lanes.insert(partition, Lane::OwesCommit);
                }
                Some(Lane::OwesCommit)
                    if self.now >= machine.connected_at && machine.member.may_commit(partition) =>
                {
                    machine.lanes.insert(partition, Lane::Committing);
                    let sender = Sender {
                        machine: machine.name,
                        connection: machine.connections,
                    };
                    let commit = Commit {
                        partition,
                        generation: machine.member.generation(),
                        member_id: machine.member.member_id().to_owned(),
                    };
                    self.send(Packet::Commit(sender, commit));
                }
                _ => {}
            }
        }
    }

    fn start_call(&mut self, at: usize, partition: i32) {
        if !self.machines[at].member.may_start_call(partition, self.now) {
            return;
        }
        for other in &self.machines {
            let open = matches!(other.lanes.get(&partition), Some(Lane::Calling { .. }));
            let leased = other.member.lease_end().is_some_and(|end| self.now < end);
            assert!(
                !(open && leased),
                "{partition} has an open call at {}",
                other.name
            );
        }
        let until = self.now + self.random.jitter(self.longest_call);
        self.machines[at]
            .lanes
            .insert(partition, Lane::Calling { until });
    }
}
