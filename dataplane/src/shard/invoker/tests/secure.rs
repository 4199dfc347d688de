//! Calls under TLS.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::TLS13;

use super::*;
use crate::net::trial::tls::{Peer, Pki, serve_tls};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull";

/// Reads a request whole, and answers it; how long its body was.
fn answer(peer: &mut Peer) -> usize {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    peer.read_exact(&mut vec![0; length]).unwrap();
    peer.write_all(OK).unwrap();
    length
}

async fn call_under(
    caller: &Rc<Caller>,
    config: &Arc<ClientConfig>,
    invocation: Invocation,
) -> Outcome {
    let inputs = Queue::new(1);
    let tls = Some(Arc::clone(config));
    let call = caller.call(CallId(1), invocation, tls, inputs.clone());
    let ended = inputs.next().await;
    call.into_task().await;
    match ended {
        Some(Input::CallEnded(_, outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_success(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
}

#[test]
fn calls_of_any_size_go_over_one_connection() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let (address, server) = serve_tls(pki.server(), |mut peer| {
            [answer(&mut peer), answer(&mut peer)]
        });
        let caller = caller(address.port(), shard().0, |_| ());
        let config = pki.client(&TLS13);
        let large = vec![b'x'; 3_000_000];
        for body in [&b"{}"[..], &large] {
            let outcome = call_under(&caller, &config, invocation(&[body], LIMIT)).await;
            assert_success(&outcome);
        }
        caller.shard.pool.clear();
        assert_eq!(server.join().unwrap(), [2, 3_000_000]);
    });
}

#[test]
fn an_endpoint_that_no_root_vouches_for_gets_no_record() {
    on_each_driver(async || {
        let (ours, theirs) = (Pki::new("ours"), Pki::new("theirs"));
        let (address, server) = serve_tls(theirs.server(), |mut peer| {
            peer.read(&mut [0]).unwrap_err();
        });
        let caller = caller(address.port(), shard().0, |_| ());
        let called = invocation(&[b"{}"], LIMIT);
        match call_under(&caller, &ours.client(&TLS13), called).await {
            Outcome::ServiceError { message, .. } => {
                assert!(message.contains("none of the trusted roots"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        server.join().unwrap();
    });
}

#[test]
fn a_connection_that_other_roots_vouched_for_is_not_used_again() {
    on_each_driver(async || {
        let (ours, theirs) = (Pki::new("ours"), Pki::new("theirs"));
        let (address, server) = serve_tls(theirs.server(), |mut peer| {
            let length = answer(&mut peer);
            // The second call hangs up on it.
            assert!(!matches!(peer.read(&mut [0]), Ok(1..)));
            length
        });
        let caller = caller(address.port(), shard().0, |_| ());
        let called = || invocation(&[b"{}"], LIMIT);
        assert_success(&call_under(&caller, &theirs.client(&TLS13), called()).await);
        let second = call_under(&caller, &ours.client(&TLS13), called()).await;
        assert!(matches!(second, Outcome::ServiceError { .. }), "{second:?}");
        assert_eq!(server.join().unwrap(), 2);
    });
}
