//! Making a repository: keys, format blobs, first manifests, in an order that can be cut anywhere.

use super::format::{BLOB_CONFIG, FORMAT_BLOB, OpenFormat};
use super::{CreateOptions, OpenOptions, Repository};
use crate::blob::Storage;
use crate::blob::exclusive::{holds, knows_conditions, put_new};
use crate::blob::retention::BlobRetention;
use crate::clock::Clock;
use crate::content::context::fill_random;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Labels;
use kopia_format::BlobId;
use kopia_format::ecc::ECC_ALGORITHM;
use kopia_format::format_blob::{
    EpochParameters, FORMAT_ENCRYPTION, FormatBlob, FormatEncryptionKey, RepositoryConfig,
};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Bytes of the unique ID and of both keys.
const KEY_BYTES: usize = 32;
/// Nanoseconds of a minute and an hour.
pub(super) const MINUTE: i64 = 60_000_000_000;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// Longer than two puts of a kilobyte take, from the first to the last.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// The global policy that `kopia repository create` writes: Kopia's defaults, spelled out.
const GLOBAL_POLICY: &str = concat!(
    r#"{"retention":{"keepLatest":10,"keepHourly":48,"keepDaily":7,"keepWeekly":4,"keepMonthly":24,"#,
    r#""keepAnnual":3,"ignoreIdenticalSnapshots":false},"files":{"ignoreDotFiles":[".kopiaignore"]},"#,
    r#""errorHandling":{"ignoreFileErrors":false,"ignoreDirectoryErrors":false,"ignoreUnknownTypes":true},"#,
    r#""scheduling":{"runMissed":true},"compression":{"compressorName":"none"},"#,
    r#""metadataCompression":{"compressorName":"zstd-fastest"},"splitter":{},"actions":{},"#,
    r#""osSnapshots":{"volumeShadowCopy":{"enable":0}},"logging":{"directories":{"snapshotted":5,"ignored":5},"#,
    r#""entries":{"snapshotted":0,"ignored":5,"cacheHit":0,"cacheMiss":0}},"#,
    r#""upload":{"maxParallelSnapshots":1,"parallelUploadAboveSize":2147483648}}"#,
);

pub(super) fn create(
    storage: Arc<dyn Storage>,
    password: &[u8],
    options: &CreateOptions,
    clock: Arc<dyn Clock>,
) -> Result<()> {
    check_empty(storage.as_ref())?;
    check_object_lock(storage.as_ref(), options.retention.is_some())?;
    let format = new_format(password, options)?;
    let mut nonce = [0; 12];
    fill_random(&mut nonce)?;
    let settings = format.blob.seal_blob_config(&format.key, &format.retention.to_config(), nonce)?;
    Founding { storage: storage.as_ref(), format: &format, settings: &settings }.carry_out()?;
    write_first_manifests(storage, format, options, clock)
}

/// The two blobs that make a place a repository. Others may be at the same, in the same moment.
struct Founding<'a> {
    storage: &'a dyn Storage,
    format: &'a OpenFormat,
    settings: &'a [u8],
}

