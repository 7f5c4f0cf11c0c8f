//! The manifest store: labelled JSON in `m` contents (format document §6.1).
//!
//! All manifests are read at the first use and kept. What is put or deleted is pending until the
//! repository is flushed: one `m` content then holds it all.

use crate::content::context::fill_random;
use crate::content::parallel::{FAR_REQUESTS_MAX, map_far};
use crate::content::{ContentManager, WriteScratch};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::compression::CompressorId;
use kopia_format::ids::encode_hex;
use kopia_format::manifest::{self, ManifestEntry};
use kopia_format::{ContentId, ManifestId, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Labels of a manifest.
pub type Labels = BTreeMap<String, String>;

/// Prefix of manifest contents.
const PREFIX: u8 = b'm';
/// So many `m` contents are joined into one when they are read by a writer.
const COMPACTION_CONTENTS: usize = 16;
/// Attempts to read all `m` contents while another client compacts them.
const LOAD_ATTEMPTS: u32 = 5;

/// What is known of a manifest without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestMetadata {
    /// Its ID.
    pub id: ManifestId,
    /// Its labels; always a `type`.
    pub labels: Labels,
    /// Time of the put.
    pub modified: Timestamp,
    /// Length of the payload in bytes.
    pub length: usize,
}

/// Manifests of one open repository. What is put or deleted is pending until the repository is flushed.
pub struct ManifestManager {
    contents: Arc<ContentManager>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The newest entry of each ID, deletions included; `None` before the first use.
    stored: Option<Entries>,
    pending: Entries,
    /// `m` contents that are lost: what they held is not there.
    left_out: HashSet<ContentId>,
}

type Entries = BTreeMap<ManifestId, ManifestEntry>;

impl State {
    fn newest(&self, id: &ManifestId) -> Option<&ManifestEntry> {
        self.pending.get(id).or_else(|| self.stored.as_ref()?.get(id))
    }

    fn live(&self) -> impl Iterator<Item = &ManifestEntry> {
        let stored = self.stored.iter().flatten().filter(|(id, _)| !self.pending.contains_key(*id));
        stored.chain(&self.pending).map(|(_, entry)| entry).filter(|entry| !entry.deleted)
    }
}

impl ManifestManager {
    /// The manifests in `contents`; reads nothing yet.
    pub fn new(contents: Arc<ContentManager>) -> Self {
        Self { contents, state: Mutex::default() }
    }

    /// Labels and payload of a manifest.
    ///
    /// # Errors
    /// `ManifestNotFound`; those of reading contents.
    pub fn get(&self, id: &ManifestId) -> Result<(ManifestMetadata, Box<RawValue>)> {
        let state = self.loaded()?;
        let entry = state.newest(id).filter(|entry| !entry.deleted).ok_or_else(|| not_found(id))?;
        Ok((metadata_of(entry), entry.data.clone()))
    }

    /// Manifests that have all `labels` (others allowed), oldest first.
    ///
    /// # Errors
    /// Those of reading contents.
    pub fn find(&self, labels: &Labels) -> Result<Vec<ManifestMetadata>> {
        let state = self.loaded()?;
        let mut found: Vec<_> =
            state.live().filter(|entry| matches(entry, labels)).map(metadata_of).collect();
        found.sort_by(|a, b| (a.modified, &a.id).cmp(&(b.modified, &b.id)));
        Ok(found)
    }

    /// Puts a payload under a new ID; `labels` must hold a `type`.
    ///
    /// # Errors
    /// `InvalidArgument` without a type, or if the payload is not JSON; `AccessDenied` when read only.
    pub fn put(&self, labels: Labels, payload: &[u8]) -> Result<ManifestId> {
        let now = self.contents.now();
        let entry = self.new_entry(labels, payload, now)?;
        let id = entry.id.clone();
        self.state.lock().pending.insert(id.clone(), entry);
        Ok(id)
    }

