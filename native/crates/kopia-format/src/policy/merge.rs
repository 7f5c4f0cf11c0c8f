//! The effective policy: the first policy that sets a field wins, from the most specific to the defaults.
//!
//! Three kinds of fields do not follow that rule: lists of extensions and times of day are united,
//! and actions around a single folder are not inherited. Source: Kopia `snapshot/policy/policy_merge.go`.

use super::*;

/// What applies where no policy says anything. Source: Kopia `snapshot/policy/policy_tree.go`.
pub fn default_policy() -> Policy {
    Policy {
        retention: RetentionPolicy {
            keep_latest: Some(10),
            keep_hourly: Some(48),
            keep_daily: Some(7),
            keep_weekly: Some(4),
            keep_monthly: Some(24),
            keep_annual: Some(3),
            ignore_identical_snapshots: Some(false),
        },
        files: FilesPolicy { ignore_dot_files: vec![".kopiaignore".into()], ..Default::default() },
        error_handling: ErrorHandlingPolicy {
            ignore_file_errors: Some(false),
            ignore_directory_errors: Some(false),
            ignore_unknown_types: Some(true),
        },
        scheduling: SchedulingPolicy { run_missed: Some(true), ..Default::default() },
        compression: CompressionPolicy { compressor_name: "none".into(), ..Default::default() },
        metadata_compression: MetadataCompressionPolicy { compressor_name: "zstd-fastest".into() },
        os_snapshots: OsSnapshotPolicy { volume_shadow_copy_enable: Some(0) },
        logging: default_logging(),
        upload: UploadPolicy {
            max_parallel_snapshots: Some(1),
            max_parallel_file_reads: None,
            parallel_upload_above_size: Some(2 << 30),
        },
        ..Default::default()
    }
}

fn default_logging() -> LoggingPolicy {
    LoggingPolicy {
        directories_snapshotted: Some(5),
        directories_ignored: Some(5),
        entries_snapshotted: Some(0),
        entries_ignored: Some(5),
        entries_cache_hit: Some(0),
        entries_cache_miss: Some(0),
    }
}

/// Merges the policy of a source itself (if it has one) with those above it, the most specific first, and the defaults.
///
/// After a policy with `no_parent` nothing more is merged, not even the defaults.
pub fn effective_policy<'a>(
    own: Option<&'a Policy>,
    parents: impl IntoIterator<Item = &'a Policy>,
) -> Policy {
    let mut effective = Policy::default();
    for policy in own.into_iter().chain(parents) {
        merge(&mut effective, policy);
        if policy.no_parent {
            return effective;
        }
    }
    merge(&mut effective, &default_policy());
    if let Some(own) = own {
        effective.actions.before_folder = own.actions.before_folder.clone();
        effective.actions.after_folder = own.actions.after_folder.clone();
    }
    effective
}

fn merge(target: &mut Policy, source: &Policy) {
    merge_retention(&mut target.retention, &source.retention);
    merge_files(&mut target.files, &source.files);
    merge_scheduling(&mut target.scheduling, &source.scheduling);
    merge_compression(&mut target.compression, &source.compression);
    merge_logging(&mut target.logging, &source.logging);
    let (errors, from) = (&mut target.error_handling, &source.error_handling);
    first(&mut errors.ignore_file_errors, &from.ignore_file_errors);
    first(&mut errors.ignore_directory_errors, &from.ignore_directory_errors);
    first(&mut errors.ignore_unknown_types, &from.ignore_unknown_types);
    first(&mut target.metadata_compression.compressor_name, &source.metadata_compression.compressor_name);
    first(&mut target.splitter.algorithm, &source.splitter.algorithm);
    first(&mut target.actions.before_snapshot_root, &source.actions.before_snapshot_root);
    first(&mut target.actions.after_snapshot_root, &source.actions.after_snapshot_root);
    let shadow_copy = &mut target.os_snapshots.volume_shadow_copy_enable;
    first(shadow_copy, &source.os_snapshots.volume_shadow_copy_enable);
    let (upload, from) = (&mut target.upload, &source.upload);
    first(&mut upload.max_parallel_snapshots, &from.max_parallel_snapshots);
    first(&mut upload.max_parallel_file_reads, &from.max_parallel_file_reads);
    first(&mut upload.parallel_upload_above_size, &from.parallel_upload_above_size);
}

