use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use forebay_protocol::limits::{
    ANSWER_PROMPT, ASKED_BYTES, FIRST_FRAME_BYTES_MAX, FRAME_BYTES_ASKED, FRAME_BYTES_MAX,
    TURN_BYTES,
};

use super::super::receiving::Receiving;
use super::super::turn::Turns;
use super::super::turn::tests::pumping;
use super::*;
use crate::clock;
use crate::contract::Request;
use crate::net::trial::{on_each_driver, pair};
use crate::shard::tests::shard;

const ID: ConnectionId = ConnectionId(7);

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = i32::try_from(payload.len()).unwrap();
    [&length.to_be_bytes(), payload].concat()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// What a shard receives with, whose turns go on until the test ends.
fn receiving() -> Rc<Receiving> {
    let turns = Turns::default();
    let receiving = Rc::new(Receiving::new(1 << 20));
    drop(pumping(&turns));
    let working = Rc::clone(&receiving);
    drop(monoio::spawn(async move { working.work(&turns).await }));
    receiving
}

/// A connection that is read with it, and its other end.
async fn reader(receiving: &Rc<Receiving>) -> (FrameReader, TcpStream) {
    let (stream, handle, peer) = pair().await;
    let frames = FrameReader::new(stream.reader, Rc::clone(receiving), handle);
    (frames, peer)
}

#[test]
fn frames_that_nobody_asks_for_are_received_one_at_a_time() {
    on_each_driver(async || {
        let receiving = receiving();
        let mut announced = Vec::new();
        for _ in 0..2 {
            let (mut frames, mut peer) = reader(&receiving).await;
            peer.write_all(&framed(b"first")).unwrap();
            frames.next().await.unwrap();
            let length = FRAME_BYTES_ASKED as i32 + 1;
            peer.write_all(&length.to_be_bytes()).unwrap();
            announced.push((frames, peer));
        }
        let (mut second, mut second_peer) = announced.pop().unwrap();
        let (mut first, first_peer) = announced.pop().unwrap();
        let first = monoio::spawn(async move { first.next().await });
        // It has its turn once it waits for its bytes.
        monoio::time::sleep(Duration::from_millis(50)).await;
        let sent = std::thread::spawn(move || {
            second_peer
                .write_all(&pattern(FRAME_BYTES_ASKED + 1))
                .unwrap();
            second_peer
        });
        let second = monoio::spawn(async move { second.next().await.map(|it| it.len()) });
        monoio::time::sleep(Duration::from_millis(50)).await;
        assert!(!sent.is_finished(), "it is read while another's turn lasts");
        drop(first_peer);
        assert!(matches!(first.await, Err(FrameError::Truncated { .. })));
        assert_eq!(second.await.unwrap(), FRAME_BYTES_ASKED + 1);
        sent.join().unwrap();
    });
}

#[test]
fn frames_come_whole_whatever_their_size() {
    on_each_driver(async || {
        let (mut frames, mut peer) = reader(&receiving()).await;
        let sizes = [0, 1, 5000, 40_000, 300_000, 20_000_000, 3, 300_001];
        let sender = std::thread::spawn(move || {
            for size in sizes {
                peer.write_all(&framed(&pattern(size))).unwrap();
            }
        });
        for size in sizes {
            let frame = frames.next().await.unwrap();
            assert!(frame == pattern(size), "a frame of {size} bytes");
        }
        assert!(matches!(frames.next().await, Err(FrameError::Closed)));
        sender.join().unwrap();
    });
}

