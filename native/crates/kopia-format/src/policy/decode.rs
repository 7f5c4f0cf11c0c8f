//! Reading the JSON of a policy manifest; unknown fields (of later versions) are skipped.

use super::*;
use crate::error::Result;
use crate::json::cursor::{Cursor, Scan, read_all};

impl Policy {
    /// Parses the payload of a policy manifest.
    ///
    /// # Errors
    /// Anything but the JSON of a policy is malformed.
    pub fn decode(json: &[u8]) -> Result<Self> {
        read_all("policy", json, read_policy)
    }
}

fn read_policy(cursor: &mut Cursor<'_>) -> Scan<Policy> {
    const FIELDS: [&str; 12] = [
        "retention",
        "files",
        "errorHandling",
        "scheduling",
        "compression",
        "metadataCompression",
        "splitter",
        "actions",
        "osSnapshots",
        "logging",
        "upload",
        "noParent",
    ];
    let mut policy = Policy::default();
    cursor.object(&FIELDS, |cursor, name| match name {
        "retention" => read_retention(cursor, &mut policy.retention),
        "files" => read_files(cursor, &mut policy.files),
        "errorHandling" => read_error_handling(cursor, &mut policy.error_handling),
        "scheduling" => read_scheduling(cursor, &mut policy.scheduling),
        "compression" => read_compression(cursor, &mut policy.compression),
        "metadataCompression" => {
            read_name(cursor, &["compressorName"], &mut policy.metadata_compression.compressor_name)
        }
        "splitter" => read_name(cursor, &["algorithm"], &mut policy.splitter.algorithm),
        "actions" => read_actions(cursor, &mut policy.actions),
        "osSnapshots" => read_os_snapshots(cursor, &mut policy.os_snapshots),
        "logging" => read_logging(cursor, &mut policy.logging),
        "upload" => read_upload(cursor, &mut policy.upload),
        _ => cursor.boolean().map(|value| policy.no_parent = value),
    })?;
    Ok(policy)
}

