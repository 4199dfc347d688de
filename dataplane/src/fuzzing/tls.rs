//! Our side of TLS against a server in memory, step by step as a script of bytes says.
//!
//! The server is rustls's own, so honest bytes are right ones. The script delivers them in any pieces, lets both
//! sides speak in between, also while a read of ours is under way, and changes them on their way.
//!
//! Invariant: what comes out is what the server said, up to where it was changed; and without a change all of it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig, ServerConnection};

use crate::net::tls::Target;
use crate::net::tls::session::{Incoming, Sealed, Session, Wants};

/// Room for a read, and what a session may hold of the wire: that, and what one handshake message may have
/// (rustls takes 64 KiB), in records that may carry one byte of it each.
const ROOM: usize = 4096;
const HELD_BYTES_MAX: usize = 2 << 20;

/// Steps that suffice to carry all that is under way to its end.
const SETTLING_STEPS: usize = 10_000;

/// As often the server may change its keys: rustls refuses a server that does nothing else.
const NEW_KEYS_MAX: usize = 16;

pub(super) struct Play {
    server: ServerConnection,
    client: Session,
    /// Whether our side has shaken hands.
    is_open: bool,
    /// A read of ours that is under way.
    reading: Option<Incoming>,
    /// On its way to us.
    wire: VecDeque<u8>,
    /// Something on its way was changed.
    is_changed: bool,
    new_keys: usize,
    /// What each side has said, and what the other has heard of it.
    server_said: Vec<u8>,
    client_heard: Vec<u8>,
    client_said: Vec<u8>,
    server_heard: Vec<u8>,
}

impl Play {
    pub(super) fn new(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Self {
        let target = Target {
            config: Arc::clone(client),
            name: ServerName::try_from("127.0.0.1").expect("it is an address"),
        };
        Self {
            server: ServerConnection::new(Arc::clone(server)).expect("the server is configured"),
            client: Session::new(&target).expect("the client is configured"),
            is_open: false,
            reading: None,
            wire: VecDeque::new(),
            is_changed: false,
            new_keys: 0,
            server_said: Vec::new(),
            client_heard: Vec::new(),
            client_said: Vec::new(),
            server_heard: Vec::new(),
        }
    }

    pub(super) fn play(mut self, script: &[u8]) {
        self.shake_hands();
        let mut script = script.iter().copied();
        while let Some(step) = script.next() {
            let size = usize::from(step >> 3);
            match step & 7 {
                0 => self.deliver(size + 1),
                1 => self.deliver((size + 1) * 97),
                2 => self.begin_read(),
                3 => self.client_says(size * 700),
                4 => self.server_says(size * 700),
                5 => {
                    self.take(size + 1);
                }
                6 => self.change(size, script.next().unwrap_or_default()),
                _ => self.special(size, &mut script),
            }
            self.check();
        }
        self.settle();
    }

    /// What is under way arrives, and everybody takes what there is.
    fn settle(&mut self) {
        for _ in 0..SETTLING_STEPS {
            let before = (self.wire.len(), self.client_heard.len());
            self.deliver(ROOM);
            self.take(ROOM);
            self.check();
            if before == (0, self.client_heard.len()) && self.wire.is_empty() {
                break;
            }
        }
        if !self.is_changed {
            assert!(self.is_open && self.client.failed().is_none());
            let (heard, said) = (self.client_heard.len(), self.server_said.len());
            assert!(heard == said, "{heard} bytes of {said} reached the client");
            let (heard, said) = (self.server_heard.len(), self.client_said.len());
            assert!(heard == said, "{heard} bytes of {said} reached the server");
        }
    }

    fn check(&self) {
        assert!(self.server_said.starts_with(&self.client_heard));
        assert!(self.client_said.starts_with(&self.server_heard));
        let held = self.client.held_bytes();
        assert!(held <= HELD_BYTES_MAX, "{held} bytes are held");
        let failed = self.client.failed();
        assert!(
            self.is_changed || failed.is_none(),
            "honest bytes are refused: {failed:?}"
        );
    }

    /// As a reader does that has taken all there is: before that it asks for nothing more.
    fn begin_read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        while self.take(ROOM) {}
        if !self.client.has_ended() && self.client.failed().is_none() {
            self.reading = Some(self.client.begin_read(Vec::new(), ROOM));
        }
    }

