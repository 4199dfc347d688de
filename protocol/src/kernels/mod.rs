//! Loops that take the time, written for what the CPU has: the one place for `unsafe`.
//!
//! Each kernel looks at run time whether the CPU can run it. Beside it stands a safe reference, which
//! other CPUs run; both are tested to give the same bytes, and the fuzz targets `event` and `payload_hash` run
//! the kernels under AddressSanitizer. A kernel that does not pay for itself in the bench is deleted.
//!
//! Invariant: a kernel's arguments are slices, and no caller can make it touch a byte outside of them.

use std::sync::LazyLock;

pub(crate) mod base64;
pub(crate) mod sha256;

/// `off` makes this CPU run what one without kernels would.
const SWITCH: &str = "FOREBAY_KERNELS";

/// Whether kernels may run at all.
#[inline]
fn may_run() -> bool {
    static MAY_RUN: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os(SWITCH).is_none_or(|said| said != "off"));
    *MAY_RUN
}
