//! For tests: runs them on each driver, because what may be assumed of one is not true of the other.

use std::future::Future;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Runs `test` on io_uring (where the kernel allows it) and on epoll.
pub(crate) fn on_each_driver<F: Future<Output = ()>>(test: impl Fn() -> F) {
    if monoio::utils::detect_uring() {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
            .unwrap();
        runtime.block_on(test());
    }
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()
        .unwrap();
    runtime.block_on(test());
}