    fn deliver(&mut self, bytes: usize) {
        let bytes = bytes.min(self.wire.len()).min(ROOM);
        if bytes == 0 || self.client.failed().is_some() {
            return;
        }
        self.begin_read();
        if let Some(mut reading) = self.reading.take() {
            reading.buffer.extend(self.wire.drain(..bytes));
            self.client.end_read(reading);
            if !self.is_open {
                self.shake_hands();
            }
        }
    }

    /// As `net::tls::handshake` does, between two reads.
    fn shake_hands(&mut self) {
        loop {
            let wants = self.client.shake_hands();
            self.flush();
            if wants != Wants::Room {
                self.is_open |= wants == Wants::Traffic;
                return;
            }
        }
    }

    /// As a reader does that has room for so many bytes; whether there were any.
    fn take(&mut self, room: usize) -> bool {
        // A read that is under way has its answer first.
        if !self.is_open || self.reading.is_some() {
            return false;
        }
        let mut heard = Vec::with_capacity(room);
        let taken = self.client.take(&mut heard, room);
        self.flush();
        let is_over = self.client.has_ended() || matches!(taken, Some(Err(_)));
        assert!(taken.is_none() || is_over || !heard.is_empty());
        let any = !heard.is_empty();
        self.client_heard.extend(heard);
        any
    }

    fn client_says(&mut self, bytes: usize) {
        if !self.is_open {
            return;
        }
        let said = pattern(self.client_said.len(), bytes);
        let mut sealed = Sealed::default();
        if self.client.seal(&said, &mut sealed).is_ok() {
            self.client_said.extend(said);
            self.send(&sealed);
        }
    }

    fn flush(&mut self) {
        let mut sealed = Sealed::default();
        self.client.flush(&mut sealed);
        self.send(&sealed);
    }

    /// To the server, which takes all at once.
    fn send(&mut self, sealed: &Sealed) {
        let mut rest = &sealed.buffer[..sealed.used];
        while !rest.is_empty() {
            let read = self.server.read_tls(&mut rest).unwrap_or_default();
            let processed = self.server.process_new_packets();
            assert!(
                processed.is_ok() || self.is_changed,
                "the server refuses honest bytes: {processed:?}"
            );
            // What it cannot take any more is lost on it.
            if read == 0 || processed.is_err() {
                break;
            }
            let mut heard = [0; ROOM];
            while let Ok(bytes @ 1..) = self.server.reader().read(&mut heard) {
                self.server_heard.extend_from_slice(&heard[..bytes]);
            }
        }
        self.collect();
    }

    fn server_says(&mut self, bytes: usize) {
        if self.server.is_handshaking() {
            return;
        }
        let said = pattern(self.server_said.len(), bytes);
        // Its buffer may be full.
        let taken = self.server.writer().write(&said).unwrap_or_default();
        self.server_said.extend_from_slice(&said[..taken]);
        self.collect();
    }

    /// What the server has to send is on its way.
    fn collect(&mut self) {
        let mut sent = Vec::new();
        while self.server.wants_write() {
            // A vector takes everything.
            self.server.write_tls(&mut sent).unwrap_or_default();
        }
        self.wire.extend(sent);
    }

    fn change(&mut self, at: usize, by: u8) {
        if let Some(byte) = self.wire.get_mut(at).filter(|_| by != 0) {
            *byte ^= by;
            self.is_changed = true;
        }
    }

    fn special(&mut self, size: usize, script: &mut impl Iterator<Item = u8>) {
        match size & 3 {
            // New keys, which TLS 1.2 lacks.
            0 if !self.server.is_handshaking() && self.new_keys < NEW_KEYS_MAX => {
                self.new_keys += 1;
                self.server.refresh_traffic_keys().unwrap_or_default();
                self.collect();
            }
            // Bytes of the script's own, before all others.
            1 => {
                let raw: Vec<u8> = script.by_ref().take(1 + (size >> 2) * 8).collect();
                self.is_changed |= !raw.is_empty();
                self.wire = raw.into_iter().chain(self.wire.drain(..)).collect();
            }
            // Bytes that are lost.
            2 => {
                let lost = self.wire.drain(..self.wire.len().min(size)).count();
                self.is_changed |= lost > 0;
            }
            // The end of the wire.
            _ if size == 31 && !self.client.has_ended() => {
                self.begin_read();
                if let Some(reading) = self.reading.take() {
                    self.client.end_read(reading);
                    self.is_changed = true;
                }
            }
            _ => {}
        }
    }
}

/// Bytes that tell their place.
fn pattern(from: usize, bytes: usize) -> Vec<u8> {
    (from..from + bytes).map(|at| (at % 251) as u8).collect()
}
