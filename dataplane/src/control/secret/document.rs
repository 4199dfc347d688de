//! A secret's JSON object, as named strings.
//!
//! AWS's own samples paste a PEM into the JSON as it is, so a string may hold raw line breaks and tabs, which
//! JSON forbids. Members that nobody asks for are ignored, whatever they are.
//!
//! Invariant: a value stands in no error and in no `Debug`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A secret of AWS is at most this long.
pub(crate) const SECRET_BYTES_MAX: usize = 65_536;

/// The members of a secret.
pub(crate) struct Document {
    /// In the order in which they stand; of two with one name, the later counts.
    members: Vec<(String, Member)>,
}

/// For SASL, whatever the mechanism.
pub(crate) struct Sasl {
    pub(crate) username: Zeroizing<String>,
    pub(crate) password: Zeroizing<String>,
}

/// For TLS with a certificate of our own: PEM texts as they stand in the secret.
pub(crate) struct ClientCertificate {
    pub(crate) certificate: Zeroizing<String>,
    pub(crate) private_key: Zeroizing<String>,
    pub(crate) private_key_password: Option<Zeroizing<String>>,
}

/// Why a secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    /// Nobody needs that much.
    #[error("it has {0} bytes; a secret has at most {SECRET_BYTES_MAX}")]
    TooLong(usize),
    /// A frequent mistake.
    #[error("it is a bare PEM; put it into a JSON object: {{\"certificate\": \"-----BEGIN ...\"}}")]
    Pem,
    /// No object, or one that ends too early.
    #[error(
        "it is no JSON object with strings, such as {{\"username\": \"...\", \"password\": \"...\"}}: \
         look at line {line}, column {column}"
    )]
    NotAnObject {
        /// Where it ceases to be one, from 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// It lacks what it is for.
    #[error("it has no member {0}; its names are case-sensitive")]
    Missing(&'static str),
    /// It has it, but not as text.
    #[error("its member {name} is {found}, where a string belongs")]
    NotAString {
        /// Which.
        name: &'static str,
        /// What it is instead.
        found: &'static str,
    },
}

enum Member {
    Text(Zeroizing<String>),
    /// Anything else, in a word.
    Other(&'static str),
}

impl Document {
    /// Reads the text of a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, DocumentError> {
        if text.len() > SECRET_BYTES_MAX {
            return Err(DocumentError::TooLong(text.len()));
        }
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with("-----BEGIN") {
            return Err(DocumentError::Pem);
        }
        let escaped = with_escapes(text);
        // Why not serde's own words: they quote what they complain of.
        serde_json::from_str(&escaped).map_err(|error| {
            let at = offset(&escaped, error.line(), error.column());
            let (line, column) = place(text, at);
            DocumentError::NotAnObject { line, column }
        })
    }

    /// `username` and `password`.
    pub(crate) fn sasl(&self) -> Result<Sasl, DocumentError> {
        Ok(Sasl {
            username: self.text("username")?,
            password: self.text("password")?,
        })
    }

    /// `certificate`, `privateKey` and, if it has one, `privateKeyPassword`.
    pub(crate) fn client_certificate(&self) -> Result<ClientCertificate, DocumentError> {
        Ok(ClientCertificate {
            certificate: self.text("certificate")?,
            private_key: self.text("privateKey")?,
            private_key_password: self.optional_text("privateKeyPassword")?,
        })
    }

    /// `certificate`: the roots that a server's certificate must lead to.
    pub(crate) fn root_certificates(&self) -> Result<Zeroizing<String>, DocumentError> {
        self.text("certificate")
    }

    fn text(&self, name: &'static str) -> Result<Zeroizing<String>, DocumentError> {
        match self.member(name) {
            Some(Member::Text(text)) => Ok(text.clone()),
            Some(Member::Other(found)) => Err(DocumentError::NotAString { name, found }),
            None => Err(DocumentError::Missing(name)),
        }
    }

    fn optional_text(
        &self,
        name: &'static str,
    ) -> Result<Option<Zeroizing<String>>, DocumentError> {
        match self.member(name) {
            None | Some(Member::Other(NULL)) => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    fn member(&self, name: &str) -> Option<&Member> {
        let mut latest_first = self.members.iter().rev();
        latest_first.find(|(it, _)| it == name).map(|(_, it)| it)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(***)")
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sasl(***)")
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(***)")
    }
}

/// The text with its raw line breaks and tabs as JSON wants them, where they stand in strings.
fn with_escapes(text: &str) -> Zeroizing<String> {
    // Its place is reserved at once: a string that grows leaves copies of itself behind.
    let mut written = Zeroizing::new(String::with_capacity(2 * text.len()));
    let mut strings = Strings::default();
    for c in text.chars() {
        match strings.escape(c) {
            Some(escape) => written.push_str(escape),
            None => written.push(c),
        }
    }
    written
}

/// Follows a text of JSON in and out of its strings.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// What the next character is written as, if not as itself.
    fn escape(&mut self, c: char) -> Option<&'static str> {
        let escape = match c {
            '\n' if self.inside => Some("\\n"),
            '\r' if self.inside => Some("\\r"),
            '\t' if self.inside => Some("\\t"),
            _ => None,
        };
        if c == '"' && !self.escaped {
            self.inside = !self.inside;
        }
        self.escaped = self.inside && c == '\\' && !self.escaped;
        escape
    }
}

/// The byte before which the parser stopped; it counts columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    lines.map(str::len).sum::<usize>() + column.saturating_sub(1)
}

