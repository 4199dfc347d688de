//! The keys of roles, from STS: `AssumeRole` with the node's own keys.
//!
//! Invariant: a role's keys are renewed before they expire, and no older ones are used instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::Region;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::error::ErrorMetadata;
use tokio::sync::Mutex;

use super::credentials::{RENEW_BEFORE, taken};
use super::{AwsError, Settings, is_about_keys, signature};
use crate::clock;
use crate::config::Service;
use crate::contract::Credentials;

/// As sessions are called in AWS's logs.
const SESSION_NAME: &str = "forebay";

/// The keys of each role that was asked for. Who waits for one's waits for all others that are being asked for: at
/// most for as long as STS may take.
#[derive(Debug, Default)]
pub(super) struct Roles(Mutex<BTreeMap<String, Assumed>>);

/// What a role's keys are asked for with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) role_arn: &'a str,
    /// Where STS is asked, if the node has no region.
    pub(super) region: &'a str,
    /// The node's own.
    pub(super) own: &'a Credentials,
}

#[derive(Debug)]
struct Assumed {
    keys: Arc<Credentials>,
    /// Since 1970; `None` for keys that last.
    renew_at: Option<Duration>,
}

impl Roles {
    /// The keys of that role.
    pub(super) async fn keys(
        &self,
        settings: &Settings,
        asked: Asked<'_>,
    ) -> Result<Arc<Credentials>, AwsError> {
        let mut roles = self.0.lock().await;
        if let Some(assumed) = roles.get(asked.role_arn)
            && assumed.renew_at.is_none_or(|at| clock::unix_now() < at)
        {
            return Ok(Arc::clone(&assumed.keys));
        }
        roles.remove(asked.role_arn);
        // AWS's libraries have futures of many kilobytes.
        let assumed = Box::pin(assume(settings, asked)).await?;
        let keys = Arc::clone(&assumed.keys);
        roles.insert(asked.role_arn.to_owned(), assumed);
        Ok(keys)
    }

    /// Its keys are no good any more.
    pub(super) async fn forget(&self, role_arn: &str) {
        self.0.lock().await.remove(role_arn);
    }
}

async fn assume(settings: &Settings, asked: Asked<'_>) -> Result<Assumed, AwsError> {
    let mut loader = settings.loader().await.map_err(AwsError::Unable)?;
    if settings.region.is_none() {
        loader = loader.region(Region::new(asked.region.to_owned()));
    }
    if let Some(endpoint) = settings.endpoint_urls.get(&Service::Sts) {
        loader = loader.endpoint_url(endpoint.url());
    }
    let own = signature::for_sdk(asked.own);
    let config = loader.credentials_provider(own).load().await;
    let provider = AssumeRoleProvider::builder(asked.role_arn)
        .session_name(SESSION_NAME)
        .configure(&config)
        .build()
        .await;
    let keys = provider.provide_credentials().await;
    let keys = keys.map_err(|error| refused(asked.role_arn, &error))?;
    let (keys, life) = taken(&keys);
    let life = life.map(|life| life.saturating_sub(RENEW_BEFORE.min(life / 2)));
    Ok(Assumed {
        keys: Arc::new(keys),
        renew_at: life.map(|life| clock::unix_now() + life),
    })
}

/// Whether STS has refused, or not answered.
fn refused(role_arn: &str, error: &CredentialsError) -> AwsError {
    let mut cause: &dyn std::error::Error = error;
    let mut is_answer = true;
    while let Some(source) = cause.source() {
        cause = source;
        is_answer &= !cause.is::<ConnectorError>();
    }
    let (code, said) = match cause.downcast_ref::<ErrorMetadata>() {
        Some(told) => {
            let code = told.code().unwrap_or_default();
            let message = told.message().unwrap_or_default();
            (code, format!("{code}: {message}"))
        }
        None => ("", cause.to_string()),
    };
    if !is_answer {
        return AwsError::Unreachable(format!("sts, for role {role_arn}, is not reached ({said})"));
    }
    if is_about_keys(code) {
        return AwsError::KeysRefused(format!(
            "STS does not take the node's keys ({said}); renew them, and see that this machine's clock is right"
        ));
    }
    AwsError::Role(format!(
        "role {role_arn} cannot be assumed ({said}); allow sts:AssumeRole on it to the node's principal, and \
         name that principal in the role's trust policy"
    ))
}
