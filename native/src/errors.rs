//! Engine errors as Python exceptions: one exhaustive match.
//!
//! The classes themselves are `repository/errors.py`; a test checks that each kind has one there.

use kopia_engine::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The class in `repository.errors` for a kind.
pub(crate) const fn exception_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RepositoryNotFound => "RepositoryNotFoundError",
        ErrorKind::AlreadyExists => "RepositoryExistsError",
        ErrorKind::InvalidPassword => "InvalidPasswordError",
        ErrorKind::UnsupportedFormat => "UnsupportedFormatError",
        // A range that a blob does not have is a blob that was cut short.
        ErrorKind::Corrupted | ErrorKind::InvalidRange => "CorruptedError",
        ErrorKind::ContentNotFound => "ContentNotFoundError",
        ErrorKind::ObjectNotFound => "ObjectNotFoundError",
        ErrorKind::ManifestNotFound => "SnapshotNotFoundError",
        ErrorKind::BlobNotFound => "BlobNotFoundError",
        ErrorKind::AccessDenied => "AccessDeniedError",
        ErrorKind::Storage => "StorageUnavailableError",
        ErrorKind::NoSpace => "NoSpaceError",
        ErrorKind::Filesystem => "FilesystemError",
        ErrorKind::InvalidArgument => "InvalidRequestError",
        ErrorKind::Canceled => "CanceledError",
        ErrorKind::Internal => "InternalError",
    }
}

/// An engine error on its way to Python; `?` makes it from one.
#[derive(Debug)]
pub(crate) struct Failure(Error);

/// Result of what Python calls.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<kopia_format::FormatError> for Failure {
    fn from(error: kopia_format::FormatError) -> Self {
        Self(error.into())
    }
}

impl From<Failure> for PyErr {
    fn from(Failure(error): Failure) -> Self {
        Python::attach(|py| exception(py, &error).unwrap_or_else(|failed| failed))
    }
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = py.import("repository.errors")?.getattr(exception_name(error.kind))?;
    let context = PyDict::new(py);
    for (key, value) in &error.context {
        context.set_item(key, value)?;
    }
    let arguments = PyDict::new(py);
    arguments.set_item("temporary", error.temporary)?;
    arguments.set_item("context", context)?;
    Ok(PyErr::from_value(class.call((error.to_string(),), Some(&arguments))?))
}

/// A name, ID or time in a request that is malformed: wrong usage, no damage.
pub(crate) fn argument(error: kopia_format::FormatError) -> Failure {
    invalid(Error::from(error).to_string())
}

/// A request that cannot be understood.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure(Error::new(ErrorKind::InvalidArgument, message))
}

#[pyfunction]
pub(crate) fn error_kinds() -> Vec<(String, &'static str)> {
    ErrorKind::ALL.iter().map(|kind| (format!("{kind:?}"), exception_name(*kind))).collect()
}
