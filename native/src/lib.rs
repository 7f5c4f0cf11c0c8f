//! The extension module `repository._native`: Python objects ↔ engine values, GIL, errors.
//!
//! No decision is made in here. Long work crosses in one call; structured requests and results cross as
//! JSON texts; every blocking call lets the GIL go. The prose of the interface is `repository/_native.pyi`.

// The stub holds the documentation of what Python sees; here it would be said twice.
#![allow(missing_docs)]

mod ahead;
mod allocator;
mod batches;
mod block;
mod documents;
mod errors;
mod events;
mod file;
mod format;
mod inspection;
mod maintenance;
mod objects;
mod password;
mod policies;
mod progress;
mod repository;
mod requests;
mod trees;
mod verification;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::ahead::{Ahead, measure_tree};
    #[pymodule_export]
    use super::batches::Batches;
    #[pymodule_export]
    use super::block::{ChangedBlocks, ask_changed_blocks};
    #[pymodule_export]
    use super::errors::error_kinds;
    #[pymodule_export]
    use super::events::drain_events;
    #[pymodule_export]
    use super::file::File;
    #[pymodule_export]
    use super::format::{roll_back_upgrade, set_parameters, upgrade, validate_upgrade};
    #[pymodule_export]
    use super::maintenance::{
        change_password, copy_snapshots, health, maintain, maintenance_info, repair, set_maintenance_owner,
        sync_to,
    };
    #[pymodule_export]
    use super::objects::ObjectStore;
    #[pymodule_export]
    use super::policies::check_policy;
    #[pymodule_export]
    use super::progress::{CancelToken, Progress};
    #[pymodule_export]
    use super::repository::Repository;
    #[pymodule_export]
    use super::verification::verify_repository;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("BUILD_PROFILE", super::BUILD_PROFILE)?;
        super::allocator::configure();
        super::events::start();
        kopia_engine::descriptors::raise_limit();
        super::warn_if_debug(module.py())
    }
}

const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

fn warn_if_debug(py: Python<'_>) -> PyResult<()> {
    if BUILD_PROFILE == "release" {
        return Ok(());
    }
    let category = py.get_type::<pyo3::exceptions::PyRuntimeWarning>();
    PyErr::warn(py, &category, c"repository._native is a debug build: many times slower; run make build", 1)
}
