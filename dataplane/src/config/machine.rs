//! What this process may use of the machine: its CPUs and its memory.
//!
//! Both the CPU set and the cgroup's limits count, because a container on a large machine must not
//! size itself by the machine.
//!
//! Invariant: there is always at least one CPU and some memory.

use std::path::{Path, PathBuf};

/// CPUs and memory that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs of its affinity mask, ascending; never empty.
    pub cpus: Vec<usize>,
    /// How many of them the cgroup's quota pays for.
    pub cpu_quota: Option<usize>,
    /// Bytes of memory: the machine's, or the cgroup's limit if that is less.
    pub memory_bytes: u64,
}

/// A machine without a readable size is taken for one of this many bytes.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

impl Machine {
    /// Asks the kernel.
    pub fn here() -> Self {
        let groups = cgroups();
        Self {
            cpus: affinity(),
            cpu_quota: groups.iter().filter_map(|dir| cpu_quota(dir)).min(),
            memory_bytes: groups
                .iter()
                .filter_map(|dir| memory_limit(dir))
                .chain(physical_memory())
                .min()
                .unwrap_or(MEMORY_BYTES_UNKNOWN),
        }
    }

    /// How many shards keep every allowed CPU busy and none waiting for the quota.
    pub fn shards(&self) -> usize {
        self.cpu_quota
            .map_or(self.cpus.len(), |quota| quota.min(self.cpus.len()))
            .max(1)
    }
}

fn affinity() -> Vec<usize> {
    let cpus = match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect(),
        Err(_) => Vec::new(),
    };
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn physical_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    // Why: the fields are as wide as the kernel's long, which differs between targets.
    #[allow(clippy::useless_conversion, reason = "u32 on 32-bit targets")]
    u64::from(info.totalram).checked_mul(u64::from(info.mem_unit.max(1)))
}

/// The cgroup (version 2) that this process is in and all above it: each may hold a limit.
fn cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    root.join(own)
        .ancestors()
        .take_while(|dir| dir.starts_with(root))
        .map(Path::to_path_buf)
        .collect()
}

fn cpu_quota(dir: &Path) -> Option<usize> {
    parse_cpu_max(&std::fs::read_to_string(dir.join("cpu.max")).ok()?)
}

fn memory_limit(dir: &Path) -> Option<u64> {
    let limit = std::fs::read_to_string(dir.join("memory.max")).ok()?;
    limit.trim().parse().ok()
}

/// `cpu.max` holds `<quota> <period>` in microseconds, or `max <period>`.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<usize>().ok()?, period.parse::<usize>().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        let here = Machine::here();
        assert!(here.shards() >= 1);
        assert!(here.memory_bytes > 0);
    }

    #[test]
    fn a_quota_is_rounded_up_to_whole_cpus() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("5000 100000\n"), Some(1));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("garbage"), None);
    }

    #[test]
    fn a_quota_below_the_cpu_set_counts() {
        let machine = Machine {
            cpus: vec![2, 3, 4, 5],
            cpu_quota: Some(3),
            memory_bytes: 1,
        };
        assert_eq!(machine.shards(), 3);
    }
}
