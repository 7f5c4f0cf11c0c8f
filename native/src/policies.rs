//! Policies before they are defined: what no upload could obey is refused.

use crate::errors::{Result, argument};
use kopia_format::FormatError;
use kopia_format::compression::CompressorId;
use kopia_format::ignore::IgnoreRule;
use kopia_format::policy::Policy;
use kopia_format::splitter::SplitterAlgorithm;
use pyo3::prelude::*;

#[pyfunction]
pub(crate) fn check_policy(document: &str) -> Result<()> {
    check(document).map_err(argument)
}

fn check(document: &str) -> std::result::Result<(), FormatError> {
    let policy = Policy::decode(document.as_bytes())?;
    for compressor in [policy.compression.compressor_name, policy.metadata_compression.compressor_name] {
        if !compressor.is_empty() {
            CompressorId::parse(&compressor)?;
        }
    }
    SplitterAlgorithm::parse(&policy.splitter.algorithm)?;
    policy.files.ignore.iter().try_for_each(|rule| IgnoreRule::compile(rule, "").map(drop))
}
