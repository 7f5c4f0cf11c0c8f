//! Verifying a whole repository for Python.

use crate::documents;
use crate::errors::Result;
use crate::progress::{CancelToken, Progress};
use crate::repository::Repository;
use crate::requests::parse;
use kopia_engine::verify::{RepositoryVerifyOptions, VerifyOptions, verify_repository as verify};
use pyo3::prelude::*;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct VerifyRepositoryRequest {
    percent: Option<f64>,
    seed: Option<u64>,
    budget_bytes: Option<u64>,
    unread_since_seconds: Option<u32>,
    windows_seconds: Vec<u64>,
    ledger: Option<PathBuf>,
    parallelism: Option<usize>,
    memory_budget_bytes: Option<u64>,
}

impl VerifyRepositoryRequest {
    fn options(self) -> RepositoryVerifyOptions {
        let default = VerifyOptions::default();
        let read = VerifyOptions {
            percent: self.percent.unwrap_or(100.0),
            seed: self.seed.unwrap_or(default.seed),
            parallelism: self.parallelism,
            memory_budget_bytes: self.memory_budget_bytes.unwrap_or(default.memory_budget_bytes),
            damages_listed_max: default.damages_listed_max,
        };
        RepositoryVerifyOptions {
            read,
            budget_bytes: self.budget_bytes,
            unread_since_seconds: self.unread_since_seconds,
            windows_seconds: self.windows_seconds,
            ledger: self.ledger,
        }
    }
}

#[pyfunction]
pub(crate) fn verify_repository(
    py: Python<'_>,
    repository: &Repository,
    request: &str,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<String> {
    let options = parse::<VerifyRepositoryRequest>(request)?.options();
    let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
    repository.detached(py, |repository| {
        let result = verify(repository, &options, &progress, &cancel)?;
        Ok(documents::repository_verify_result(&result).to_string())
    })
}
