//! Which index blobs are active, and reading them into the committed index.
//!
//! Blobs that vanish between listing and reading were compacted away: list again and go on.

use super::catalog::PackCatalog;
use super::committed::CommittedIndex;
use super::context::ContentContext;
use super::early_indexes::{EarlyIndexes, list_epoch_blobs};
use super::entry_table::EntryTable;
use super::parallel::FAR_REQUESTS_MAX;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::epoch::EpochState;
use kopia_format::index::{IndexReader, RawEntry};
use kopia_format::index_blob::{self, CompactionLog, POISON_BLOB};
use kopia_format::{BlobId, FormatError};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Attempts and first pause for index blobs that vanish while they are read, as Kopia has them.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Threads that read and decrypt; each holds one blob.
const READERS_MAX: usize = 4;

/// What a listing says: blobs that together hold every entry.
#[derive(Debug)]
struct ActiveIndexes {
    /// With their lengths.
    listed: Vec<(BlobId, u64)>,
    blobs: HashSet<BlobId>,
    watermark_seconds: i64,
}

impl ActiveIndexes {
    fn new(listed: Vec<(BlobId, u64)>, watermark_seconds: i64) -> Self {
        let blobs = listed.iter().map(|(blob, _)| blob.clone()).collect();
        Self { listed, blobs, watermark_seconds }
    }
}

/// Brings `committed` up to what the storage lists now, or listed a moment ago (`early`).
///
/// # Errors
/// `Corrupted`, naming the index blob; the storage's.
pub(crate) fn load(
    context: &ContentContext,
    catalog: &PackCatalog,
    committed: &CommittedIndex,
    mut early: Option<EarlyIndexes>,
) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let early = early.take();
        let active = list_active(context, early.as_ref());
        match active.and_then(|active| take_over(context, catalog, committed, active, early.as_ref())) {
            Err(error) if error.kind == ErrorKind::BlobNotFound && attempt < ATTEMPTS => {
                tracing::debug!(%error, attempt, "index blob vanished while reading; listing again");
                std::thread::sleep(pause);
                pause *= 2;
            }
            result => return result,
        }
    }
    Ok(())
}

fn take_over(
    context: &ContentContext,
    catalog: &PackCatalog,
    committed: &CommittedIndex,
    active: ActiveIndexes,
    early: Option<&EarlyIndexes>,
) -> Result<()> {
    let known = committed.blobs();
    if !known.is_empty() && known.is_subset(&active.blobs) {
        let added: Vec<_> = active.blobs.difference(&known).cloned().collect();
        for table in read_tables(context, catalog, committed, &added, early)? {
            committed.add(table, [])?;
        }
        committed.adopt(active.blobs, active.watermark_seconds);
        return Ok(());
    }
    read_anew(context, catalog, committed, active, early)
}

/// Reads everything: what the index cache has, and the blobs that are missing there.
fn read_anew(
    context: &ContentContext,
    catalog: &PackCatalog,
    committed: &CommittedIndex,
    active: ActiveIndexes,
    early: Option<&EarlyIndexes>,
) -> Result<()> {
    let read = |blobs: &[BlobId]| read_tables(context, catalog, committed, blobs, early);
    let Some(cache) = &context.index_cache else {
        let all: Vec<_> = active.listed.into_iter().map(|(blob, _)| blob).collect();
        return committed.replace(read(&all)?, Vec::new(), active.blobs, active.watermark_seconds);
    };
    let tables = cache.assemble(committed, catalog, active.listed, &read)?;
    committed.replace(tables.small, tables.apart, active.blobs, active.watermark_seconds)
}

/// Lists the active index blobs, by epochs or the legacy way.
fn list_active(context: &ContentContext, early: Option<&EarlyIndexes>) -> Result<ActiveIndexes> {
    match (context.epochs.enabled, early) {
        (true, Some(early)) => Ok(active_of_epochs(&EpochState::from_listing(&early.listed))),
        (true, None) => {
            let listed = list_epoch_blobs(context.storage.as_ref())?;
            Ok(active_of_epochs(&EpochState::from_listing(&listed)))
        }
        (false, _) => list_legacy(context),
    }
}

fn active_of_epochs(state: &EpochState) -> ActiveIndexes {
    let listed = state.active_index_blobs().into_iter().map(|blob| (blob.id, blob.length)).collect();
    ActiveIndexes::new(listed, state.deletion_watermark)
}

fn list_legacy(context: &ContentContext) -> Result<ActiveIndexes> {
    let mut indexes = Vec::new();
    let mut lengths = HashMap::new();
    context.storage.list("n", &mut |blob| {
        if blob.id.as_str() != POISON_BLOB {
            lengths.insert(blob.id.clone(), blob.length);
            indexes.push(blob.id);
        }
        Ok(())
    })?;
    let mut log_ids = Vec::new();
    context.storage.list("m", &mut |blob| {
        log_ids.push(blob.id);
        Ok(())
    })?;
    let mut logs = Vec::new();
    for id in log_ids {
        if let Some(log) = read_log(context, &id)? {
            logs.push((id, log));
        }
    }
    let active = index_blob::active_legacy(&indexes, &logs).into_iter();
    let with_length = |blob: BlobId| {
        let length = lengths.get(&blob).copied().unwrap_or(0);
        (blob, length)
    };
    Ok(ActiveIndexes::new(active.map(with_length).collect(), 0))
}

