//! From a provider's configuration to a storage with its layers.
//!
//! From the provider outwards, and why in this order:
//!
//! | layer       | why here                                                                |
//! |-------------|-------------------------------------------------------------------------|
//! | kill point  | counts what really reaches the provider; crash tests only               |
//! | metrics     | each attempt counts, waiting does not                                   |
//! | logging     | as metrics                                                              |
//! | concurrency | a request that is throttled or waits to be tried again holds no slot    |
//! | throttling  | each attempt costs bandwidth                                            |
//! | retrying    | repeats all below                                                       |
//! | cache       | what the disk answers is no request                                     |
//! | read-only   | refuses before anything else is done                                    |

use super::cache::{CacheOptions, CachingStorage};
use super::filesystem::{FilesystemOptions, FilesystemStorage, FlatFilesStorage};
use super::layers::concurrency::ConcurrencyStorage;
use super::layers::kill_point::{KillPoint, KillPointStorage};
use super::layers::logging::RequestLog;
use super::layers::metrics::StorageMetrics;
use super::layers::observing::{ObservedStorage, Observer};
use super::layers::readonly::ReadonlyStorage;
use super::layers::retrying::{RetryPolicy, RetryingStorage};
use super::layers::throttling::{Throttle, ThrottleLimits, ThrottlingStorage};
use super::object_store::FolderStorage;
use super::storage::Storage;
use super::url::ProviderConfig;
use crate::cancel::CancelToken;
use crate::error::Result;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// How a storage is used.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// `false`: `sync` does nothing, as Kopia 0.22 (`--no-sync`).
    pub sync: bool,
    /// Refuse everything that would change the storage.
    pub read_only: bool,
    /// What to do about temporary failures.
    pub retry: RetryPolicy,
    /// Bytes and requests per second; can be changed later through [`Connection::throttle`].
    pub limits: ThrottleLimits,
    /// Requests under way at once; `None` is no bound.
    pub request_count_max: Option<NonZeroUsize>,
    /// Local disk for indexes and metadata of storages that are far; `None` keeps nothing.
    pub cache: Option<CacheOptions>,
    /// Kill the process at this write: crash tests only.
    pub kill_at: Option<KillPoint>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            sync: true,
            read_only: false,
            retry: RetryPolicy::default(),
            limits: ThrottleLimits::default(),
            request_count_max: None,
            cache: None,
            kill_at: None,
        }
    }
}

type ThrottlingLayer = fn(Arc<dyn Storage>, Arc<Throttle>) -> ThrottlingStorage;

/// A storage in use, and the handles of its layers.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The outermost layer.
    pub storage: Arc<dyn Storage>,
    /// What its requests cost so far.
    pub metrics: Arc<StorageMetrics>,
    /// Where its limits can be changed.
    pub throttle: Arc<Throttle>,
}

impl Connection {
    /// Connects to a storage that exists.
    ///
    /// # Errors
    /// `RepositoryNotFound` if there is no such place; `AccessDenied`; what the provider says.
    pub fn open(config: &ProviderConfig, options: &ConnectionOptions, cancel: &CancelToken) -> Result<Self> {
        let throttle = Arc::new(Throttle::new(options.limits, cancel.clone()));
        let pace = Some(Arc::clone(&throttle));
        let provider: Arc<dyn Storage> = match config {
            ProviderConfig::Filesystem { path } if FlatFilesStorage::is_repository(path) => {
                Arc::new(FlatFilesStorage::open_repository(path)?)
            }
            ProviderConfig::Filesystem { path } => {
                let settings = FilesystemOptions { sync: options.sync, ..FilesystemOptions::new(path) };
                Arc::new(FilesystemStorage::open(&settings)?)
            }
            ProviderConfig::S3(config) => Arc::new(config.open(pace)?),
            ProviderConfig::Azure(config) => Arc::new(config.open(pace)?),
            ProviderConfig::Gcs(config) => Arc::new(config.open(pace)?),
        };
        let throttled: ThrottlingLayer = match config {
            ProviderConfig::Filesystem { .. } => ThrottlingStorage::new,
            _ => ThrottlingStorage::of_requests,
        };
        Ok(Self::layers(provider, options, cancel, throttle, throttled))
    }

