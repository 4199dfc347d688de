//! The machine that a figure belongs to.

use std::fs;

use serde::{Deserialize, Serialize};

/// Features that decide what a byte costs.
const FEATURES: [&str; 6] = ["avx2", "avx512_vbmi", "sha_ni", "vaes", "sse4_2", "bmi2"];

/// What a reader must know of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) features: Vec<String>,
    pub(crate) memory_megabytes: u64,
    pub(crate) kernel: String,
}

impl Machine {
    /// What `/proc` says of it.
    pub(crate) fn here() -> Self {
        let cpus = read("/proc/cpuinfo");
        let flags = value(&cpus, "flags");
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let memory = read("/proc/meminfo");
        let memory = value(&memory, "MemTotal");
        let kilobytes = memory.split_whitespace().next().unwrap_or_default();
        Self {
            cpu: value(&cpus, "model name").to_owned(),
            cpus: cpus
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            features: FEATURES
                .into_iter()
                .filter(|feature| flags.contains(feature))
                .map(str::to_owned)
                .collect(),
            memory_megabytes: kilobytes.parse().unwrap_or(0) / 1000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first `name : value` of such a file.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(key, _)| key.trim() == name);
    found.map_or("", |(_, value)| value.trim())
}
