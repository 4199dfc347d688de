//! The group of a trial, asked of its coordinator: how far it is.
//!
//! Source: Kafka protocol guide, FindCoordinator 0, OffsetFetch.
//!
//! Invariant: it is only asked; its only member is the appliance.

use std::time::Duration;

use forebay_tests::clock;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use super::topic::{Topic, address};
use crate::wait::{pause, since};
use crate::wire::Wire;

const FIND_COORDINATOR_VERSION: i16 = 0;

/// No coordinator yet: the first group of a cluster makes it make the topic of offsets.
const NOT_YET: [i16; 2] = [14, 15];
const PATIENCE: Duration = Duration::from_secs(15);

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    bootstrap: Vec<String>,
    coordinator: Wire,
}

impl Group {
    pub(super) fn find(bootstrap: &[String], name: &str) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
            bootstrap: bootstrap.to_vec(),
            coordinator: coordinator(bootstrap, name)?,
        })
    }

    /// What it has committed of each partition, the beginning where that is nothing.
    pub(super) fn committed(&mut self, topic: &Topic) -> Result<Vec<i64>, String> {
        let partitions = i32::try_from(topic.partitions.len()).map_err(|it| it.to_string())?;
        let (name, of) = (self.name.as_str(), topic.name());
        let each = match self.coordinator.committed_each(name, of, partitions) {
            Ok(each) => each,
            // The coordinator may have moved.
            Err(_) => {
                self.coordinator = coordinator(&self.bootstrap, name)?;
                self.coordinator.committed_each(name, of, partitions)?
            }
        };
        let starts = topic.partitions.iter().map(|it| it.start);
        let each = each.into_iter().zip(starts);
        Ok(each
            .map(|(committed, start)| committed.max(start))
            .collect())
    }
}

fn coordinator(bootstrap: &[String], group: &str) -> Result<Wire, String> {
    let request =
        FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    let began = clock::monotonic_micros();
    let mut wire = Wire::connect_any(bootstrap)?;
    loop {
        let answer = wire.ask(FIND_COORDINATOR_VERSION, &request)?;
        match answer.error_code {
            0 => return Wire::connect(&address(&answer.host, answer.port)),
            code if NOT_YET.contains(&code) && since(began) < PATIENCE => {
                pause(Duration::from_millis(100));
            }
            code => return Err(format!("the coordinator of {group}: error {code}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_tests::fake_kafka::Config;
    use forebay_tests::fake_kafka::server::FakeKafkaServer;

    use super::*;

    /// Two brokers, so that some leader is not the one that was asked first.
    fn cluster() -> (FakeKafkaServer, tokio::runtime::Runtime, Vec<String>) {
        let kafka = FakeKafkaServer::start(Config::new(2)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(kafka.with(|kafka| kafka.create_topic("t", 3)));
        let bootstrap = kafka.bootstrap();
        let bootstrap = bootstrap.split(',').map(str::to_owned).collect();
        (kafka, runtime, bootstrap)
    }

    #[test]
    fn topic_is_filled_and_weighed_at_its_leaders() {
        let (_kafka, _, bootstrap) = cluster();
        let mut topic = Topic::find(&bootstrap, "t").unwrap();
        assert_eq!(topic.offsets(), 0);
        let records = topic.fill(1, 1_000).unwrap();
        assert_eq!(topic.offsets(), records as i64);
        assert!(topic.partitions.iter().all(|it| it.end > it.start));
        let below: Vec<i64> = topic.partitions.iter().map(|it| it.end).collect();
        let weighed = topic.weigh(&below).unwrap();
        assert_eq!((weighed.records, weighed.mean()), (records, Some(1_000.0)));
        let weighed = topic.weigh(&[10, 0, 0]).unwrap();
        assert_eq!(weighed.records, 10);
        assert!(Topic::find(&bootstrap, "other").is_err());
    }

    #[test]
    fn partition_without_a_commit_stands_at_its_beginning() {
        let (kafka, runtime, bootstrap) = cluster();
        let mut topic = Topic::find(&bootstrap, "t").unwrap();
        topic.partitions[2].start = 7;
        let mut group = Group::find(&bootstrap, "g").unwrap();
        assert_eq!(group.committed(&topic), Ok(vec![0, 0, 7]));
        runtime.block_on(kafka.with(|kafka| kafka.set_committed("g", "t", 1, 5)));
        assert_eq!(group.committed(&topic), Ok(vec![0, 5, 7]));
    }
}
