//! Merged tables of index blobs on the local disk, so that opening a repository again reads few files.
//!
//! A *set* is a table and the index blobs whose entries it holds, in a `file` of its own. Blobs never change under
//! their names and of two entries the same one wins in whatever order they are merged, so a set may stand for its blobs
//! as long as all of them are active; one that is not makes the whole set worthless, and it is removed. Sets grow like
//! the tables of the committed index: new blobs are joined with sets of about their size, so that each entry is
//! written a logarithmic number of times. The surprise: blobs of one kind only are together in a set, since uncompacted ones are
//! superseded daily, ranges of epochs hardly ever.

mod file;

use super::catalog::PackCatalog;
use super::committed::{CommittedIndex, GROWTH};
use super::context::fill_random;
use super::entry_table::EntryTable;
use crate::blob::cache::{CacheDirectory, CacheOptions};
use crate::error::Result;
use file::SealedFile;
use kopia_format::BlobId;
use kopia_format::encryption::ContentSealer;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

/// Start of the file names; no blob's name that the cache holds begins so.
const NAME_PREFIX: &str = "merged-index-";
/// So many blobs are worth a set, …
const WORTH_BLOBS: usize = 64;
/// … and so many bytes of them.
const WORTH_BYTES: u64 = 4 << 20;
/// A set may take this share of the cache.
const BUDGET_SHARE: u64 = 2;

/// The merged indexes of one repository.
#[derive(Debug)]
pub(crate) struct IndexCache {
    directory: CacheDirectory,
    sealer: ContentSealer,
    key_length: usize,
    worth_blobs: usize,
}

/// A table that stands for some index blobs.
struct CachedSet {
    table: Arc<EntryTable>,
    /// Never empty, all of one kind.
    blobs: Vec<BlobId>,
    name: String,
}

/// Index blobs that are to be read, in groups.
#[derive(Debug, Default)]
struct Reading {
    /// Groups of which a set shall be made.
    worth_keeping: Vec<Vec<BlobId>>,
    others: Vec<BlobId>,
}

/// Reads index blobs into tables.
type ReadTables<'a> = &'a dyn Fn(&[BlobId]) -> Result<Vec<Arc<EntryTable>>>;

/// Tables that together hold every entry.
pub(crate) struct Assembled {
    /// To be joined with one another.
    pub(crate) small: Vec<Arc<EntryTable>>,
    /// To be left as they are: joining them anew at each opening is what the cache is there to avoid.
    pub(crate) apart: Vec<Arc<EntryTable>>,
}

/// `xn`, `xs`, `xr` with epochs, else one kind.
fn kind_of(blob: &BlobId) -> &str {
    let name = blob.as_str();
    if name.starts_with('x') { name.get(..2).unwrap_or(name) } else { "n" }
}

impl IndexCache {
    /// The sets of the repository at `location`, in the directory in which its blobs are cached too.
    pub(crate) fn new(
        options: &CacheOptions,
        location: &str,
        sealer: ContentSealer,
        key_length: usize,
    ) -> Self {
        let directory = CacheDirectory::new(&options.directory, location, options.bytes_max);
        Self { directory, sealer, key_length, worth_blobs: WORTH_BLOBS }
    }

    /// Tables of all `listed` blobs (with their lengths): sets where there are any, what `read` makes of the others, of
    /// which new sets are made.
    ///
    /// # Errors
    /// Those of `read`, and of the temporary files of large tables.
    pub(crate) fn assemble(
        &self,
        committed: &CommittedIndex,
        catalog: &PackCatalog,
        listed: Vec<(BlobId, u64)>,
        read: ReadTables<'_>,
    ) -> Result<Assembled> {
        let active = listed.iter().map(|(blob, _)| blob.clone()).collect();
        let (mut sets, missing) = self.find(active, catalog, committed.table_memory_bytes_max());
        let reading = self.plan(listed.into_iter().filter(|(blob, _)| missing.contains(blob)));
        let mut apart = Vec::new();
        for blobs in reading.worth_keeping {
            let tables = read(&blobs)?;
            apart.push(self.join(committed, catalog, (tables, blobs), &mut sets)?);
        }
        apart.extend(sets.into_iter().map(|set| set.table));
        Ok(Assembled { small: read(&reading.others)?, apart })
    }

