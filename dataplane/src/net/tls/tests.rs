//! Against rustls's own server, in each version of TLS.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use rustls::version::TLS13;
use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::net::stream::OpenError;
use crate::net::tcp::Handle;
use crate::net::trial::on_each_driver;
use crate::net::trial::tls::{Pki, VERSIONS, open, open_as, refusal, serve, serve_tls};
use crate::trust::NO_TLS;

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}

async fn read_exact(stream: &mut Stream, length: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let (read, filled) = stream.reader.read(buffer, length).await;
        buffer = filled;
        assert!(read.unwrap() > 0, "the end after {} bytes", buffer.len());
    }
    buffer
}

async fn read_end(stream: &mut Stream) -> io::Result<usize> {
    stream.reader.read(Vec::with_capacity(16), 16).await.0
}

#[test]
fn bytes_of_any_number_go_both_ways() {
    on_each_driver(async || {
        for version in VERSIONS {
            let pki = Pki::new("root");
            let sizes = [
                1,
                100,
                RECORD_BYTES,
                RECORD_BYTES + 1,
                SEALED_BYTES + 5,
                6 << 20,
            ];
            let (address, server) = serve_tls(pki.server(), move |mut peer| {
                for size in sizes {
                    let mut body = vec![0; size];
                    peer.read_exact(&mut body).unwrap();
                    peer.write_all(&body).unwrap();
                }
                peer.conn.send_close_notify();
                peer.flush().unwrap();
            });
            let mut stream = open(address, pki.client(version)).await.unwrap();
            for size in sizes {
                let body = pattern(size);
                let (written, body) = stream.writer.write_all(body).await;
                written.unwrap();
                assert!(read_exact(&mut stream, size).await == body, "{size} bytes");
            }
            assert_eq!(read_end(&mut stream).await.unwrap(), 0);
            server.join().unwrap();
        }
    });
}

#[test]
fn small_reads_and_writes_between_them_lose_nothing() {
    on_each_driver(async || {
        const BYTES: usize = 100_000;
        let pki = Pki::new("root");
        let (address, server) = serve_tls(pki.server(), |mut peer| {
            peer.write_all(&pattern(BYTES)).unwrap();
            let mut said = Vec::new();
            // A client that hangs up without a word has said all.
            peer.read_to_end(&mut said).unwrap_or_default();
            said
        });
        let mut stream = open(address, pki.client(&TLS13)).await.unwrap();
        let mut got = Vec::with_capacity(BYTES);
        let mut said = 0;
        while got.len() < BYTES {
            let end = BYTES.min(got.len() + 1 + got.len() % 37);
            let (read, filled) = stream.reader.read(got, end).await;
            got = filled;
            assert!(read.unwrap() > 0);
            if got.len() % 5 == 0 {
                stream.writer.write_all(pattern(10)).await.0.unwrap();
                said += 10;
            }
        }
        assert!(got == pattern(BYTES));
        drop(stream);
        assert_eq!(server.join().unwrap().len(), said);
    });
}

