//! The floor: the least that a record can cost on this machine.
//!
//! A bare loop on blocking sockets does what no consumer can do without: receive, CRC, walk the records,
//! base64, SHA-256 of two bodies at a time, send. Nothing else: no group, no commit, no order, no retry, one
//! constant text around each record. Whoever feeds it and whoever takes from it are other threads, whose time
//! is not counted. Under TLS it decrypts what it receives and encrypts what it sends, and nothing more. Beside a
//! filter on values it parses them, by simd-json.
//!
//! Invariant: what the loop leaves out, no program that does the work can leave out as well.

mod wire;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use base64_simd::{AsOut, STANDARD};
use bytes::{Bytes, BytesMut};
use forebay_protocol::limits;
use forebay_protocol::sigv4::{PayloadDigest, PayloadHash};
use forebay_tests::secure::Identity;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::results::{Figures, Output};
use crate::rig::Signing;
use crate::table::{Table, with_spread};
use crate::tape::Tape;
use crate::{cpu, results, sample};
use wire::Wire;

/// What comes in one piece, as a fetch would.
const FRAME_BYTES: usize = 1 << 20;

/// The text around a record: as long as that of a real event.
const RECORD_OPEN: &[u8] = br#",{"topic":"bench","partition":0,"offset":1000000,"timestamp":1700000000000,"timestampType":"CREATE_TIME","key":""#;
const KEY_CLOSE: &[u8] = br#"","value":""#;
const RECORD_CLOSE: &[u8] = br#"","headers":[]}"#;

/// Bytes before the records of a batch, and where some of them are (Kafka protocol guide, "Record Batch").
const BATCH_HEADER: usize = 61;
const BATCH_LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// Options of `floor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of a value, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024, 10 * 1024])]
    value_bytes: Vec<usize>,
    /// Records in a body at most.
    #[arg(long, default_value_t = 10_000)]
    batch_size: usize,
    /// Megabytes of values in each run.
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Each case under TLS as well.
    #[arg(long)]
    tls: bool,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

/// One size of values.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    value_bytes: usize,
    /// Encrypted both ways.
    #[serde(default)]
    tls: bool,
    /// The median of the rounds.
    value_megabytes_per_cpu_second: f64,
    /// The least and the most.
    spread: [f64; 2],
}

impl Figures for Vec<Measured> {
    const COMMAND: &'static str = "floor";

    fn tables(&self) -> Vec<Table> {
        let names = ["wire", "value bytes", "MB/CPU-s (least to most)"];
        let mut table = Table::new(1, &names);
        for it in self {
            table.row([
                wire_name(it.tls).to_owned(),
                it.value_bytes.to_string(),
                with_spread(it.value_megabytes_per_cpu_second, it.spread, 0),
            ]);
        }
        vec![table]
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>, String> {
    let sizes = arguments.value_bytes.iter();
    let cases: Vec<Case> = sizes
        .flat_map(|value_bytes| {
            wires(arguments.tls).iter().map(|tls| Case {
                value_bytes: *value_bytes,
                batch_size: arguments.batch_size,
                signing: Signing::Sigv4,
                tls: *tls,
                parses_values: false,
            })
        })
        .collect();
    let mut rates: Vec<Vec<f64>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds.max(1) {
        for (case, rates) in cases.iter().zip(&mut rates) {
            rates.push(measure(case, arguments.megabytes * 1_000_000)?);
        }
    }
    let measured = cases.iter().zip(rates);
    Ok(measured
        .map(|(case, rates)| Measured {
            value_bytes: case.value_bytes,
            tls: case.tls,
            spread: cpu::spread(&rates),
            value_megabytes_per_cpu_second: cpu::median(rates),
        })
        .collect())
}

/// The wires of a run: plain, and under TLS if that is wanted.
pub(crate) fn wires(tls: bool) -> &'static [bool] {
    if tls { &[false, true] } else { &[false] }
}

/// How a table names a wire.
pub(crate) fn wire_name(tls: bool) -> &'static str {
    if tls { "TLS" } else { "plain" }
}

/// What the loop knows of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Case {
    pub(crate) value_bytes: usize,
    /// Records in a body at most.
    pub(crate) batch_size: usize,
    pub(crate) signing: Signing,
    pub(crate) tls: bool,
    /// Values are JSON, and parsed.
    pub(crate) parses_values: bool,
}

