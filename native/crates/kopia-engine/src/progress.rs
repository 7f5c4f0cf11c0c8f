//! Counters that long work moves and a person's display reads.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one piece of work; only ever grow. Read at any time from any thread.
        #[derive(Debug, Default)]
        pub struct Progress { $($(#[$doc])* pub $name: AtomicU64),* }
        /// A reading of all counters.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct ProgressReading { $($(#[$doc])* pub $name: u64),* }
        impl Progress {
            /// Reads all counters.
            pub fn read(&self) -> ProgressReading {
                ProgressReading { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
        impl ProgressReading {
            /// Names and values, for the binding.
            pub fn fields(&self) -> Vec<(&'static str, u64)> { vec![$((stringify!($name), self.$name)),*] }
        }
    };
}

counters! {
    /// Files seen.
    files_scanned,
    /// Bytes of files seen.
    bytes_scanned,
    /// Files finished (read or taken from the parent).
    files_done,
    /// Files taken from the parent without reading.
    files_cached,
    /// Their bytes.
    bytes_cached,
    /// Bytes read from the source (or written to the target).
    bytes_read,
    /// Bytes hashed.
    bytes_hashed,
    /// Plain bytes of contents that were already in the repository.
    bytes_deduplicated,
    /// Bytes of blobs put to the storage.
    bytes_uploaded,
    /// Bytes of blobs got from the storage.
    bytes_downloaded,
    /// Bytes written to the restore target.
    bytes_written,
    /// Directories finished.
    directories_done,
    /// Entries that failed.
    entries_failed,
    /// Entries ignored by rules.
    entries_ignored,
    /// Total files that the work will have, once known (0 before).
    files_total,
    /// Total bytes that the work will have, once known (0 before).
    bytes_total,
}

impl Progress {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
