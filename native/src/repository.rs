//! Class `Repository`: opened, asked, uploaded to, closed.
//!
//! The engine's repository stands behind a lock that is held only while it is taken or dropped, so that calls
//! run side by side; one that is running keeps it alive when another closes it.

use crate::ahead::Ahead;
use crate::batches::Batches;
use crate::documents;
use crate::errors::{Result, argument, invalid};
use crate::file::File;
use crate::password::Password;
use crate::progress::{CancelToken, Progress};
use crate::requests::{CreateRequest, OpenRequest, SourceRequest, ThrottleRequest, UploadRequest, parse};
use kopia_engine::blob::connection::Connection;
use kopia_engine::blob::layers::metrics::StorageMetrics;
use kopia_engine::blob::layers::throttling::Throttle;
use kopia_engine::blob::url::ProviderConfig;
use kopia_engine::clock::SystemClock;
use kopia_engine::manifest::Labels;
use kopia_engine::object::ObjectReader;
use kopia_engine::repository as engine;
use kopia_engine::snapshots;
use kopia_engine::source::Source;
use kopia_engine::upload::{self, UploadOptions};
use kopia_format::snapshot::SnapshotManifest;
use kopia_format::{ManifestId, ObjectId};
use parking_lot::RwLock;
use pyo3::prelude::*;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

#[pyclass(frozen, module = "repository._native")]
pub(crate) struct Repository {
    engine: RwLock<Option<Arc<engine::Repository>>>,
    metrics: Arc<StorageMetrics>,
    throttle: Arc<Throttle>,
}

impl Repository {
    /// The open repository.
    pub(crate) fn engine(&self) -> Result<Arc<engine::Repository>> {
        self.engine.read().clone().ok_or_else(|| invalid("the repository is closed"))
    }

    /// Runs `work` with the GIL released.
    pub(crate) fn detached<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&engine::Repository) -> Result<T> + Send,
    ) -> Result<T> {
        let repository = self.engine()?;
        py.detach(|| work(&repository))
    }
}

#[pymethods]
impl Repository {
    #[staticmethod]
    fn create(py: Python<'_>, url: &str, password: Password, request: &str) -> Result<()> {
        py.detach(|| {
            let request: CreateRequest = parse(request)?;
            let options = request.options()?;
            let config = ProviderConfig::parse(url)?;
            let connection = request.connection.options()?;
            let cancel = kopia_engine::cancel::CancelToken::new();
            let storage =
                Connection::initialize(&config, request.shards.clone(), &connection, &cancel)?.storage;
            Ok(engine::Repository::create(storage, &password, &options, Arc::new(SystemClock))?)
        })
    }

    #[staticmethod]
    fn open(py: Python<'_>, url: &str, password: Password, request: &str) -> Result<Self> {
        py.detach(|| {
            let request: OpenRequest = parse(request)?;
            let config = ProviderConfig::parse(url)?;
            let connection = request.connection.options()?;
            let cancel = kopia_engine::cancel::CancelToken::new();
            let Connection { storage, metrics, throttle } = Connection::open(&config, &connection, &cancel)?;
            let repository = engine::Repository::open(storage, &password, request.options())?;
            Ok(Self { engine: RwLock::new(Some(repository)), metrics, throttle })
        })
    }

    fn close(&self, py: Python<'_>) {
        let closed = self.engine.write().take();
        py.detach(|| drop(closed));
    }

    fn set_throttle(&self, request: &str) -> Result<()> {
        let request: ThrottleRequest = parse(request)?;
        self.throttle.set_limits(request.limits());
        Ok(())
    }

    fn storage_metrics(&self) -> String {
        documents::storage_metrics(&self.metrics).to_string()
    }

    fn status(&self, py: Python<'_>) -> Result<String> {
        self.detached(py, |repository| Ok(documents::status(repository).to_string()))
    }

    fn flush(&self, py: Python<'_>) -> Result<()> {
        self.detached(py, |repository| Ok(repository.flush()?))
    }

    fn refresh(&self, py: Python<'_>) -> Result<()> {
        self.detached(py, |repository| Ok(repository.refresh()?))
    }

    #[pyo3(signature = (source, tags))]
    fn list_snapshots(&self, py: Python<'_>, source: Option<&str>, tags: Labels) -> Result<String> {
        let source = source.map(parse::<SourceRequest>).transpose()?.map(|source| source.info());
        self.detached(py, |repository| {
            let found = snapshots::list(repository, source.as_ref(), &tags)?;
            let documents: Vec<_> = found.iter().map(documents::snapshot).collect();
            Ok(serde_json::Value::from(documents).to_string())
        })
    }

    fn snapshot(&self, py: Python<'_>, snapshot_id: &str) -> Result<String> {
        self.detached(py, |repository| {
            let manifest = snapshots::load(repository, &ManifestId::new(snapshot_id))?;
            Ok(documents::snapshot(&manifest).to_string())
        })
    }

    fn delete_snapshot(&self, py: Python<'_>, snapshot_id: &str) -> Result<()> {
        self.detached(py, |repository| Ok(snapshots::delete(repository, &ManifestId::new(snapshot_id))?))
    }

    fn pin_snapshot(
        &self,
        py: Python<'_>,
        snapshot_id: &str,
        add: Vec<String>,
        remove: Vec<String>,
    ) -> Result<String> {
        self.detached(py, |repository| {
            let id = snapshots::pin(repository, &ManifestId::new(snapshot_id), &add, &remove)?;
            Ok(id.as_str().to_owned())
        })
    }