#[test]
fn a_handshake_message_in_halves_is_nothing_that_a_write_may_stumble_over() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let mut config = pki.server();
        // Session tickets are longer, and come behind the handshake.
        config.max_fragment_size = Some(64);
        let (address, server) = serve(move |mut socket| {
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() {
                while tls.wants_write() {
                    tls.write_tls(&mut socket).unwrap();
                }
                tls.read_tls(&mut socket).unwrap();
                tls.process_new_packets().unwrap();
            }
            let mut tickets = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut tickets).unwrap();
            }
            assert!(tickets.len() > 200, "{} bytes of tickets", tickets.len());
            let first = 5 + usize::from(u16::from_be_bytes([tickets[3], tickets[4]]));
            let mut got = Vec::new();
            for part in [
                &tickets[..first],
                &tickets[first..first + 9],
                &tickets[first + 9..],
            ] {
                socket.write_all(part).unwrap();
                while got.len() < 8 {
                    tls.read_tls(&mut socket).unwrap();
                    tls.process_new_packets().unwrap();
                    let mut some = [0; 8];
                    if let Ok(bytes) = tls.reader().read(&mut some) {
                        got.extend_from_slice(&some[..bytes]);
                    }
                }
                assert_eq!(std::mem::take(&mut got), b"a record");
                tls.writer().write_all(b"an answer").unwrap();
                // It waits for the end of the ticket: records keep their order.
                if part.len() > 9 && part.len() != first {
                    while tls.wants_write() {
                        tls.write_tls(&mut socket).unwrap();
                    }
                }
            }
        });
        let Stream {
            mut reader,
            mut writer,
        } = open(address, pki.client(&TLS13)).await.unwrap();
        let reading = monoio::spawn(async move {
            let mut got = Vec::with_capacity(27);
            while got.len() < 27 {
                let (read, filled) = reader.read(got, 27).await;
                got = filled;
                assert!(read.unwrap() > 0);
            }
            got
        });
        for _ in 0..3 {
            monoio::time::sleep(Duration::from_millis(20)).await;
            let said = Bytes::from_static(b"a record");
            writer.write_all(said).await.0.unwrap();
        }
        assert_eq!(reading.await, b"an answer".repeat(3));
        server.join().unwrap();
    });
}

#[test]
fn keys_may_change_in_between() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let (address, server) = serve_tls(pki.server(), |mut peer| {
            for round in 0..20_usize {
                let mut said = [0; 5];
                peer.read_exact(&mut said).unwrap();
                assert_eq!(&said, b"hello");
                if round % 3 == 0 {
                    peer.conn.refresh_traffic_keys().unwrap();
                }
                peer.write_all(b"hi").unwrap();
            }
        });
        let mut stream = open(address, pki.client(&TLS13)).await.unwrap();
        for _ in 0..20 {
            let hello = Bytes::from_static(b"hello");
            stream.writer.write_all(hello).await.0.unwrap();
            assert_eq!(read_exact(&mut stream, 2).await, b"hi");
        }
        server.join().unwrap();
    });
}

#[test]
fn a_server_that_no_root_vouches_for_is_refused_and_told_why() {
    on_each_driver(async || {
        for version in VERSIONS {
            let (pki, other) = (Pki::new("ours"), Pki::new("theirs"));
            let (address, server) = serve_tls(other.server(), |mut peer| {
                peer.read(&mut [0]).unwrap_err().to_string()
            });
            match refusal(address, pki.client(version)).await {
                OpenError::Tls(TlsError::ServerNotTrusted(reason)) => {
                    assert_eq!(reason, "none of the trusted roots has signed it");
                }
                other => panic!("{other}"),
            }
            let told = server.join().unwrap();
            assert!(told.contains("UnknownCA"), "{told}");
        }
    });
}

