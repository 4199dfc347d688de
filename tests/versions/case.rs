//! What is tested of each version.

use forebay_tests::rig::{Broker, Expected};

use self::Case::*;

/// A way in, or what becomes of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Plaintext,
    Tls,
    MutualTls,
    Plain,
    Scram256,
    Scram512,
    /// A topic of message format v0, by a broker that converts what it is given.
    FormatV0,
    /// Of message format v1.
    FormatV1,
    /// A topic whose timestamps are the broker's.
    AppendTime,
    /// The function fails, and every record goes to another topic.
    ToTopic,
}

/// A version, and what it has.
pub(crate) struct Row {
    pub(crate) version: &'static str,
    has: &'static [Case],
    /// What `tests/run` tests of it; `tests/run matrix` tests all that it has.
    in_short: &'static [Case],
}

const OLDEST: &[Case] = &[
    Plaintext, Tls, MutualTls, Plain, FormatV0, AppendTime, ToTopic,
];
const OLDER: &[Case] = &[
    Plaintext, Tls, MutualTls, Plain, Scram256, Scram512, FormatV0, FormatV1, AppendTime, ToTopic,
];
/// From 3.0 on what is written is of format v2 alone.
const NEWER: &[Case] = &[
    Plaintext, Tls, MutualTls, Plain, Scram256, Scram512, AppendTime, ToTopic,
];

/// The slowest first.
pub(crate) const ROWS: [Row; 8] = [
    Row::new("2.8.2", OLDER, OLDER),
    Row::new("4.4.0", NEWER, NEWER),
    Row::new("0.10.1.0", OLDEST, OLDEST),
    Row::new("4.0.2", NEWER, &[Plaintext, Tls]),
    Row::new("3.9.2", NEWER, &[Plaintext, Scram256]),
    Row::new("2.0.1", OLDER, &[Plaintext, Plain]),
    Row::new("1.1.1", OLDER, &[Plaintext, MutualTls]),
    Row::new("0.11.0.3", OLDER, &[Plaintext, Scram512, ToTopic]),
];

impl Row {
    const fn new(version: &'static str, has: &'static [Case], in_short: &'static [Case]) -> Self {
        Self {
            version,
            has,
            in_short,
        }
    }

    pub(crate) fn cases(&self, is_whole: bool) -> Vec<Case> {
        if is_whole { self.has } else { self.in_short }.to_vec()
    }

    pub(crate) fn has(&self, case: Case) -> bool {
        self.has.contains(&case)
    }

    /// The version as numbers, to order by.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let numbers = self.version.split('.').map(str::parse);
        numbers
            .map(|number| number.expect("a version is of numbers"))
            .collect()
    }

    /// The message formats, each with the case that shows it: what is written without more is of the newest.
    pub(crate) fn formats(&self) -> Vec<(u8, Case)> {
        let newest = if self.version.starts_with("0.10.") {
            1
        } else {
            2
        };
        let others = [(0, FormatV0), (1, FormatV1)].into_iter();
        let others = others.filter(|(_, case)| self.has(*case));
        others.chain([(newest, Plaintext)]).collect()
    }

    /// Whether that needs a broker of its own: this one has TLS of one kind only.
    pub(crate) fn is_served_alone(&self, case: Case) -> bool {
        case == MutualTls && self.version.starts_with("0.10.")
    }
}

impl Case {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 10] = [
        Plaintext, Tls, MutualTls, Plain, Scram256, Scram512, FormatV0, FormatV1, AppendTime,
        ToTopic,
    ];

    /// The ways in.
    pub(crate) const WAYS: [Self; 6] = [Plaintext, Tls, MutualTls, Plain, Scram256, Scram512];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Plaintext => "plaintext",
            Tls => "TLS",
            MutualTls => "mTLS",
            Plain => "PLAIN",
            Scram256 => "SCRAM-256",
            Scram512 => "SCRAM-512",
            FormatV0 => "format v0",
            FormatV1 => "format v1",
            AppendTime => "append time",
            ToTopic => "to a topic",
        }
    }

    /// The listener, if not the one without TLS, and the mapping's `SourceAccessConfigurations` with their secrets.
    pub(crate) const fn access(
        self,
    ) -> (
        Option<&'static str>,
        &'static [(&'static str, &'static str)],
    ) {
        const ROOT: (&str, &str) = ("SERVER_ROOT_CA_CERTIFICATE", "root");
        match self {
            Plaintext | FormatV0 | FormatV1 | AppendTime | ToTopic => (None, &[]),
            Tls => (Some("TLS"), &[ROOT]),
            MutualTls => (
                Some("MTLS"),
                &[ROOT, ("CLIENT_CERTIFICATE_TLS_AUTH", "client")],
            ),
            Plain => (Some("SASL"), &[ROOT, ("BASIC_AUTH", "user")]),
            Scram256 => (Some("SASL"), &[ROOT, ("SASL_SCRAM_256_AUTH", "user")]),
            Scram512 => (Some("SASL"), &[ROOT, ("SASL_SCRAM_512_AUTH", "user")]),
        }
    }

    /// What its topic is created with, where it has one of its own.
    pub(crate) const fn topic_config(self) -> Option<&'static str> {
        match self {
            FormatV0 => Some("message.format.version=0.9.0"),
            FormatV1 => Some("message.format.version=0.10.1"),
            AppendTime => Some("message.timestamp.type=LogAppendTime"),
            Plaintext | Tls | MutualTls | Plain | Scram256 | Scram512 | ToTopic => None,
        }
    }

    /// What its topic's records cannot have.
    pub(crate) fn lacks(self, broker: &Broker) -> Vec<&str> {
        match self {
            FormatV0 | FormatV1 => vec!["headers", "transactions", "zstd"],
            Plaintext | Tls | MutualTls | Plain | Scram256 | Scram512 | AppendTime | ToTopic => {
                broker.lacks()
            }
        }
    }

    /// Kafka's own consumer has read what the case is about.
    pub(crate) fn assert_shown_by(self, expected: &Expected) {
        let kind = match self {
            FormatV0 => "NO_TIMESTAMP_TYPE",
            AppendTime => "LOG_APPEND_TIME",
            FormatV1 | Plaintext | Tls | MutualTls | Plain | Scram256 | Scram512 | ToTopic => {
                "CREATE_TIME"
            }
        };
        assert!(
            expected.all_have("timestampType", kind),
            "not all are of {kind}"
        );
    }
}
