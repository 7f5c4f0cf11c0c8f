//! Policies and ignore rules in force in one directory of an upload.
//!
//! Rules come from the policy defined for exactly this directory and from its dot-ignore files,
//! on top of those of its parent. What a pattern matches and how policies merge is decided in
//! `kopia_format`; here files are found and read.

use super::engine::Upload;
use super::large_file::Storing;
use crate::error::Result;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::snapshots;
use crate::source::listing::Listing;
use crate::source::metadata::{Kind, Metadata, describe, describe_io, open_file, open_file_beneath};
use kopia_format::compression::CompressorId;
use kopia_format::ignore::{
    CACHE_DIRECTORY_TAG_NAME, CACHE_DIRECTORY_TAG_SIGNATURE, Candidate, IgnoreContext,
};
use kopia_format::policy::{ActionsPolicy, Policy, PolicyTree, file_extension};
use kopia_format::snapshot::SourceInfo;
use kopia_format::splitter::SplitterAlgorithm;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

/// Longest dot-ignore file: every entry is matched with each of its rules.
const DOT_IGNORE_BYTES_MAX: u64 = 1 << 20;

/// What is in force in a directory.
#[derive(Clone)]
pub(super) struct Rules {
    policies: PolicyTree,
    ignore: IgnoreContext,
    /// Whether size or device may exclude entries.
    has_limits: bool,
}

impl Rules {
    /// The policies of a source.
    ///
    /// # Errors
    /// What reading manifests says.
    pub(super) fn of_source(repository: &Repository, source: &SourceInfo) -> Result<Self> {
        let policies = PolicyTree::for_source(source, &snapshots::policies(repository)?);
        let rules = Self { policies, ignore: IgnoreContext::default(), has_limits: false };
        if rules.policy().actions != ActionsPolicy::default() {
            tracing::warn!("the policy has actions before or after snapshots: they are not run");
        }
        Ok(rules)
    }
    fn policy(&self) -> &Policy {
        self.policies.effective_policy()
    }
    /// Number of files to read at a time.
    pub(super) fn parallelism(&self) -> Option<usize> {
        usize::try_from(self.policy().upload.max_parallel_file_reads?).ok()
    }
    /// Whether a snapshot that equals its parent is not saved.
    pub(super) fn ignores_identical(&self) -> bool {
        self.policy().retention.ignore_identical_snapshots.unwrap_or(false)
    }
    /// Policies of a child; its own ignore rules come with `enter`.
    pub(super) fn child(&self, name: &[u8]) -> Self {
        Self { policies: self.policies.child(name), ..self.clone() }
    }
    /// Whether errors of files here are ignored.
    pub(super) fn ignores_file_errors(&self) -> bool {
        self.policy().error_handling.ignore_file_errors.unwrap_or(false)
    }
    /// Whether it is ignored that this directory cannot be read.
    pub(super) fn ignores_directory_errors(&self) -> bool {
        self.policy().error_handling.ignore_directory_errors.unwrap_or(false)
    }
    /// Whether devices, FIFOs and sockets are passed over silently.
    pub(super) fn ignores_unknown_types(&self) -> bool {
        self.policy().error_handling.ignore_unknown_types.unwrap_or(true)
    }

    /// Reads the directory's own rules; `path` is where it is in `volume`. `None` if it is a cache directory, whose contents are left out.
    ///
    /// # Errors
    /// A dot-ignore file that cannot be read or has a malformed rule, in words.
    pub(super) fn enter(
        &self,
        (volume, directory): (BorrowedFd<'_>, BorrowedFd<'_>),
        path: &[u8],
        listing: &Listing,
    ) -> std::result::Result<Option<Self>, String> {
        if self.policy().files.ignore_cache_dirs.unwrap_or(true) && is_cache_directory(directory, listing) {
            return Ok(None);
        }
        let defined = self.policies.defined_policy().map(|policy| &policy.files);
        let mut contents = Vec::new();
        for name in self.ignore.dot_ignore_files(defined) {
            contents.extend(read_dot_ignore((volume, path), directory, name, listing)?);
        }
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let ignore = self.ignore.enter(path, defined, &contents).map_err(|error| error.to_string())?;
        let limits =
            defined.is_some_and(|files| files.max_file_size > 0 || files.one_file_system == Some(true));
        Ok(Some(Self { ignore, has_limits: self.has_limits || limits, policies: self.policies.clone() }))
    }
    /// Whether the name of an entry is excluded.
    fn excludes_name(&self, path: &[u8], is_directory: bool) -> bool {
        !self.ignore.includes(&Candidate { path, is_directory, size: 0, is_on_other_device: false })
    }
    /// Whether size or device exclude an entry whose name is included.
    pub(super) fn excludes(
        &self,
        path: impl FnOnce() -> Vec<u8>,
        entry: &Metadata,
        directory: &Metadata,
    ) -> bool {
        self.has_limits
            && !self.ignore.includes(&Candidate {
                path: &path(),
                is_directory: entry.file_type == FileType::Directory,
                size: entry.size.cast_signed(),
                is_on_other_device: entry.device != directory.device,
            })
    }
}

