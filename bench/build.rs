//! Tells the suite which compiler it was built with: results say so.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("--version").output();
    let told = told.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    let version = told.unwrap_or_else(|error| format!("unknown: {error}"));
    println!("cargo::rustc-env=FOREBAY_BENCH_RUSTC={version}");
}
