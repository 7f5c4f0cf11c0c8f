//! An open repository: its parts, and the order in which what is pending becomes durable.
//!
//! `create` makes one, `format` reads and watches the format blob, `options` are the knobs.

mod create;
mod format;
mod options;
mod parameters;
mod password;
mod upgrade;

pub(crate) use format::{FORMAT_BLOB, OpenFormat, get_format_blob};
pub use options::{CreateOptions, OpenOptions};
pub use parameters::{EpochChanges, ParameterChanges, ParameterReport, RetentionChange};
pub use password::PasswordChange;
pub(crate) use upgrade::upgraded;
pub use upgrade::{UpgradeOptions, UpgradeState};

use crate::blob::Storage;
use crate::clock::Clock;
use crate::content::context::index_key_length;
use crate::content::early_indexes::EarlyIndexes;
use crate::content::index_cache::IndexCache;
use crate::content::{ContentContext, ContentManager};
use crate::error::Result;
use crate::manifest::ManifestManager;
use format::FormatWatch;
use kopia_format::format_blob::RepositoryConfig;
use kopia_format::maintenance::schedule_key;
use kopia_format::splitter::SplitterAlgorithm;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bound of the process's memory if none is given.
const MEMORY_LIMIT_DEFAULT_BYTES: u64 = 128 << 20;

/// An open repository, shared between threads by `Arc`.
///
/// Dropping it stores nothing: what was not flushed is lost, though never half visible.
pub struct Repository {
    contents: Arc<ContentManager>,
    manifests: ManifestManager,
    config: RepositoryConfig,
    unique_id: Vec<u8>,
    schedule_key: Zeroizing<Vec<u8>>,
    storage: Arc<dyn Storage>,
    options: OpenOptions,
}

impl Repository {
    /// Creates a repository in an empty storage.
    ///
    /// # Errors
    /// `AlreadyExists` if a repository, or anything else, is there; `UnsupportedFormat` or
    /// `InvalidArgument` for options that Kopia does not know.
    pub fn create(
        storage: Arc<dyn Storage>,
        password: impl AsRef<[u8]>,
        options: &CreateOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<()> {
        create::create(storage, password.as_ref(), options, clock)
    }

    /// Opens a repository and reads its indexes.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `InvalidPassword`, `UnsupportedFormat`; `Corrupted`, naming the blob;
    /// a temporary `AccessDenied` while another client upgrades it.
    pub fn open(
        storage: Arc<dyn Storage>,
        password: impl AsRef<[u8]>,
        options: OpenOptions,
    ) -> Result<Arc<Self>> {
        let password = password.as_ref();
        if storage.is_local() {
            let format = OpenFormat::read(storage.as_ref(), password)?;
            return Self::open_with(storage, format, options, None);
        }
        std::thread::scope(|scope| {
            let early = scope.spawn(|| EarlyIndexes::read(storage.as_ref()));
            let format = OpenFormat::read(storage.as_ref(), password)?;
            Self::open_with(Arc::clone(&storage), format, options, early.join().ok().flatten())
        })
    }

    /// Opens with a key that is known already.
    fn open_with(
        storage: Arc<dyn Storage>,
        format: OpenFormat,
        options: OpenOptions,
        early: Option<EarlyIndexes>,
    ) -> Result<Arc<Self>> {
        format.check_lock(options.clock.now())?;
        let context = content_context(&storage, &format, &options)?;
        let contents = Arc::new(ContentManager::open(context, early)?);
        Ok(Arc::new(Self {
            manifests: ManifestManager::new(Arc::clone(&contents)),
            contents,
            schedule_key: schedule_key(&format.config, &format.key, &format.blob.unique_id)?,
            unique_id: format.blob.unique_id,
            config: format.config,
            storage,
            options,
        }))
    }

    /// Its contents.
    pub fn contents(&self) -> &ContentManager {
        &self.contents
    }

    /// Its contents, for readers that outlive a borrow.
    pub fn shared_contents(&self) -> Arc<ContentManager> {
        Arc::clone(&self.contents)
    }

    /// Its manifests.
    pub fn manifests(&self) -> &ManifestManager {
        &self.manifests
    }

    /// Its decrypted configuration, as of opening.
    pub fn config(&self) -> &RepositoryConfig {
        &self.config
    }

    /// Its unique ID (raw bytes).
    pub fn unique_id(&self) -> &[u8] {
        &self.unique_id
    }

    /// The key of its maintenance schedule.
    pub(crate) fn schedule_key(&self) -> &[u8] {
        &self.schedule_key
    }

    /// Its storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// User name of this client.
    pub fn username(&self) -> &str {
        &self.options.username
    }

    /// Host name of this client.
    pub fn hostname(&self) -> &str {
        &self.options.hostname
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// Source of time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    /// Makes everything durable and visible: pending manifests, packs, index blobs; then ends the session.
    ///
    /// # Errors
    /// The storage's; `AccessDenied` when read only.
    pub fn flush(&self) -> Result<()> {
        self.manifests.write_pending()?;
        self.contents.flush()
    }

    /// Reads indexes and format blob again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn refresh(&self) -> Result<()> {
        self.contents.refresh()?;
        self.manifests.forget();
        Ok(())
    }
}

fn content_context(
    storage: &Arc<dyn Storage>,
    format: &OpenFormat,
    options: &OpenOptions,
) -> Result<ContentContext> {
    let config = &format.config;
    let watch = FormatWatch::new(Arc::clone(storage), Arc::clone(&options.clock), format);
    let (hasher, sealer) = (config.content_hasher()?, config.content_sealer()?);
    let key_length = index_key_length(&hasher);
    let index_cache = options
        .index_cache
        .as_ref()
        .map(|cache| IndexCache::new(cache, &storage.describe(), sealer.clone(), key_length));
    Ok(ContentContext {
        storage: Arc::clone(storage),
        hasher,
        sealer,
        index_cache,
        retention: format.retention,
        clock: Arc::clone(&options.clock),
        username: options.username.clone(),
        hostname: options.hostname.clone(),
        read_only: options.read_only,
        check_hashes: options.check_hashes,
        format_version: config.version as u8,
        index_version: config.index_version,
        splitter: SplitterAlgorithm::parse(&config.splitter)?,
        max_pack_size_bytes: config.max_pack_size,
        epochs: config.epoch_parameters.clone(),
        pack_prefix: format.pack_prefix()?,
        memory_limit_bytes: options.memory_limit_bytes.unwrap_or(MEMORY_LIMIT_DEFAULT_BYTES),
        before_refresh: Box::new(move || watch.check()),
    })
}
