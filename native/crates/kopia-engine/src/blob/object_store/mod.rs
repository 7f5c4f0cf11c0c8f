//! Blobs in object stores: S3 and its compatibles, Azure Blob Storage, Google Cloud Storage.
//!
//! Built on the crate `object_store` (why: `docs/design/0002-object-store-library.md`). What is our
//! own: the transport with its timeouts, signing for S3 with credentials that change while a
//! request is tried again, listings, object-lock headers, and the meaning of failures. Keys are flat:
//! prefix and blob name, joined as they are (format document §1.4, `keys`).
//!
//! The crate is asynchronous; one small runtime drives it, and the seam stays synchronous.

mod aws_credentials;
mod azure;
mod dotenv;
mod failure;
mod folders;
mod gcs;
mod keys;
mod listing;
mod options;
mod pacing;
mod progress;
mod protection;
mod runtime;
mod s3;
mod signing;
mod storage;
mod transport;

pub use azure::AzureConfig;
pub use folders::FolderStorage;
pub use gcs::GcsConfig;
pub use s3::S3Config;
pub use storage::ObjectStorage;
pub use transport::{Timeouts, TransportOptions};
