//! The one asynchronous runtime of the process.
//!
//! Its two threads read and write sockets and do TLS; a request itself runs on the thread that
//! asks for it. Callers must not be on one of the runtime's own threads: nothing here calls back.

use crate::error::{Error, ErrorKind, Result};
use std::future::Future;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

const THREAD_COUNT: usize = 2;

/// Runs `future` to its end on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let start = || {
        Builder::new_multi_thread()
            .worker_threads(THREAD_COUNT)
            .thread_name("object-store")
            .enable_all()
            .build()
    };
    match RUNTIME.get_or_init(start) {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => {
            let message = format!("cannot start the threads of the object store client: {error}");
            Err(Error::new(ErrorKind::Internal, message))
        }
    }
}
