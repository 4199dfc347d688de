//! Failed records written to servers that we have not written: `tests/run destinations` starts them, and reads back
//! what has come (`tests/rig/destinations.py`, which has the same failure in its own words).
//!
//! Invariant: without such a server the test says aloud that it was skipped.

use std::io::Write;

use forebay::contract::Credentials;
use forebay::control::destinations::Writer;
use forebay_protocol::delivery::{Diversion, Taken, Undelivered};
use forebay_tests::failure;
use forebay_tests::harness::{Declared, Site};

const REGION: &str = "eu-central-1";

/// So many partitions take more than one message of SNS, which has room for 256 KiB.
const MANY: i32 = 2000;

/// The server, and what was made there.
struct Server {
    url: String,
    account: String,
    keys: Credentials,
}

impl Server {
    fn of_environment() -> Option<Self> {
        let said = |name: &str| std::env::var(name).ok();
        Some(Self {
            url: said("FOREBAY_DESTINATIONS")?,
            account: said("FOREBAY_ACCOUNT")?,
            keys: Credentials {
                access_key_id: said("AWS_ACCESS_KEY_ID")?,
                secret_access_key: said("AWS_SECRET_ACCESS_KEY")?.into(),
                session_token: None,
            },
        })
    }

    async fn write(&self, destination: &str, diversion: &Diversion) -> Result<Taken, Undelivered> {
        let url = &self.url;
        let urls = format!("{{ sqs = {url:?}, sns = {url:?}, s3 = {url:?} }}");
        let site = Site::new("k1.example.net:9094", "http://127.0.0.1:1");
        let site = site.key("region", &format!("{REGION:?}"));
        let mut site = site.key("endpoint_urls", &urls);
        let member = format!("DestinationConfig.OnFailure.Destination = {destination:?}\n");
        site.declare(&Declared::new("orders").with(&member));
        let config = site.config();
        let set = forebay::control::load(&config).unwrap_or_else(|problems| panic!("{problems}"));
        let writer = Writer::new(&config, Some(self.keys.clone()));
        writer.write(&set[0].mapping, diversion).await
    }

    fn arn(&self, service: &str, name: &str) -> String {
        match service {
            "s3" => format!("arn:aws:s3:::{name}"),
            _ => format!("arn:aws:{service}:{REGION}:{}:{name}", self.account),
        }
    }
}

/// A failure whose event has what must be escaped.
fn diversion(partitions: i32) -> Diversion {
    let mut diversion = failure::diversion(partitions);
    diversion.failure.event_bytes = 27;
    diversion.event = vec![
        "{\"records\":{\"orders-0\":[".into(),
        "\"\\u00e9\\\"\"]}}".into(),
    ];
    diversion
}

#[tokio::test]
async fn failed_records_are_taken_by_servers_of_other_makers() {
    let Some(server) = Server::of_environment() else {
        // Past the capture of the test harness: a skipped test must not look like a passed one.
        let line = "SKIPPED destinations: needs a server; run tests/run destinations\n";
        std::io::stderr().write_all(line.as_bytes()).ok();
        return;
    };
    for service in ["sqs", "sns", "s3"] {
        let there = server.arn(service, "failed");
        server.write(&there, &diversion(2)).await.unwrap();
        let missing = server.arn(service, "missing-0b1");
        let undelivered = server.write(&missing, &diversion(1)).await.unwrap_err();
        let said = undelivered.reason;
        assert!(
            said.contains("create it, or correct DestinationConfig"),
            "{said}"
        );
    }
    let many = server.arn("sns", "many");
    server.write(&many, &diversion(MANY)).await.unwrap();
    let wrong = Server {
        keys: Credentials {
            secret_access_key: "wrong".to_owned().into(),
            ..server.keys.clone()
        },
        ..server
    };
    for service in ["sqs", "sns", "s3"] {
        let there = wrong.arn(service, "failed");
        let said = wrong.write(&there, &diversion(1)).await.unwrap_err().reason;
        assert!(
            said.contains("the keys of the node's principal are no good"),
            "{said}"
        );
    }
}
