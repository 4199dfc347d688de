//! Keys from passwords, derived by control: that takes milliseconds, which a shard does not have.
//!
//! Invariant: a question ends with its answer, or with control; it holds up nothing.

use forebay_protocol::delivery::{ConnectionId, Input};
use forebay_protocol::kafka::sasl::Derivation;
use monoio::task::JoinHandle;

use super::queue::Queue;
use crate::contract::{Request, mpsc, oneshot};

/// Asks for a key; `inputs` gets `Derived` with `id`. If control is gone nothing comes of it, and the connection
/// is given up in time.
pub(super) fn derive(
    id: ConnectionId,
    derivation: Derivation,
    requests: mpsc::Sender<Request>,
    inputs: Queue<Input>,
) -> JoinHandle<()> {
    monoio::spawn(async move {
        let (answer, answered) = oneshot::channel();
        let request = Request::Derive { derivation, answer };
        if requests.send(request).await.is_ok()
            && let Ok(key) = answered.await
        {
            inputs.push(Input::Derived(id, key)).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_protocol::kafka::sasl::{Exchange, Mechanism, SaslCredentials, Step};

    use super::*;
    use crate::net::trial::on_each_driver;
    use crate::shard::tests::shard;

    fn derivation() -> Derivation {
        let credentials = SaslCredentials {
            mechanism: Mechanism::ScramSha512,
            username: "user".to_owned(),
            password: "pencil".to_owned().into(),
        };
        let mut exchange = Exchange::new(Arc::new(credentials), "ours".to_owned());
        match exchange.receive(b"r=ours1,s=AAAA,i=4096") {
            Ok(Step::Derive(derivation)) => derivation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_comes_as_an_input_or_not_at_all() {
        on_each_driver(async || {
            let (shard, mut asked) = shard();
            let (id, inputs) = (ConnectionId(7), Queue::new(8));
            let ask = || derive(id, derivation(), shard.requests.clone(), inputs.clone());
            let task = ask();
            match asked.recv().await {
                Some(Request::Derive { derivation, answer }) => {
                    answer.send(derivation.run()).unwrap();
                }
                other => panic!("{other:?}"),
            }
            match inputs.next().await {
                Some(Input::Derived(ConnectionId(7), key)) => {
                    assert_eq!(key.derivation(), &derivation());
                }
                other => panic!("{other:?}"),
            }
            task.await;
            drop(asked);
            ask().await;
            assert!(inputs.is_empty());
        });
    }
}