impl Founding<'_> {
    /// # Errors
    /// `AlreadyExists` if another client was first.
    fn carry_out(&self) -> Result<()> {
        // The settings first: a repository without them would lack its locks. Who puts them may put the format.
        for (name, bytes) in self.blobs() {
            let id = BlobId::new(name);
            let options = self.format.retention.put_options(&id);
            put_new(self.storage, &id, bytes, &options).map_err(|error| match error.kind {
                ErrorKind::AlreadyExists => self.was_second(name),
                _ => error,
            })?;
        }
        self.storage.sync()?;
        self.check_conditions()?;
        self.check_listed()
    }

    fn blobs(&self) -> [(&'static str, &[u8]); 2] {
        [(BLOB_CONFIG, self.settings), (FORMAT_BLOB, &self.format.bytes)]
    }

    /// Where the storage lets everybody put, the last one counts, once nobody can be at it any more.
    fn check_conditions(&self) -> Result<()> {
        let id = BlobId::new(FORMAT_BLOB);
        let options = self.format.retention.put_options(&id);
        if knows_conditions(self.storage, &id, &self.format.bytes, &options)? {
            return Ok(());
        }
        std::thread::sleep(SETTLED_AFTER);
        for (name, bytes) in self.blobs() {
            if !holds(self.storage, &BlobId::new(name), bytes)? {
                return Err(self.was_second(name));
            }
        }
        Ok(())
    }

    /// A storage that lists otherwise than it is asked would never show a snapshot again. (A server over a file
    /// system takes `/x/` for `x/` when it stores, and not when it lists.)
    fn check_listed(&self) -> Result<()> {
        let mut is_listed = false;
        self.storage.list(FORMAT_BLOB, &mut |blob| {
            is_listed |= blob.id.as_str() == FORMAT_BLOB;
            Ok(())
        })?;
        if is_listed {
            return Ok(());
        }
        for (name, _) in self.blobs() {
            self.storage.delete(&BlobId::new(name))?;
        }
        let message = format!(
            "{} does not list what was just put there: choose a prefix without a slash at its front or two in a row",
            self.storage.describe()
        );
        Err(Error::new(ErrorKind::Storage, message))
    }

    fn was_second(&self, name: &str) -> Error {
        let message = format!(
            "another client makes a repository at {} at the same time: connect to that one, or choose another place",
            self.storage.describe()
        );
        Error::new(ErrorKind::AlreadyExists, message).with("blob", name)
    }
}

/// Locks that a bucket does not have would fail at the first put, which is after the format is written.
pub(super) fn check_object_lock(storage: &dyn Storage, is_wanted: bool) -> Result<()> {
    let has_none = storage.protection()?.is_some_and(|protection| !protection.has_object_lock);
    if !is_wanted || !has_none {
        return Ok(());
    }
    let message = format!(
        "the bucket of {} has no object lock: make one that has, or leave the retention out",
        storage.describe()
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// A place with anything in it is somebody's: a session marker is a client at work.
fn check_empty(storage: &dyn Storage) -> Result<()> {
    let mut found: Option<BlobId> = None;
    storage.list("", &mut |blob| {
        if found.as_ref().is_none_or(|known| known.as_str() != FORMAT_BLOB) {
            found = Some(blob.id);
        }
        Ok(())
    })?;
    let place = storage.describe();
    let Some(id) = found else { return check_unlisted(storage, &place) };
    let message = match id.as_str() {
        FORMAT_BLOB => format!("a repository exists at {place} already"),
        BLOB_CONFIG => format!(
            "a repository is being made at {place}, or that was cut off: if nobody is at it, delete {BLOB_CONFIG} there"
        ),
        other => format!("{place} is not empty (it has {other:?}): a repository needs a place of its own"),
    };
    Err(Error::new(ErrorKind::AlreadyExists, message).with("blob", id))
}

/// What is not listed may be there all the same.
fn check_unlisted(storage: &dyn Storage, place: &str) -> Result<()> {
    match storage.metadata(&BlobId::new(FORMAT_BLOB)) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            let message = format!(
                "a repository exists at {place} already, though it is not listed: \
                 choose a prefix without a slash at its front or two in a row"
            );
            Err(Error::new(ErrorKind::AlreadyExists, message).with("blob", FORMAT_BLOB))
        }
    }
}

