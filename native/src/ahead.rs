//! Class `Ahead`: looks at a source before its repository is open.

use kopia_engine::clock::SystemClock;
use kopia_engine::source::ahead::{self, MEMORY_BYTES_MAX};
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
