//! What happens when the last chunk of a part is stored: objects are joined, entries delivered.

use super::engine::{Scratch, Upload};
use super::entry::{Destination, Outcome, Totals};
use super::large_file::{LargeFile, Part};
use crate::error::Result;
use crate::object::{ObjectWriterOptions, concatenate, finish_entries};
use crate::progress::Progress;
use kopia_format::compression::CompressorId;
use kopia_format::indirect::IndirectEntry;
use kopia_format::snapshot::{Directory, DirectoryEntry, DirectorySummary, EntryType};
use kopia_format::{ObjectId, Timestamp};
use std::sync::atomic::Ordering;

/// Go's zero time after a detour through 64 bits of nanoseconds, as Kopia records it for virtual directories.
const VIRTUAL_DIRECTORY_TIME: Timestamp = Timestamp { seconds: -6_795_364_579, nanoseconds: 128_654_848 };
/// Mode of virtual directories and their files.
pub(super) const VIRTUAL_MODE: u32 = 0o777;

impl<'a> Upload<'a> {
    /// Joins the chunks of a part; the last part joins the file.
    pub(super) fn finish_part(&self, part: &Part<'a>, scratch: &mut Scratch) -> Result<()> {
        let file = &part.file;
        if file.is_settled() {
            return Ok(());
        }
        let (object, length) = self.part_object(part, scratch)?;
        self.stats.count_uploaded(1, length);
        let parts: Vec<_> = {
            let mut parts = file.parts.lock();
            parts[part.number] = Some((object, length));
            if file.parts_left.fetch_sub(1, Ordering::AcqRel) > 1 {
                return Ok(());
            }
            parts.iter().flatten().copied().collect()
        };
        let length = parts.iter().map(|(_, length)| length).sum();
        let objects: Vec<ObjectId> = parts.iter().map(|(object, _)| *object).collect();
        let object = match objects[..] {
            [object] => object,
            _ => concatenate(self.contents, &objects, file.storing.metadata_compressor)?,
        };
        self.remember_link(&file.metadata, object, length);
        self.finish_file(file, object, length, scratch)
    }

    fn part_object(&self, part: &Part<'a>, scratch: &mut Scratch) -> Result<(ObjectId, u64)> {
        let storing = part.file.storing;
        let (entries, length) =
            part.stored_prefix(|length| self.zeros(length, storing.compressor, scratch))?;
        if entries.is_empty() {
            return Ok((self.put_whole(Vec::new(), storing.compressor, scratch)?, 0));
        }
        Ok((self.join(entries, part)?, length))
    }

    fn join(&self, entries: Vec<IndirectEntry>, part: &Part<'a>) -> Result<ObjectId> {
        let storing = part.file.storing;
        let options = ObjectWriterOptions {
            prefix: None,
            splitter: None,
            compressor: storing.compressor,
            metadata_compressor: storing.metadata_compressor,
        };
        finish_entries(self.contents, entries, &options)
    }

    fn finish_file(
        &self,
        file: &LargeFile<'a>,
        object: ObjectId,
        length: u64,
        scratch: &mut Scratch,
    ) -> Result<()> {
        Progress::add(&self.progress.files_done, 1);
        let entry = file_entry(file, file.name.clone(), object, length);
        match &file.destination {
            Destination::Directory(_) => {
                let outcome = file_outcome(&entry, length);
                self.settle_file(file, outcome, scratch)
            }
            Destination::Root { directory_name: Some(name) } => {
                if file.settle() {
                    let root =
                        self.virtual_directory(name.clone(), &[entry], self.incomplete_reason(), scratch)?;
                    self.finish(root);
                }
                Ok(())
            }
            Destination::Root { directory_name: None } => {
                if file.settle() {
                    self.finish(root_file(entry, file.metadata.size, length));
                }
                Ok(())
            }
        }
    }

    /// Delivers the outcome of a file, once.
    pub(super) fn settle_file(
        &self,
        file: &LargeFile<'a>,
        outcome: Outcome,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if !file.settle() {
            return Ok(());
        }
        match &file.destination {
            Destination::Directory(_) => self.deliver(file.destination.clone(), outcome, scratch),
            Destination::Root { directory_name: Some(name) } => {
                let root = self.virtual_directory(name.clone(), &[], self.incomplete_reason(), scratch)?;
                self.finish(root);
                Ok(())
            }
            // Without its only file there is no root: the caller gets `Canceled`.
            Destination::Root { directory_name: None } => Err(crate::error::Error::new(
                crate::error::ErrorKind::Canceled,
                "canceled before the file was read",
            )),
        }
    }

