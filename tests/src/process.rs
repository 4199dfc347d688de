//! A process that is measured: its CPU time and its memory, with those of its children.
//!
//! Invariant: time that was spent is never lost, be it by a thread or by a child that has ended since.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A running process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts it, without waiting for anything. It reads nothing; whoever hears its errors must be told.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// CPU time so far.
    pub fn cpu_time(&mut self) -> Result<Duration, String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("{} has ended: {status}", self.name));
        }
        Ok(self.all().into_iter().map(cpu_time).sum())
    }

    /// Asks it to end, by SIGTERM.
    pub fn terminate(&self) -> Result<(), String> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| format!("{} has no id", self.name))?;
        kill_process(id, Signal::TERM).map_err(|error| format!("{}: {error}", self.name))
    }

    /// How it has ended, once it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child
            .try_wait()
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// How often one of the threads that it has now had nothing to do: its context switches, but for those that
    /// the scheduler forced.
    pub fn waits(&self) -> u64 {
        let all = self.all().into_iter();
        all.flat_map(tasks).map(|task| waits(&task)).sum()
    }

    /// The memory that it holds.
    pub fn resident_bytes(&self) -> Result<u64, String> {
        self.memory("VmRSS:")
    }

    /// The most memory that it has held.
    pub fn peak_bytes(&self) -> Result<u64, String> {
        self.memory("VmHWM:")
    }

    /// How many descriptors it has open, without those of its children.
    pub fn descriptors(&self) -> Result<usize, String> {
        let path = format!("/proc/{}/fd", self.child.id());
        let open = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(open.count())
    }

    fn memory(&self, name: &str) -> Result<u64, String> {
        let own = memory(self.child.id(), name)?;
        // A child may end meanwhile, and then holds nothing.
        let rest = self.all().into_iter().skip(1);
        Ok(own + rest.filter_map(|id| memory(id, name).ok()).sum::<u64>())
    }

    /// Its id, then those of its children and their children.
    fn all(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut at = 0;
        while let Some(id) = all.get(at) {
            all.extend(children(*id));
            at += 1;
        }
        all
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The greater of two sums that are both too small: the scheduler's, in nanoseconds, lacks the threads that
/// have ended; the process's own, in ticks, has them, and the children that have ended, and lacks a part of a
/// tick.
fn cpu_time(id: u32) -> Duration {
    let nanoseconds = tasks(id)
        // A thread may end between the two reads; its time is in the other sum.
        .filter_map(|task| fs::read_to_string(task.join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name may hold anything but ends with the last parenthesis. Behind it: utime, stime, cutime, cstime
    // (man proc_pid_stat, fields 14 to 17).
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let whole = Duration::from_secs(ticks) / clock_ticks_per_second();
    whole.max(Duration::from_nanos(nanoseconds))
}

fn clock_ticks_per_second() -> u32 {
    u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

fn children(id: u32) -> Vec<u32> {
    let lists = tasks(id).filter_map(|task| fs::read_to_string(task.join("children")).ok());
    let ids = |list: String| -> Vec<u32> {
        let ids = list.split_whitespace();
        ids.filter_map(|id| id.parse().ok()).collect()
    };
    lists.flat_map(ids).collect()
}

fn tasks(id: u32) -> impl Iterator<Item = std::path::PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{id}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path())
}

/// What is voluntary of a thread's context switches (man proc_pid_status); one that has ended has none.
fn waits(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("status")).unwrap_or_default();
    number(&text, "voluntary_ctxt_switches:").unwrap_or_default()
}

fn memory(id: u32, name: &str) -> Result<u64, String> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(Path::new(&path)).map_err(|error| format!("{path}: {error}"))?;
    let kilobytes = number(&text, name);
    let bytes = kilobytes.map(|kilobytes| kilobytes * 1024);
    bytes.ok_or_else(|| format!("{path} does not tell {name}"))
}

/// The number behind that name.
fn number(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| {
        let line = line.strip_prefix(name)?;
        line.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_child_that_has_ended_is_kept() {
        let script = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; sleep 60";
        let mut command = Command::new("sh");
        let mut process = Process::start("sh", command.args(["-c", script])).unwrap();
        let mut most = Duration::ZERO;
        let children = || children(process.child.id());
        // First the loop, then the sleep.
        while children().is_empty() {}
        let first = children();
        while children() == first || children().is_empty() {
            most = most.max(first.iter().map(|id| cpu_time(*id)).sum());
        }
        assert!(!most.is_zero());
        let tick = Duration::from_secs(1) / clock_ticks_per_second();
        assert!(process.cpu_time().unwrap() + tick * 2 >= most);
        assert!(process.peak_bytes().unwrap() >= process.resident_bytes().unwrap() / 2);
    }

    #[test]
    fn asked_to_end_it_ends_by_the_signal() {
        use std::os::unix::process::ExitStatusExt;
        let mut command = Command::new("sleep");
        let mut process = Process::start("sleep", command.arg("60")).unwrap();
        assert_eq!(process.ended(), Ok(None));
        process.terminate().unwrap();
        let status = loop {
            if let Some(status) = process.ended().unwrap() {
                break status;
            }
        };
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    }

    #[test]
    fn thread_that_sleeps_has_waited() {
        let mut command = Command::new("sh");
        let script = "sleep 0.01; sleep 0.01; echo; exec sleep 60";
        let process = Process::start("sh", command.args(["-c", script]).stdout(Stdio::piped()));
        let mut process = process.unwrap();
        let mut told = process.child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut told, &mut [0]).unwrap();
        assert!(process.waits() >= 2, "{}", process.waits());
    }

    #[test]
    fn open_descriptors_are_counted() {
        let mut command = Command::new("sleep");
        let process = Process::start("sleep", command.arg("60")).unwrap();
        assert!(process.descriptors().unwrap() >= 3);
    }
}