#[test]
fn a_frame_may_drip() {
    on_each_driver(async || {
        let (mut frames, mut peer) = reader(&receiving()).await;
        peer.set_nodelay(true).unwrap();
        let sender = std::thread::spawn(move || {
            for byte in framed(b"drip") {
                peer.write_all(&[byte]).unwrap();
                #[expect(clippy::disallowed_methods, reason = "a thread of the test's own")]
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        assert_eq!(frames.next().await.unwrap(), "drip");
        sender.join().unwrap();
    });
}

#[test]
fn a_frame_that_waits_for_its_turn_ends_with_its_connection() {
    on_each_driver(async || {
        // Nobody begins a turn, and this one is spent.
        let receiving = Rc::new(Receiving::new(0));
        receiving.admit(TURN_BYTES, None).await;
        let (stream, handle, mut peer) = pair().await;
        let mut frames = FrameReader::new(stream.reader, Rc::clone(&receiving), handle.clone());
        peer.write_all(&framed(b"first")).unwrap();
        frames.next().await.unwrap();
        peer.write_all(&framed(&pattern(200_000))).unwrap();
        let waiting = monoio::spawn(async move { frames.next().await });
        // It waits once its length has come.
        monoio::time::sleep(Duration::from_millis(50)).await;
        handle.cut();
        let error = waiting.await.unwrap_err();
        assert!(matches!(error, FrameError::Broken(_)), "{error}");
    });
}

#[test]
fn a_length_outside_the_limit_is_refused_before_the_rest() {
    on_each_driver(async || {
        let first = FIRST_FRAME_BYTES_MAX as i32 + 1;
        for length in [-1, i32::MIN, i32::MAX, FRAME_BYTES_MAX as i32, first] {
            let (mut frames, mut peer) = reader(&receiving()).await;
            peer.write_all(&length.to_be_bytes()).unwrap();
            let error = frames.next().await.unwrap_err();
            assert!(
                matches!(error, FrameError::Length { length: l, .. } if l == length),
                "{error}"
            );
        }
    });
}

#[test]
fn the_end_inside_a_frame_says_how_far_it_came() {
    on_each_driver(async || {
        let (mut frames, mut peer) = reader(&receiving()).await;
        peer.write_all(&framed(b"first")).unwrap();
        peer.write_all(&(100_i32 << 20).to_be_bytes()).unwrap();
        peer.write_all(b"short").unwrap();
        drop(peer);
        frames.next().await.unwrap();
        let error = frames.next().await.unwrap_err();
        assert!(
            matches!(error, FrameError::Truncated { arrived: 5, length } if length == 100 << 20),
            "{error}"
        );
    });
}

#[test]
fn the_memory_of_a_frame_is_used_again_but_never_while_it_is_held() {
    on_each_driver(async || {
        let (mut frames, mut peer) = reader(&receiving()).await;
        let sender = std::thread::spawn(move || {
            for _ in 0..6 {
                peer.write_all(&framed(&pattern(200_000))).unwrap();
            }
        });
        let first = frames.next().await.unwrap();
        let second = frames.next().await.unwrap();
        let place = first.as_ptr();
        drop(first);
        let third = frames.next().await.unwrap();
        assert_eq!(third.as_ptr(), place);
        let fourth = frames.next().await.unwrap();
        assert!(fourth.as_ptr() != second.as_ptr() && fourth.as_ptr() != third.as_ptr());
        for held in [second, third, fourth] {
            assert!(held == pattern(200_000));
        }
        sender.join().unwrap();
    });
}

fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = "127.0.0.1".to_owned();
    (listener, Endpoint { host, port })
}

async fn connected() -> (Link, Queue<Input>, TcpStream) {
    let (listener, endpoint) = listen();
    let inputs = Queue::new(8);
    let link = Link::open(ID, endpoint, None, shard().0, inputs.clone());
    assert!(matches!(inputs.next().await, Some(Input::Connected(ID))));
    (link, inputs, listener.accept().unwrap().0)
}

#[test]
fn frames_go_both_ways_and_the_end_has_a_reason() {
    on_each_driver(async || {
        let (link, inputs, mut peer) = connected().await;
        link.send(Bytes::from_static(b"\0\0\0\x02hi"));
        link.send(Bytes::from_static(b"\0\0\0\x02ho"));
        monoio::time::sleep(Duration::from_millis(5)).await;
        let mut sent = [0; 12];
        peer.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"\0\0\0\x02hi\0\0\0\x02ho");
        peer.write_all(&framed(b"answer")).unwrap();
        peer.write_all(b"\0\0\0\x09half").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        match inputs.next().await {
            Some(Input::Frame(ID, frame)) => assert_eq!(frame, "answer"),
            other => panic!("{other:?}"),
        }
        match inputs.next().await {
            Some(Input::Disconnected(ID, Disconnect::Closed(reason))) => {
                assert!(reason.contains("4 of 9 bytes"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        link.close().await;
    });
}

#[test]
fn a_peer_that_is_no_broker_is_told_apart() {
    on_each_driver(async || {
        for (said, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "an HTTP server"),
            (&b"\x15\x03\x03\x00\x02\x02\x46"[..], "TLS"),
        ] {
            let (link, inputs, mut peer) = connected().await;
            peer.write_all(said).unwrap();
            match inputs.next().await {
                Some(Input::Disconnected(ID, Disconnect::Protocol(reason))) => {
                    assert!(reason.contains(expected), "{reason}");
                }
                other => panic!("{other:?}"),
            }
            link.close().await;
        }
    });
}

#[test]
fn closing_ends_reads_and_writes_that_wait_and_closes_the_socket() {
    on_each_driver(async || {
        let (link, inputs, mut peer) = connected().await;
        link.send(Bytes::from(vec![0; 64 * 1024 * 1024]));
        monoio::time::sleep(Duration::from_millis(20)).await;
        link.close().await;
        assert!(matches!(
            inputs.next().await,
            Some(Input::Disconnected(ID, _))
        ));
        let reading = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
        while !reading.is_finished() {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

const FETCH: &[u8] = b"\0\0\0\x02hi";

/// Two connections of a shard, and their other ends, which do not block.
async fn two_connected(shard: &Rc<Shard>, inputs: &Queue<Input>) -> [(Link, TcpStream); 2] {
    let (listener, endpoint) = listen();
    let connect = async || {
        let (shard, inputs) = (Rc::clone(shard), inputs.clone());
        let link = Link::open(ID, endpoint.clone(), None, shard, inputs.clone());
        assert!(matches!(inputs.next().await, Some(Input::Connected(ID))));
        let peer = listener.accept().unwrap().0;
        peer.set_nonblocking(true).unwrap();
        (link, peer)
    };
    [connect().await, connect().await]
}

/// What there is to read, if there is any.
fn arrived(mut peer: &TcpStream) -> Option<usize> {
    peer.read(&mut [0; 64]).ok()
}

fn soon() -> impl Future<Output = ()> {
    monoio::time::sleep(Duration::from_millis(2))
}

async fn await_fetch(peer: &TcpStream) {
    let started = clock::now();
    let bytes = loop {
        if let Some(bytes) = arrived(peer) {
            break bytes;
        }
        let waited = clock::now().saturating_since(started);
        assert!(waited < Duration::from_secs(30), "nobody asks");
        soon().await;
    };
    assert_eq!(bytes, FETCH.len());
}

#[test]
fn an_answer_that_begins_to_come_lets_another_broker_be_asked() {
    on_each_driver(async || {
        // Why no task lets anybody in: it would, after a moment, although no answer comes.
        let (shard, _requests) = shard();
        let inputs = Queue::new(8);
        let [(first, mut first_peer), (second, second_peer)] = two_connected(&shard, &inputs).await;
        let begun = clock::now();
        first.fetch(Bytes::from_static(FETCH), ASKED_BYTES);
        await_fetch(&first_peer).await;
        second.fetch(Bytes::from_static(FETCH), 1);
        soon().await;
        // On a machine that stood still meanwhile the second need not wait.
        if clock::now().saturating_since(begun) < ANSWER_PROMPT {
            assert_eq!(arrived(&second_peer), None);
            first_peer.write_all(&framed(b"answer")).unwrap();
            assert!(matches!(inputs.next().await, Some(Input::Frame(ID, _))));
            await_fetch(&second_peer).await;
        }
        first.close().await;
        second.close().await;
    });
}

#[test]
fn a_fetch_waits_until_what_has_come_is_received() {
    on_each_driver(async || {
        let (shard, _requests) = shard();
        let inputs = Queue::new(8);
        let [(gone, gone_peer), (link, peer)] = two_connected(&shard, &inputs).await;
        let receiving = &shard.receiving;
        receiving.admit(FRAME_BYTES_ASKED, None).await;
        let waits = monoio::spawn({
            let receiving = Rc::clone(receiving);
            async move { drop(receiving.admit(ASKED_BYTES, None).await) }
        });
        soon().await;
        for link in [&gone, &link] {
            link.fetch(Bytes::from_static(FETCH), 1);
        }
        soon().await;
        for peer in [&gone_peer, &peer] {
            assert_eq!(arrived(peer), None);
        }
        gone.close().await;
        assert_eq!(arrived(&gone_peer), Some(0), "it need not wait any longer");

        drop(pumping(&shard.turns));
        let working = Rc::clone(&shard);
        drop(monoio::spawn(async move {
            working.receiving.work(&working.turns).await;
        }));
        waits.await;
        await_fetch(&peer).await;
        link.close().await;
    });
}

#[test]
fn a_broker_that_reads_nothing_is_given_up() {
    on_each_driver(async || {
        let (link, inputs, _peer) = connected().await;
        let frame = Bytes::from(vec![0; 16 * 1024 * 1024]);
        for _ in 0..FRAMES_WAITING_MAX + 2 {
            link.send(frame.clone());
        }
        assert!(matches!(
            inputs.next().await,
            Some(Input::Disconnected(ID, _))
        ));
        link.close().await;
    });
}

#[test]
fn a_name_is_resolved_by_control_and_its_failure_is_told() {
    on_each_driver(async || {
        let (listener, endpoint) = listen();
        let (shard, mut asked) = shard();
        let control = monoio::spawn(async move {
            let address = listener.local_addr().unwrap();
            for addresses in [Ok(vec![address]), Err("no such name".to_owned())] {
                match asked.recv().await {
                    Some(Request::Resolve { host, answer, .. }) => {
                        assert_eq!(host, "kafka.test");
                        answer.send(addresses).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            }
            listener
        });
        let named = Endpoint {
            host: "kafka.test".to_owned(),
            port: endpoint.port,
        };
        let inputs = Queue::new(8);
        let first = Link::open(ID, named.clone(), None, Rc::clone(&shard), inputs.clone());
        assert!(matches!(inputs.next().await, Some(Input::Connected(ID))));
        first.close().await;
        inputs.next().await.unwrap();
        let second = Link::open(ID, named, None, shard, inputs.clone());
        match inputs.next().await {
            Some(Input::Disconnected(ID, Disconnect::Unresolved(reason))) => {
                assert_eq!(reason, "cannot resolve kafka.test: no such name");
            }
            other => panic!("{other:?}"),
        }
        second.close().await;
        control.await;
    });
}

#[test]
fn closing_ends_a_resolution_that_never_answers() {
    on_each_driver(async || {
        let (shard, _asked) = shard();
        let named = Endpoint {
            host: "silent.test".to_owned(),
            port: 9,
        };
        let link = Link::open(ID, named, None, shard, Queue::new(8));
        monoio::time::sleep(Duration::from_millis(5)).await;
        link.close().await;
    });
}
