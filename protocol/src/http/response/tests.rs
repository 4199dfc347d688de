//! Answers whole, cut anywhere, and broken.

use proptest::prelude::*;

use super::*;

/// The answer to a stream that is pushed in pieces of `step` bytes and then closed.
fn read(stream: &[u8], step: usize) -> Result<Response, ResponseError> {
    let mut parser = ResponseParser::new();
    let mut pieces = stream.chunks(step.max(1));
    for piece in pieces.by_ref() {
        match parser.push(piece)? {
            Progress::Complete(response) => {
                assert_eq!(pieces.next(), None, "complete before all was pushed");
                return Ok(response);
            }
            Progress::NeedMore => {}
        }
    }
    parser.close()
}

/// Checks that however the stream is cut, it reads the same.
#[track_caller]
fn check(stream: &[u8], expected: &Result<Response, ResponseError>) {
    for step in [1, 2, 3, 7, stream.len()] {
        assert_eq!(&read(stream, step), expected, "in steps of {step}");
    }
}

fn response(status: u16, body: &'static str, keep_alive: bool) -> Response {
    Response {
        status,
        body: Bytes::from_static(body.as_bytes()),
        keep_alive,
        ..Response::default()
    }
}

#[test]
fn an_answer_with_a_length_keeps_the_connection() {
    let expected = Response {
        function_error: Some("Unhandled".to_owned()),
        executed_version: Some("$LATEST".to_owned()),
        request_id: Some("0b1".to_owned()),
        ..response(200, "null", true)
    };
    check(
        b"HTTP/1.1 200 OK\r\nX-AMZ-Function-Error: Unhandled\r\nX-Amz-Executed-Version: $LATEST\r\n\
          x-amzn-RequestId: 0b1\r\nContent-Length: 4\r\n\r\nnull",
        &Ok(expected),
    );
    let expected = Response {
        error_type: Some("TooManyRequestsException".to_owned()),
        retry_after: Some("3".to_owned()),
        ..response(429, "", true)
    };
    check(
        b"HTTP/1.1 429 Too Many\r\nretry-after: 3\r\nx-amzn-errortype: TooManyRequestsException\r\n\
          content-length: 0\r\n\r\n",
        &Ok(expected),
    );
}

#[test]
fn an_answer_in_chunks_is_put_together() {
    check(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n4;x=\"y\"\r\nnull\r\n00A\r\n0123456789\r\n\
          0\r\nx-trailer: 1\r\ny: 2\r\n\r\n",
        &Ok(response(200, "null0123456789", true)),
    );
    check(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &Ok(response(200, "", true)),
    );
}

#[test]
fn an_answer_without_a_length_ends_where_the_peer_closes() {
    check(
        b"HTTP/1.1 200 OK\r\n\r\nnull",
        &Ok(response(200, "null", false)),
    );
    check(
        b"HTTP/1.0 502 Bad\r\nconnection: keep-alive\r\n\r\n",
        &Ok(response(502, "", false)),
    );
}

#[test]
fn interim_answers_are_passed_over() {
    check(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        &Ok(response(200, "{}", true)),
    );
    let endless = b"HTTP/1.1 102 P\r\n\r\n".repeat(20);
    assert!(matches!(
        read(&endless, 100),
        Err(ResponseError::Malformed(_))
    ));
    let upgrade = b"HTTP/1.1 101 S\r\n\r\n";
    assert!(matches!(
        read(upgrade, 100),
        Err(ResponseError::Malformed(_))
    ));
}

#[test]
fn statuses_without_a_body_have_none() {
    check(
        b"HTTP/1.1 204 No\r\ncontent-length: 7\r\n\r\n",
        &Ok(response(204, "", true)),
    );
    check(b"HTTP/1.1 304 Not\r\n\r\n", &Ok(response(304, "", true)));
}

#[test]
fn the_connection_is_kept_only_if_both_sides_want_it() {
    for (head, keep_alive) in [
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\n", false),
        ("HTTP/1.0 200 OK\r\n", false),
        ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n", true),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive, close\r\n",
            false,
        ),
    ] {
        let stream = format!("{head}content-length: 0\r\n\r\n");
        check(stream.as_bytes(), &Ok(response(200, "", keep_alive)));
    }
}

#[test]
fn bytes_behind_the_answer_end_the_connection() {
    let mut parser = ResponseParser::new();
    let stream = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 500 No";
    let expected = Progress::Complete(response(200, "", false));
    assert_eq!(parser.push(stream), Ok(expected));
    assert_eq!(parser.push(b"x"), Err(ResponseError::AfterEnd));
}

#[test]
fn half_an_answer_is_an_error_that_says_so() {
    check(b"", &Err(ResponseError::NoAnswer));
    // A fatal alert, as a server with TLS answers what is none; 10 is also a line feed.
    check(&[0x15, 3, 3, 0, 2, 2, 10], &Err(ResponseError::Tls));
    check(
        b"HTTP/1.1 200",
        &Err(ResponseError::HalfHead { received: 12 }),
    );
    let cut = ResponseError::HalfBody {
        received: 3,
        expected: Some(4),
    };
    check(
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnul",
        &Err(cut),
    );
    assert_eq!(
        cut.to_string(),
        "half an answer: the connection was closed after 3 bytes of its body of 4"
    );
    for tail in [
        "4\r\nnul",
        "3\r\nnul",
        "3\r\nnul\r\n",
        "3\r\nnul\r\n0\r\n",
        "3\r\nnul\r\n0\r\nx: y\r\n",
    ] {
        let stream = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{tail}");
        let cut = ResponseError::HalfBody {
            received: 3,
            expected: None,
        };
        check(stream.as_bytes(), &Err(cut));
    }
}

