//! Names to addresses: literals here, everything else by asking control, whose pool may block.
//!
//! Invariant: no DNS on a shard's thread, and never an answer that is waited for without a limit.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use crate::contract::{Request, mpsc, oneshot};

/// Why a name has no addresses.
#[derive(Debug, Error)]
pub(crate) enum ResolveError {
    /// The resolver's own words.
    #[error("cannot resolve {host}: {reason}")]
    Failed {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// Control or the resolver took too long.
    #[error("cannot resolve {host}: no answer from the resolver within {limit:?}")]
    TimedOut {
        /// The name.
        host: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The appliance is going down.
    #[error("the resolver is gone")]
    Gone,
}

/// All addresses of `host`, in the resolver's order; never empty.
pub(crate) async fn resolve(
    host: &str,
    port: u16,
    requests: &mpsc::Sender<Request>,
    limit: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let failed = |reason| ResolveError::Failed {
        host: host.to_owned(),
        reason,
    };
    let asked = async {
        let (answer, answered) = oneshot::channel();
        let request = Request::Resolve {
            host: host.to_owned(),
            port,
            answer,
        };
        if requests.send(request).await.is_err() {
            return Err(ResolveError::Gone);
        }
        match answered.await {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                Err(failed("the name has no address".to_owned()))
            }
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(reason)) => Err(failed(reason)),
            Err(_) => Err(ResolveError::Gone),
        }
    };
    // Both arms are a queue and a timer: dropping either loses nothing.
    monoio::select! {
        answer = asked => answer,
        () = monoio::time::sleep(limit) => Err(ResolveError::TimedOut {
            host: host.to_owned(),
            limit,
        }),
    }
}