    fn new_entry(&self, labels: Labels, payload: &[u8], modified: Timestamp) -> Result<ManifestEntry> {
        self.contents.check_writable()?;
        if labels.get("type").is_none_or(String::is_empty) {
            return Err(Error::new(ErrorKind::InvalidArgument, "a manifest needs the label \"type\""));
        }
        let data: Box<RawValue> = serde_json::from_slice(payload).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "the payload of a manifest is not JSON").caused_by(error)
        })?;
        let mut random = [0; 16];
        fill_random(&mut random)?;
        let id = ManifestId::new(encode_hex(&random));
        Ok(ManifestEntry { id, labels, modified, deleted: false, data })
    }

    /// Deletes a manifest.
    ///
    /// # Errors
    /// `ManifestNotFound`; `AccessDenied` when read only; those of reading contents.
    pub fn delete(&self, id: &ManifestId) -> Result<()> {
        self.contents.check_writable()?;
        let mut state = self.loaded()?;
        let known = state.newest(id).filter(|entry| !entry.deleted).ok_or_else(|| not_found(id))?;
        let deletion = deletion_of(known, self.contents.now());
        state.pending.insert(id.clone(), deletion);
        Ok(())
    }

    /// Puts a payload and deletes all manifests that have `labels` (policies, maintenance parameters).
    ///
    /// # Errors
    /// As [`Self::put`]; those of reading contents.
    pub fn replace(&self, labels: Labels, payload: &[u8]) -> Result<ManifestId> {
        let mut state = self.loaded()?;
        let old: Vec<_> = state.live().filter(|entry| matches(entry, &labels)).cloned().collect();
        let now = self.contents.now();
        // The newest wins where several are found: be newer than those that are replaced.
        let modified = old.iter().map(|entry| just_after(entry.modified)).fold(now, Timestamp::max);
        let entry = self.new_entry(labels, payload, modified)?;
        let id = entry.id.clone();
        for replaced in &old {
            state.pending.insert(replaced.id.clone(), deletion_of(replaced, now));
        }
        state.pending.insert(id.clone(), entry);
        Ok(id)
    }

    /// Writes what is pending as one `m` content, which the caller flushes.
    pub(crate) fn write_pending(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.pending.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = state.pending.values().cloned().collect();
        write_entries(&self.contents, &entries)?;
        let pending = std::mem::take(&mut state.pending);
        if let Some(stored) = &mut state.stored {
            stored.extend(pending);
        }
        Ok(())
    }

    /// Reads everything again at the next use: other clients may have written.
    pub(crate) fn forget(&self) {
        self.state.lock().stored = None;
    }

    /// Goes on without these `m` contents, which cannot be read any more.
    pub(crate) fn leave_out(&self, lost: HashSet<ContentId>) {
        let mut state = self.state.lock();
        state.left_out = lost;
        state.stored = None;
    }

    fn loaded(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        if state.stored.is_none() {
            state.stored = Some(self.load(&state.left_out)?);
        }
        Ok(state)
    }

    /// Reads all `m` contents; again if one vanishes meanwhile (another client compacts).
    fn load(&self, left_out: &HashSet<ContentId>) -> Result<Entries> {
        for attempt in 1.. {
            match self.load_once(left_out) {
                Err(error) if error.kind == ErrorKind::ContentNotFound && attempt < LOAD_ATTEMPTS => {
                    self.contents.refresh()?;
                }
                result => return result,
            }
        }
        Ok(Entries::new())
    }

    fn load_once(&self, left_out: &HashSet<ContentId>) -> Result<Entries> {
        let mut contents = Vec::new();
        self.contents.for_each_prefixed(PREFIX, false, &mut |info| {
            if !left_out.contains(&info.id) {
                contents.push(info.id);
            }
            Ok(())
        })?;
        let mut newest = Entries::new();
        let batches = contents.chunks(FAR_REQUESTS_MAX);
        for (content, bytes) in batches.flat_map(|batch| batch.iter().zip(self.read_batch(batch))) {
            let entries = manifest::decode(&bytes?);
            for entry in
                entries.map_err(|e| Error::from(e).while_doing(format!("manifest content {content}")))?
            {
                keep_newest(&mut newest, entry);
            }
        }
        if contents.len() >= COMPACTION_CONTENTS && self.contents.check_writable().is_ok() {
            self.compact(&contents, &mut newest)?;
        }
        Ok(newest)
    }

    fn read_batch(&self, batch: &[ContentId]) -> Vec<Result<Vec<u8>>> {
        let read = |content: &ContentId| {
            let mut bytes = Vec::new();
            self.contents.read(content, &mut bytes).map(|()| bytes)
        };
        if self.contents.is_local() { batch.iter().map(read).collect() } else { map_far(batch, &read) }
    }

    /// Joins `contents` into one that holds the live entries. Both steps go into one index blob: a
    /// reader sees either the old contents or the new one.
    fn compact(&self, contents: &[ContentId], newest: &mut Entries) -> Result<()> {
        newest.retain(|_, entry| !entry.deleted);
        let entries: Vec<_> = newest.values().cloned().collect();
        self.contents.in_one_flush(|| {
            let joined = write_entries(&self.contents, &entries)?;
            contents.iter().filter(|old| **old != joined).try_for_each(|old| self.contents.delete(old))
        })
    }
}

fn keep_newest(newest: &mut Entries, entry: ManifestEntry) {
    let known = newest.get(&entry.id);
    if known.is_none_or(|known| known.modified < entry.modified) {
        newest.insert(entry.id.clone(), entry);
    }
}

fn write_entries(contents: &ContentManager, entries: &[ManifestEntry]) -> Result<ContentId> {
    let bytes = manifest::encode(entries)?;
    contents.write(Some(PREFIX), bytes, CompressorId::ZSTD_FASTEST, &mut WriteScratch::default())
}

fn matches(entry: &ManifestEntry, labels: &Labels) -> bool {
    labels.iter().all(|(key, value)| entry.labels.get(key) == Some(value))
}

fn metadata_of(entry: &ManifestEntry) -> ManifestMetadata {
    ManifestMetadata {
        id: entry.id.clone(),
        labels: entry.labels.clone(),
        modified: entry.modified,
        length: entry.data.get().len(),
    }
}

fn deletion_of(entry: &ManifestEntry, now: Timestamp) -> ManifestEntry {
    ManifestEntry {
        id: entry.id.clone(),
        labels: Labels::new(),
        modified: now.max(just_after(entry.modified)),
        deleted: true,
        data: RawValue::NULL.to_owned(),
    }
}

fn just_after(time: Timestamp) -> Timestamp {
    match time.nanoseconds {
        999_999_999.. => Timestamp { seconds: time.seconds.saturating_add(1), nanoseconds: 0 },
        nanoseconds => Timestamp { nanoseconds: nanoseconds + 1, ..time },
    }
}

fn not_found(id: &ManifestId) -> Error {
    Error::new(ErrorKind::ManifestNotFound, format!("manifest {id} does not exist")).with("manifest", id)
}
