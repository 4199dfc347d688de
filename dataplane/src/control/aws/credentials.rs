//! Keys for signing, from AWS's chain: environment, profile files, role, container, instance.
//!
//! Invariant: a key never reaches the log; keys are renewed before they expire, and none are fetched as
//! long as no mapping signs.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use forebay_protocol::limits::BACKOFF_MAX;
use tokio::sync::Notify;
use tracing::{error, info};
use zeroize::Zeroizing;

use super::Settings;
use crate::clock;
use crate::contract::{Credentials, watch};

/// Keys are renewed this long before they expire, or at half of their life if that is shorter.
pub(super) const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// The chain is asked at most this often, whatever shards complain of.
const ASK_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// What is said where the chain has no keys at all.
pub(in crate::control) const NO_CREDENTIALS: &str = "no AWS credentials were found; set AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY, a profile or a role; only calls of a function whose endpoint checks nothing need none, with signing = \"none\" under \
    [functions.NAME] in forebay.toml";

/// There are no keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{NO_CREDENTIALS}{}", .last.as_ref().map(|last| format!(" ({last})")).unwrap_or_default())]
pub(in crate::control) struct Lacking {
    /// What the link of the chain says that was to have some.
    last: Option<String>,
}

/// Keeps `out` filled from the moment that someone signs until it is aborted; `absent` says whether it
/// cannot.
pub(in crate::control) async fn attend(
    settings: Settings,
    mut needed: watch::Receiver<bool>,
    refresh: Arc<Notify>,
    out: watch::Sender<Option<Arc<Credentials>>>,
    absent: watch::Sender<bool>,
) {
    // An error means that control has ended.
    if needed.wait_for(|needed| *needed).await.is_err() {
        return;
    }
    let mut backoff = ASK_INTERVAL_MIN;
    let mut healthy = None;
    loop {
        let wait = match fetch(&settings).await {
            Ok((credentials, life)) => {
                if healthy != Some(true) {
                    info!("Credentials are there");
                }
                healthy = Some(true);
                backoff = ASK_INTERVAL_MIN;
                out.send_replace(Some(Arc::new(credentials)));
                absent.send_replace(false);
                life.map(|life| life.saturating_sub(RENEW_BEFORE.min(life / 2)))
            }
            Err(error) => {
                if healthy != Some(false) {
                    error!(%error, "Calls that are signed wait for credentials");
                }
                // Older keys are used for as long as the endpoint takes them.
                absent.send_replace(out.borrow().is_none());
                healthy = Some(false);
                backoff = (backoff * 2).min(BACKOFF_MAX);
                Some(backoff)
            }
        };
        tokio::time::sleep(ASK_INTERVAL_MIN).await;
        match wait {
            Some(wait) => tokio::select! {
                () = tokio::time::sleep(wait.saturating_sub(ASK_INTERVAL_MIN)) => {}
                () = refresh.notified() => {}
            },
            None => refresh.notified().await,
        }
    }
}

/// Asks the chain once, and says how long the keys live. A changed file or environment is seen, because
/// the chain is built anew.
pub(in crate::control) async fn fetch(
    settings: &Settings,
) -> Result<(Credentials, Option<Duration>), Lacking> {
    let provider = Box::pin(chain(settings))
        .await
        .map_err(|error| Lacking { last: Some(error) })?;
    let keys = provider.provide_credentials().await;
    Ok(taken(&keys.map_err(|error| lacking(&error))?))
}

/// Out of the form that AWS's libraries give them, with how long they live.
pub(super) fn taken(keys: &aws_credential_types::Credentials) -> (Credentials, Option<Duration>) {
    let life = keys.expiry().map(|expiry| {
        let at = expiry.duration_since(UNIX_EPOCH).unwrap_or_default();
        at.saturating_sub(clock::unix_now())
    });
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    let credentials = Credentials {
        access_key_id: keys.access_key_id().to_owned(),
        secret_access_key: secret(keys.secret_access_key()),
        session_token: keys.session_token().map(secret),
    };
    (credentials, life)
}

/// Of the chain's own words, which are many, the last: they name what is wrong.
fn lacking(error: &CredentialsError) -> Lacking {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let last = match error {
        CredentialsError::CredentialsNotLoaded(_) => None,
        _ => Some(cause.to_string().trim_end_matches('.').to_owned()),
    };
    Lacking { last }
}

async fn chain(settings: &Settings) -> Result<SharedCredentialsProvider, String> {
    let config = settings.loader().await?.load().await;
    config
        .credentials_provider()
        .ok_or_else(|| "the chain has no provider".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_is_one_sentence_that_says_what_to_do() {
        let absent = CredentialsError::not_loaded("no providers in chain provided credentials");
        assert_eq!(lacking(&absent).to_string(), NO_CREDENTIALS);
        let source = std::io::Error::other("IMDS is disabled.");
        let failed = lacking(&CredentialsError::provider_error(source)).to_string();
        assert_eq!(failed, format!("{NO_CREDENTIALS} (IMDS is disabled)"));
    }
}
