//! JSON of a policy manifest as Kopia writes it: every part is there, unset fields are not.

use super::*;
use crate::json::{ObjectWriter, write_array};

impl Policy {
    /// Payload of the policy's manifest, without a newline (it becomes part of an `m` content).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let mut json = ObjectWriter::new(&mut out);
        write_retention(&self.retention, json.field("retention"));
        write_files(&self.files, json.field("files"));
        write_error_handling(&self.error_handling, json.field("errorHandling"));
        write_scheduling(&self.scheduling, json.field("scheduling"));
        write_compression(&self.compression, json.field("compression"));
        write_name(
            "compressorName",
            &self.metadata_compression.compressor_name,
            json.field("metadataCompression"),
        );
        write_name("algorithm", &self.splitter.algorithm, json.field("splitter"));
        write_actions(&self.actions, json.field("actions"));
        write_os_snapshots(&self.os_snapshots, json.field("osSnapshots"));
        write_logging(&self.logging, json.field("logging"));
        write_upload(&self.upload, json.field("upload"));
        write_flag(&mut json, "noParent", self.no_parent);
        json.end();
        out
    }
}

/// Appends a number if it is set, even 0.
fn write_optional(json: &mut ObjectWriter<'_>, name: &str, value: Option<i64>) {
    if let Some(value) = value {
        json.integer(name, value);
    }
}

/// Appends a choice if it is set, even `false`.
fn write_choice(json: &mut ObjectWriter<'_>, name: &str, value: Option<bool>) {
    if let Some(value) = value {
        json.boolean(name, value);
    }
}

/// Appends a flag if it is `true`.
fn write_flag(json: &mut ObjectWriter<'_>, name: &str, value: bool) {
    if value {
        json.boolean(name, true);
    }
}

/// Appends an object with one string, empty if the string is.
fn write_name(field: &str, name: &str, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.nonempty_string(field, name.as_bytes());
    json.end();
}

fn write_retention(retention: &RetentionPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    write_optional(&mut json, "keepLatest", retention.keep_latest);
    write_optional(&mut json, "keepHourly", retention.keep_hourly);
    write_optional(&mut json, "keepDaily", retention.keep_daily);
    write_optional(&mut json, "keepWeekly", retention.keep_weekly);
    write_optional(&mut json, "keepMonthly", retention.keep_monthly);
    write_optional(&mut json, "keepAnnual", retention.keep_annual);
    write_choice(&mut json, "ignoreIdenticalSnapshots", retention.ignore_identical_snapshots);
    json.end();
}

fn write_files(files: &FilesPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.nonempty_strings("ignore", &files.ignore);
    write_flag(&mut json, "noParentIgnore", files.no_parent_ignore);
    json.nonempty_strings("ignoreDotFiles", &files.ignore_dot_files);
    write_flag(&mut json, "noParentDotFiles", files.no_parent_dot_files);
    write_choice(&mut json, "ignoreCacheDirs", files.ignore_cache_dirs);
    json.nonzero_integer("maxFileSize", files.max_file_size);
    write_choice(&mut json, "oneFileSystem", files.one_file_system);
    json.end();
}

fn write_error_handling(errors: &ErrorHandlingPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    write_choice(&mut json, "ignoreFileErrors", errors.ignore_file_errors);
    write_choice(&mut json, "ignoreDirectoryErrors", errors.ignore_directory_errors);
    write_choice(&mut json, "ignoreUnknownTypes", errors.ignore_unknown_types);
    json.end();
}

fn write_scheduling(scheduling: &SchedulingPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.nonzero_integer("intervalSeconds", scheduling.interval_seconds);
    if !scheduling.times_of_day.is_empty() {
        write_array(&scheduling.times_of_day, json.field("timeOfDay"), |time, out| {
            let mut json = ObjectWriter::new(out);
            json.integer("hour", time.hour);
            json.integer("min", time.minute);
            json.end();
        });
    }
    write_flag(&mut json, "noParentTimeOfDay", scheduling.no_parent_times_of_day);
    write_flag(&mut json, "manual", scheduling.manual);
    json.nonempty_strings("cron", &scheduling.cron);
    write_choice(&mut json, "runMissed", scheduling.run_missed);
    json.end();
}

fn write_compression(compression: &CompressionPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.nonempty_string("compressorName", compression.compressor_name.as_bytes());
    json.nonempty_strings("onlyCompress", &compression.only_compress);
    write_flag(&mut json, "noParentOnlyCompress", compression.no_parent_only_compress);
    json.nonempty_strings("neverCompress", &compression.never_compress);
    write_flag(&mut json, "noParentNeverCompress", compression.no_parent_never_compress);
    json.nonzero_integer("minSize", compression.min_size);
    json.nonzero_integer("maxSize", compression.max_size);
    json.end();
}

fn write_actions(actions: &ActionsPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    let all = [
        ("beforeFolder", &actions.before_folder),
        ("afterFolder", &actions.after_folder),
        ("beforeSnapshotRoot", &actions.before_snapshot_root),
        ("afterSnapshotRoot", &actions.after_snapshot_root),
    ];
    for (name, action) in all {
        if let Some(action) = action {
            write_action(action, json.field(name));
        }
    }
    json.end();
}

fn write_action(action: &ActionCommand, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.nonempty_string("path", action.path.as_bytes());
    json.nonempty_strings("args", &action.args);
    json.nonempty_string("script", action.script.as_bytes());
    json.nonzero_integer("timeout", action.timeout_seconds);
    json.nonempty_string("mode", action.mode.as_bytes());
    json.end();
}

fn write_os_snapshots(snapshots: &OsSnapshotPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    let mut shadow_copy = ObjectWriter::new(json.field("volumeShadowCopy"));
    write_optional(&mut shadow_copy, "enable", snapshots.volume_shadow_copy_enable.map(i64::from));
    shadow_copy.end();
    json.end();
}

fn write_logging(logging: &LoggingPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    let mut directories = ObjectWriter::new(json.field("directories"));
    write_optional(&mut directories, "snapshotted", logging.directories_snapshotted);
    write_optional(&mut directories, "ignored", logging.directories_ignored);
    directories.end();
    let mut entries = ObjectWriter::new(json.field("entries"));
    write_optional(&mut entries, "snapshotted", logging.entries_snapshotted);
    write_optional(&mut entries, "ignored", logging.entries_ignored);
    write_optional(&mut entries, "cacheHit", logging.entries_cache_hit);
    write_optional(&mut entries, "cacheMiss", logging.entries_cache_miss);
    entries.end();
    json.end();
}

fn write_upload(upload: &UploadPolicy, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    write_optional(&mut json, "maxParallelSnapshots", upload.max_parallel_snapshots);
    write_optional(&mut json, "maxParallelFileReads", upload.max_parallel_file_reads);
    write_optional(&mut json, "parallelUploadAboveSize", upload.parallel_upload_above_size);
    json.end();
}