/// Megabytes of values per CPU-second of the loop, over about that many bytes of values.
pub(crate) fn measure(case: &Case, bytes: usize) -> Result<f64, String> {
    let broken = |error: std::io::Error| format!("loopback: {error}");
    let &Case {
        value_bytes,
        batch_size,
        signing,
        tls,
        parses_values,
    } = case;
    let identity = tls.then(Identity::new);
    let server = || identity.as_ref().map(|it| Arc::clone(&it.server));
    let client = || identity.as_ref().map(Identity::client);
    let records = (FRAME_BYTES / value_bytes.max(1)).max(1);
    let frame = match parses_values {
        false => sample::record_set(records, value_bytes, sample::Source::None)?,
        true => sample::order_set(records, value_bytes)?,
    };
    let frames = bytes.div_ceil(FRAME_BYTES).max(1);
    let (source, feeder) = feed(server(), frame.clone(), frames).map_err(broken)?;
    let (sink, taker) = take(server()).map_err(broken)?;
    let mut bare = Loop {
        source: Wire::new(source, client()).map_err(broken)?,
        sink: Wire::new(sink, client()).map_err(broken)?,
        frame: BytesMut::zeroed(frame.len()),
        open: Vec::new(),
        full: Vec::new(),
        free: Vec::new(),
        batch_size,
        signing,
        tape: parses_values.then(Tape::default),
        record_room: value_bytes * 4 / 3 + 1024,
        records: 0,
        in_open: 0,
        answer: [0; ANSWER.len()],
    };
    let mut outcome = Ok(());
    let time = cpu::time(|| outcome = bare.run(frames));
    outcome?;
    let records = bare.records;
    drop(bare);
    join(feeder)?;
    let taken = join(taker)?;
    if taken == 0 {
        return Err("nothing was taken".to_owned());
    }
    Ok((records * value_bytes) as f64 / 1e6 / time.as_secs_f64())
}

fn join<T>(thread: JoinHandle<std::io::Result<T>>) -> Result<T, String> {
    match thread.join() {
        Ok(outcome) => outcome.map_err(|error| format!("loopback: {error}")),
        Err(_) => Err("a thread of the stage panicked".to_owned()),
    }
}

/// A thread that sends the same frame that often.
fn feed(
    tls: Option<Arc<ServerConfig>>,
    frame: Bytes,
    frames: usize,
) -> std::io::Result<(TcpStream, JoinHandle<std::io::Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let feeder = std::thread::spawn(move || {
        let mut far = accepted(far, tls)?;
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        (0..frames).try_for_each(|_| {
            far.write_all(&len.to_be_bytes())?;
            far.write_all(&frame)
        })
    });
    Ok((near, feeder))
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// The far end of a connection; whose time is not counted may speak TLS as is convenient.
fn accepted(far: TcpStream, tls: Option<Arc<ServerConfig>>) -> std::io::Result<Box<dyn ReadWrite>> {
    Ok(match tls {
        None => Box::new(far),
        Some(config) => {
            let server = ServerConnection::new(config).map_err(std::io::Error::other)?;
            Box::new(StreamOwned::new(server, far))
        }
    })
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A thread that reads bodies behind their lengths and answers each; it tells how many.
fn take(
    tls: Option<Arc<ServerConfig>>,
) -> std::io::Result<(TcpStream, JoinHandle<std::io::Result<usize>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    let (far, _) = listener.accept()?;
    // Else the second of two answers waits for the first one's acknowledgement.
    far.set_nodelay(true)?;
    let taker = std::thread::spawn(move || {
        let mut far = accepted(far, tls)?;
        let mut room = vec![0; 1 << 20];
        let mut bodies = 0;
        loop {
            let mut head = [0; HEAD_BYTES];
            match far.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(bodies);
                }
                Err(error) => return Err(error),
            }
            let [.., a, b, c, d] = head;
            let mut left = u32::from_be_bytes([a, b, c, d]) as usize;
            while left > 0 {
                let wanted = room.len().min(left);
                left -= far.read(&mut room[..wanted])?;
            }
            far.write_all(ANSWER)?;
            bodies += 1;
        }
    });
    Ok((near, taker))
}

/// As long as the head of a signed call.
const HEAD_BYTES: usize = 512;

struct Loop {
    source: Wire,
    sink: Wire,
    frame: BytesMut,
    /// The body that grows.
    open: Vec<u8>,
    /// Bodies that wait for the other one.
    full: Vec<Vec<u8>>,
    free: Vec<Vec<u8>>,
    batch_size: usize,
    /// Without signatures nothing is hashed.
    signing: Signing,
    /// Where values are parsed.
    tape: Option<Tape>,
    /// More than any record takes.
    record_room: usize,
    records: usize,
    in_open: usize,
    answer: [u8; ANSWER.len()],
}