fn new_format(password: &[u8], options: &CreateOptions) -> Result<OpenFormat> {
    let config = new_config(options)?;
    let mut blob = FormatBlob {
        tool: env!("CARGO_PKG_NAME").into(),
        build_version: env!("CARGO_PKG_VERSION").into(),
        build_info: String::new(),
        unique_id: random_bytes()?.to_vec(),
        key_derivation: options.key_derivation,
        encryption: FORMAT_ENCRYPTION.into(),
        encrypted_block_format: Vec::new(),
    };
    let key: FormatEncryptionKey = blob.derive_key(password)?;
    let mut nonce = [0; 12];
    fill_random(&mut nonce)?;
    blob.encrypt_config(&key, &config, nonce)?;
    let retention = BlobRetention(options.retention);
    Ok(OpenFormat { bytes: blob.encode(), blob, key, config, retention })
}

fn new_config(options: &CreateOptions) -> Result<RepositoryConfig> {
    let old = options.format_version < 2;
    // Format 1 has no error correction; Kopia drops the wish silently as well.
    let ecc_overhead_percent = if old { 0 } else { options.ecc_overhead_percent };
    let config = RepositoryConfig {
        hash: options.hash.clone(),
        encryption: options.encryption.clone(),
        ecc: if ecc_overhead_percent > 0 { ECC_ALGORITHM.into() } else { String::new() },
        ecc_overhead_percent,
        secret: random_bytes()?,
        master_key: random_bytes()?,
        version: options.format_version,
        max_pack_size: options.max_pack_size_bytes,
        index_version: if old { 1 } else { 2 },
        epoch_parameters: if old { EpochParameters::default() } else { default_epochs() },
        enable_password_change: !old,
        splitter: options.splitter.clone(),
        upgrade_lock: None,
        required_features: Vec::new(),
    };
    config.check()?;
    Ok(config)
}

/// Kopia's defaults. Source: Kopia `internal/epoch/epoch_manager.go`.
pub(super) fn default_epochs() -> EpochParameters {
    EpochParameters {
        enabled: true,
        epoch_refresh_frequency: 20 * MINUTE,
        full_checkpoint_frequency: 7,
        cleanup_safety_margin: 4 * HOUR,
        min_epoch_duration: 24 * HOUR,
        epoch_advance_on_count_threshold: 20,
        epoch_advance_on_total_size_bytes_threshold: 10 << 20,
        delete_parallelism: 4,
    }
}

fn random_bytes() -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
    fill_random(&mut bytes)?;
    Ok(bytes)
}

fn write_first_manifests(
    storage: Arc<dyn Storage>,
    format: OpenFormat,
    options: &CreateOptions,
    clock: Arc<dyn Clock>,
) -> Result<()> {
    if options.owner.is_none() && !options.global_policy {
        return Ok(());
    }
    let owner = options.owner.as_deref().unwrap_or_default();
    let (username, hostname) = owner.split_once('@').unwrap_or((owner, ""));
    let open =
        OpenOptions { username: username.into(), hostname: hostname.into(), clock, ..OpenOptions::default() };
    let repository = Repository::open_with(storage, format, open, None)?;
    if options.global_policy {
        let labels = [("type", "policy"), ("policyType", "global")];
        repository.manifests().put(labels_of(&labels), GLOBAL_POLICY.as_bytes())?;
    }
    if options.owner.is_some() {
        let parameters = maintenance_parameters(owner)?;
        repository.manifests().put(labels_of(&[("type", "maintenance")]), parameters.as_bytes())?;
    }
    repository.flush()
}

fn labels_of(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Kopia's default maintenance parameters (format document §8.1).
fn maintenance_parameters(owner: &str) -> Result<String> {
    let owner = serde_json::to_string(owner).map_err(|error| {
        Error::new(ErrorKind::InvalidArgument, "the owner of maintenance is not text").caused_by(error)
    })?;
    Ok(format!(
        r#"{{"owner":{owner},"quick":{{"enabled":true,"interval":{HOUR}}},"full":{{"enabled":true,"interval":{day}}},"logRetention":{{"maxTotalSize":1073741824,"maxCount":10000,"maxAge":{month}}},"extendObjectLocks":false,"listParallelism":0}}"#,
        day = 24 * HOUR,
        month = 30 * 24 * HOUR,
    ))
}
