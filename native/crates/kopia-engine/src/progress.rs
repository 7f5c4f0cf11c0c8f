//! Counters that long work moves and a person's display reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

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
    /// Time in which an upload listed its source and compared it with the parent. This and the next three:
    /// of all workers together, what they waited for included.
    nanoseconds_scanning,
    /// Time for reading the source, or the repository on the way back.
    nanoseconds_reading,
    /// Time for hashing.
    nanoseconds_hashing,
    /// Time for compressing, sealing and handing over to the storage, or for writing to the target.
    nanoseconds_storing,
    /// Time between the last content and the end: the last packs, indexes and the manifest.
    nanoseconds_flushing,
}

impl Progress {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
    /// Adds the time since `start` to a counter of nanoseconds; gives what time it is.
    pub fn add_time(counter: &AtomicU64, start: Instant) -> Instant {
        let now = Instant::now();
        Self::add(counter, now.duration_since(start).as_nanos() as u64);
        now
    }
}
