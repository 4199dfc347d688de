//! Servers that lie in place of brokers and functions, over real sockets, plain and under TLS: other mappings of
//! the node go on, and what is wrong is said.

use std::time::Duration;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::harness::{DEADLINE, Declared, Site, Stage};
use forebay_tests::liar::{Liar, Lie};

use super::check::found;

/// A record of a mapping that has honest neighbours takes no longer, whatever the others do.
const LATENCY_MAX: Duration = Duration::from_secs(10);

/// With so many, liars have had half a minute.
const RECORDS_MAX: usize = 500;

/// An alert of TLS (handshake_failure), as a listener with TLS answers what is none.
const ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";

fn http() -> Lie {
    Lie::Says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec())
}

/// What a broker's place may hold.
fn brokers() -> Vec<Lie> {
    let frame = |length: i32, rest: &[u8]| [&length.to_be_bytes()[..], rest].concat();
    vec![
        http(),
        Lie::Says(ALERT.to_vec()),
        Lie::Says(frame(-1, &[])),
        Lie::Says(frame(i32::MAX, b"much")),
        Lie::Says(frame(3, b"abc")),
        Lie::Says(frame(16, &[0xff; 16])),
        Lie::Says(frame(0, &[])),
        // Correlation id 0, no error, and a count that nobody can send.
        Lie::Says(frame(12, b"\0\0\0\0\0\0\x7f\xff\xff\xff\0\0")),
        Lie::Endless(frame(100 << 20, &[]), Vec::new()),
        Lie::Endless(Vec::new(), Vec::new()),
        Lie::Endless(Vec::new(), vec![0xff]),
        Lie::Drips(frame(1000, &[0])),
        Lie::Unasked(frame(8, &[0; 8])),
        Lie::Correlation(1, 1),
        Lie::Correlation(0, 3),
        Lie::HangsUp,
    ]
}

/// What a function's place may hold.
fn functions() -> Vec<Lie> {
    let says = |text: &str| Lie::Says(text.as_bytes().to_vec());
    let endless = |head: &str, piece: &str| Lie::Endless(head.into(), piece.into());
    vec![
        Lie::Says(vec![0; 100]),
        Lie::Says(ALERT.to_vec()),
        says("\0\0\0\x08\0\0\0\0\0\0\0\0"),
        says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        endless("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"),
        endless(
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "x",
        ),
        endless(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
        endless(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "x",
        ),
        endless("HTTP/1.1 200 OK\r\n\r\n", "x"),
        endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
        Lie::Drips(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
        Lie::HangsUp,
    ]
}

/// A liar in its place: topic, mapping and function are named alike.
struct Placed {
    name: String,
    liar: Liar,
    /// It never comes to an end by itself, so that we have to end it.
    is_endless: bool,
}

async fn place(stage: &Stage, lies: Vec<Lie>, under_tls: bool) -> Vec<Placed> {
    let identity = stage.identity().filter(|_| under_tls);
    let mut liars = Vec::new();
    for (at, lie) in lies.into_iter().enumerate() {
        let is_endless = matches!(lie, Lie::Endless(..));
        let liar = Liar::start(lie, identity).await;
        liars.push(Placed {
            name: format!("lie-{at}"),
            liar: liar.expect("loopback has free ports"),
            is_endless,
        });
    }
    liars
}

/// Starts the node, and carries records until all liars were met, and those that find no end once more.
async fn check(stage: Stage, mut site: Site, liars: Vec<Placed>) {
    stage
        .on_kafka(|kafka| kafka.create_topic("honest", 1))
        .await;
    site.declare(&Declared::new("honest"));
    // It stays until the end: secrets are read again and again.
    let site = site.key("grace_ms", "500");
    let node = site.start().await;
    let unmet = || -> Vec<&str> {
        let unmet = liars
            .iter()
            .filter(|it| it.liar.met() < if it.is_endless { 2 } else { 1 });
        unmet.map(|it| it.name.as_str()).collect()
    };
    let mut sent = 0;
    while sent < 20 || (!unmet().is_empty() && sent < RECORDS_MAX) {
        stage
            .on_kafka(|kafka| kafka.append("honest", 0, &[NewRecord::value("a")]))
            .await;
        sent += 1;
        // The first waits for the node's start.
        let limit = if sent == 1 { DEADLINE } else { LATENCY_MAX };
        eventually!(within limit, stage.delivered("honest").await == sent);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(unmet().is_empty(), "{:?} are waited for", unmet());
    for Placed { name, .. } in &liars {
        assert_eq!(stage.delivered(name).await, 0);
        assert!(stage.committed(name, name, 0).await <= 0, "{name}");
    }
    stage.assert_no_violation().await;
    node.shutdown().await;
}

async fn check_brokers(stage: Stage, lies: Vec<Lie>, under_tls: bool) {
    let liars = place(&stage, lies, under_tls).await;
    let mut site = stage.site();
    for Placed { name, liar, .. } in &liars {
        let mut mapping = Declared::new(name);
        mapping.bootstrap = Some(liar.address());
        site.declare(&mapping);
    }
    check(stage, site, liars).await;
}

async fn check_functions(stage: Stage, scheme: &str, lies: Vec<Lie>, under_tls: bool) {
    let liars = place(&stage, lies, under_tls).await;
    let mut site = stage.site();
    for Placed { name, liar, .. } in &liars {
        let topic = name.clone();
        stage
            .on_kafka(move |kafka| {
                kafka.create_topic(&topic, 1);
                kafka.append(&topic, 0, &[NewRecord::value("a")]);
            })
            .await;
        let endpoint = format!("{scheme}://{}", liar.address());
        site.declare_at(&endpoint, &Declared::new(name));
    }
    check(stage, site, liars).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_brokers_disturb_nobody() {
    check_brokers(Stage::new(), brokers(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_brokers_under_tls_disturb_nobody() {
    check_brokers(Stage::secure(), brokers(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_speak_no_tls_disturb_nobody() {
    check_brokers(Stage::secure(), brokers(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_functions_disturb_nobody() {
    check_functions(Stage::new(), "http", functions(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_functions_under_tls_disturb_nobody() {
    check_functions(Stage::secure(), "https", functions(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_speak_no_tls_disturb_nobody() {
    check_functions(Stage::secure(), "https", functions(), false).await;
}

/// What `check` says of a broker that lies so.
async fn said(stage: &Stage, lie: Lie, under_tls: bool) -> String {
    let liars = place(stage, vec![lie], under_tls).await;
    let mut site = stage.site();
    let mut mapping = Declared::new("orders");
    mapping.bootstrap = Some(liars[0].liar.address());
    site.declare(&mapping);
    found(&site).await.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_are_named() {
    let frame = |length: i32, rest: &[u8]| [&length.to_be_bytes()[..], rest].concat();
    let stage = Stage::new();
    let mut wrong = Vec::new();
    for (lie, expected) in [
        (http(), "that is an HTTP server, not Kafka"),
        (Lie::Says(ALERT.to_vec()), "TLS"),
        (Lie::Says(frame(-1, &[])), "does not speak Kafka"),
        (Lie::Says(frame(3, b"abc")), "frame:"),
        (
            Lie::Says(frame(16, &[0xff; 16])),
            "correlation id -1 where 0 is due",
        ),
        (Lie::Correlation(7, 1), "correlation id 7 where 0 is due"),
    ] {
        let said = said(&stage, lie.clone(), false).await;
        if !said.contains(expected) {
            wrong.push(format!("{lie:?}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let secure = Stage::secure();
    let said_so = said(&secure, http(), false).await;
    assert!(said_so.contains("TLS"), "{said_so}");
}