/// The line and the character of the original that stand at that byte of the escaped text.
fn place(original: &str, at: usize) -> (usize, usize) {
    let mut strings = Strings::default();
    let (mut line, mut column, mut written) = (1, 1, 0);
    for c in original.chars() {
        written += strings.escape(c).map_or(c.len_utf8(), str::len);
        if written > at {
            break;
        }
        (line, column) = match c {
            '\n' => (line + 1, 1),
            _ => (line, column + 1),
        };
    }
    (line, column)
}

const NULL: &str = "null";

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Document { members })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl<'de> Visitor<'de> for Value {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
                Ok(Member::Other("true or false"))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
                Ok(Member::Other("a number"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
                Ok(Member::Other("a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
                Ok(Member::Other("a number"))
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Other(NULL))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Other("a list"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other("an object"))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CERTIFICATE: &str = "{\"certificate\":\"-----BEGIN CERTIFICATE-----\n\tMIIE\r\n-----END\",\"privateKey\":\"k\\\"\\\\\",\"privateKeyPassword\":null, \"other\":[{\"a\":1}]}";

    fn error(text: &str) -> DocumentError {
        match Document::parse(text).and_then(|document| document.sasl()) {
            Ok(_) => panic!("it is to be refused"),
            Err(error) => error,
        }
    }

    #[test]
    fn what_is_asked_for_is_found_among_others() {
        let text =
            r#"{"a": 1, "username": "ada", "b": {"password": "no"}, "password": "pa\"ss\u00e4"}"#;
        let sasl = Document::parse(text).unwrap().sasl().unwrap();
        assert_eq!(sasl.username.as_str(), "ada");
        assert_eq!(sasl.password.as_str(), "pa\"ssä");
    }

    #[test]
    fn strings_may_hold_raw_line_breaks_and_tabs() {
        let document = Document::parse(CERTIFICATE).unwrap();
        let secret = document.client_certificate().unwrap();
        let expected = "-----BEGIN CERTIFICATE-----\n\tMIIE\r\n-----END";
        assert_eq!(secret.certificate.as_str(), expected);
        assert_eq!(secret.private_key.as_str(), "k\"\\");
        assert!(secret.private_key_password.is_none());
        let certificate = document.root_certificates().unwrap();
        assert_eq!(certificate.as_str(), expected);
    }

    #[test]
    fn line_breaks_between_members_stay_what_they_are() {
        let text = "\u{feff}\r\n{\n\t\"username\":\r\n\"a\\\\\",\n\"password\"\t:\"\\\"\n\"\n}\n";
        let sasl = Document::parse(text).unwrap().sasl().unwrap();
        assert_eq!(sasl.username.as_str(), "a\\");
        assert_eq!(sasl.password.as_str(), "\"\n");
    }

    #[test]
    fn of_two_members_with_one_name_the_later_counts() {
        let text = r#"{"username":"a","password":1,"password":"b"}"#;
        let sasl = Document::parse(text).unwrap().sasl().unwrap();
        assert_eq!(sasl.password.as_str(), "b");
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_secret() {
        let cases = [
            (r#"{"username":"hush"}"#, "it has no member password"),
            (
                r#"{"Username":"hush","password":"hush"}"#,
                "no member username; its names are case",
            ),
            (
                r#"{"username":7,"password":"hush"}"#,
                "its member username is a number",
            ),
            (
                r#"{"username":"u","password":["hush"]}"#,
                "its member password is a list",
            ),
            (
                r#"{"username":"u","password":{"hush":1}}"#,
                "its member password is an object",
            ),
            (
                r#"{"username":"u","password":null}"#,
                "its member password is null",
            ),
            (
                r#"{"username":"u","password":true}"#,
                "its member password is true or false",
            ),
            (r#""hush""#, "it is no JSON object"),
            (r#"["hush"]"#, "it is no JSON object"),
            (
                r#"{"username":"hush","password":"hush"#,
                "it is no JSON object",
            ),
            (r#"{"username":"hush"} hush"#, "it is no JSON object"),
            ("{\"username\":\"hu\u{1}sh\"}", "it is no JSON object"),
            ("", "it is no JSON object"),
            ("-----BEGIN CERTIFICATE-----hush", "it is a bare PEM"),
        ];
        for (text, expected) in cases {
            let error = error(text);
            let said = format!("{error} {error:?}");
            assert!(said.contains(expected), "{text}: {said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_where() {
        let cases = [
            ("{\"a\": \"b\",\n \"c\" \"d\"}", (2, 6)),
            // Raw line breaks in a string count as lines of the file.
            (
                "\u{feff}{\"certificate\": \"-----BEGIN\n\tMIIE\r\n-----END\",\n  privateKey: 1}",
                (4, 3),
            ),
            ("{\"ä\": \"ö\" x}", (1, 11)),
            ("{\"a\": \"b\"", (1, 9)),
            ("hush", (1, 1)),
            ("\n\n[1]", (3, 1)),
            ("{}\n}", (2, 1)),
        ];
        for (text, expected) in cases {
            let DocumentError::NotAnObject { line, column } = error(text) else {
                panic!("{text} is no object");
            };
            assert_eq!((line, column), expected, "{text}");
        }
    }

    #[test]
    fn more_than_a_secret_may_hold_is_refused() {
        let of = |bytes: usize| format!("{{\"username\":\"{}\"}}", "x".repeat(bytes - 15));
        assert_eq!(of(SECRET_BYTES_MAX).len(), SECRET_BYTES_MAX);
        assert_eq!(
            error(&of(SECRET_BYTES_MAX)),
            DocumentError::Missing("password")
        );
        let long = SECRET_BYTES_MAX + 1;
        assert_eq!(error(&of(long)), DocumentError::TooLong(long));
        // Depth is bounded too.
        let deep = format!("{{\"a\":{}", "[".repeat(60_000));
        assert!(matches!(error(&deep), DocumentError::NotAnObject { .. }));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let document = Document::parse(CERTIFICATE).unwrap();
        let shown = format!("{document:?} {:?}", document.client_certificate().unwrap());
        assert_eq!(shown, "Document(***) ClientCertificate(***)");
    }

    #[test]
    fn what_is_cut_off_is_no_object() {
        for (end, _) in CERTIFICATE.char_indices() {
            let error = error(CERTIFICATE.split_at(end).0);
            assert!(
                matches!(error, DocumentError::NotAnObject { .. }),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_value_or_an_error(text in "[\\PC\"{}:,\\\\\\n]{0,60}") {
            let _shown = format!("{:?}", Document::parse(&text));
        }

        #[test]
        fn any_text_comes_back(username in any::<String>(), password in any::<String>()) {
            let object = serde_json::json!({"username": username, "password": password});
            let sasl = Document::parse(&object.to_string()).unwrap().sasl().unwrap();
            prop_assert_eq!(sasl.username.as_str(), username);
            prop_assert_eq!(sasl.password.as_str(), password);
        }
    }
}