    /// Stores a virtual directory of at most one file.
    fn virtual_directory(
        &self,
        name: Vec<u8>,
        entries: &[DirectoryEntry],
        incomplete_reason: &str,
        scratch: &mut Scratch,
    ) -> Result<DirectoryEntry> {
        let mut totals = Totals::default();
        for entry in entries {
            totals.add_entry(EntryType::File, entry.size.cast_unsigned(), entry.modified);
        }
        let mut summary = totals.summary;
        summary.total_directory_count = 1;
        summary.incomplete_reason = incomplete_reason.to_owned();
        if entries.is_empty() {
            summary.max_mod_time = VIRTUAL_DIRECTORY_TIME;
        }
        let mut json = Vec::new();
        Directory::encode(entries, &summary, &mut json);
        let compressor = self.options.directory_compressor.unwrap_or(CompressorId::ZSTD_FASTEST);
        let object =
            ObjectId::direct(self.contents.write(Some(b'k'), json, compressor, &mut scratch.write)?);
        Ok(DirectoryEntry {
            name,
            entry_type: EntryType::Directory,
            mode: VIRTUAL_MODE,
            size: 0,
            modified: VIRTUAL_DIRECTORY_TIME,
            uid: 0,
            gid: 0,
            object: Some(object),
            summary: Some(Box::new(summary)),
        })
    }

    /// The chunks of a part that are stored so far, as an entry that no later backup takes for the file.
    pub(super) fn checkpoint_part(&self, part: &Part<'a>) -> Result<Option<Outcome>> {
        Ok(self.checkpoint_entry(part)?.map(|entry| {
            let size = entry.size.cast_unsigned();
            file_outcome(&entry, size)
        }))
    }
    /// The root as a checkpoint of its only file sees it.
    pub(super) fn checkpoint_root_file(
        &self,
        part: &Part<'a>,
        scratch: &mut Scratch,
    ) -> Result<Option<DirectoryEntry>> {
        let Some(entry) = self.checkpoint_entry(part)? else { return Ok(None) };
        match &part.file.destination {
            Destination::Root { directory_name: Some(name) } => {
                self.virtual_directory(name.clone(), &[entry], "checkpoint", scratch).map(Some)
            }
            _ => Ok(Some(entry)),
        }
    }
    fn checkpoint_entry(&self, part: &Part<'a>) -> Result<Option<DirectoryEntry>> {
        let file = &part.file;
        if file.is_settled() {
            return Ok(None);
        }
        let mut scratch = Scratch::default();
        let compressor = file.storing.compressor;
        let (entries, _) = part.stored_prefix(|length| self.zeros(length, compressor, &mut scratch))?;
        if entries.is_empty() {
            return Ok(None);
        }
        let object = self.join(entries, part)?;
        let mut name = b".checkpointed.".to_vec();
        if file.parts.lock().len() == 1 {
            name.extend_from_slice(&file.name);
        } else {
            name.extend_from_slice(random_uuid()?.as_bytes());
        }
        name.push(b'.');
        name.extend_from_slice(random_uuid()?.as_bytes());
        Ok(Some(file_entry(file, name, object, file.metadata.size)))
    }
}

fn file_entry(file: &LargeFile<'_>, name: Vec<u8>, object: ObjectId, size: u64) -> DirectoryEntry {
    DirectoryEntry {
        name,
        entry_type: EntryType::File,
        mode: file.metadata.mode,
        size: size.cast_signed(),
        modified: file.metadata.modified,
        uid: file.metadata.uid,
        gid: file.metadata.gid,
        object: Some(object),
        summary: None,
    }
}

fn file_outcome(entry: &DirectoryEntry, size: u64) -> Outcome {
    let mut json = Vec::new();
    entry.encode(&mut json);
    Outcome::Entry { json, totals: Totals::of_entry(EntryType::File, size, entry.modified) }
}

/// A file as the root of a snapshot has a summary; its size is the one of the listing.
fn root_file(entry: DirectoryEntry, listed_size: u64, length: u64) -> DirectoryEntry {
    let summary = DirectorySummary {
        total_file_size: length.cast_signed(),
        total_file_count: 1,
        max_mod_time: entry.modified,
        ..DirectorySummary::default()
    };
    DirectoryEntry { size: listed_size.cast_signed(), summary: Some(Box::new(summary)), ..entry }
}

/// A random (version 4) UUID as text.
fn random_uuid() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        crate::error::Error::new(crate::error::ErrorKind::Internal, format!("no random numbers: {error}"))
    })?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = kopia_format::ids::encode_hex(&bytes);
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