impl Loop {
    fn run(&mut self, frames: usize) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("loopback: {error}");
        for _ in 0..frames {
            let mut len = [0; 4];
            self.source.read_exact(&mut len).map_err(broken)?;
            let mut frame = std::mem::take(&mut self.frame);
            self.source.read_exact(&mut frame).map_err(broken)?;
            let walked = self.walk(&frame);
            self.frame = frame;
            walked?;
        }
        self.close()?;
        self.send()
    }

    fn walk(&mut self, mut set: &[u8]) -> Result<(), String> {
        const SHORT: &str = "a sample is cut short";
        while let Some((header, _)) = set.split_at_checked(BATCH_HEADER) {
            let len = number(header, BATCH_LENGTH_AT) as usize;
            let end = BATCH_LENGTH_AT + 4 + len;
            let (batch, rest) = set.split_at_checked(end).ok_or(SHORT)?;
            set = rest;
            if crc32c::crc32c(&batch[CRC_FROM..]) != number(header, CRC_AT) {
                return Err("a sample is corrupt".to_owned());
            }
            let mut records = &batch[BATCH_HEADER..];
            while !records.is_empty() {
                self.record(&mut records).ok_or(SHORT)?;
                if self.in_open == self.batch_size
                    || self.open.len() + self.record_room > limits::BODY_BYTES_LIMIT
                {
                    self.close()?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, records: &mut &[u8]) -> Option<()> {
        let len = varint(records)?;
        let (mut record, rest) = records.split_at_checked(len)?;
        *records = rest;
        record = record.get(1..)?;
        varint(&mut record)?;
        varint(&mut record)?;
        let key = prefixed(&mut record)?;
        let value = prefixed(&mut record)?;
        varint(&mut record)?;
        if let Some(tape) = &mut self.tape {
            tape.of(value).ok()?;
        }
        self.open.extend_from_slice(RECORD_OPEN);
        append_base64(&mut self.open, key);
        self.open.extend_from_slice(KEY_CLOSE);
        append_base64(&mut self.open, value);
        self.open.extend_from_slice(RECORD_CLOSE);
        self.records += 1;
        self.in_open += 1;
        Some(())
    }

    /// The body is full; two of them go together.
    fn close(&mut self) -> Result<(), String> {
        self.in_open = 0;
        if self.open.is_empty() {
            return Ok(());
        }
        let next = self.free.pop().unwrap_or_default();
        self.full.push(std::mem::replace(&mut self.open, next));
        if self.full.len() == 2 {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("loopback: {error}");
        let bodies: Vec<Bytes> = self.full.drain(..).map(Bytes::from).collect();
        let digests = match self.signing {
            Signing::Sigv4 => hash(&bodies),
            Signing::None => Vec::new(),
        };
        for (at, body) in bodies.iter().enumerate() {
            let mut head = [b' '; HEAD_BYTES];
            if let Some(digest) = digests.get(at) {
                head[..64].copy_from_slice(digest.as_str().as_bytes());
            }
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            head[HEAD_BYTES - 4..].copy_from_slice(&len.to_be_bytes());
            self.sink.write_all(&head).map_err(broken)?;
            self.sink.write_all(body).map_err(broken)?;
        }
        for body in bodies {
            self.sink.read_exact(&mut self.answer).map_err(broken)?;
            let mut buffer = Vec::from(body);
            buffer.clear();
            self.free.push(buffer);
        }
        Ok(())
    }
}

fn hash(bodies: &[Bytes]) -> Vec<PayloadDigest> {
    let mut hashes: Vec<PayloadHash> = bodies
        .iter()
        .map(|body| PayloadHash::new(vec![body.clone()]))
        .collect();
    if let [left, right] = &mut hashes[..] {
        let mut all = usize::MAX;
        PayloadHash::step_two(left, right, &mut all);
    }
    hashes.into_iter().map(PayloadHash::finish).collect()
}

fn append_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    let encoded = STANDARD.encode(bytes, out[at..].as_out());
    debug_assert_eq!(encoded.len(), bytes.len().div_ceil(3) * 4);
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

/// A zigzag varint that is not negative.
fn varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value >> 1);
        }
    }
    None
}

fn prefixed<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = varint(bytes)?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}
