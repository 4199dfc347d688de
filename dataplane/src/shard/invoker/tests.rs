//! Calls against endpoints that do, connection by connection, what a script says.

mod secure;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::lambda::invoke::Execution;
use forebay_protocol::limits::BODY_BYTES_LIMIT;

use super::*;
use crate::contract::{mpsc, watch};
use crate::net::trial::{LIMIT, on_each_driver};
use crate::shard::tests::{mapping, shard};
use crate::shard::turn::tests::pumping;

type Script = Box<dyn FnOnce(TcpStream) + Send>;

/// An endpoint that gives its first connection to the first script, and so on.
fn endpoint(scripts: Vec<Script>) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for script in scripts {
            script(listener.accept().unwrap().0);
        }
    });
    (port, server)
}

/// One request, whole; `None` where the peer closes instead.
fn read_request(peer: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let mut body = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).unwrap();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            while body.len() < length {
                let read = peer.read(&mut chunk).unwrap();
                assert!(read > 0, "the body ended after {} bytes", body.len());
                body.extend_from_slice(&chunk[..read]);
            }
            assert_eq!(body.len(), length);
            return Some((head, body));
        }
        match peer.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Answers every request of the connection with the same bytes.
fn answering(answer: &'static str) -> Script {
    Box::new(move |mut peer| {
        while read_request(&mut peer).is_some() {
            peer.write_all(answer.as_bytes()).unwrap();
        }
    })
}

fn invocation(pieces: &[&[u8]], limit: Duration) -> Invocation {
    let pieces: Vec<Bytes> = pieces
        .iter()
        .map(|piece| Bytes::copy_from_slice(piece))
        .collect();
    Invocation {
        body_bytes: pieces.iter().map(Bytes::len).sum(),
        pieces,
        digest: None,
        records: 1,
        deadline: clock::now() + limit,
    }
}

fn caller(port: u16, shard: Rc<Shard>, change: impl FnOnce(&mut Mapping)) -> Rc<Caller> {
    let mut mapping = mapping();
    mapping.function.port = port;
    mapping.function.host_header = format!("127.0.0.1:{port}");
    change(&mut mapping);
    Rc::new(Caller::new(Arc::new(mapping), shard))
}

/// Makes one call, as the consumer does.
async fn call(caller: &Rc<Caller>, invocation: Invocation) -> Outcome {
    let inputs = Queue::new(1);
    let call = caller.call(CallId(1), invocation, None, inputs.clone());
    let outcome = match inputs.next().await {
        Some(Input::CallEnded(CallId(1), outcome)) => outcome,
        other => panic!("{other:?}"),
    };
    call.into_task().await;
    outcome
}

#[track_caller]
fn check(answer: &'static str, expected: &Outcome) {
    on_each_driver(async || {
        let (port, server) = endpoint(vec![answering(answer)]);
        let caller = caller(port, shard().0, |_| ());
        let outcome = call(&caller, invocation(&[b"{}"], LIMIT)).await;
        assert_eq!(outcome, *expected, "{answer:?}");
        caller.shard.pool.clear();
        monoio::time::sleep(Duration::from_millis(1)).await;
        server.join().unwrap();
    });
}

/// What an answer tells that names no run of the function.
fn unnamed() -> Execution {
    Execution {
        status: 200,
        ..Execution::default()
    }
}