    /// Sorts blobs by kind, and those apart of which there is little.
    fn plan(&self, blobs: impl Iterator<Item = (BlobId, u64)>) -> Reading {
        let mut kinds: BTreeMap<String, (Vec<BlobId>, u64)> = BTreeMap::new();
        for (blob, length) in blobs {
            let kind = kinds.entry(kind_of(&blob).to_owned()).or_default();
            kind.0.push(blob);
            kind.1 += length;
        }
        let mut reading = Reading::default();
        for (mut blobs, bytes) in kinds.into_values() {
            if blobs.len() >= self.worth_blobs || bytes >= WORTH_BYTES {
                reading.worth_keeping.push(blobs);
            } else {
                reading.others.append(&mut blobs);
            }
        }
        reading
    }

    /// Sets all of whose blobs are `active`, no blob in two of them, and the blobs in none. Sets that cannot be
    /// used are never of use again and are removed.
    fn find(
        &self,
        active: HashSet<BlobId>,
        catalog: &PackCatalog,
        memory_bytes_max: usize,
    ) -> (Vec<CachedSet>, HashSet<BlobId>) {
        let names = self.directory.names(NAME_PREFIX).into_iter();
        let mut files: Vec<_> = names.filter_map(|name| Some((self.open(&name)?, name))).collect();
        files.sort_by_key(|(file, _)| Reverse(file.row_count()));
        let mut missing = active;
        let mut found = Vec::new();
        for (file, name) in files {
            let usable = file.blobs().iter().all(|blob| missing.contains(blob));
            match usable.then(|| file.table(catalog, memory_bytes_max)) {
                Some(Ok((table, blobs))) if !blobs.is_empty() => {
                    for blob in &blobs {
                        missing.remove(blob);
                    }
                    found.push(CachedSet { table: Arc::new(table), blobs, name });
                }
                _ => self.directory.remove(&name),
            }
        }
        (found, missing)
    }

    fn open(&self, name: &str) -> Option<SealedFile> {
        let (file, path) = self.directory.open_file(name)?;
        match SealedFile::open(file, path, &self.sealer) {
            Ok(file) if file.key_length() == self.key_length => Some(file),
            opened => {
                let error = opened.err().map(|error| error.to_string());
                tracing::warn!(name, error, "useless file of the index cache: it is removed");
                self.directory.remove(name);
                None
            }
        }
    }

    /// Makes a set of `tables`, which `blobs` hold, and of those of `sets` that are of their kind and not far larger, which
    /// it replaces. The table is good whether or not it could be kept.
    ///
    /// # Errors
    /// Those of reading and writing the tables themselves.
    fn join(
        &self,
        committed: &CommittedIndex,
        catalog: &PackCatalog,
        (mut tables, mut blobs): (Vec<Arc<EntryTable>>, Vec<BlobId>),
        sets: &mut Vec<CachedSet>,
    ) -> Result<Arc<EntryTable>> {
        let mut rows: usize = tables.iter().map(|table| table.len()).sum();
        sets.sort_by_key(|set| set.table.len());
        let kind = blobs.first().cloned();
        let is_kind = |set: &CachedSet| kind.as_ref().map(kind_of) == set.blobs.first().map(kind_of);
        let replaced: Vec<_> = sets
            .extract_if(.., |set| {
                let joins = is_kind(set) && set.table.len() < GROWTH * rows;
                rows += if joins { set.table.len() } else { 0 };
                joins
            })
            .collect();
        for set in &replaced {
            tables.push(Arc::clone(&set.table));
            blobs.extend_from_slice(&set.blobs);
        }
        let table = committed.merge(&tables)?;
        blobs.sort_unstable();
        if self.keep(&table, &blobs, catalog) {
            replaced.iter().for_each(|set| self.directory.remove(&set.name));
        }
        Ok(table)
    }

    /// Writes a set; whether it is there now.
    fn keep(&self, table: &EntryTable, blobs: &[BlobId], catalog: &PackCatalog) -> bool {
        let mut salt = [0; 32];
        if fill_random(&mut salt).is_err() {
            return false;
        }
        let needed = file::bytes_max(table, catalog, blobs);
        if needed > self.directory.bytes_max() / BUDGET_SHARE {
            return false;
        }
        self.directory.try_write(&name_of(blobs), needed, &mut |file| {
            file::write(file, &self.sealer, &salt, (table, blobs), catalog).map_err(io::Error::other)
        })
    }
}

fn name_of(blobs: &[BlobId]) -> String {
    let mut hasher = blake3::Hasher::new();
    for blob in blobs {
        hasher.update(blob.as_str().as_bytes());
        hasher.update(b"\n");
    }
    format!("{NAME_PREFIX}{}", &hasher.finalize().to_hex()[..32])
}

#[cfg(test)]
mod tests;