/// A compaction log; `None` if it vanished meanwhile.
pub(super) fn read_log(context: &ContentContext, id: &BlobId) -> Result<Option<CompactionLog>> {
    let mut sealed = Vec::new();
    match context.storage.get(id, &mut sealed) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(None),
        result => result?,
    }
    let plain = index_blob::open_blob(&context.sealer, id, &mut sealed).map_err(|e| in_blob(e.into(), id))?;
    CompactionLog::decode(plain).map(Some).map_err(|e| in_blob(e.into(), id))
}

fn in_blob(error: Error, id: &BlobId) -> Error {
    error.while_doing(format!("index blob {id}")).with("blob", id)
}

/// Reads `blobs` with a few threads; a table for each.
pub(super) fn read_tables(
    context: &ContentContext,
    catalog: &PackCatalog,
    committed: &CommittedIndex,
    blobs: &[BlobId],
    early: Option<&EarlyIndexes>,
) -> Result<Vec<Arc<EntryTable>>> {
    let next = AtomicUsize::new(0);
    let tables = Mutex::new(Ok(Vec::with_capacity(blobs.len())));
    let read = || {
        let mut buffer = Vec::new();
        while let Some(id) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let fetched = early.and_then(|early| early.take(id)).map(|bytes| buffer = bytes);
            let fetched = fetched.map_or_else(|| context.storage.get(id, &mut buffer), Ok);
            let table = fetched
                .map_err(|error| in_blob(error, id))
                .and_then(|()| read_table(context, catalog, committed, id, &mut buffer));
            let mut tables = tables.lock();
            match (table, &mut *tables) {
                (Ok(table), Ok(so_far)) => {
                    so_far.push(Arc::new(table));
                    if let Err(error) = keep_small(committed, so_far) {
                        *tables = Err(error);
                    }
                }
                (Err(error), Ok(_)) => *tables = Err(error),
                (_, Err(_)) => return,
            }
        }
    };
    let readers = reader_count(context, blobs.len());
    std::thread::scope(|scope| {
        for _ in 1..readers {
            scope.spawn(read);
        }
        read();
    });
    tables.into_inner()
}

/// Many blobs are small ones: where each is a wait for the network, more of them are read at once.
fn reader_count(context: &ContentContext, blob_count: usize) -> usize {
    if !context.storage.is_local() && blob_count >= FAR_REQUESTS_MAX {
        return FAR_REQUESTS_MAX;
    }
    std::thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX).min(blob_count)
}

/// Joins the tables in memory once together they are too large; the joined one lives in a file then.
fn keep_small(committed: &CommittedIndex, tables: &mut Vec<Arc<EntryTable>>) -> Result<()> {
    let memory_bytes: usize = tables.iter().map(|table| table.memory_bytes()).sum();
    if memory_bytes > committed.table_memory_bytes_max() {
        let (small, mut spilled): (Vec<_>, Vec<_>) =
            tables.drain(..).partition(|table| table.memory_bytes() > 0);
        spilled.push(committed.merge(&small)?);
        *tables = spilled;
    }
    Ok(())
}

fn read_table(
    context: &ContentContext,
    catalog: &PackCatalog,
    committed: &CommittedIndex,
    id: &BlobId,
    buffer: &mut Vec<u8>,
) -> Result<EntryTable> {
    let plain = index_blob::open_blob(&context.sealer, id, buffer).map_err(|e| in_blob(e.into(), id))?;
    let mut packs = Vec::new();
    parse(catalog, committed, plain, &mut packs).map_err(|error| in_blob(error, id))
}

fn parse(
    catalog: &PackCatalog,
    committed: &CommittedIndex,
    index: &[u8],
    packs: &mut Vec<Option<u32>>,
) -> Result<EntryTable> {
    let reader = IndexReader::open(index)?;
    packs.resize(reader.pack_count(), None);
    let mut builder = committed.table_builder(reader.len());
    let mut key = Vec::new();
    for position in 0..reader.len() {
        let entry = reader.raw_entry(position)?;
        check_key_id(&entry)?;
        let number = pack_number(catalog, &reader, &entry, packs)?;
        key.clear();
        entry.content.write_key(&mut key);
        builder.push(&key, &catalog.location(&entry, number)?)?;
    }
    builder.finish()
}

fn check_key_id(entry: &RawEntry) -> Result<()> {
    if entry.format.encryption_key_id != 0 {
        let why = format!("content {} has encryption key {}", entry.content, entry.format.encryption_key_id);
        return Err(FormatError::unsupported("index", why).into());
    }
    Ok(())
}

pub(super) fn pack_number(
    catalog: &PackCatalog,
    reader: &IndexReader<&[u8]>,
    entry: &RawEntry,
    packs: &mut [Option<u32>],
) -> Result<u32> {
    let missing = || FormatError::malformed("index", format!("no pack {}", entry.pack_index));
    let known = packs.get_mut(entry.pack_index as usize).ok_or_else(missing)?;
    match known {
        Some(number) => Ok(*number),
        None => {
            let number = catalog.number_of(&BlobId::new(reader.pack_name(entry.pack_index)?))?;
            *known = Some(number);
            Ok(number)
        }
    }
}
