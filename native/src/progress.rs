//! Counters that Python reads, and the token by which it ends work.

use kopia_engine::cancel;
use kopia_engine::progress;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[pyclass(frozen, module = "repository._native")]
#[derive(Default)]
pub(crate) struct Progress(pub(crate) Arc<progress::Progress>);

#[pymethods]
impl Progress {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> BTreeMap<&'static str, u64> {
        self.0.read().fields().into_iter().collect()
    }
}

#[pyclass(frozen, module = "repository._native")]
#[derive(Default)]
pub(crate) struct CancelToken(pub(crate) cancel::CancelToken);

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn cancel(&self) {
        self.0.cancel();
    }

    #[getter]
    fn is_canceled(&self) -> bool {
        self.0.is_canceled()
    }
}