#[test]
fn a_parser_knows_whether_an_answer_has_begun() {
    let mut parser = ResponseParser::new();
    assert!(!parser.has_begun());
    assert_eq!(parser.push(b"H"), Ok(Progress::NeedMore));
    assert!(parser.has_begun());
}

#[test]
fn what_is_against_the_rules_is_refused() {
    for head in [
        "SMTP ready\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ng\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
    ] {
        for step in [1, head.len()] {
            let error = read(head.as_bytes(), step).unwrap_err();
            assert!(
                matches!(error, ResponseError::Malformed(_)),
                "{head:?}: {error:?}"
            );
        }
    }
}

#[test]
fn a_chunk_that_is_too_long_is_told_the_same_however_it_is_cut() {
    let error = ResponseError::Malformed("a chunk is longer than its size");
    for tail in ["1\r\nabcd\n", "1\r\na\rb\n"] {
        let stream = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{tail}");
        check(stream.as_bytes(), &Err(error));
    }
}

#[test]
fn the_same_length_may_be_said_twice() {
    check(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\ncontent-length: 2\r\n\r\n{}",
        &Ok(response(200, "{}", true)),
    );
}

#[test]
fn a_coding_and_a_length_together_end_the_connection() {
    check(
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        &Ok(response(200, "{}", false)),
    );
}

#[test]
fn a_head_is_bounded() {
    let long = format!(
        "HTTP/1.1 200 OK\r\na: {}",
        "x".repeat(RESPONSE_HEAD_BYTES_MAX)
    );
    check(long.as_bytes(), &Err(ResponseError::HeadTooLarge));
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "a: b\r\n".repeat(RESPONSE_HEADERS_MAX + 1)
    );
    check(many.as_bytes(), &Err(ResponseError::HeadTooLarge));
    let empty_lines = b"\r\n".repeat(RESPONSE_HEAD_BYTES_MAX);
    check(&empty_lines, &Err(ResponseError::HeadTooLarge));
}

#[test]
fn a_body_is_bounded_by_what_is_announced_and_by_what_comes() {
    let announced = RESPONSE_BODY_BYTES_MAX + 1;
    let fixed = format!("HTTP/1.1 200 OK\r\ncontent-length: {announced}\r\n\r\n");
    check(fixed.as_bytes(), &Err(ResponseError::BodyTooLarge));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n";
    check(chunked.as_bytes(), &Err(ResponseError::BodyTooLarge));
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(endless.len() + RESPONSE_BODY_BYTES_MAX, b'x');
    assert_eq!(
        read(&endless, 1 << 20).unwrap().body.len(),
        RESPONSE_BODY_BYTES_MAX
    );
    endless.push(b'x');
    assert_eq!(read(&endless, 1 << 20), Err(ResponseError::BodyTooLarge));
}

#[test]
fn lines_of_the_chunked_coding_are_bounded() {
    for tail in ["1;", "0\r\na: "] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let stream = format!("{head}{tail}{}", "x".repeat(RESPONSE_HEAD_BYTES_MAX));
        assert!(matches!(
            read(stream.as_bytes(), 1000),
            Err(ResponseError::Malformed(_))
        ));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_the_same_however_they_are_cut(
        bytes in prop::collection::vec(
            prop_oneof![
                any::<u8>(),
                prop::sample::select(b"HTP/1. 0\r\n:chunkedt-lngaso,;".to_vec()),
            ],
            0..200,
        ),
        start in prop::sample::select(vec![
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n",
        ]),
        step in 1..50_usize,
    ) {
        let stream = [start.as_bytes(), &bytes].concat();
        let mut outcomes = [step, 1, stream.len().max(1)].map(|step| {
            let mut parser = ResponseParser::new();
            for piece in stream.chunks(step) {
                match parser.push(piece) {
                    Ok(Progress::NeedMore) => {}
                    Ok(Progress::Complete(mut response)) => {
                        // Surplus is seen only if it comes together with the end.
                        response.keep_alive = false;
                        return Ok(response);
                    }
                    Err(error) => return Err(error),
                }
            }
            parser.close().map(|mut response| {
                response.keep_alive = false;
                response
            })
        });
        outcomes.sort_by_key(|outcome| outcome.is_ok());
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
        prop_assert_eq!(&outcomes[1], &outcomes[2]);
    }

    #[test]
    fn any_answer_survives_any_cut(
        body in prop::collection::vec(any::<u8>(), 0..2000),
        sizes in prop::collection::vec(1..300_usize, 1..20),
        chunked in any::<bool>(),
        step in 1..500_usize,
    ) {
        let mut stream = b"HTTP/1.1 200 OK\r\n".to_vec();
        if chunked {
            stream.extend(b"transfer-encoding: chunked\r\n\r\n");
            let mut rest = &body[..];
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                stream.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                stream.extend(chunk);
                if chunk.is_empty() {
                    break;
                }
                stream.extend(b"\r\n");
                rest = after;
            }
            stream.extend(b"\r\n");
        } else {
            stream.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            stream.extend(&body);
        }
        let response = read(&stream, step);
        prop_assert_eq!(response.map(|response| response.body.to_vec()), Ok(body));
    }
}
