//! The log's way to stderr: a queue and a thread of its own, so that a reader that hangs holds up neither
//! shards nor control.
//!
//! Invariant: writing never waits. What finds no room is counted, and the count is said.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// Lines that wait for the reader; more are dropped.
const LINES_MAX: usize = 4096;

/// Takes the lines of `tracing`, whole, as `Arc<Log>`.
#[derive(Debug)]
pub(crate) struct Log {
    items: Sender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Answered when everything before it was written.
    Flush(Sender<()>),
}

#[derive(Debug)]
struct Counts {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// How many were dropped when that was last said.
    said: AtomicU64,
    say: fn(u64),
}

impl Log {
    /// Starts the thread that writes to `out`; `say` tells, by a line, how many were dropped so far.
    pub(crate) fn start(out: impl Write + Send + 'static, say: fn(u64)) -> io::Result<Self> {
        let (items, queue) = mpsc::channel();
        let counts = Arc::new(Counts {
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            said: AtomicU64::new(0),
            say,
        });
        let shared = Arc::clone(&counts);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_out(&queue, out, &shared))?;
        Ok(Self { items, counts })
    }

    /// Waits until everything is written, up to `limit`: the reader may hang.
    pub(crate) fn flush(&self, limit: Duration) {
        self.counts.say_dropped();
        let (done, written) = mpsc::channel();
        self.send(Item::Flush(done));
        // An error is the limit, and there is nobody left to tell.
        written.recv_timeout(limit).unwrap_or_default();
    }

    fn send(&self, item: Item) {
        // The thread ends only with us.
        self.items.send(item).unwrap_or_default();
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let counts = &self.counts;
        if counts.waiting.fetch_add(1, Ordering::Relaxed) < LINES_MAX {
            self.send(Item::Line(line.to_vec()));
        } else {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Counts {
    fn say_dropped(&self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if self.said.swap(dropped, Ordering::Relaxed) != dropped {
            (self.say)(dropped);
        }
    }
}

fn write_out(queue: &Receiver<Item>, mut out: impl Write, counts: &Counts) {
    let mut unsaid = 0;
    for item in queue {
        match item {
            Item::Line(line) => {
                // A reader that is gone does not end the node.
                out.write_all(&line).unwrap_or_default();
                unsaid += 1;
                let left = counts.waiting.fetch_sub(1, Ordering::Relaxed) - 1;
                // Not at each line of a flood, of which it would be half then.
                if left == 0 || unsaid == LINES_MAX {
                    unsaid = 0;
                    counts.say_dropped();
                }
            }
            Item::Flush(done) => {
                out.flush().unwrap_or_default();
                // Who flushes may have waited long enough.
                done.send(()).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Writes nothing before `open` says so.
    struct Gate {
        open: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.open.recv().unwrap_or_default();
            self.written.send(line.to_vec()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static SAID: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_reader_that_hangs_costs_lines_and_not_time() {
        let (opener, open) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let say = |dropped| SAID.store(dropped, Ordering::Relaxed);
        let log = Log::start(Gate { open, written }, say).unwrap();
        for line in 0..LINES_MAX + 7 {
            (&log).write_all(line.to_string().as_bytes()).unwrap();
        }
        log.flush(Duration::ZERO);
        assert_eq!(SAID.load(Ordering::Relaxed), 7);
        drop(opener);
        log.flush(LONG);
        let lines: Vec<_> = lines.try_iter().collect();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[LINES_MAX - 1], (LINES_MAX - 1).to_string().as_bytes());
    }
}
