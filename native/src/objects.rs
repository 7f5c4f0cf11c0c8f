//! Objects of a bucket that are no blobs of a repository, for reading.

use crate::batches::Batches;
use crate::documents;
use crate::errors::{Result, invalid};
use crate::requests::{ConnectionRequest, parse};
use kopia_engine::blob::Storage;
use kopia_engine::blob::connection::Connection;
use kopia_engine::blob::layers::metrics::StorageMetrics;
use kopia_engine::blob::url::ProviderConfig;
use kopia_engine::cancel::CancelToken;
use kopia_format::BlobId;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// What one read may hold in memory.
const READ_BYTES_MAX: u64 = 1 << 30;

#[pyclass(frozen, module = "repository._native")]
pub(crate) struct ObjectStore {
    storage: Arc<dyn Storage>,
    metrics: Arc<StorageMetrics>,
}

#[pymethods]
impl ObjectStore {
    #[staticmethod]
    fn open(py: Python<'_>, url: &str, request: &str) -> Result<Self> {
        py.detach(|| {
            let options = parse::<ConnectionRequest>(request)?.options()?;
            let config = ProviderConfig::parse(url)?;
            let opened = Connection::open_objects(&config, &options, &CancelToken::new())?;
            Ok(Self { storage: opened.storage, metrics: opened.metrics })
        })
    }

    fn read<'py>(&self, py: Python<'py>, key: &str, offset: u64, length: u64) -> Result<Bound<'py, PyBytes>> {
        if length > READ_BYTES_MAX {
            return Err(invalid(format!("{length} bytes at once are too many")));
        }
        let bytes = py.detach(|| {
            let mut out = Vec::new();
            self.storage.get_range(&BlobId::new(key), offset, length, &mut out).map(|()| out)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn list_folder(&self, prefix: String) -> Result<Batches> {
        let storage = Arc::clone(&self.storage);
        Batches::produce(move |each| {
            storage.list(&prefix, &mut |found| each(documents::blob(&found).to_string()))
        })
    }

    fn describe(&self) -> String {
        self.storage.describe()
    }

    fn storage_metrics(&self) -> String {
        documents::storage_metrics(&self.metrics).to_string()
    }
}