    fn tag_snapshot(
        &self,
        py: Python<'_>,
        snapshot_id: &str,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<String> {
        self.detached(py, |repository| {
            let id = snapshots::tag(repository, &ManifestId::new(snapshot_id), &changes)?;
            Ok(id.as_str().to_owned())
        })
    }

    fn save_snapshot(&self, py: Python<'_>, manifest: &str) -> Result<String> {
        self.detached(py, |repository| {
            let manifest =
                SnapshotManifest::decode(manifest.as_bytes(), ManifestId::new("")).map_err(argument)?;
            Ok(snapshots::save(repository, &manifest)?.as_str().to_owned())
        })
    }

    fn expire_snapshots(&self, py: Python<'_>, source: &str, dry_run: bool) -> Result<Vec<String>> {
        let source = parse::<SourceRequest>(source)?.info();
        self.detached(py, |repository| {
            let expired = snapshots::apply_retention(repository, &source, dry_run)?;
            Ok(expired.iter().map(|id| id.as_str().to_owned()).collect())
        })
    }

    fn retention_reasons(&self, py: Python<'_>, source: &str) -> Result<Vec<(String, Vec<String>)>> {
        let source = parse::<SourceRequest>(source)?.info();
        self.detached(py, |repository| {
            let reasons = snapshots::retention_reasons(repository, &source)?;
            Ok(reasons.into_iter().map(|(id, reasons)| (id.as_str().to_owned(), reasons)).collect())
        })
    }

    fn effective_policy(&self, py: Python<'_>, source: &str) -> Result<String> {
        let source = parse::<SourceRequest>(source)?.info();
        self.detached(py, |repository| {
            let policy = snapshots::effective_policy(repository, &source)?;
            Ok(String::from_utf8_lossy(&policy.encode()).into_owned())
        })
    }

    fn find_manifests(&self, py: Python<'_>, labels: Labels) -> Result<String> {
        self.detached(py, |repository| {
            let found = repository.manifests().find(&labels)?;
            Ok(serde_json::Value::from_iter(found.iter().map(documents::manifest)).to_string())
        })
    }

    fn manifest(&self, py: Python<'_>, manifest_id: &str) -> Result<String> {
        self.detached(py, |repository| {
            Ok(repository.manifests().get(&ManifestId::new(manifest_id))?.1.get().to_owned())
        })
    }

    fn replace_manifest(&self, py: Python<'_>, labels: Labels, payload: &str) -> Result<String> {
        self.detached(py, |repository| {
            let id = repository.manifests().replace(labels, payload.as_bytes())?;
            Ok(id.as_str().to_owned())
        })
    }

    fn delete_manifest(&self, py: Python<'_>, manifest_id: &str) -> Result<()> {
        self.detached(py, |repository| Ok(repository.manifests().delete(&ManifestId::new(manifest_id))?))
    }

    #[pyo3(signature = (path, request, progress, cancel, ahead=None))]
    fn upload(
        &self,
        py: Python<'_>,
        path: PathBuf,
        request: &str,
        progress: &Progress,
        cancel: &CancelToken,
        ahead: Option<&Ahead>,
    ) -> Result<String> {
        let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
        let ahead = ahead.map(|ahead| Arc::clone(&ahead.0));
        self.detached(py, |repository| {
            let request: UploadRequest = parse(request)?;
            let source = source_of(path, &request)?;
            let options = UploadOptions { ahead, ..request.options()? };
            let result = upload::upload(repository, source, &options, &progress, &cancel)?;
            Ok(documents::upload_result(&result).to_string())
        })
    }

    fn open_object(&self, py: Python<'_>, object_id: &str) -> Result<File> {
        let repository = self.engine()?;
        py.detach(|| {
            let contents = repository.shared_contents();
            Ok(File::new(ObjectReader::open_shared(contents, ObjectId::parse(object_id).map_err(argument)?)?))
        })
    }

    fn list_contents(&self, prefix: &str, include_deleted: bool) -> Result<Batches> {
        crate::inspection::list_contents(self.engine()?, prefix, include_deleted)
    }

    fn content_info(&self, py: Python<'_>, content_id: &str) -> Result<String> {
        self.detached(py, |repository| crate::inspection::content_info(repository, content_id))
    }

    fn content(&self, py: Python<'_>, content_id: &str) -> Result<Vec<u8>> {
        self.detached(py, |repository| crate::inspection::content(repository, content_id))
    }

    fn list_blobs(&self, prefix: String) -> Result<Batches> {
        crate::inspection::list_blobs(self.engine()?, prefix)
    }

    fn index_entries(&self, py: Python<'_>, blob_id: &str) -> Result<Batches> {
        let repository = self.engine()?;
        py.detach(|| crate::inspection::index_entries(repository, blob_id))
    }

    fn blob(&self, py: Python<'_>, blob_id: &str) -> Result<Vec<u8>> {
        self.detached(py, |repository| crate::inspection::blob(repository, blob_id))
    }
}

fn source_of(path: PathBuf, request: &UploadRequest) -> Result<Source> {
    let Some(stream) = &request.stream else {
        return Ok(if request.block_device { Source::BlockDevice(path) } else { Source::Path(path) });
    };
    Ok(Source::Stream {
        directory_name: path.into_os_string().as_bytes().to_vec(),
        file_name: stream.file_name.clone().into_bytes(),
        reader: Box::new(duplicate(stream.file_descriptor)?),
    })
}

/// A handle of its own for an open file of the caller's.
#[allow(unsafe_code)]
pub(crate) fn duplicate(file_descriptor: i32) -> Result<std::fs::File> {
    if file_descriptor < 0 {
        return Err(invalid("a file descriptor is not negative"));
    }
    // SAFETY: not negative; it is borrowed for this one call, which fails if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(file_descriptor) };
    let owned = borrowed.try_clone_to_owned();
    owned.map(Into::into).map_err(|error| invalid(format!("cannot use the file descriptor: {error}")))
}
