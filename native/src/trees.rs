//! Snapshot trees: an entry, a directory, a walk, a comparison, a restore, a verification.

use crate::batches::Batches;
use crate::documents;
use crate::errors::{Result, argument, invalid};
use crate::progress::{CancelToken, Progress};
use crate::repository::{Repository, duplicate};
use crate::requests::{RestoreFormat, RestoreRequest, VerifyRequest, parse};
use kopia_engine::restore::{self, RestoreSource, RestoreTarget};
use kopia_engine::tree;
use kopia_engine::verify;
use kopia_format::ObjectId;
use pyo3::prelude::*;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

#[pymethods]
impl Repository {
    fn entry(&self, py: Python<'_>, path: &str) -> Result<String> {
        self.detached(py, |repository| Ok(documents::entry(&tree::resolve(repository, path)?).to_string()))
    }

    fn list_directory(&self, object_id: &str) -> Result<Batches> {
        let (repository, directory) = (self.engine()?, ObjectId::parse(object_id).map_err(argument)?);
        Batches::produce(move |each| {
            let give = &mut |entry| each(documents::entry(&entry).to_string());
            tree::for_each_entry(repository.contents(), directory, give).map(drop)
        })
    }

    fn walk(&self, path: String) -> Result<Batches> {
        let repository = self.engine()?;
        Batches::produce(move |each| {
            let root = tree::resolve(&repository, &path)?;
            tree::walk(repository.contents(), root, &mut |path, entry| {
                each(documents::entry_at(path, entry).to_string())
            })
        })
    }

    fn diff(&self, before: String, after: String) -> Result<Batches> {
        let repository = self.engine()?;
        Batches::produce(move |each| {
            let before = tree::resolve(&repository, &before)?;
            let after = tree::resolve(&repository, &after)?;
            let give = &mut |found| each(documents::difference(&found).to_string());
            tree::diff(repository.contents(), before, after, give)
        })
    }

    fn restore(
        &self,
        py: Python<'_>,
        what: String,
        target: PathBuf,
        request: &str,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<String> {
        let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
        self.detached(py, |repository| {
            let request: RestoreRequest = parse(request)?;
            let mut out = output(&request)?;
            let target = match (request.format, out.as_mut()) {
                (RestoreFormat::Stream, Some(out)) => RestoreTarget::Stream(out),
                (RestoreFormat::Tar, Some(out)) => RestoreTarget::Tar(out),
                (RestoreFormat::Device, _) => RestoreTarget::Device(target),
                _ => RestoreTarget::Path(target),
            };
            let options = request.options();
            let what = RestoreSource::Named(what);
            let result = restore::restore(repository, what, target, &options, &progress, &cancel)?;
            if let Some(out) = out {
                restore::close_output(out, options.sync)?;
            }
            Ok(documents::restore_result(&result).to_string())
        })
    }
}

#[pymethods]
impl Repository {
    fn verify(
        &self,
        py: Python<'_>,
        request: &str,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<String> {
        let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
        self.detached(py, |repository| {
            let request: VerifyRequest = parse(request)?;
            let options = request.options();
            let result = if request.contents {
                verify::verify_contents(repository, &options, &progress, &cancel)?
            } else {
                verify::verify_snapshots(repository, &request.snapshots(), &options, &progress, &cancel)?
            };
            Ok(documents::verify_result(&result).to_string())
        })
    }
}

/// The file that a stream or archive goes to.
fn output(request: &RestoreRequest) -> Result<Option<File>> {
    match (request.format, request.file_descriptor) {
        (RestoreFormat::Tree | RestoreFormat::Device, _) => Ok(None),
        (_, Some(descriptor)) => duplicate(descriptor).map(Some),
        (_, None) => Err(invalid("a stream or archive needs a file descriptor")),
    }
}
