//! What a shard runs on: a ring, or epoll.
//!
//! Without a word from the operator it is the best that the kernel gives. `FOREBAY_DRIVER=epoll` takes epoll, and
//! `FOREBAY_RING` a ring with other flags than ours, which is how `forebay-bench runtime` measures what each is worth.
//!
//! Invariant: flags that were asked for by name are those of the ring, or the node does not start.

use std::env;
use std::io;
use std::sync::Once;

use monoio::time::TimeDriver;
use monoio::{FusionDriver, FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};
use tracing::warn;

/// Names the driver; epoll is there to compare with, and for kernels that forbid io_uring.
const DRIVER_VARIABLE: &str = "FOREBAY_DRIVER";
const IO_URING: &str = "io_uring";
const EPOLL: &str = "epoll";

/// Names the flags of the ring, with commas between them.
const RING_VARIABLE: &str = "FOREBAY_RING";
/// A ring without flags.
const NO_FLAG: &str = "none";

/// What the kernel thread of [`Flag::Sqpoll`] waits for more before it sleeps, in milliseconds: the least.
const SQPOLL_IDLE: u32 = 1;

pub(super) type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// What shards run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Our ring, where the kernel is old a plain one, and where it has none epoll.
    Best,
    /// epoll.
    Epoll,
    /// A ring with these flags and no others.
    Ring(Vec<Flag>),
}

/// A flag of a ring, see io_uring_setup(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Completions interrupt nobody.
    CoopTaskrun,
    /// One thread alone submits.
    SingleIssuer,
    /// Completions are run only when they are waited for.
    DeferTaskrun,
    /// A thread of the kernel submits.
    Sqpoll,
}

/// Why shards cannot run on what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nobody knows the word.
    #[error("{variable}={value}: {word:?} is not known; it can be {}", known.join(", "))]
    Unknown {
        /// The variable.
        variable: &'static str,
        /// What it is set to.
        value: String,
        /// What of that is not known.
        word: String,
        /// What is.
        known: Vec<&'static str>,
    },
    /// The kernel has no such ring.
    #[error("{RING_VARIABLE}={flags}: refused by this kernel: {source}")]
    Refused {
        /// The flags.
        flags: String,
        /// What it says.
        source: io::Error,
    },
}

impl Driver {
    /// What the environment asks for.
    pub fn of_environment() -> Result<Self, DriverError> {
        let value = |variable| env::var_os(variable).filter(|value| !value.is_empty());
        let text = |variable| value(variable).map(|value| value.to_string_lossy().into_owned());
        Self::parse(
            text(DRIVER_VARIABLE).as_deref(),
            text(RING_VARIABLE).as_deref(),
        )
    }

    /// The flags say nothing to epoll, but they must be right.
    fn parse(driver: Option<&str>, flags: Option<&str>) -> Result<Self, DriverError> {
        let flags = flags.map(Flag::parse).transpose()?;
        match driver {
            None | Some(IO_URING) => Ok(flags.map_or(Self::Best, Self::Ring)),
            Some(EPOLL) => Ok(Self::Epoll),
            Some(other) => Err(DriverError::Unknown {
                variable: DRIVER_VARIABLE,
                value: other.to_owned(),
                word: other.to_owned(),
                known: vec![IO_URING, EPOLL],
            }),
        }
    }

    /// Whether the kernel gives what was asked for.
    pub fn check(&self) -> Result<(), DriverError> {
        let Self::Ring(flags) = self else {
            return Ok(());
        };
        let refused = |source| DriverError::Refused {
            flags: Flag::words(flags),
            source,
        };
        if !monoio::utils::detect_uring() {
            return Err(refused(io::ErrorKind::Unsupported.into()));
        }
        builder(flags).build(2).map(drop).map_err(refused)
    }

    pub(super) fn runtime(&self) -> io::Result<Runtime> {
        match self {
            Self::Best => best(),
            Self::Epoll => epoll(),
            Self::Ring(flags) => {
                let ring = RuntimeBuilder::<IoUringDriver>::new()
                    .uring_builder(builder(flags))
                    .enable_timer()
                    .build()?;
                Ok(FusionRuntime::Uring(ring))
            }
        }
    }
}

