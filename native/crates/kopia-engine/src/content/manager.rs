//! The door of the content layer: look up, put, delete. Reading is in `reading`, flush and refresh
//! in `flushing`.
//!
//! An entry is reserved before its bytes are written, so that a content is stored once whatever
//! threads do.

use super::catalog::PackCatalog;
use super::committed::CommittedIndex;
use super::context::ContentContext;
use super::early_indexes::EarlyIndexes;
use super::entry_table::EntryTable;
use super::flushing::IndexTurn;
use super::index_set;
use super::info::{ContentInfo, WriteScratch, Written};
use super::location::{Key, Location};
use super::pack_pool::{PackLimits, PackPool};
use super::pending::{PendingEntries, Reservation, Reserved};
use super::pending_pack::{PackKind, sorted_rows};
use super::reading::BufferPool;
use super::sealing;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::compression::CompressorId;
use kopia_format::hashing::ContentHasher;
use kopia_format::splitter::SplitterAlgorithm;
use kopia_format::{BlobId, ContentId, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

/// Data packs open at once on local storage; object storages hold a pack in memory, so one there.
const LOCAL_DATA_PACKS_MAX: usize = 4;
/// Packs that are in memory, at most: more are not worth it.
const FAR_DATA_PACKS_MAX: usize = 4;
/// A pack is closed by the content that fills it: what it has beyond its length, about.
const PACK_EXCESS_BYTES: u64 = 5 << 20;
/// What else a process needs beside packs and the buffers of its upload, with some room.
const RESIDENT_BYTES: u64 = 54 << 20;
/// The least buffers with which an upload works.
const UPLOAD_BUFFERS_BYTES_MIN: u64 = 24 << 20;
/// Share of the memory limit for one table of the committed index.
const TABLE_MEMORY_SHARE: u64 = 16;
/// Share of the memory limit for pending entries, at about 45 bytes each, with room for encoding them.
const PENDING_MEMORY_SHARE: u64 = 32;
const PENDING_ENTRY_BYTES: u64 = 45;

/// Contents of one open repository. Shared by reference between threads.
pub struct ContentManager {
    pub(super) context: Arc<ContentContext>,
    pub(super) catalog: Arc<PackCatalog>,
    pub(super) committed: CommittedIndex,
    pub(super) pending: PendingEntries,
    pub(super) packs: PackPool,
    pub(super) buffers: BufferPool,
    /// Held while indexes are read or written: one at a time.
    pub(super) index_lock: Mutex<IndexTurn>,
    /// The holder of the lock is writing what must be in one flush: nobody may wait for it.
    pub(super) in_one_flush: AtomicBool,
    pub(super) flushed_seconds: AtomicI64,
    pub(super) refreshed_seconds: AtomicI64,
    pub(super) pending_max: usize,
    /// Whether packs are known to be gone; which ones, the catalog knows.
    pub(super) has_lost_packs: AtomicBool,
}

impl ContentManager {
    /// Reads the indexes of a repository; `early` is what was fetched of them already.
    ///
    /// # Errors
    /// `Corrupted`, naming the index blob; the storage's.
    pub(crate) fn open(context: ContentContext, early: Option<EarlyIndexes>) -> Result<Self> {
        let context = Arc::new(context);
        let catalog = Arc::new(PackCatalog::default());
        let limit = context.memory_limit_bytes;
        let table_memory = (limit / TABLE_MEMORY_SHARE) as usize;
        let committed = CommittedIndex::new(Arc::clone(&catalog), context.key_length(), table_memory);
        let pack_limits = pack_limits(&context);
        let now = context.clock.now().seconds;
        index_set::load(&context, &catalog, &committed, early)?;
        Ok(Self {
            pending: PendingEntries::new(context.key_length()),
            packs: PackPool::new(Arc::clone(&context), Arc::clone(&catalog), pack_limits),
            buffers: BufferPool::default(),
            index_lock: Mutex::default(),
            in_one_flush: AtomicBool::new(false),
            flushed_seconds: AtomicI64::new(now),
            refreshed_seconds: AtomicI64::new(now),
            pending_max: (limit / PENDING_MEMORY_SHARE / PENDING_ENTRY_BYTES) as usize,
            has_lost_packs: AtomicBool::new(false),
            context,
            catalog,
            committed,
        })
    }

    /// The repository's keyed hash.
    pub fn hasher(&self) -> &ContentHasher {
        &self.context.hasher
    }

    /// Whether contents are compressed here; if not (indexes of version 1), unprefixed objects are
    /// compressed one level higher (`Z`).
    pub fn compresses_contents(&self) -> bool {
        self.context.index_version >= 2
    }

    /// Splitter of objects that do not choose their own.
    pub fn splitter(&self) -> SplitterAlgorithm {
        self.context.splitter
    }

    /// Packs are closed at this length, in bytes.
    pub fn max_pack_size_bytes(&self) -> u64 {
        self.context.max_pack_size_bytes
    }

    /// What the memory limit leaves for the buffers of an upload beside the packs that are in memory.
    pub(crate) fn upload_buffers_bytes_max(&self) -> usize {
        let packs = match self.context.storage.is_local() {
            true => 0,
            false => pack_limits(&self.context).unstored_max as u64 * pack_memory_bytes(&self.context),
        };
        usize::try_from(self.context.memory_limit_bytes.saturating_sub(RESIDENT_BYTES + packs))
            .unwrap_or(usize::MAX)
    }

    /// The current time of the repository's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// # Errors
    /// `AccessDenied` if the repository was opened for reading only.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.context.check_writable()
    }

    /// The deduplication test: pending or committed, and not deleted.
    ///
    /// # Errors
    /// Those of reading a large index from its temporary file.
    pub fn contains_live(&self, id: &ContentId) -> Result<bool> {
        Ok(self.find(&Key::of(id))?.is_some_and(|location| self.is_sound(&location)))
    }

    /// What is known of a content; deleted ones too.
    ///
    /// # Errors
    /// As [`Self::contains_live`].
    pub fn info(&self, id: &ContentId) -> Result<Option<ContentInfo>> {
        self.find(&Key::of(id))?.map(|location| self.describe(*id, &location)).transpose()
    }

    fn find(&self, key: &Key) -> Result<Option<Location>> {
        // Pending first: a flush adds to the committed index before it removes here.
        match self.pending.find(key) {
            Some(location) => Ok(Some(location)),
            None => self.committed.find(key),
        }
    }

    pub(super) fn describe(&self, id: ContentId, location: &Location) -> Result<ContentInfo> {
        self.describe_in(id, location, self.catalog.name(location.pack)?)
    }

    fn describe_in(&self, id: ContentId, location: &Location, pack: BlobId) -> Result<ContentInfo> {
        let format = self.catalog.format(location.format)?;
        Ok(ContentInfo {
            id,
            pack,
            offset: location.offset,
            packed_length: location.packed_length,
            original_length: location.original_length,
            timestamp_seconds: i64::from(location.timestamp_seconds),
            compressor: format.compressor,
            deleted: location.deleted,
            format_version: format.format_version,
        })
    }

    /// Stores a content whose ID was computed by the caller. May encrypt `data` where it stands (its bytes are lost).
    ///
    /// # Errors
    /// The storage's; after one, nothing more can be flushed, for a pack may be lost.
    pub fn put_hashed(
        &self,
        id: ContentId,
        data: &mut Vec<u8>,
        compressor: CompressorId,
        scratch: &mut WriteScratch,
    ) -> Result<Written> {
        self.context.check_writable()?;
        self.refresh_if_due()?;
        let Reservation::Mine(reserved) = self.pending.reserve(Key::of(&id)) else {
            return Ok(Written::Deduplicated);
        };
        let previous = self.previous(&reserved)?;
        if previous.is_some_and(|location| self.is_sound(&location)) {
            return Ok(Written::Deduplicated);
        }
        let packed_length = self.store(reserved, previous, false, (&id, data, compressor), scratch)?;
        self.flush_if_due()?;
        Ok(Written::New { packed_length })
    }

    /// Hashes and stores.
    ///
    /// # Errors
    /// As [`Self::put_hashed`].
    pub fn write(
        &self,
        prefix: Option<u8>,
        mut data: Vec<u8>,
        compressor: CompressorId,
        scratch: &mut WriteScratch,
    ) -> Result<ContentId> {
        let id = ContentId::new(prefix, self.context.hasher.hash(&data))?;
        self.put_hashed(id, &mut data, compressor, scratch)?;
        Ok(id)
    }

    /// The entry that a reserved one replaces.
    fn previous(&self, reserved: &Reserved<'_>) -> Result<Option<Location>> {
        match reserved.previous() {
            Some(location) => Ok(Some(location)),
            None => self.committed.find(reserved.key()),
        }
    }

    /// Later than now and than the entry that it replaces: this one must win wherever both are read.
    fn entry_time(&self, previous: Option<Location>) -> u32 {
        let after = previous.map_or(0, |location| location.timestamp_seconds.saturating_add(1));
        self.context.now_seconds().max(after)
    }

    fn store(
        &self,
        reserved: Reserved<'_>,
        previous: Option<Location>,
        deleted: bool,
        (id, data, compressor): (&ContentId, &mut Vec<u8>, CompressorId),
        scratch: &mut WriteScratch,
    ) -> Result<u32> {
        let sealed = sealing::seal(&self.context, id, data, compressor, scratch)?;
        let format = self.catalog.format_number(self.context.content_format(sealed.compressor))?;
        let kind = if id.is_metadata() { PackKind::Metadata } else { PackKind::Data };
        let packed_length = sealed.length();
        let pack = self.packs.borrow(kind, packed_length as usize)?;
        let timestamp_seconds = self.entry_time(previous);
        let original_length = sealed.original_length;
        pack.append(*reserved.key(), &sealed.pieces, |offset, pack| {
            let location =
                Location { timestamp_seconds, offset, deleted, packed_length, original_length, pack, format };
            // Before the pack can be finished, so that whoever waits for it finds the entry.
            reserved.commit(location);
            location
        })?;
        Ok(packed_length)
    }

    /// Calls `each` for every content, in key order (unprefixed first).
    ///
    /// # Errors
    /// Those of `each`; those of reading a large index from its temporary file.
    pub fn for_each(
        &self,
        include_deleted: bool,
        each: &mut dyn FnMut(ContentInfo) -> Result<()>,
    ) -> Result<()> {
        self.walk(&[], None, include_deleted, each)
    }

    /// Like [`Self::for_each`] for the contents of one prefix.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn for_each_prefixed(
        &self,
        prefix: u8,
        include_deleted: bool,
        each: &mut dyn FnMut(ContentInfo) -> Result<()>,
    ) -> Result<()> {
        self.walk(&[prefix], Some(&[prefix + 1]), include_deleted, each)
    }

    fn walk(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        include_deleted: bool,
        each: &mut dyn FnMut(ContentInfo) -> Result<()>,
    ) -> Result<()> {
        let mut rows = self.pending.row_buffer();
        self.pending.collect(&|_| true, &mut rows);
        let pending = self.table_of(&sorted_rows(&rows, self.context.key_length()))?;
        let mut pack: Option<(u32, BlobId)> = None;
        self.committed.walk(Some(pending), from, to, &mut |key, location| {
            if location.deleted && !include_deleted {
                return Ok(());
            }
            let name = match pack.take() {
                Some((number, name)) if number == location.pack => name,
                _ => self.catalog.name(location.pack)?,
            };
            pack = Some((location.pack, name.clone()));
            each(self.describe_in(super::location::content_of(key)?, &location, name)?)
        })
    }

    pub(super) fn table_of(&self, sorted: &[&[u8]]) -> Result<EntryTable> {
        let mut builder = self.committed.table_builder(sorted.len());
        for row in sorted {
            let (key, location) = row.split_at(self.context.key_length());
            builder.push(key, &Location::decode(location))?;
        }
        builder.finish()
    }

    /// Marks a content as deleted: hidden from listing and deduplication, readable until maintenance drops it.
    ///
    /// # Errors
    /// `ContentNotFound`; those of a flush that was due.
    pub fn delete(&self, id: &ContentId) -> Result<()> {
        self.context.check_writable()?;
        let reserved = self.pending.reserve_anyway(Key::of(id));
        let previous = self.previous(&reserved)?.ok_or_else(|| not_found(id))?;
        if !previous.deleted {
            let timestamp_seconds = self.entry_time(Some(previous));
            reserved.commit(Location { deleted: true, timestamp_seconds, ..previous });
            return self.flush_if_due();
        }
        Ok(())
    }

    /// Stores a deleted content again, live (snapshot GC found it in use).
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::put_hashed`].
    pub fn undelete(&self, id: &ContentId, scratch: &mut WriteScratch) -> Result<()> {
        self.store_again(id, Some(false), scratch)
    }

    /// Stores a content again in a new pack with the same compressor and deletion mark.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::put_hashed`].
    pub fn rewrite(&self, id: &ContentId, scratch: &mut WriteScratch) -> Result<()> {
        self.store_again(id, None, scratch)
    }

    /// As [`Self::rewrite`], with plain bytes that were read and hashed before; they are lost.
    pub(crate) fn rewrite_from(
        &self,
        info: &ContentInfo,
        data: &mut Vec<u8>,
        scratch: &mut WriteScratch,
    ) -> Result<()> {
        self.context.check_writable()?;
        self.store_from(info, None, data, scratch)
    }

    fn store_again(&self, id: &ContentId, deleted: Option<bool>, scratch: &mut WriteScratch) -> Result<()> {
        self.context.check_writable()?;
        let info = self.info(id)?.ok_or_else(|| not_found(id))?;
        let mut data = Vec::new();
        self.read_hashed(id, &mut data)?;
        self.store_from(&info, deleted, &mut data, scratch)
    }

    fn store_from(
        &self,
        info: &ContentInfo,
        deleted: Option<bool>,
        data: &mut Vec<u8>,
        scratch: &mut WriteScratch,
    ) -> Result<()> {
        let writable = CompressorId::writable().contains(&info.compressor);
        let compressor = if writable { info.compressor } else { CompressorId::NONE };
        let reserved = self.pending.reserve_anyway(Key::of(&info.id));
        let previous = self.previous(&reserved)?;
        let deleted = deleted.unwrap_or(previous.is_some_and(|location| location.deleted));
        self.store(reserved, previous, deleted, (&info.id, data, compressor), scratch)?;
        self.flush_if_due()
    }
}

/// How many packs are written at once: as many as there are threads where they are streamed, else as many as the memory
/// limit has room for, of which one takes contents.
fn pack_limits(context: &ContentContext) -> PackLimits {
    if context.storage.is_local() {
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        return PackLimits { open_max: parallel.clamp(1, LOCAL_DATA_PACKS_MAX), unstored_max: usize::MAX };
    }
    let room = context.memory_limit_bytes.saturating_sub(RESIDENT_BYTES + UPLOAD_BUFFERS_BYTES_MIN);
    let room = room / pack_memory_bytes(context);
    let unstored_max = usize::try_from(room).unwrap_or(usize::MAX).clamp(1, FAR_DATA_PACKS_MAX);
    PackLimits { open_max: 1, unstored_max }
}

fn pack_memory_bytes(context: &ContentContext) -> u64 {
    context.max_pack_size_bytes.saturating_add(PACK_EXCESS_BYTES)
}

pub(crate) fn not_found(id: &ContentId) -> Error {
    Error::new(ErrorKind::ContentNotFound, format!("content {id}: no index names it")).with("content", id)
}
