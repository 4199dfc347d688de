//! The blocks of a PEM text, as secrets hold it.
//!
//! What stands between blocks is ignored. Within one, blanks may stand where line breaks belong, and so may
//! the two characters `\n` that double escaping leaves: neither means anything in base64.
//!
//! Source: RFC 7468; the headers of RFC 1421 section 4.4, which OpenSSL still writes.
//!
//! Invariant: no error holds what a block holds.

use std::fmt;

use zeroize::Zeroizing;

/// A block: what stands between a BEGIN and its END.
#[derive(PartialEq, Eq)]
pub(crate) struct Block {
    /// As its BEGIN has it, such as `CERTIFICATE`.
    pub(crate) label: String,
    /// What its base64 says. Nothing, if it is encrypted.
    pub(crate) der: Zeroizing<Vec<u8>>,
    /// Encrypted as a text (`Proc-Type: 4,ENCRYPTED`), which OpenSSL did before PKCS#8.
    pub(crate) encrypted: bool,
}

/// Why a text is no PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemError {
    /// It has no BEGIN.
    #[error("it is no PEM: no line -----BEGIN ...----- stands in it")]
    NoBlock,
    /// A BEGIN line breaks off.
    #[error("its line -----BEGIN ... does not end with five dashes")]
    NoLabel,
    /// The text ends before the block does.
    #[error("the end of its block {0} is missing: the line -----END {0}-----")]
    NoEnd(String),
    /// What stands in between is not base64.
    #[error("its block {0} is not base64 between BEGIN and END")]
    Base64(String),
    /// There is none.
    #[error("its block {0} is empty")]
    Empty(String),
}

/// A label in an error is shown up to here: it comes from outside.
const LABEL_CHARS_MAX: usize = 40;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// All blocks, one at least.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (label, begun) = begun.split_once(DASHES).ok_or(PemError::NoLabel)?;
        // The label of a BEGIN that broke off would reach into the base64.
        if label.contains(['\n', '\r', '\\']) {
            return Err(PemError::NoLabel);
        }
        let end = format!("-----END {label}-----");
        let Some((body, behind)) = begun.split_once(end.as_str()) else {
            return Err(PemError::NoEnd(shown(label)));
        };
        // The END that was found is another block's.
        if body.contains(BEGIN) {
            return Err(PemError::NoEnd(shown(label)));
        }
        blocks.push(block(label, body)?);
        rest = behind;
    }
    match blocks.is_empty() {
        true => Err(PemError::NoBlock),
        false => Ok(blocks),
    }
}

fn block(label: &str, body: &str) -> Result<Block, PemError> {
    let encrypted = body.contains("Proc-Type:") && body.contains("ENCRYPTED");
    let der = match encrypted {
        true => Zeroizing::default(),
        false => decoded(label, body)?,
    };
    Ok(Block {
        label: label.to_owned(),
        der,
        encrypted,
    })
}

fn decoded(label: &str, body: &str) -> Result<Zeroizing<Vec<u8>>, PemError> {
    // Its place is reserved at once: a buffer that grows leaves copies of itself behind.
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    // Other headers say nothing that matters here.
    for line in body.lines().filter(|line| !line.contains(": ")) {
        let mut bytes = line.bytes().peekable();
        while let Some(byte) = bytes.next() {
            let escape = byte == b'\\' && matches!(bytes.peek(), Some(b'n' | b'r' | b't'));
            if escape {
                bytes.next();
            } else if !byte.is_ascii_whitespace() {
                base64.push(byte);
            }
        }
    }
    if base64.is_empty() {
        return Err(PemError::Empty(shown(label)));
    }
    let der = base64_simd::STANDARD.decode_to_vec(base64.as_slice());
    match der {
        Ok(der) => Ok(Zeroizing::new(der)),
        Err(_) => Err(PemError::Base64(shown(label))),
    }
}

fn shown(label: &str) -> String {
    let printable = label.chars().filter(|c| !c.is_control());
    printable.take(LABEL_CHARS_MAX).collect()
}

