//! The name of a function in all of its forms, and the request target of its Invoke (contract 3.1).
//!
//! Source: the AWS Lambda API reference, "Invoke" (`FunctionName`, `Qualifier`); RFC 3986 section 2.
//!
//! Invariant: what was parsed has one of AWS's forms; what is encoded is unambiguous in a request line.

/// All forms together: ARN and qualifier included.
const NAME_LENGTH_MAX: usize = 256;

/// The function's own name.
const BARE_NAME_LENGTH_MAX: usize = 64;

const QUALIFIER_LENGTH_MAX: usize = 128;

/// `FunctionName`: a name, a partial ARN or an ARN, each with or without a qualifier.
///
/// ```
/// use forebay_protocol::lambda::function::FunctionName;
///
/// let function = FunctionName::parse("123456789012:function:orders:prod").unwrap();
/// assert_eq!(function.name(), "orders");
/// assert_eq!(function.qualifier(), Some("prod"));
/// let target = function.invoke_target(None);
/// assert_eq!(target.query, "Qualifier=prod");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// All of it but the qualifier, as given.
    unqualified: String,
    partition: Option<String>,
    region: Option<String>,
    account: Option<String>,
    name: String,
    qualifier: Option<String>,
}

/// The request target of an Invoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokeTarget {
    /// The path as sent, percent-encoded once.
    pub path: String,
    /// The query as sent, without `?`; empty for none.
    pub query: String,
}

impl FunctionName {
    /// Takes the text apart; `None` if it has none of the forms.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > NAME_LENGTH_MAX {
            return None;
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (partition, region, account, rest) = match parts.as_slice() {
            [
                "arn",
                partition,
                "lambda",
                region,
                account,
                "function",
                rest @ ..,
            ] => (Some(*partition), Some(*region), Some(*account), rest),
            [region, account, "function", rest @ ..] => (None, Some(*region), Some(*account), rest),
            [account, "function", rest @ ..] if is_account(account) => {
                (None, None, Some(*account), rest)
            }
            ["function", rest @ ..] if !rest.is_empty() => (None, None, None, rest),
            rest => (None, None, None, rest),
        };
        let (name, qualifier) = match rest {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some(*qualifier)),
            _ => return None,
        };
        let valid = is_name(name)
            && qualifier.is_none_or(is_qualifier)
            && partition.is_none_or(is_partition)
            && region.is_none_or(is_region)
            && account.is_none_or(is_account);
        let suffix = qualifier.map_or(0, |qualifier| qualifier.len() + 1);
        let unqualified = text.get(..text.len() - suffix)?;
        valid.then(|| Self {
            unqualified: unqualified.to_owned(),
            partition: partition.map(str::to_owned),
            region: region.map(str::to_owned),
            account: account.map(str::to_owned),
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
        })
    }

    /// The bare name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, alias or `$LATEST`, where one was given.
    pub fn qualifier(&self) -> Option<&str> {
        self.qualifier.as_deref()
    }

    /// The ARN's partition (`aws`, `aws-cn`), where one was given.
    pub fn partition(&self) -> Option<&str> {
        self.partition.as_deref()
    }

    /// The region, where one was given.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The account, where one was given.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Where to call it. `invoke_as` is the name that an endpoint of its own knows it by (decision 37).
    pub fn invoke_target(&self, invoke_as: Option<&str>) -> InvokeTarget {
        let mut path = String::from("/2015-03-31/functions/");
        percent_encode(invoke_as.unwrap_or(&self.unqualified), &mut path);
        path.push_str("/invocations");
        let mut query = String::new();
        if let Some(qualifier) = &self.qualifier {
            query.push_str("Qualifier=");
            percent_encode(qualifier, &mut query);
        }
        InvokeTarget { path, query }
    }
}

/// Appends `text` with everything encoded but RFC 3986's unreserved characters, as SigV4 wants it.
pub fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let hex = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
                out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=BARE_NAME_LENGTH_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        // A path made of dots would be normalised away on its way.
        && !matches!(text, "." | "..")
}

/// `\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`, 1 to 128 long.
fn is_qualifier(text: &str) -> bool {
    text == "$LATEST.PUBLISHED"
        || ((1..=QUALIFIER_LENGTH_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'$')))
}

fn is_partition(text: &str) -> bool {
    text.strip_prefix("aws")
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'))
}

/// `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`: letters, then words, then a digit.
fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else {
        return false;
    };
    let mut words = words.split('-');
    number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && words.clone().count() >= 2
        && words.all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_its_target() {
        #[track_caller]
        fn check(given: &str, path: &str, query: &str) {
            let target = FunctionName::parse(given).expect(given).invoke_target(None);
            assert_eq!(
                target.path,
                format!("/2015-03-31/functions/{path}/invocations")
            );
            assert_eq!(target.query, query);
        }
        check("orders", "orders", "");
        check("orders:prod", "orders", "Qualifier=prod");
        check("orders:$LATEST", "orders", "Qualifier=%24LATEST");
        check(
            "orders:$LATEST.PUBLISHED",
            "orders",
            "Qualifier=%24LATEST.PUBLISHED",
        );
        check("my.orders_v-2:7", "my.orders_v-2", "Qualifier=7");
        check("function", "function", "");
        check("function:orders", "function%3Aorders", "");
        check(
            "123456789012:function:orders",
            "123456789012%3Afunction%3Aorders",
            "",
        );
        check(
            "123456789012:function:orders:$LATEST",
            "123456789012%3Afunction%3Aorders",
            "Qualifier=%24LATEST",
        );
        check(
            "arn:aws:lambda:eu-central-1:123456789012:function:orders",
            "arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Aorders",
            "",
        );
        check(
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:orders:7",
            "arn%3Aaws-us-gov%3Alambda%3Aus-gov-west-1%3A123456789012%3Afunction%3Aorders",
            "Qualifier=7",
        );
    }

    #[test]
    fn an_arn_is_taken_apart() {
        let arn = "arn:aws-cn:lambda:cn-north-1:123456789012:function:orders:prod";
        let function = FunctionName::parse(arn).unwrap();
        assert_eq!(function.partition(), Some("aws-cn"));
        assert_eq!(function.region(), Some("cn-north-1"));
        assert_eq!(function.account(), Some("123456789012"));
        assert_eq!(function.name(), "orders");
        assert_eq!(function.qualifier(), Some("prod"));
    }

    #[test]
    fn other_texts_are_no_function() {
        let long_name = "n".repeat(BARE_NAME_LENGTH_MAX + 1);
        let long_qualifier = format!("f:{}", "q".repeat(QUALIFIER_LENGTH_MAX + 1));
        for text in [
            "",
            ":",
            ".",
            "..",
            "f:",
            ":prod",
            "a b",
            "a/b",
            "a:b:c",
            "é",
            "f:$LATEST.OTHER",
            "x:function:f",
            "12345678901:function:f",
            "123456789012:function:",
            "arn:aws:s3:::bucket",
            "arn:aws:lambda:nowhere:123456789012:function:f",
            "arn:azure:lambda:us-east-1:123456789012:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function",
            "arn:aws:lambda:us-east-1:123456789012:function:f:1:2",
            &long_name,
            &long_qualifier,
        ] {
            assert_eq!(FunctionName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_name_at_an_endpoint_replaces_ours_and_keeps_the_qualifier() {
        let function = FunctionName::parse("orders:prod").unwrap();
        let target = function.invoke_target(Some("function"));
        assert_eq!(target.path, "/2015-03-31/functions/function/invocations");
        assert_eq!(target.query, "Qualifier=prod");
    }
}