impl Flag {
    const ALL: [Self; 4] = [
        Self::CoopTaskrun,
        Self::SingleIssuer,
        Self::DeferTaskrun,
        Self::Sqpoll,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::CoopTaskrun => "coop_taskrun",
            Self::SingleIssuer => "single_issuer",
            Self::DeferTaskrun => "defer_taskrun",
            Self::Sqpoll => "sqpoll",
        }
    }

    fn words(flags: &[Self]) -> String {
        match flags {
            [] => NO_FLAG.to_owned(),
            _ => flags
                .iter()
                .map(|it| it.word())
                .collect::<Vec<_>>()
                .join(","),
        }
    }

    fn parse(value: &str) -> Result<Vec<Self>, DriverError> {
        if value == NO_FLAG {
            return Ok(Vec::new());
        }
        let flag = |word: &str| {
            let flag = Self::ALL.into_iter().find(|flag| flag.word() == word);
            flag.ok_or_else(|| DriverError::Unknown {
                variable: RING_VARIABLE,
                value: value.to_owned(),
                word: word.to_owned(),
                known: std::iter::once(NO_FLAG)
                    .chain(Self::ALL.map(Self::word))
                    .collect(),
            })
        };
        value.split(',').map(|word| flag(word.trim())).collect()
    }
}

fn builder(flags: &[Flag]) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    for flag in flags {
        match flag {
            Flag::CoopTaskrun => builder.setup_coop_taskrun(),
            Flag::SingleIssuer => builder.setup_single_issuer(),
            Flag::DeferTaskrun => builder.setup_defer_taskrun(),
            Flag::Sqpoll => builder.setup_sqpoll(SQPOLL_IDLE),
        };
    }
    builder
}

fn best() -> io::Result<Runtime> {
    if !monoio::utils::detect_uring() {
        say_no_ring();
        return epoll();
    }
    // Completions are run when we enter the kernel anyway, and no other thread ever submits: 12 to 28 %
    // less CPU at 64 connections. Kernels before 6.0 answer EINVAL.
    let ours = builder(&[Flag::CoopTaskrun, Flag::SingleIssuer]);
    let fast = RuntimeBuilder::<FusionDriver>::new()
        .uring_builder(ours)
        .enable_timer()
        .build();
    match fast {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            RuntimeBuilder::<FusionDriver>::new().enable_timer().build()
        }
        other => other,
    }
}

fn epoll() -> io::Result<Runtime> {
    let runtime = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()?;
    Ok(FusionRuntime::Legacy(runtime))
}

fn say_no_ring() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        warn!(
            "io_uring is not available here (old kernel, seccomp, or kernel.io_uring_disabled): \
             the shards run on epoll"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_the_driver_and_its_flags() {
        let check = |driver, flags, expected| {
            let parsed = Driver::parse(driver, flags);
            assert_eq!(parsed.expect("the words are known"), expected);
        };
        let deferred = vec![Flag::SingleIssuer, Flag::DeferTaskrun];
        let words = Some("single_issuer, defer_taskrun");
        check(None, None, Driver::Best);
        check(Some("io_uring"), None, Driver::Best);
        check(Some("epoll"), None, Driver::Epoll);
        check(None, words, Driver::Ring(deferred.clone()));
        check(Some("io_uring"), words, Driver::Ring(deferred));
        check(Some("epoll"), words, Driver::Epoll);
        check(None, Some("none"), Driver::Ring(Vec::new()));
    }

    #[test]
    fn unknown_word_is_answered_with_those_that_are_known() {
        let check = |driver, flags, expected: &str| {
            let error = Driver::parse(driver, flags).expect_err("the word is not known");
            assert_eq!(error.to_string(), expected);
        };
        check(
            Some("kqueue"),
            None,
            "FOREBAY_DRIVER=kqueue: \"kqueue\" is not known; it can be io_uring, epoll",
        );
        let of_rings =
            "is not known; it can be none, coop_taskrun, single_issuer, defer_taskrun, sqpoll";
        check(
            Some("epoll"),
            Some("sqpoll,fast"),
            &format!("FOREBAY_RING=sqpoll,fast: \"fast\" {of_rings}"),
        );
        check(
            None,
            Some("none,sqpoll"),
            &format!("FOREBAY_RING=none,sqpoll: \"none\" {of_rings}"),
        );
    }

    #[test]
    fn what_the_kernel_refuses_is_said_with_its_flags() {
        // Who defers submits alone: io_uring_setup(2), IORING_SETUP_DEFER_TASKRUN.
        let refused = Driver::Ring(vec![Flag::DeferTaskrun]).check();
        let error = refused.expect_err("the kernel wants single_issuer too");
        let text = error.to_string();
        let expected = "FOREBAY_RING=defer_taskrun: refused by this kernel: ";
        assert!(text.starts_with(expected), "{text}");
        assert!(Driver::Best.check().is_ok() && Driver::Epoll.check().is_ok());
    }
}
