//! Cancellation: a flag that long work looks at often.

use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared flag; clones see the same one.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not set.
    pub fn new() -> Self {
        Self::default()
    }
    /// Asks for the end of the work.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Whether the end was asked for.
    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// An error of kind `Canceled` once the end was asked for.
    ///
    /// # Errors
    /// `Canceled`.
    pub fn check(&self) -> Result<()> {
        if self.is_canceled() { Err(Error::new(ErrorKind::Canceled, "canceled")) } else { Ok(()) }
    }
}