impl Block {
    /// The label, fit for an error.
    pub(crate) fn shown_label(&self) -> String {
        shown(&self.label)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, ***)", shown(&self.label))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = "subject=CN = a\n-----BEGIN CERTIFICATE-----\nAQID\nBAUG\n-----END CERTIFICATE-----\n\
        Bag Attributes: none\n-----BEGIN X509 CRL-----\nBw==\n-----END X509 CRL-----\nbehind";

    fn check(text: &str) {
        let found = blocks(text).unwrap();
        let found: Vec<_> = found.iter().map(|it| (&*it.label, &**it.der)).collect();
        assert_eq!(
            found,
            [("CERTIFICATE", &[1, 2, 3, 4, 5, 6][..]), ("X509 CRL", &[7])]
        );
    }

    #[test]
    fn blocks_are_found_among_other_text() {
        check(TWO);
    }

    #[test]
    fn anything_may_stand_where_line_breaks_belong() {
        for between in [
            "\r\n", "\r", " ", "  ", "\t", "\n\n", " \n", "\\n", "\\r\\n", "\\n ", "",
        ] {
            check(&TWO.replace('\n', between));
        }
    }

    #[test]
    fn headers_are_left_out_and_encryption_is_noted() {
        let text = "-----BEGIN A-----\nComment: of mine\n\nAQID\n-----END A-----";
        assert_eq!(*blocks(text).unwrap()[0].der, [1, 2, 3]);
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAQID\n-----END RSA PRIVATE KEY-----";
        for text in [text.to_owned(), text.replace('\n', " ")] {
            assert!(blocks(&text).unwrap()[0].encrypted);
        }
    }

    #[test]
    fn what_is_no_pem_is_told_why() {
        let cases = [
            ("", PemError::NoBlock),
            ("AQID", PemError::NoBlock),
            ("-----BEGIN CERTIFICATE", PemError::NoLabel),
            ("-----BEGIN A\nAQID\n-----END A-----", PemError::NoLabel),
            ("-----BEGIN A-----\nAQID\n", PemError::NoEnd("A".to_owned())),
            (
                "-----BEGIN A-----\nAQID\n-----END B-----",
                PemError::NoEnd("A".to_owned()),
            ),
            (
                "-----BEGIN A-----AQID-----BEGIN A-----AQID-----END A-----",
                PemError::NoEnd("A".to_owned()),
            ),
            (
                "-----BEGIN A-----\nAQ*D\n-----END A-----",
                PemError::Base64("A".to_owned()),
            ),
            (
                "-----BEGIN A-----\nAQI\n-----END A-----",
                PemError::Base64("A".to_owned()),
            ),
            (
                "-----BEGIN A-----\n \n-----END A-----",
                PemError::Empty("A".to_owned()),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(blocks(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_cut_off_gives_an_error_or_the_blocks_before() {
        for end in 0..TWO.len() {
            if let Ok(found) = blocks(TWO.split_at(end).0) {
                assert_eq!(*found[0].der, [1, 2, 3, 4, 5, 6]);
            }
        }
    }

    #[test]
    fn a_block_is_not_shown() {
        assert_eq!(
            format!("{:?}", blocks(TWO).unwrap()),
            "[Block(CERTIFICATE, ***), Block(X509 CRL, ***)]"
        );
    }

    proptest! {
        #[test]
        fn any_text_gives_blocks_or_an_error(
            parts in prop::collection::vec("-----BEGIN A-----|-----END A-----|AQID|: |\\\\|\\PC|\n|Proc-Type:", 0..12)
        ) {
            let _shown = format!("{:?}", blocks(&parts.concat()));
        }

        #[test]
        fn any_bytes_come_back(der in prop::collection::vec(any::<u8>(), 1..200)) {
            let base64 = base64_simd::STANDARD.encode_to_string(&der);
            let text = format!("-----BEGIN KEY-----\\n{base64} -----END KEY-----");
            prop_assert_eq!(&*blocks(&text).unwrap()[0].der, &der);
        }
    }
}