impl Upload<'_> {
    /// Takes entries that rules exclude by name out of a listing.
    pub(super) fn exclude(
        &self,
        listing: &mut Listing,
        directory: BorrowedFd<'_>,
        path: &[u8],
        rules: &Rules,
    ) {
        let mut whole = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let prefix = whole.len();
        listing.retain(|name, file_name, kind| {
            // Nothing of it is read any more, and there may be many rules.
            if self.is_canceled() {
                return true;
            }
            whole.truncate(prefix);
            whole.extend_from_slice(name);
            let excluded = rules.excludes_name(&whole, kind.sorts_as_directory());
            if excluded {
                let size = Metadata::of_name(directory, file_name).map_or(0, |metadata| metadata.size);
                self.stats.count_excluded(kind.sorts_as_directory(), size);
                Progress::add(&self.progress.entries_ignored, 1);
            }
            !excluded
        });
    }
    /// Compressor of directories and index objects.
    pub(super) fn metadata_compressor(&self, rules: &Rules) -> CompressorId {
        self.compressor_called(rules.policy().metadata_compression.compressor())
    }
    /// The compressor that a policy names. Kopia stores uncompressed where it cannot write with it (`lz4`, which it
    /// gave up, and names it does not know); so do we, and say it once.
    fn compressor_called(&self, name: Option<&str>) -> CompressorId {
        let Some(name) = name else { return CompressorId::NONE };
        let found = CompressorId::parse(name).unwrap_or(CompressorId::NONE);
        let can_write = found == CompressorId::NONE || CompressorId::writable().contains(&found);
        if can_write && (found != CompressorId::NONE || matches!(name, "" | "none")) {
            return found;
        }
        if self.degraded.lock().insert(name.to_owned()) {
            tracing::warn!(name, "the policy's compressor cannot be written with, storing uncompressed");
        }
        CompressorId::NONE
    }
    /// How the data of a file is stored.
    pub(super) fn storing(&self, rules: &Rules, name: &[u8], size: u64) -> Storing {
        let child = rules.policies.child(name);
        let policy = child.effective_policy();
        let chosen = policy.compression.compressor_for_file(file_extension(name), size.cast_signed());
        let splitter = Some(policy.splitter.algorithm.as_str())
            .filter(|name| !name.is_empty() && !self.options.repository_splitter);
        Storing {
            compressor: self.options.compressor.unwrap_or_else(|| self.compressor_called(chosen)),
            metadata_compressor: self.compressor_called(policy.metadata_compression.compressor()),
            splitter: splitter.and_then(|name| SplitterAlgorithm::parse(name).ok()).unwrap_or(self.splitter),
        }
    }
    /// The size above which a file is uploaded in parts.
    pub(super) fn parallel_above(&self, rules: &Rules, name: &[u8]) -> Option<u64> {
        let child = rules.policies.child(name);
        let of_policy = child.effective_policy().upload.parallel_upload_above_size;
        self.options.parallel_upload_above_bytes.or_else(|| u64::try_from(of_policy?).ok())
    }
}

/// Whether the directory marks itself as a cache.
fn is_cache_directory(directory: BorrowedFd<'_>, listing: &Listing) -> bool {
    let Some(name) = listing.find_file(CACHE_DIRECTORY_TAG_NAME.as_bytes(), Kind::File) else { return false };
    let Ok(handle) = open_file(directory, name) else { return false };
    let mut beginning = Vec::new();
    let limit = CACHE_DIRECTORY_TAG_SIGNATURE.len() as u64;
    File::from(handle).take(limit).read_to_end(&mut beginning).is_ok()
        && beginning == CACHE_DIRECTORY_TAG_SIGNATURE
}

/// The bytes of a dot-ignore file, if it is there; a link is followed to a file of the volume, and no further: who
/// owns the volume must not read through it what only the mover may.
fn read_dot_ignore(
    (volume, directory_path): (BorrowedFd<'_>, &[u8]),
    directory: BorrowedFd<'_>,
    name: &str,
    listing: &Listing,
) -> std::result::Result<Option<Vec<u8>>, String> {
    // The name may be a path (`sub/ignore`), which no listing has.
    let is_path = name.contains('/');
    let is_listed = |kind| listing.find_file(name.as_bytes(), kind).is_some();
    if !is_path && !is_listed(Kind::File) && !is_listed(Kind::Symlink) {
        return Ok(None);
    }
    let failed = |error: String| format!("unable to open ignore file {name}: {error}");
    let path = |path| CString::new(path).map_err(|error| failed(error.to_string()));
    let opened = if is_path || is_listed(Kind::Symlink) {
        let separator: &[u8] = if directory_path.is_empty() { b"" } else { b"/" };
        open_file_beneath(volume, &path([directory_path, separator, name.as_bytes()].concat())?)
    } else {
        open_file(directory, &path(name.into())?)
    };
    let handle = match opened {
        Ok(handle) => handle,
        Err(Errno::NOENT) if is_path || !is_listed(Kind::Symlink) => return Ok(None),
        Err(Errno::XDEV) => return Err(failed("it leads out of what is backed up; copy it there".into())),
        Err(Errno::NOSYS) => {
            return Err(failed("this kernel (before 5.6) cannot follow links safely".into()));
        }
        Err(error) => return Err(failed(describe(error))),
    };
    match Metadata::of_handle(handle.as_fd()) {
        Ok(metadata) if metadata.file_type == FileType::RegularFile => {}
        Ok(_) if is_listed(Kind::Symlink) => return Err(failed("the link does not lead to a file".into())),
        Ok(_) => return Ok(None),
        Err(error) => return Err(failed(describe(error))),
    }
    let mut bytes = Vec::new();
    let read = File::from(handle).take(DOT_IGNORE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(describe_io(&error)))?;
    if bytes.len() as u64 > DOT_IGNORE_BYTES_MAX {
        return Err(failed(format!("it is longer than {DOT_IGNORE_BYTES_MAX} bytes")));
    }
    Ok(Some(bytes))
}
