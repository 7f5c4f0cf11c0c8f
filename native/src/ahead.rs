//! Class `Ahead`: looks at a source before its repository is open; and a count of what it holds.

use crate::progress::{CancelToken, Progress};
use kopia_engine::clock::SystemClock;
use kopia_engine::source::ahead::{self, MEMORY_BYTES_MAX};
use kopia_engine::source::measure;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

#[pyclass(frozen, module = "repository._native")]
pub(crate) struct Ahead(pub(crate) Arc<ahead::Ahead>);

#[pymethods]
impl Ahead {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> Self {
        Self(Arc::new(py.detach(|| ahead::Ahead::start(&path, MEMORY_BYTES_MAX, &SystemClock))))
    }
}

#[pyfunction]
pub(crate) fn measure_tree(py: Python<'_>, path: PathBuf, progress: &Progress, cancel: &CancelToken) {
    let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
    py.detach(|| measure::measure(&path, &progress, &cancel));
}
