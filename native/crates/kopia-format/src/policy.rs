//! Policies (format document §6.3): their parts, JSON, merging, and the tree over a source.
//!
//! Here: the types and what a policy decides about one file. `encode`/`decode`: the JSON of a
//! policy manifest; `merge`: the effective policy; `target`: which policies concern a source;
//! `tree`: policies of directories below it. The surprise: a policy defined below a source
//! counts *as it is* for its subtree, it is not merged with its parents'.

mod decode;
mod encode;
mod merge;
mod target;
mod tree;

pub use merge::{default_policy, effective_policy};
pub use target::{DefinedPolicy, hierarchy, labels_for_target, parent_path, target_of_labels};
pub use tree::PolicyTree;

/// A policy as it is stored. Every part is always there; what is unset in it is `None` or empty.
///
/// Field names are those of the JSON in Rust's spelling. Source: Kopia `snapshot/policy/policy.go`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Policy {
    pub retention: RetentionPolicy,
    pub files: FilesPolicy,
    pub error_handling: ErrorHandlingPolicy,
    pub scheduling: SchedulingPolicy,
    pub compression: CompressionPolicy,
    pub metadata_compression: MetadataCompressionPolicy,
    pub splitter: SplitterPolicy,
    pub actions: ActionsPolicy,
    pub os_snapshots: OsSnapshotPolicy,
    pub logging: LoggingPolicy,
    pub upload: UploadPolicy,
    /// Merging stops after this policy; not even the defaults are merged.
    pub no_parent: bool,
}

/// How many snapshots are kept; see [`crate::retention`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct RetentionPolicy {
    pub keep_latest: Option<i64>,
    pub keep_hourly: Option<i64>,
    pub keep_daily: Option<i64>,
    pub keep_weekly: Option<i64>,
    pub keep_monthly: Option<i64>,
    pub keep_annual: Option<i64>,
    pub ignore_identical_snapshots: Option<bool>,
}

/// What is left out of snapshots; see [`crate::ignore`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct FilesPolicy {
    pub ignore: Vec<String>,
    pub no_parent_ignore: bool,
    /// Names of files with ignore rules.
    pub ignore_dot_files: Vec<String>,
    pub no_parent_dot_files: bool,
    /// Unset means yes.
    pub ignore_cache_dirs: Option<bool>,
    /// Bytes; 0 is no limit.
    pub max_file_size: i64,
    pub one_file_system: Option<bool>,
}

/// Which errors do not fail a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct ErrorHandlingPolicy {
    pub ignore_file_errors: Option<bool>,
    pub ignore_directory_errors: Option<bool>,
    /// Unset means yes.
    pub ignore_unknown_types: Option<bool>,
}

/// A time of day of the client's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[allow(missing_docs)]
pub struct TimeOfDay {
    pub hour: i64,
    pub minute: i64,
}

/// When the CLI's server makes snapshots; this program only keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SchedulingPolicy {
    pub interval_seconds: i64,
    pub times_of_day: Vec<TimeOfDay>,
    pub no_parent_times_of_day: bool,
    pub manual: bool,
    pub cron: Vec<String>,
    pub run_missed: Option<bool>,
}

/// How file data is compressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct CompressionPolicy {
    /// Empty or `none`: not at all.
    pub compressor_name: String,
    /// Extensions with their dot.
    pub only_compress: Vec<String>,
    pub no_parent_only_compress: bool,
    /// Extensions with their dot.
    pub never_compress: Vec<String>,
    pub no_parent_never_compress: bool,
    /// Bytes; 0 is no limit.
    pub min_size: i64,
    /// Bytes; 0 is no limit.
    pub max_size: i64,
}

/// How directories and index objects are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct MetadataCompressionPolicy {
    pub compressor_name: String,
}

/// Where file data is cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SplitterPolicy {
    /// Empty: the repository's splitter.
    pub algorithm: String,
}

/// A command to run; this program keeps it and never runs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct ActionCommand {
    pub path: String,
    pub args: Vec<String>,
    pub script: String,
    pub timeout_seconds: i64,
    pub mode: String,
}

/// Commands around a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct ActionsPolicy {
    /// Not inherited.
    pub before_folder: Option<ActionCommand>,
    /// Not inherited.
    pub after_folder: Option<ActionCommand>,
    pub before_snapshot_root: Option<ActionCommand>,
    pub after_snapshot_root: Option<ActionCommand>,
}

/// Use of snapshots of the operating system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsSnapshotPolicy {
    /// 0 never, 1 always, 2 when available (Windows only).
    pub volume_shadow_copy_enable: Option<u8>,
}

/// Detail of logs, each 0 (none) to 10.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct LoggingPolicy {
    pub directories_snapshotted: Option<i64>,
    pub directories_ignored: Option<i64>,
    pub entries_snapshotted: Option<i64>,
    pub entries_ignored: Option<i64>,
    pub entries_cache_hit: Option<i64>,
    pub entries_cache_miss: Option<i64>,
}

/// Parallelism of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct UploadPolicy {
    pub max_parallel_snapshots: Option<i64>,
    /// Unset: as many as there are processors.
    pub max_parallel_file_reads: Option<i64>,
    /// Files above so many bytes are cut into parts of that length, each split on its own.
    pub parallel_upload_above_size: Option<i64>,
}

/// The extension of a file name with its dot, empty if it has none: all from the last dot of the last path component.
pub fn file_extension(name: &[u8]) -> &[u8] {
    let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    base.iter().rposition(|&byte| byte == b'.').map_or(&[], |dot| &base[dot..])
}

impl CompressionPolicy {
    /// Name of the compressor for a file of `size` bytes whose extension (with its dot) is `extension`; `None` for none.
    ///
    /// A list in `only_compress` excludes nothing that is not on it: so Kopia v0.22 does it.
    pub fn compressor_for_file(&self, extension: &[u8], size: i64) -> Option<&str> {
        let compressor = compressor(&self.compressor_name)?;
        if (self.min_size > 0 && size < self.min_size) || (self.max_size > 0 && size > self.max_size) {
            return None;
        }
        let only = is_in_sorted(extension, &self.only_compress);
        (only || !is_in_sorted(extension, &self.never_compress)).then_some(compressor)
    }
}

impl MetadataCompressionPolicy {
    /// Name of the compressor for directories and index objects; `None` for none.
    pub fn compressor(&self) -> Option<&str> {
        compressor(&self.compressor_name)
    }
}

fn compressor(name: &str) -> Option<&str> {
    (!matches!(name, "" | "none")).then_some(name)
}

/// Whether Kopia's search finds `wanted`: a binary one, also in lists of child policies that nobody sorted.
///
/// The steps are Go's `sort.Search`; a search with other steps finds other entries in an unsorted list.
fn is_in_sorted(wanted: &[u8], sorted: &[String]) -> bool {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = (low + high) / 2;
        if sorted[middle].as_bytes() < wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    sorted.get(low).is_some_and(|found| found.as_bytes() == wanted)
}

#[cfg(test)]
mod tests;
