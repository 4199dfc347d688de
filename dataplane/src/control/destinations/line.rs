//! The failures of all shards that wait to be written.
//!
//! A destination that takes its time holds up its own mapping alone. The line itself has no bound of its own: what
//! waits in it is in the memory of consumers, who have reserved it.
//!
//! Invariant: whoever asks is answered once, or control has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use forebay_protocol::delivery::{Diversion, Taken, Undelivered};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Writer;
use crate::contract::oneshot;
use crate::mapping::Mapping;

/// Writings of one mapping at once.
const WRITINGS_MAX: usize = 4;

/// The lines of all mappings.
pub(in crate::control) struct Destinations {
    writer: Arc<Writer>,
    lines: BTreeMap<Uuid, Line>,
    /// They end with the mapping that they are of.
    under_way: JoinSet<Uuid>,
}

/// A failure that is to be written.
pub(in crate::control) struct Order {
    pub(in crate::control) mapping: Arc<Mapping>,
    pub(in crate::control) diversion: Diversion,
    pub(in crate::control) answer: oneshot::Sender<Result<Taken, Undelivered>>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Order>,
    under_way: usize,
}

impl Destinations {
    pub(in crate::control) fn new(writer: Writer) -> Self {
        Self {
            writer: Arc::new(writer),
            lines: BTreeMap::new(),
            under_way: JoinSet::new(),
        }
    }

    /// Answers once it was written, or was not.
    pub(in crate::control) fn ask(&mut self, order: Order) {
        let mapping = order.mapping.uuid;
        let line = self.lines.entry(mapping).or_default();
        line.waiting.push_back(order);
        self.go_on(mapping);
    }

    /// Goes on when the next writing has ended; without any it waits for ever.
    pub(in crate::control) async fn answer_next(&mut self) {
        let Some(ended) = self.under_way.join_next().await else {
            return std::future::pending().await;
        };
        let mapping = ended.expect("a writing neither panics nor is aborted");
        if let Some(line) = self.lines.get_mut(&mapping) {
            line.under_way -= 1;
        }
        self.go_on(mapping);
    }

    fn go_on(&mut self, mapping: Uuid) {
        let Some(line) = self.lines.get_mut(&mapping) else {
            return;
        };
        while line.under_way < WRITINGS_MAX
            && let Some(order) = line.waiting.pop_front()
        {
            // Whoever asked may have given up: its records will come again.
            if order.answer.is_closed() {
                continue;
            }
            line.under_way += 1;
            let writer = Arc::clone(&self.writer);
            self.under_way.spawn(async move {
                let written = writer.write(&order.mapping, &order.diversion).await;
                // The consumer wants its buffers back with the answer.
                drop(order.diversion);
                order.answer.send(written).unwrap_or_default();
                mapping
            });
        }
        if line.under_way == 0 {
            self.lines.remove(&mapping);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Machine, Surroundings};
    use crate::contract::tests::diversion;
    use crate::control::aws::Aws;
    use crate::mapping;

    /// A mapping of that name to a queue.
    fn mapping(name: &str) -> Arc<Mapping> {
        let dir = tempfile::tempdir().unwrap();
        let text = "mappings_dir = \".\"\nendpoint_url = \"http://127.0.0.1:1\"\n[functions.f]\nsigning = \"none\"\n";
        let around = Surroundings::without_environment(Machine::here());
        let path = dir.path().join("forebay.conf");
        let config = Config::parse(text, Path::new(&path), &around).unwrap();
        let text = format!(
            "FunctionName = \"f\"\nTopics = [\"{name}\"]\n\
             DestinationConfig.OnFailure.Destination = \"arn:aws:sqs:eu-west-1:123456789012:failed\"\n\
             SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n"
        );
        std::fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        let reading = mapping::read(&config);
        assert_eq!(reading.problems, []);
        Arc::clone(&reading.declared[0].mapping)
    }

    fn ask(
        line: &mut Destinations,
        mapping: &Arc<Mapping>,
    ) -> oneshot::Receiver<Result<Taken, Undelivered>> {
        let (answer, answered) = oneshot::channel();
        line.ask(Order {
            mapping: Arc::clone(mapping),
            diversion: diversion(),
            answer,
        });
        answered
    }

    #[tokio::test]
    async fn a_mapping_waits_in_its_own_line_and_each_is_answered() {
        let mut line = Destinations::new(Writer::over(Arc::new(Aws::nowhere())));
        let (orders, bills) = (mapping("orders"), mapping("bills"));
        let mut asked: Vec<_> = (0..WRITINGS_MAX + 3)
            .map(|_| ask(&mut line, &orders))
            .collect();
        assert_eq!(line.under_way.len(), WRITINGS_MAX);
        asked.push(ask(&mut line, &bills));
        assert_eq!(line.under_way.len(), WRITINGS_MAX + 1, "others do not wait");
        drop(asked.remove(WRITINGS_MAX));
        let mut ended = 0;
        while !line.lines.is_empty() {
            line.answer_next().await;
            ended += 1;
        }
        assert_eq!(ended, asked.len(), "what nobody waits for is not written");
        for answered in asked {
            // It has no keys.
            let reason = answered.await.unwrap().unwrap_err().reason;
            assert!(reason.contains("no AWS credentials were found"), "{reason}");
        }
    }
}
