//! Any bytes as the answer to a call: read the same however they are cut, and understood whatever they say.
//! The first byte is the length of the pieces; the rest is what the peer sends before it closes.
#![no_main]

use forebay_protocol::http::{Progress, Response, ResponseError, ResponseParser};
use forebay_protocol::lambda::invoke::{Answer, Outcome, classify};
use forebay_protocol::limits::ERROR_TEXT_CHARS_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [step, stream @ ..] = input else {
        return;
    };
    let (read_bytewise, end) = read(stream, 1);
    for step in [usize::from(*step), stream.len()] {
        let (read, pushed) = read(stream, step.max(1));
        // Surplus bytes cost the connection, where they come together with the answer's end.
        let expected = read_bytewise.clone().map(|response| Response {
            keep_alive: response.keep_alive && pushed == end,
            ..response
        });
        assert_eq!(read, expected, "in pieces of {step} bytes");
    }
    if let Ok(response) = read_bytewise {
        assert!(response.body.len() <= stream.len());
        understand(&response);
    }
});

/// The answer to a stream in pieces of `step` bytes, and how many bytes were pushed until it was known.
fn read(stream: &[u8], step: usize) -> (Result<Response, ResponseError>, usize) {
    let mut parser = ResponseParser::new();
    let mut pushed = 0;
    for piece in stream.chunks(step) {
        pushed += piece.len();
        match parser.push(piece) {
            Ok(Progress::NeedMore) => {}
            Ok(Progress::Complete(response)) => return (Ok(response), pushed),
            Err(error) => return (Err(error), pushed),
        }
    }
    (parser.close(), pushed)
}

fn understand(response: &Response) {
    let outcome = classify(&Answer {
        status: response.status,
        function_error: response.function_error.as_deref(),
        retry_after: response.retry_after.as_deref(),
        error_type: response.error_type.as_deref(),
        request_id: response.request_id.as_deref(),
        executed_version: response.executed_version.as_deref(),
        body: &response.body,
    });
    let succeeded = (200..300).contains(&response.status) && response.function_error.is_none();
    assert_eq!(matches!(outcome, Outcome::Success { .. }), succeeded);
    // A code and a message, each of which may be cut, and the status before them.
    let reason = outcome.reason().unwrap_or_default();
    assert!(reason.chars().count() <= 2 * (ERROR_TEXT_CHARS_MAX + 1) + "HTTP status 999 : ".len());
    assert!(!reason.contains(char::is_control), "{reason:?}");
}
