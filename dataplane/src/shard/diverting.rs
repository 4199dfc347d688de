//! Failed records on their way to control, which writes them to the mapping's destination.
//!
//! Invariant: each writing ends with one answer; given up, it ends without one, whatever control does.

use std::sync::Arc;

use forebay_protocol::delivery::{Diversion, DiversionId, Input, Taken, Undelivered};
use monoio::task::JoinHandle;

use super::queue::Queue;
use crate::contract::{Request, mpsc, oneshot};
use crate::mapping::Mapping;

const NO_CONTROL: &str = "the node ends, and nobody knows whether it was written";

/// A writing as its consumer holds it.
pub(super) struct Writing {
    /// Its end is the writing's.
    given_up: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Writing {
    /// Asks control to write; `inputs` gets `Diverted` with `id`.
    pub(super) fn start(
        id: DiversionId,
        diversion: Diversion,
        mapping: Arc<Mapping>,
        requests: mpsc::Sender<Request>,
        inputs: Queue<Input>,
    ) -> Self {
        let (given_up, until) = oneshot::channel();
        let task = monoio::spawn(async move {
            // Why these may be dropped: both wait for control, and neither is an operation of the ring.
            let written = monoio::select! {
                written = write(diversion, mapping, &requests) => written,
                _ = until => return,
            };
            inputs.push(Input::Diverted(id, written)).await;
        });
        Self { given_up, task }
    }

    /// Ends it without an answer, if it has none yet; await the task to know that it has ended.
    pub(super) fn into_task(self) -> JoinHandle<()> {
        drop(self.given_up);
        self.task
    }
}

async fn write(
    diversion: Diversion,
    mapping: Arc<Mapping>,
    requests: &mpsc::Sender<Request>,
) -> Result<Taken, Undelivered> {
    let (answer, answered) = oneshot::channel();
    let request = Request::Divert {
        mapping,
        diversion,
        answer,
    };
    let no_control = || Undelivered {
        reason: NO_CONTROL.to_owned(),
    };
    requests.send(request).await.map_err(|_| no_control())?;
    answered.await.unwrap_or_else(|_| Err(no_control()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::diversion;
    use crate::net::trial::on_each_driver;
    use crate::shard::Shard;
    use crate::shard::tests::{mapping, shard};

    /// Begins writings, each with the id 7.
    fn starting(shard: &Shard, inputs: &Queue<Input>) -> impl Fn() -> Writing {
        let mapping = Arc::new(mapping());
        let (requests, inputs) = (shard.requests.clone(), inputs.clone());
        move || {
            let (requests, inputs) = (requests.clone(), inputs.clone());
            Writing::start(
                DiversionId(7),
                diversion(),
                Arc::clone(&mapping),
                requests,
                inputs,
            )
        }
    }

    #[test]
    fn control_writes_and_its_answer_comes_as_an_input() {
        on_each_driver(async || {
            let (shard, mut asked) = shard();
            let inputs = Queue::new(8);
            let start = starting(&shard, &inputs);
            let refused = Undelivered {
                reason: "full".to_owned(),
            };
            for told in [Ok(Taken::WithoutEvent), Err(refused)] {
                let writing = start();
                match asked.recv().await {
                    Some(Request::Divert {
                        diversion, answer, ..
                    }) => {
                        assert_eq!(diversion.failure.lanes[0].first.offset, 7);
                        answer.send(told.clone()).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
                match inputs.next().await {
                    Some(Input::Diverted(DiversionId(7), written)) => assert_eq!(written, told),
                    other => panic!("{other:?}"),
                }
                writing.into_task().await;
            }
        });
    }

    #[test]
    fn a_writing_that_is_given_up_or_that_nobody_does_ends() {
        on_each_driver(async || {
            let (shard, mut asked) = shard();
            let inputs = Queue::new(8);
            let start = starting(&shard, &inputs);
            let writing = start();
            let request = asked.recv().await;
            writing.into_task().await;
            match request {
                Some(Request::Divert { answer, .. }) => assert!(answer.is_closed()),
                other => panic!("{other:?}"),
            }
            assert!(inputs.is_empty());
            drop(asked);
            let writing = start();
            match inputs.next().await {
                Some(Input::Diverted(DiversionId(7), Err(undelivered))) => {
                    assert_eq!(undelivered.reason, NO_CONTROL);
                }
                other => panic!("{other:?}"),
            }
            writing.into_task().await;
        });
    }
}