fn read_name(cursor: &mut Cursor<'_>, field: &'static [&'static str; 1], into: &mut String) -> Scan<()> {
    cursor.object(field, |cursor, _| cursor.string().map(|name| *into = name.into_owned())).map(drop)
}

fn read_retention(cursor: &mut Cursor<'_>, retention: &mut RetentionPolicy) -> Scan<()> {
    const FIELDS: [&str; 7] = [
        "keepLatest",
        "keepHourly",
        "keepDaily",
        "keepWeekly",
        "keepMonthly",
        "keepAnnual",
        "ignoreIdenticalSnapshots",
    ];
    let read = cursor.object(&FIELDS, |cursor, name| {
        match name {
            "keepLatest" => retention.keep_latest = Some(cursor.integer()?),
            "keepHourly" => retention.keep_hourly = Some(cursor.integer()?),
            "keepDaily" => retention.keep_daily = Some(cursor.integer()?),
            "keepWeekly" => retention.keep_weekly = Some(cursor.integer()?),
            "keepMonthly" => retention.keep_monthly = Some(cursor.integer()?),
            "keepAnnual" => retention.keep_annual = Some(cursor.integer()?),
            _ => retention.ignore_identical_snapshots = Some(cursor.boolean()?),
        }
        Ok(())
    });
    read.map(drop)
}

fn read_files(cursor: &mut Cursor<'_>, files: &mut FilesPolicy) -> Scan<()> {
    const FIELDS: [&str; 7] = [
        "ignore",
        "noParentIgnore",
        "ignoreDotFiles",
        "noParentDotFiles",
        "ignoreCacheDirs",
        "maxFileSize",
        "oneFileSystem",
    ];
    let read = cursor.object(&FIELDS, |cursor, name| {
        match name {
            "ignore" => files.ignore = cursor.strings()?,
            "noParentIgnore" => files.no_parent_ignore = cursor.boolean()?,
            "ignoreDotFiles" => files.ignore_dot_files = cursor.strings()?,
            "noParentDotFiles" => files.no_parent_dot_files = cursor.boolean()?,
            "ignoreCacheDirs" => files.ignore_cache_dirs = Some(cursor.boolean()?),
            "maxFileSize" => files.max_file_size = cursor.integer()?,
            _ => files.one_file_system = Some(cursor.boolean()?),
        }
        Ok(())
    });
    read.map(drop)
}

fn read_error_handling(cursor: &mut Cursor<'_>, errors: &mut ErrorHandlingPolicy) -> Scan<()> {
    let read = cursor.object(
        &["ignoreFileErrors", "ignoreDirectoryErrors", "ignoreUnknownTypes"],
        |cursor, name| {
            let choice = Some(cursor.boolean()?);
            match name {
                "ignoreFileErrors" => errors.ignore_file_errors = choice,
                "ignoreDirectoryErrors" => errors.ignore_directory_errors = choice,
                _ => errors.ignore_unknown_types = choice,
            }
            Ok(())
        },
    );
    read.map(drop)
}

fn read_scheduling(cursor: &mut Cursor<'_>, scheduling: &mut SchedulingPolicy) -> Scan<()> {
    const FIELDS: [&str; 6] =
        ["intervalSeconds", "timeOfDay", "noParentTimeOfDay", "manual", "cron", "runMissed"];
    let read = cursor.object(&FIELDS, |cursor, name| {
        match name {
            "intervalSeconds" => scheduling.interval_seconds = cursor.integer()?,
            "timeOfDay" => scheduling.times_of_day = read_times_of_day(cursor)?,
            "noParentTimeOfDay" => scheduling.no_parent_times_of_day = cursor.boolean()?,
            "manual" => scheduling.manual = cursor.boolean()?,
            "cron" => scheduling.cron = cursor.strings()?,
            _ => scheduling.run_missed = Some(cursor.boolean()?),
        }
        Ok(())
    });
    read.map(drop)
}

fn read_times_of_day(cursor: &mut Cursor<'_>) -> Scan<Vec<TimeOfDay>> {
    let mut all = Vec::new();
    cursor.array(|cursor| {
        let mut time = TimeOfDay::default();
        cursor.object(&["hour", "min"], |cursor, name| {
            let number = cursor.integer()?;
            match name {
                "hour" => time.hour = number,
                _ => time.minute = number,
            }
            Ok(())
        })?;
        all.push(time);
        Ok(())
    })?;
    Ok(all)
}

fn read_compression(cursor: &mut Cursor<'_>, compression: &mut CompressionPolicy) -> Scan<()> {
    const FIELDS: [&str; 7] = [
        "compressorName",
        "onlyCompress",
        "noParentOnlyCompress",
        "neverCompress",
        "noParentNeverCompress",
        "minSize",
        "maxSize",
    ];
    let read = cursor.object(&FIELDS, |cursor, name| {
        match name {
            "compressorName" => compression.compressor_name = cursor.string()?.into_owned(),
            "onlyCompress" => compression.only_compress = cursor.strings()?,
            "noParentOnlyCompress" => compression.no_parent_only_compress = cursor.boolean()?,
            "neverCompress" => compression.never_compress = cursor.strings()?,
            "noParentNeverCompress" => compression.no_parent_never_compress = cursor.boolean()?,
            "minSize" => compression.min_size = cursor.integer()?,
            _ => compression.max_size = cursor.integer()?,
        }
        Ok(())
    });
    read.map(drop)
}

fn read_actions(cursor: &mut Cursor<'_>, actions: &mut ActionsPolicy) -> Scan<()> {
    const FIELDS: [&str; 4] = ["beforeFolder", "afterFolder", "beforeSnapshotRoot", "afterSnapshotRoot"];
    let read = cursor.object(&FIELDS, |cursor, name| {
        let action = Some(read_action(cursor)?);
        match name {
            "beforeFolder" => actions.before_folder = action,
            "afterFolder" => actions.after_folder = action,
            "beforeSnapshotRoot" => actions.before_snapshot_root = action,
            _ => actions.after_snapshot_root = action,
        }
        Ok(())
    });
    read.map(drop)
}

fn read_action(cursor: &mut Cursor<'_>) -> Scan<ActionCommand> {
    let mut action = ActionCommand::default();
    cursor.object(&["path", "args", "script", "timeout", "mode"], |cursor, name| {
        match name {
            "path" => action.path = cursor.string()?.into_owned(),
            "args" => action.args = cursor.strings()?,
            "script" => action.script = cursor.string()?.into_owned(),
            "timeout" => action.timeout_seconds = cursor.integer()?,
            _ => action.mode = cursor.string()?.into_owned(),
        }
        Ok(())
    })?;
    Ok(action)
}

fn read_os_snapshots(cursor: &mut Cursor<'_>, snapshots: &mut OsSnapshotPolicy) -> Scan<()> {
    let read = cursor.object(&["volumeShadowCopy"], |cursor, _| {
        let enable = |cursor: &mut Cursor<'_>, _: &str| {
            snapshots.volume_shadow_copy_enable = Some(cursor.integer()?);
            Ok(())
        };
        cursor.object(&["enable"], enable).map(drop)
    });
    read.map(drop)
}

fn read_logging(cursor: &mut Cursor<'_>, logging: &mut LoggingPolicy) -> Scan<()> {
    let read = cursor.object(&["directories", "entries"], |cursor, part| {
        let fields = &["snapshotted", "ignored", "cacheHit", "cacheMiss"];
        let read = cursor.object(fields, |cursor, name| {
            let detail = Some(cursor.integer()?);
            match (part, name) {
                ("directories", "snapshotted") => logging.directories_snapshotted = detail,
                ("directories", "ignored") => logging.directories_ignored = detail,
                ("entries", "snapshotted") => logging.entries_snapshotted = detail,
                ("entries", "ignored") => logging.entries_ignored = detail,
                ("entries", "cacheHit") => logging.entries_cache_hit = detail,
                ("entries", "cacheMiss") => logging.entries_cache_miss = detail,
                _ => {}
            }
            Ok(())
        });
        read.map(drop)
    });
    read.map(drop)
}

fn read_upload(cursor: &mut Cursor<'_>, upload: &mut UploadPolicy) -> Scan<()> {
    const FIELDS: [&str; 3] = ["maxParallelSnapshots", "maxParallelFileReads", "parallelUploadAboveSize"];
    let read = cursor.object(&FIELDS, |cursor, name| {
        let number = Some(cursor.integer()?);
        match name {
            "maxParallelSnapshots" => upload.max_parallel_snapshots = number,
            "maxParallelFileReads" => upload.max_parallel_file_reads = number,
            _ => upload.parallel_upload_above_size = number,
        }
        Ok(())
    });
    read.map(drop)
}