/// Takes `source` where `target` is not set: absent, empty, 0 or `false`, as its type has it.
fn first<T: Default + PartialEq + Clone>(target: &mut T, source: &T) {
    if *target == T::default() {
        target.clone_from(source);
    }
}

fn merge_retention(target: &mut RetentionPolicy, source: &RetentionPolicy) {
    first(&mut target.keep_latest, &source.keep_latest);
    first(&mut target.keep_hourly, &source.keep_hourly);
    first(&mut target.keep_daily, &source.keep_daily);
    first(&mut target.keep_weekly, &source.keep_weekly);
    first(&mut target.keep_monthly, &source.keep_monthly);
    first(&mut target.keep_annual, &source.keep_annual);
    first(&mut target.ignore_identical_snapshots, &source.ignore_identical_snapshots);
}

fn merge_files(target: &mut FilesPolicy, source: &FilesPolicy) {
    first(&mut target.ignore, &source.ignore);
    first(&mut target.no_parent_ignore, &source.no_parent_ignore);
    first(&mut target.ignore_dot_files, &source.ignore_dot_files);
    first(&mut target.no_parent_dot_files, &source.no_parent_dot_files);
    first(&mut target.ignore_cache_dirs, &source.ignore_cache_dirs);
    first(&mut target.max_file_size, &source.max_file_size);
    first(&mut target.one_file_system, &source.one_file_system);
}

fn merge_scheduling(target: &mut SchedulingPolicy, source: &SchedulingPolicy) {
    first(&mut target.interval_seconds, &source.interval_seconds);
    if !target.no_parent_times_of_day && !source.times_of_day.is_empty() {
        target.times_of_day.extend_from_slice(&source.times_of_day);
        target.times_of_day.sort();
        target.times_of_day.dedup();
    }
    first(&mut target.cron, &source.cron);
    first(&mut target.no_parent_times_of_day, &source.no_parent_times_of_day);
    first(&mut target.manual, &source.manual);
    first(&mut target.run_missed, &source.run_missed);
}

fn merge_compression(target: &mut CompressionPolicy, source: &CompressionPolicy) {
    first(&mut target.compressor_name, &source.compressor_name);
    first(&mut target.min_size, &source.min_size);
    first(&mut target.max_size, &source.max_size);
    unite(&mut target.only_compress, target.no_parent_only_compress, &source.only_compress);
    first(&mut target.no_parent_only_compress, &source.no_parent_only_compress);
    unite(&mut target.never_compress, target.no_parent_never_compress, &source.never_compress);
    first(&mut target.no_parent_never_compress, &source.no_parent_never_compress);
}

/// Adds the extensions of `source`, sorted and each once, unless a more specific policy forbids it.
fn unite(target: &mut Vec<String>, no_parent: bool, source: &[String]) {
    if !no_parent {
        target.extend_from_slice(source);
        target.sort();
        target.dedup();
    }
}

fn merge_logging(target: &mut LoggingPolicy, source: &LoggingPolicy) {
    first(&mut target.directories_snapshotted, &source.directories_snapshotted);
    first(&mut target.directories_ignored, &source.directories_ignored);
    first(&mut target.entries_snapshotted, &source.entries_snapshotted);
    first(&mut target.entries_ignored, &source.entries_ignored);
    first(&mut target.entries_cache_hit, &source.entries_cache_hit);
    first(&mut target.entries_cache_miss, &source.entries_cache_miss);
}