#[test]
fn a_certificate_for_another_name_is_refused_by_both_names() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let (address, server) = serve_tls(pki.server(), |mut peer| {
            peer.read(&mut [0]).unwrap_err();
        });
        let opened = open_as("kafka.test", address, pki.client(&TLS13)).await;
        match opened.map(|_| ()) {
            Err(OpenError::Tls(TlsError::ServerNotTrusted(reason))) => {
                assert!(reason.contains("kafka.test"), "{reason}");
                assert!(reason.contains("127.0.0.1"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        server.join().unwrap();
    });
}

#[test]
fn a_server_that_wants_a_certificate_says_so_sooner_or_later() {
    on_each_driver(async || {
        for version in VERSIONS {
            let pki = Pki::new("root");
            let config = pki.asking_server(&VERSIONS);
            let (address, server) = serve_tls(config, |mut peer| {
                peer.read(&mut [0]).unwrap_err();
                peer.flush().unwrap_or_default();
            });
            let error = match open(address, pki.client(version)).await {
                Err(OpenError::Tls(error)) => error,
                Err(other) => panic!("{other}"),
                // With TLS 1.3 we are done before the server has looked.
                Ok(mut stream) => {
                    let read = read_end(&mut stream).await;
                    read.unwrap_err().downcast::<TlsError>().unwrap()
                }
            };
            assert!(matches!(error, TlsError::ClientNotTrusted(_)), "{error}");
            server.join().unwrap();
        }
    });
}

#[test]
fn what_speaks_no_tls_is_told_apart() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let (address, server) = serve(|mut socket| {
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap_or_default();
        });
        let error = refusal(address, pki.client(&TLS13)).await;
        assert_eq!(error.to_string(), NO_TLS);
        server.join().unwrap();

        // As a broker does, to which a ClientHello is a frame of 370 MB.
        let (address, server) = serve(|mut socket| {
            socket.read_exact(&mut [0; 4]).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap_or_default();
        });
        let error = refusal(address, pki.client(&TLS13)).await.to_string();
        assert!(error.contains("as a listener without TLS does"), "{error}");
        server.join().unwrap();
    });
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let (address, server) = serve(|mut socket| {
            socket.read_to_end(&mut Vec::new()).unwrap_or_default();
        });
        let target = Target::new(pki.client(&TLS13), "127.0.0.1").unwrap();
        let limit = Duration::from_millis(50);
        let opened = Stream::open(&[address], Some(&target), limit, &Handle::default()).await;
        assert!(matches!(opened.map(|_| ()), Err(OpenError::TooSlow(_))));
        server.join().unwrap();
    });
}

#[test]
fn bytes_that_were_changed_on_the_way_end_the_connection_behind_those_that_were_not() {
    on_each_driver(async || {
        let pki = Pki::new("root");
        let config = pki.server();
        let (address, server) = serve(move |mut socket| {
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).unwrap();
            }
            tls.writer().write_all(b"whole").unwrap();
            tls.write_tls(&mut socket).unwrap();
            tls.writer().write_all(b"wrong").unwrap();
            let mut record = Vec::new();
            tls.write_tls(&mut record).unwrap();
            *record.last_mut().unwrap() ^= 1;
            socket.write_all(&record).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap_or_default();
        });
        let mut stream = open(address, pki.client(&TLS13)).await.unwrap();
        assert_eq!(read_exact(&mut stream, 5).await, b"whole");
        let error = read_end(&mut stream).await.unwrap_err();
        let error = error.downcast::<TlsError>().unwrap();
        assert!(matches!(error, TlsError::Failed(_)), "{error}");
        let written = stream.writer.write_all(pattern(1)).await.0;
        written.unwrap_err().downcast::<TlsError>().unwrap();
        drop(stream);
        server.join().unwrap();
    });
}

#[test]
fn sessions_are_resumed() {
    on_each_driver(async || {
        for version in VERSIONS {
            let pki = Pki::new("root");
            let server = Arc::new(pki.server());
            let client = pki.client(version);
            for round in 0..2 {
                let server = Arc::clone(&server);
                let (address, thread) = serve(move |socket| {
                    let connection = ServerConnection::new(server).unwrap();
                    let mut peer = StreamOwned::new(connection, socket);
                    peer.read_exact(&mut [0; 2]).unwrap();
                    peer.write_all(b"hi").unwrap();
                    peer.conn.handshake_kind()
                });
                let mut stream = open(address, Arc::clone(&client)).await.unwrap();
                let hi = Bytes::from_static(b"hi");
                stream.writer.write_all(hi).await.0.unwrap();
                read_exact(&mut stream, 2).await;
                let kind = match round {
                    0 => rustls::HandshakeKind::Full,
                    _ => rustls::HandshakeKind::Resumed,
                };
                assert_eq!(thread.join().unwrap(), Some(kind));
            }
        }
    });
}

#[test]
fn room_follows_what_comes() {
    let (least, most) = READ_BYTES;
    assert_eq!(room(least, least), 4 * least);
    assert_eq!(room(most, most), most);
    assert_eq!(room(most, 100), most / 2);
    assert_eq!(room(least, 100), least);
    assert_eq!(room(most, most / 2), most);
}
