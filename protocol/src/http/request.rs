//! Writes a request's head into a buffer that is used again and again.
//!
//! Source: RFC 9112 sections 3 and 5, RFC 9110 section 5.5.
//!
//! Invariant: a value can never begin a line of its own: what has control bytes fails the whole head.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A head on its way into its buffer.
///
/// ```
/// use forebay_protocol::http::RequestHead;
///
/// let mut buffer = Vec::new();
/// let mut head = RequestHead::post(&mut buffer, "/f", "a=b", "example.net");
/// head.content_length(2);
/// head.finish().unwrap();
/// assert_eq!(buffer, b"POST /f?a=b HTTP/1.1\r\nhost: example.net\r\ncontent-length: 2\r\n\r\n");
/// ```
#[derive(Debug)]
pub struct RequestHead<'a> {
    out: &'a mut Vec<u8>,
    invalid: Option<HeadError>,
}

/// Something that does not belong into a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The path or the query has blanks, control bytes or bytes that are not ASCII.
    #[error("the request target has bytes that must be percent-encoded")]
    Target,
    /// A header's value has control bytes or bytes that are not ASCII.
    #[error("the value of the header {0} has bytes that no header may have")]
    Value(&'static str),
}

impl<'a> RequestHead<'a> {
    /// Begins a POST: clears `out`, writes the request line and the `host` header. `query` is without
    /// `?`, empty for none; both are percent-encoded already.
    pub fn post(out: &'a mut Vec<u8>, path: &str, query: &str, host: &str) -> Self {
        out.clear();
        out.extend_from_slice(b"POST ");
        out.extend_from_slice(path.as_bytes());
        if !query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut target = path.bytes().chain(query.bytes());
        let valid = path.starts_with('/') && target.all(|byte| byte.is_ascii_graphic());
        let mut head = Self {
            out,
            invalid: (!valid).then_some(HeadError::Target),
        };
        head.header("host", host);
        head
    }

    /// One header.
    pub fn header(&mut self, name: &'static str, value: &str) {
        let valid = value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        if !valid {
            self.invalid.get_or_insert(HeadError::Value(name));
            return;
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// `content-length`.
    pub fn content_length(&mut self, mut bytes: usize) {
        // 20 digits are those of the largest 64-bit number.
        let mut digits = [b'0'; 20];
        let mut used: usize = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789".get(bytes % 10).copied().unwrap_or_default();
            used = used.saturating_add(1);
            bytes /= 10;
            if bytes == 0 {
                break;
            }
        }
        self.out.extend_from_slice(b"content-length: ");
        let from = digits.len().saturating_sub(used);
        self.out
            .extend_from_slice(digits.get(from..).unwrap_or_default());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head; the buffer is to be sent only if this is `Ok`.
    ///
    /// # Errors
    ///
    /// When the target or a value has bytes that must not stand there.
    pub fn finish(self) -> Result<(), HeadError> {
        if let Some(error) = self.invalid {
            self.out.clear();
            return Err(error);
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_its_lines_in_order() {
        let mut buffer = b"left over".to_vec();
        let mut head = RequestHead::post(&mut buffer, "/a%3Ab", "", "h:9001");
        head.header("user-agent", "forebay/1");
        head.content_length(6_291_455);
        assert_eq!(head.finish(), Ok(()));
        let expected = "POST /a%3Ab HTTP/1.1\r\nhost: h:9001\r\nuser-agent: forebay/1\r\n\
                        content-length: 6291455\r\n\r\n";
        assert_eq!(String::from_utf8(buffer).unwrap(), expected);
    }

    #[test]
    fn any_length_is_written_in_decimal() {
        for bytes in [0, 9, 10, 12_345, usize::MAX] {
            let mut buffer = Vec::new();
            let mut head = RequestHead::post(&mut buffer, "/", "", "h");
            head.content_length(bytes);
            head.finish().unwrap();
            let text = String::from_utf8(buffer).unwrap();
            assert!(
                text.contains(&format!("\r\ncontent-length: {bytes}\r\n")),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_can_smuggle_a_line_in() {
        #[track_caller]
        fn check(path: &str, query: &str, host: &str, value: &str, expected: HeadError) {
            let mut buffer = Vec::new();
            let mut head = RequestHead::post(&mut buffer, path, query, host);
            head.header("x-amz-security-token", value);
            assert_eq!(head.finish(), Err(expected));
            assert!(buffer.is_empty());
        }
        let token = HeadError::Value("x-amz-security-token");
        check("/a b", "", "h", "v", HeadError::Target);
        check("a", "", "h", "v", HeadError::Target);
        check("/a", "b\r\nc: d", "h", "v", HeadError::Target);
        check("/é", "", "h", "v", HeadError::Target);
        check("/a", "", "h\r\nx: y", "v", HeadError::Value("host"));
        check("/a", "", "h", "v\n", token);
        check("/a", "", "h", "v\0", token);
        check("/a", "", "h", "é", token);
    }
}
