//! Loops that take the time, written for what the CPU has: the one place for `unsafe`.
//!
//! Each kernel looks at run time whether the CPU can run it. Beside it stands a safe reference, which
//! other CPUs run; both are tested to give the same bytes, and the fuzz target `event` runs the kernels
//! under AddressSanitizer. A kernel that does not pay for itself in the bench is deleted.
//!
//! Invariant: a kernel's arguments are slices, and no caller can make it touch a byte outside of them.

pub(crate) mod base64;
