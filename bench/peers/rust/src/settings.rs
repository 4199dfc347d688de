//! What the environment says.

use std::env;

/// What to do.
#[derive(Debug)]
pub struct Settings {
    pub bootstrap: String,
    pub topic: String,
    pub group: String,
    pub endpoint_url: String,
    pub function: String,
    /// Records in a call at most.
    pub batch_size: usize,
    /// Bytes of a body at most.
    pub body_limit: usize,
}

impl Settings {
    /// All of them have to be there.
    pub fn from_environment() -> Result<Self, String> {
        Ok(Self {
            bootstrap: text("PEER_BOOTSTRAP")?,
            topic: text("PEER_TOPIC")?,
            group: text("PEER_GROUP")?,
            endpoint_url: text("PEER_ENDPOINT_URL")?,
            function: text("PEER_FUNCTION")?,
            batch_size: number("PEER_BATCH_SIZE")?,
            body_limit: number("PEER_BODY_LIMIT")?,
        })
    }
}

fn text(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn number(name: &str) -> Result<usize, String> {
    text(name)?
        .parse()
        .map_err(|error| format!("{name}: {error}"))
}