#[test]
fn answers_are_classified() {
    check(
        "HTTP/1.1 200 OK\r\nx-amzn-requestid: 0b1\r\nX-Amz-Executed-Version: 7\r\ncontent-length: 4\r\n\r\nnull",
        &Outcome::Success {
            body: Bytes::from("null"),
            execution: Execution {
                status: 200,
                request_id: "0b1".to_owned(),
                executed_version: "7".to_owned(),
            },
        },
    );
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{\"\r\n3\r\na\":\r\n2\r\n1}\r\n0\r\n\r\n",
        &Outcome::Success {
            body: Bytes::from("{\"a\":1}"),
            execution: unnamed(),
        },
    );
    check(
        "HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\ncontent-length: 2\r\n\r\n{}",
        &Outcome::FunctionError {
            kind: "Unhandled".to_owned(),
            body: Bytes::from("{}"),
            execution: unnamed(),
        },
    );
    let throttled = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    on_each_driver(async || {
        let (port, _server) = endpoint(vec![answering(throttled)]);
        let caller = caller(port, shard().0, |_| ());
        match call(&caller, invocation(&[b"{}"], LIMIT)).await {
            Outcome::Throttled { retry_after, .. } => {
                assert_eq!(retry_after, Some(Duration::from_secs(7)));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_body_arrives_as_the_sum_of_its_pieces() {
    let large = vec![b'x'; 3_000_000];
    let cases: Vec<Vec<&[u8]>> = vec![
        vec![b"{}"],
        vec![b"{", &large, b",", &large[..20_000], b"}"],
        vec![&large[..GATHERED_BYTES_MAX]],
        vec![&large[..GATHERED_BYTES_MAX + 1]],
        vec![b"12"; 20_000],
    ];
    for pieces in cases {
        on_each_driver(async || {
            let expected = pieces.concat();
            let (port, server) = endpoint(vec![Box::new(move |mut peer| {
                let (head, body) = read_request(&mut peer).unwrap();
                let target = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\n";
                assert!(head.starts_with(target), "{head}");
                assert!(body == expected);
                peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            })]);
            let caller = caller(port, shard().0, |_| ());
            let outcome = call(&caller, invocation(&pieces, LIMIT)).await;
            assert!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
            server.join().unwrap();
        });
    }
}

#[test]
fn a_connection_is_used_again_while_it_is_open() {
    on_each_driver(async || {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let bye = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let (port, server) = endpoint(vec![
            // The first connection carries two calls, and is closed while it is idle.
            Box::new(move |mut peer| {
                for _ in 0..2 {
                    read_request(&mut peer).unwrap();
                    peer.write_all(ok.as_bytes()).unwrap();
                }
            }),
            // The second says that it will not be used again.
            Box::new(move |mut peer| {
                read_request(&mut peer).unwrap();
                peer.write_all(bye.as_bytes()).unwrap();
                assert!(read_request(&mut peer).is_none());
            }),
            answering(ok),
        ]);
        let caller = caller(port, shard().0, |_| ());
        for _ in 0..4 {
            let outcome = call(&caller, invocation(&[b"{}"], LIMIT)).await;
            assert!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
            // Long enough for the close to arrive.
            monoio::time::sleep(Duration::from_millis(20)).await;
        }
        caller.shard.pool.clear();
        monoio::time::sleep(Duration::from_millis(1)).await;
        server.join().unwrap();
    });
}

/// The function may have run: the call ends as broken, and the endpoint sees no second request.
#[track_caller]
fn check_broken(script: fn(TcpStream), reason: &str) {
    on_each_driver(async || {
        let (port, server) = endpoint(vec![Box::new(script)]);
        let caller = caller(port, shard().0, |_| ());
        let large = vec![b'x'; BODY_BYTES_LIMIT - 1];
        match call(&caller, invocation(&[&large], LIMIT)).await {
            Outcome::Broken { reason: given } => assert!(given.contains(reason), "{given}"),
            other => panic!("{other:?}"),
        }
        server.join().unwrap();
    });
}

#[test]
fn a_break_at_any_point_ends_the_call_as_broken() {
    check_broken(
        |peer| {
            // Closed with bytes unread: a reset, before the body was whole.
            drop(peer);
        },
        "the connection broke",
    );
    check_broken(
        |mut peer| {
            read_request(&mut peer).unwrap();
        },
        "closed before an answer",
    );
    check_broken(
        |mut peer| {
            read_request(&mut peer).unwrap();
            peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap();
        },
        "half an answer",
    );
    check_broken(
        |mut peer| {
            read_request(&mut peer).unwrap();
            peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\"")
                .unwrap();
        },
        "half an answer",
    );
    check_broken(
        |mut peer| {
            read_request(&mut peer).unwrap();
            peer.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").unwrap();
        },
        "not HTTP",
    );
}

#[test]
fn a_kept_connection_that_breaks_under_a_call_is_not_tried_again() {
    on_each_driver(async || {
        let (port, server) = endpoint(vec![Box::new(|mut peer| {
            read_request(&mut peer).unwrap();
            peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            read_request(&mut peer).unwrap();
        })]);
        let caller = caller(port, shard().0, |_| ());
        let first = call(&caller, invocation(&[b"{}"], LIMIT)).await;
        assert!(matches!(first, Outcome::Success { .. }), "{first:?}");
        let second = call(&caller, invocation(&[b"{}"], LIMIT)).await;
        assert!(matches!(second, Outcome::Broken { .. }), "{second:?}");
        server.join().unwrap();
    });
}

#[test]
fn an_answer_before_the_body_is_read_counts() {
    on_each_driver(async || {
        let (over, wait) = std::sync::mpsc::channel::<()>();
        let (port, server) = endpoint(vec![Box::new(move |mut peer| {
            peer.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            // It reads nothing of the body, and closes nothing either.
            wait.recv().unwrap_err();
        })]);
        let caller = caller(port, shard().0, |_| ());
        let large = vec![b'x'; BODY_BYTES_LIMIT - 1];
        let outcome = call(&caller, invocation(&[&large, &large], LIMIT)).await;
        assert!(matches!(outcome, Outcome::TooLarge { .. }), "{outcome:?}");
        drop(over);
        server.join().unwrap();
    });
}

#[test]
fn a_hanging_call_ends_at_its_deadline_and_at_its_cancelling() {
    on_each_driver(async || {
        let hang: fn() -> Script = || {
            Box::new(|mut peer| {
                read_request(&mut peer).unwrap();
                assert!(
                    read_request(&mut peer).is_none(),
                    "the connection is closed"
                );
            })
        };
        let (port, server) = endpoint(vec![hang(), hang()]);
        let caller = caller(port, shard().0, |_| ());
        let limit = Duration::from_millis(50);
        match call(&caller, invocation(&[b"{}"], limit)).await {
            Outcome::Broken { reason } => assert!(reason.contains("deadline"), "{reason}"),
            other => panic!("{other:?}"),
        }
        let inputs = Queue::new(1);
        let call = caller.call(CallId(2), invocation(&[b"{}"], LIMIT), None, inputs.clone());
        monoio::time::sleep(limit).await;
        assert!(inputs.is_empty());
        call.cancel();
        match inputs.next().await {
            Some(Input::CallEnded(CallId(2), Outcome::Broken { reason })) => {
                assert!(reason.contains("given up"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        call.into_task().await;
        server.join().unwrap();
    });
}

#[test]
fn a_call_whose_deadline_has_passed_is_not_sent() {
    on_each_driver(async || {
        let (port, server) = endpoint(vec![Box::new(|mut peer| {
            assert!(read_request(&mut peer).is_none());
        })]);
        let caller = caller(port, shard().0, |_| ());
        let late = Invocation {
            deadline: Instant::ZERO + Duration::from_micros(1),
            ..invocation(&[b"{}"], LIMIT)
        };
        // It cannot even connect in no time, but a connection at hand must not tempt it either.
        let handle = Handle::default();
        let addresses = [([127, 0, 0, 1], port).into()];
        let stream = Stream::open(&addresses, None, LIMIT, &handle)
            .await
            .unwrap();
        let pool = &caller.shard.pool;
        pool.put(&caller.endpoint, None, stream, &handle, clock::now());
        let outcome = call(&caller, late).await;
        assert!(
            matches!(outcome, Outcome::ServiceError { .. }),
            "{outcome:?}"
        );
        monoio::time::sleep(Duration::from_millis(1)).await;
        server.join().unwrap();
    });
}

#[test]
fn an_endpoint_that_refuses_connections_is_a_service_error() {
    on_each_driver(async || {
        let caller = caller(1, shard().0, |_| ());
        match call(&caller, invocation(&[b"{}"], LIMIT)).await {
            Outcome::ServiceError { message, .. } => {
                assert!(message.contains("cannot connect: 127.0.0.1:1"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    });
}

fn sign(mapping: &mut Mapping) {
    mapping.function.signing = Signing::SigV4 {
        region: "eu-central-1".to_owned(),
    };
}

fn signing_shard() -> (
    Rc<Shard>,
    watch::Sender<Option<Arc<Credentials>>>,
    mpsc::Receiver<Request>,
) {
    let (shard, asked) = shard();
    let (sender, credentials) = watch::channel(None);
    let shard = Rc::into_inner(shard).unwrap();
    let shard = Rc::new(Shard {
        credentials,
        ..shard
    });
    (shard, sender, asked)
}

#[test]
fn a_call_waits_for_the_first_credentials_and_is_signed_with_them() {
    on_each_driver(async || {
        let (port, server) = endpoint(vec![Box::new(|mut peer| {
            let (head, _) = read_request(&mut peer).unwrap();
            assert!(head.contains("x-amz-security-token: token\r\n"), "{head}");
            assert!(head.contains("Credential=AKID/"), "{head}");
            assert!(head.contains("/eu-central-1/lambda/aws4_request"), "{head}");
            let refusal = "HTTP/1.1 403 Forbidden\r\nx-amzn-errortype: ExpiredTokenException\r\n\
                           content-length: 0\r\n\r\n";
            peer.write_all(refusal.as_bytes()).unwrap();
        })]);
        let (shard, sender, mut asked) = signing_shard();
        let pump = pumping(&shard.turns);
        let worker = monoio::spawn({
            let shard = Rc::clone(&shard);
            async move { shard.hashing.work(&shard.turns, &shard.metrics).await }
        });
        let caller = caller(port, Rc::clone(&shard), sign);
        let late = monoio::spawn(async move {
            monoio::time::sleep(Duration::from_millis(20)).await;
            sender.send_replace(Some(Arc::new(Credentials {
                access_key_id: "AKID".to_owned(),
                secret_access_key: "secret".to_owned().into(),
                session_token: Some("token".to_owned().into()),
            })));
            sender
        });
        // Larger than a turn, so that hashing yields in between.
        let large = vec![b'x'; 3_000_000];
        let outcome = call(&caller, invocation(&[&large], LIMIT)).await;
        assert!(outcome.is_about_credentials(), "{outcome:?}");
        assert!(matches!(asked.try_recv(), Ok(Request::RefreshCredentials)));
        late.await;
        shard.hashing.end();
        worker.await;
        shard.turns.end();
        pump.await;
        server.join().unwrap();
    });
}

#[test]
fn a_call_that_waits_for_credentials_may_be_given_up() {
    on_each_driver(async || {
        let (shard, _sender, _asked) = signing_shard();
        let worker = monoio::spawn({
            let shard = Rc::clone(&shard);
            async move { shard.hashing.work(&shard.turns, &shard.metrics).await }
        });
        let caller = caller(1, Rc::clone(&shard), sign);
        let inputs = Queue::new(1);
        let call = caller.call(CallId(1), invocation(&[b"{}"], LIMIT), None, inputs.clone());
        monoio::time::sleep(Duration::from_millis(5)).await;
        call.cancel();
        match inputs.next().await {
            Some(Input::CallEnded(_, Outcome::ServiceError { message, .. })) => {
                assert!(message.contains("given up"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        call.into_task().await;
        shard.hashing.end();
        worker.await;
    });
}