    /// Connects to a bucket, or a directory with its copy, for reading objects that are no blobs of a repository.
    ///
    /// `list` gives one level, with folders as names that end in `/`; `get_range` ends early where the object
    /// ends. Nothing is cached, and everything that would write is refused.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_objects(
        config: &ProviderConfig,
        options: &ConnectionOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let throttle = Arc::new(Throttle::new(options.limits, cancel.clone()));
        let pace = Some(Arc::clone(&throttle));
        let provider: Arc<dyn Storage> = match config {
            ProviderConfig::Filesystem { path } => Arc::new(FlatFilesStorage::open_folders(path)?),
            ProviderConfig::S3(config) => Arc::new(FolderStorage::new(config.open(pace)?)),
            ProviderConfig::Azure(config) => Arc::new(FolderStorage::new(config.open(pace)?)),
            ProviderConfig::Gcs(config) => Arc::new(FolderStorage::new(config.open(pace)?)),
        };
        let options = ConnectionOptions { read_only: true, cache: None, ..options.clone() };
        Ok(Self::layers(provider, &options, cancel, throttle, ThrottlingStorage::of_requests))
    }

    /// Connects to a storage for a new repository, and makes its place where that is missing.
    /// `shards` are the directory levels of a file system; `None` is Kopia's `[1,3]`.
    ///
    /// # Errors
    /// `AccessDenied`, `NoSpace`; what the provider says.
    pub fn initialize(
        config: &ProviderConfig,
        shards: Option<Vec<usize>>,
        options: &ConnectionOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let ProviderConfig::Filesystem { path } = config else {
            // A bucket is made by its owner; within it nothing is to be made.
            return Self::open(config, options, cancel);
        };
        let settings = FilesystemOptions { sync: options.sync, shards, ..FilesystemOptions::new(path) };
        Ok(Self::stack(Arc::new(FilesystemStorage::initialize(&settings)?), options, cancel))
    }

    /// Puts the layers around `provider`.
    pub fn stack(provider: Arc<dyn Storage>, options: &ConnectionOptions, cancel: &CancelToken) -> Self {
        let throttle = Arc::new(Throttle::new(options.limits, cancel.clone()));
        Self::layers(provider, options, cancel, throttle, ThrottlingStorage::new)
    }

    fn layers(
        provider: Arc<dyn Storage>,
        options: &ConnectionOptions,
        cancel: &CancelToken,
        throttle: Arc<Throttle>,
        throttled: ThrottlingLayer,
    ) -> Self {
        let metrics = Arc::new(StorageMetrics::new());
        let mut storage = provider;
        if let Some(point) = options.kill_at {
            storage = Arc::new(KillPointStorage::new(storage, point));
        }
        for observer in [Arc::clone(&metrics) as Arc<dyn Observer>, Arc::new(RequestLog)] {
            storage = Arc::new(ObservedStorage::new(storage, observer));
        }
        if let Some(request_count_max) = options.request_count_max {
            storage = Arc::new(ConcurrencyStorage::new(storage, request_count_max));
        }
        storage = Arc::new(throttled(storage, Arc::clone(&throttle)));
        storage = Arc::new(RetryingStorage::new(storage, options.retry, cancel.clone()));
        if let Some(cache) = options.cache.as_ref().filter(|_| !storage.is_local()) {
            storage = Arc::new(CachingStorage::new(storage, cache));
        }
        if options.read_only {
            storage = Arc::new(ReadonlyStorage::new(storage));
        }
        Self { storage, metrics, throttle }
    }
}
