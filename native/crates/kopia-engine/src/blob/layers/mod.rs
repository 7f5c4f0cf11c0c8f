//! Layers around a storage: one concern each, all with the same seam.
//!
//! `connection` says in which order they are stacked, and why. A writer made by a layer's
//! `create` outlives the borrow of the layer, so what it needs is behind an `Arc`.

pub mod concurrency;
pub mod kill_point;
pub mod logging;
pub mod metrics;
pub mod observing;
pub mod readonly;
pub mod retrying;
pub mod throttling;
pub mod waiting;

/// Passes the named methods of [`crate::blob::Storage`] to `self.inner` as they are.
macro_rules! pass_through {
    ($($method:ident),* $(,)?) => { $(pass_through!(@ $method);)* };
    (@ get) => {
        fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
            self.inner.get(id, out)
        }
    };
    (@ get_range) => {
        fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
            self.inner.get_range(id, offset, length, out)
        }
    };
    (@ metadata) => {
        fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
            self.inner.metadata(id)
        }
    };
    (@ list) => {
        fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
            self.inner.list(prefix, each)
        }
    };
    (@ sync) => {
        fn sync(&self) -> Result<()> {
            self.inner.sync()
        }
    };
    (@ describe) => {
        fn describe(&self) -> String {
            self.inner.describe()
        }
    };
    (@ extend_retention) => {
        fn extend_retention(
            &self,
            id: &BlobId,
            mode: crate::blob::storage::RetentionMode,
            period: std::time::Duration,
        ) -> Result<()> {
            self.inner.extend_retention(id, mode, period)
        }
    };
    (@ protection) => {
        fn protection(&self) -> Result<Option<crate::blob::storage::BucketProtection>> {
            self.inner.protection()
        }
    };
    (@ remembered) => {
        fn remembered(&self, id: &BlobId) -> Option<Vec<u8>> {
            self.inner.remembered(id)
        }
    };
    (@ is_local) => {
        fn is_local(&self) -> bool {
            self.inner.is_local()
        }
    };
}
pub(crate) use pass_through;
