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
