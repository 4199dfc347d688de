//! Gives a node a command, and waits for what becomes of it.
//!
//! Invariant: it waits and reads up to a limit, whoever answers.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Command, FORMAT, Outcome, Skip};
use crate::status::ask::{AskError, connect, refused};

/// An answer is one line.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What a node takes beyond the time that the command itself may take: it may ask brokers whose a partition is.
const MARGIN: Duration = Duration::from_secs(60);

/// What is the same in every format.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

/// Has the node behind that socket pass over what is in the way.
pub async fn skip(path: &Path, skip: Skip) -> Result<Outcome, AskError> {
    let patience = Duration::from_secs(skip.wait_seconds) + MARGIN;
    let silent = |reason: String| AskError::Silent {
        path: path.to_owned(),
        reason,
    };
    let command = Command {
        format: FORMAT,
        skip,
    };
    let asked = async {
        let line = serde_json::to_string(&command).map_err(|error| silent(error.to_string()))?;
        let stream = connect(path).await;
        let mut stream = stream.map_err(|error| refused(path, &error))?;
        let mut text = String::new();
        let talked = async {
            stream.write_all(line.as_bytes()).await?;
            stream.write_all(b"\n").await?;
            // Not shut down: an end would say that nobody waits any more.
            let mut limited = stream.take(ANSWER_BYTES_MAX);
            limited.read_to_string(&mut text).await
        };
        talked.await.map_err(|error| silent(error.to_string()))?;
        Ok(text)
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(Ok(text)) => read(&text).map_err(silent),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(silent(format!("nothing whole within {patience:?}"))),
    }
}

fn read(text: &str) -> Result<Outcome, String> {
    let no_answer = |error| format!("what it says is no answer ({error})");
    let Header { format } = serde_json::from_str(text).map_err(no_answer)?;
    if format != FORMAT {
        return Err(format!(
            "its answers have format {format}, and this is version {}, which reads format {FORMAT}; use the forebay that the \
             node runs",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let answer: Answer = serde_json::from_str(text).map_err(no_answer)?;
    Ok(answer.outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_version_is_told_from_none() {
        let other = read(r#"{"format":9,"outcome":"done"}"#).unwrap_err();
        assert!(other.contains("have format 9"), "{other}");
        let none = read("").unwrap_err();
        assert!(none.contains("is no answer"), "{none}");
        assert_eq!(read(r#"{"format":1,"outcome":"past"}"#), Ok(Outcome::Past));
    }
}
