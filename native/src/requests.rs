//! What Python asks for, as JSON, and its translation to the engine's options.
//!
//! What a request leaves out is the engine's default.

use crate::errors::{Result, argument, invalid};
use kopia_engine::blob::RetentionMode;
use kopia_engine::blob::cache::CacheOptions;
use kopia_engine::blob::connection::ConnectionOptions;
use kopia_engine::blob::layers::throttling::ThrottleLimits;
use kopia_engine::repository::{CreateOptions, OpenOptions};
use kopia_engine::restore::{Overwrite, RestoreOptions};
use kopia_engine::upload::{Parents, UploadOptions};
use kopia_engine::verify::VerifyOptions;
use kopia_format::compression::CompressorId;
use kopia_format::format_blob::KeyDerivation;
use kopia_format::snapshot::SourceInfo;
use kopia_format::{ManifestId, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Reads a request.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| invalid(format!("cannot read the request: {error}")))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CreateRequest {
    hash: Option<String>,
    encryption: Option<String>,
    splitter: Option<String>,
    format_version: Option<u32>,
    max_pack_size_bytes: Option<u64>,
    ecc_overhead_percent: Option<u32>,
    key_derivation: Option<String>,
    retention_mode: Option<String>,
    retention_period_seconds: Option<u64>,
    owner: Option<String>,
    global_policy: Option<bool>,
    pub(crate) shards: Option<Vec<usize>>,
    pub(crate) connection: ConnectionRequest,
}

impl CreateRequest {
    pub(crate) fn options(&self) -> Result<CreateOptions> {
        let default = CreateOptions::default();
        let key_derivation =
            self.key_derivation.as_deref().map(KeyDerivation::parse).transpose().map_err(argument)?;
        Ok(CreateOptions {
            hash: self.hash.clone().unwrap_or(default.hash),
            encryption: self.encryption.clone().unwrap_or(default.encryption),
            splitter: self.splitter.clone().unwrap_or(default.splitter),
            format_version: self.format_version.unwrap_or(default.format_version),
            max_pack_size_bytes: self.max_pack_size_bytes.unwrap_or(default.max_pack_size_bytes),
            ecc_overhead_percent: self.ecc_overhead_percent.unwrap_or(default.ecc_overhead_percent),
            key_derivation: key_derivation.unwrap_or(default.key_derivation),
            retention: self.retention()?,
            owner: self.owner.clone(),
            global_policy: self.global_policy.unwrap_or(default.global_policy),
        })
    }

    fn retention(&self) -> Result<Option<(RetentionMode, Duration)>> {
        let mode = self.retention_mode.as_deref().map(retention_mode).transpose()?;
        match (mode, self.retention_period_seconds) {
            (None, None) => Ok(None),
            (Some(mode), Some(seconds)) => Ok(Some((mode, Duration::from_secs(seconds)))),
            _ => Err(invalid("retention mode and period must be given together")),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OpenRequest {
    username: Option<String>,
    hostname: Option<String>,
    memory_limit_bytes: Option<u64>,
    check_hashes: Option<bool>,
    pub(crate) connection: ConnectionRequest,
}

impl OpenRequest {
    pub(crate) fn options(&self) -> OpenOptions {
        let default = OpenOptions::default();
        OpenOptions {
            username: self.username.clone().unwrap_or(default.username),
            hostname: self.hostname.clone().unwrap_or(default.hostname),
            read_only: self.connection.read_only,
            memory_limit_bytes: self.memory_limit_bytes,
            check_hashes: self.check_hashes.unwrap_or(default.check_hashes),
            index_cache: self.connection.cache(),
            clock: default.clock,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConnectionRequest {
    sync: Option<bool>,
    read_only: bool,
    throttle: ThrottleRequest,
    cache_directory: Option<PathBuf>,
    cache_bytes_max: Option<u64>,
    kill_point: Option<String>,
}

impl ConnectionRequest {
    pub(crate) fn options(&self) -> Result<ConnectionOptions> {
        let default = ConnectionOptions::default();
        Ok(ConnectionOptions {
            sync: self.sync.unwrap_or(default.sync),
            read_only: self.read_only,
            limits: self.throttle.limits(),
            cache: self.cache(),
            kill_at: self.kill_point.as_deref().map(str::parse).transpose()?,
            ..default
        })
    }

    /// No budget is no cache.
    fn cache(&self) -> Option<CacheOptions> {
        let (directory, bytes_max) = (self.cache_directory.clone()?, self.cache_bytes_max.unwrap_or(0));
        (bytes_max > 0).then_some(CacheOptions { directory, bytes_max })
    }
}

/// Limits; what is left out is unlimited.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ThrottleRequest {
    upload_bytes_per_second: Option<NonZeroU64>,
    download_bytes_per_second: Option<NonZeroU64>,
    requests_per_second: Option<NonZeroU64>,
}

impl ThrottleRequest {
    pub(crate) fn limits(&self) -> ThrottleLimits {
        ThrottleLimits {
            upload_bytes_per_second: self.upload_bytes_per_second,
            download_bytes_per_second: self.download_bytes_per_second,
            requests_per_second: self.requests_per_second,
        }
    }
}

/// `user@host:path`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceRequest {
    username: String,
    hostname: String,
    path: String,
}

impl SourceRequest {
    pub(crate) fn info(&self) -> SourceInfo {
        SourceInfo { host: self.hostname.clone(), user_name: self.username.clone(), path: self.path.clone() }
    }
}

/// What a stream is recorded as.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamRequest {
    pub(crate) file_descriptor: i32,
    pub(crate) file_name: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UploadRequest {
    /// Upload this stream instead of what is at the path.
    pub(crate) stream: Option<StreamRequest>,
    /// What is at the path is a block device.
    pub(crate) block_device: bool,
    source: Option<SourceRequest>,
    description: String,
    tags: BTreeMap<String, String>,
    checkpoint_tags: BTreeMap<String, String>,
    pins: Vec<String>,
    parallelism: Option<usize>,
    compression: Option<String>,
    directory_compression: Option<String>,
    repository_splitter: bool,
    /// None: as Kopia chooses; empty: no parent.
    parents: Option<Vec<String>>,
    force_hash_percent: Option<f64>,
    checkpoint_interval_seconds: Option<f64>,
    fail_fast: bool,
    start_time: Option<String>,
    memory_budget_bytes: Option<usize>,
    parallel_upload_above_bytes: Option<u64>,
    disable_ignore_rules: bool,
    ignore_identical: Option<bool>,
}

impl UploadRequest {
    pub(crate) fn options(&self) -> Result<UploadOptions> {
        let default = UploadOptions::default();
        let interval = self.checkpoint_interval_seconds.map(seconds).transpose()?;
        Ok(UploadOptions {
            source: self.source.as_ref().map(SourceRequest::info),
            description: self.description.clone(),
            tags: self.tags.clone(),
            checkpoint_tags: self.checkpoint_tags.clone(),
            pins: self.pins.clone(),
            parallelism: self.parallelism,
            compressor: compressor(self.compression.as_deref())?,
            directory_compressor: compressor(self.directory_compression.as_deref())?,
            repository_splitter: self.repository_splitter,
            parents: self.parents(),
            force_hash_percent: self.force_hash_percent.unwrap_or(default.force_hash_percent),
            checkpoint_interval: interval.unwrap_or(default.checkpoint_interval),
            fail_fast: self.fail_fast,
            start_time: self.start_time.as_deref().map(Timestamp::parse).transpose().map_err(argument)?,
            memory_budget_bytes: self.memory_budget_bytes.unwrap_or(default.memory_budget_bytes),
            parallel_upload_above_bytes: self.parallel_upload_above_bytes,
            disable_ignore_rules: self.disable_ignore_rules,
            ignore_identical: self.ignore_identical,
            ..default
        })
    }

    fn parents(&self) -> Parents {
        match &self.parents {
            None => Parents::Automatic,
            Some(ids) if ids.is_empty() => Parents::None,
            Some(ids) => Parents::Explicit(ids.iter().map(ManifestId::new).collect()),
        }
    }
}

/// How what is restored is written.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RestoreFormat {
    /// To a path: a directory, a file, a block device.
    #[default]
    Tree,
    /// The bytes of one file to a device, or over a file in place.
    Device,
    /// The bytes of one file to a file descriptor.
    Stream,
    /// A tar archive to a file descriptor.
    Tar,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum OverwriteRequest {
    Always,
    Skip,
    Never,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RestoreRequest {
    pub(crate) format: RestoreFormat,
    /// Where `stream` and `tar` go.
    pub(crate) file_descriptor: Option<i32>,
    overwrite: Option<OverwriteRequest>,
    delete_extra: Option<bool>,
    sparse: Option<bool>,
    owners: Option<bool>,
    modes: Option<bool>,
    times: Option<bool>,
    ignore_permission_errors: Option<bool>,
    ignore_errors: Option<bool>,
    parallelism: Option<usize>,
    memory_budget_bytes: Option<u64>,
    sync: Option<bool>,
}

impl RestoreRequest {
    pub(crate) fn options(&self) -> RestoreOptions {
        let default = RestoreOptions::default();
        let overwrite = self.overwrite.map(|wanted| match wanted {
            OverwriteRequest::Always => Overwrite::Always,
            OverwriteRequest::Skip => Overwrite::Skip,
            OverwriteRequest::Never => Overwrite::Never,
        });
        RestoreOptions {
            overwrite: overwrite.unwrap_or(default.overwrite),
            delete_extra: self.delete_extra.unwrap_or(default.delete_extra),
            sparse: self.sparse.unwrap_or(default.sparse),
            owners: self.owners.unwrap_or(default.owners),
            modes: self.modes.unwrap_or(default.modes),
            times: self.times.unwrap_or(default.times),
            ignore_permission_errors: self
                .ignore_permission_errors
                .unwrap_or(default.ignore_permission_errors),
            ignore_errors: self.ignore_errors.unwrap_or(default.ignore_errors),
            parallelism: self.parallelism,
            memory_budget_bytes: self.memory_budget_bytes.unwrap_or(default.memory_budget_bytes),
            sync: self.sync.unwrap_or(default.sync),
            failures_listed_max: default.failures_listed_max,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VerifyRequest {
    /// Snapshots; none is all of them.
    snapshots: Vec<String>,
    /// Contents instead of snapshots: all that the indexes name.
    pub(crate) contents: bool,
    percent: Option<f64>,
    seed: Option<u64>,
    parallelism: Option<usize>,
    memory_budget_bytes: Option<u64>,
}

impl VerifyRequest {
    pub(crate) fn snapshots(&self) -> Vec<ManifestId> {
        self.snapshots.iter().map(ManifestId::new).collect()
    }

    pub(crate) fn options(&self) -> VerifyOptions {
        let default = VerifyOptions::default();
        VerifyOptions {
            percent: self.percent.unwrap_or(default.percent),
            seed: self.seed.unwrap_or(default.seed),
            parallelism: self.parallelism,
            memory_budget_bytes: self.memory_budget_bytes.unwrap_or(default.memory_budget_bytes),
            damages_listed_max: default.damages_listed_max,
        }
    }
}

fn compressor(name: Option<&str>) -> Result<Option<CompressorId>> {
    name.map(CompressorId::parse).transpose().map_err(argument)
}

/// An object lock's mode by Kopia's name.
pub(crate) fn retention_mode(name: &str) -> Result<RetentionMode> {
    match name {
        "GOVERNANCE" => Ok(RetentionMode::Governance),
        "COMPLIANCE" => Ok(RetentionMode::Compliance),
        other => Err(invalid(format!("retention mode {other:?} is neither GOVERNANCE nor COMPLIANCE"))),
    }
}

/// A length of time in seconds.
pub(crate) fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| invalid(format!("{value} is not a length of time in seconds")))
}
