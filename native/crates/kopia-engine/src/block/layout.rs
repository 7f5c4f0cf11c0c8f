//! The objects of a device: list, directory, manifest. Deterministic: the same pieces give the same IDs.

use super::options::BlockBackupOptions;
use crate::content::{ContentManager, WriteScratch};
use crate::error::Result;
use crate::object::{ObjectWriter, ObjectWriterOptions};
use kopia_format::compression::CompressorId;
use kopia_format::indirect::{IndirectEntry, IndirectWriter};
use kopia_format::snapshot::{
    DirectoryEntry, DirectorySummary, DirectoryWriter, EntryType, SnapshotManifest, SnapshotStats,
};
use kopia_format::splitter::SplitterAlgorithm;
use kopia_format::{ObjectId, Timestamp};

/// Length of a piece, and the grain of change, in bytes.
pub const PIECE_BYTES: u64 = 1 << 20;
/// Tag that holds the real size of the device in decimal: the last piece is padded with zeroes.
pub(super) const SIZE_TAG: &str = "bdev-source-size";
/// Go's zero time after a detour through 64 bits of nanoseconds: literally what upstream records.
const ZERO_TIME: Timestamp = Timestamp { seconds: -6_795_364_579, nanoseconds: 128_654_848 };
const MODE: u32 = 0o777;
/// Prefix of the list, and where it is cut.
const LIST_PREFIX: u8 = b'x';
const LIST_SPLITTER: &str = "FIXED-128K";
const DIRECTORY_PREFIX: u8 = b'k';

/// How many pieces a device has.
pub(super) fn piece_count(device_bytes: u64) -> u64 {
    device_bytes.div_ceil(PIECE_BYTES)
}

/// Real length of a piece: the last one may be shorter.
pub(super) fn piece_length(index: u64, device_bytes: u64) -> u64 {
    device_bytes.saturating_sub(index * PIECE_BYTES).min(PIECE_BYTES)
}

/// Writes the list of a device, piece after piece.
pub(super) struct ListWriter<'a> {
    object: ObjectWriter<'a>,
    json: Vec<u8>,
    entries: IndirectWriter,
    end: u64,
}

impl<'a> ListWriter<'a> {
    /// # Errors
    /// None in practice: the splitter is known.
    pub(super) fn new(contents: &'a ContentManager) -> Result<Self> {
        let options = ObjectWriterOptions {
            prefix: Some(LIST_PREFIX),
            splitter: Some(SplitterAlgorithm::parse(LIST_SPLITTER)?),
            compressor: CompressorId::ZSTD_FASTEST,
            metadata_compressor: CompressorId::ZSTD_FASTEST,
        };
        let mut json = Vec::new();
        let entries = IndirectWriter::new(&mut json);
        Ok(Self { object: ObjectWriter::new(contents, options), json, entries, end: 0 })
    }

    /// Appends the next piece.
    ///
    /// # Errors
    /// Those of storing contents.
    pub(super) fn push(&mut self, object: ObjectId) -> Result<()> {
        let entry = IndirectEntry { start: self.end, length: PIECE_BYTES, object };
        self.end += PIECE_BYTES;
        self.entries.entry(&entry, &mut self.json);
        self.object.write(&self.json)?;
        self.json.clear();
        Ok(())
    }

    /// The object of the device, and its length.
    ///
    /// # Errors
    /// Those of storing contents; a device without pieces.
    pub(super) fn finish(mut self) -> Result<(ObjectId, u64)> {
        self.entries.finish(&mut self.json)?;
        self.object.write(&self.json)?;
        let list = self.object.finish()?;
        Ok((ObjectId { indirection: list.indirection + 1, ..list }, self.end))
    }
}

/// Stores the directory that holds the device as its only entry.
///
/// # Errors
/// Those of storing contents.
pub(super) fn write_directory(
    contents: &ContentManager,
    source_path: &str,
    device: ObjectId,
    length: u64,
) -> Result<ObjectId> {
    let entry = DirectoryEntry {
        name: entry_name(source_path).into_bytes(),
        entry_type: EntryType::File,
        mode: MODE,
        size: length.cast_signed(),
        modified: ZERO_TIME,
        uid: 0,
        gid: 0,
        object: Some(device),
        summary: None,
    };
    let mut json = Vec::new();
    let mut writer = DirectoryWriter::new(&mut json);
    writer.entry(&entry, &mut json);
    writer.finish_without_summary(&mut json);
    let scratch = &mut WriteScratch::default();
    let content = contents.write(Some(DIRECTORY_PREFIX), json, CompressorId::ZSTD_FASTEST, scratch)?;
    Ok(ObjectId::direct(content))
}

/// The recorded path with its slashes as dashes, and no dash around it.
fn entry_name(source_path: &str) -> String {
    source_path.replace(['/', '\\'], "-").trim_matches('-').to_owned()
}

/// The manifest of a device. The times are those of the transfer.
pub(super) fn manifest(
    options: &BlockBackupOptions,
    (start_time, end_time): (Timestamp, Timestamp),
    (directory, length): (ObjectId, u64),
    device_bytes: u64,
) -> SnapshotManifest {
    let mut tags = options.tags.clone();
    tags.insert(SIZE_TAG.into(), device_bytes.to_string());
    let total_file_size = length.cast_signed();
    let summary = DirectorySummary { total_file_size, ..DirectorySummary::default() };
    SnapshotManifest {
        id: None,
        source: options.source.clone(),
        description: options.description.clone(),
        start_time,
        end_time,
        stats: SnapshotStats { total_file_size, ..SnapshotStats::default() },
        incomplete_reason: String::new(),
        root_entry: Some(DirectoryEntry {
            name: Vec::new(),
            entry_type: EntryType::Directory,
            mode: MODE,
            size: 0,
            modified: ZERO_TIME,
            uid: 0,
            gid: 0,
            object: Some(directory),
            summary: Some(Box::new(summary)),
        }),
        tags,
        pins: options.pins.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_named_by_the_path_without_slashes() {
        let path = "snapshot-data-upload-download/velero-block/app/data";
        assert_eq!(entry_name(path), "snapshot-data-upload-download-velero-block-app-data");
        assert_eq!(entry_name("/dev/vg\\x/"), "dev-vg-x");
    }

    #[test]
    fn only_the_last_piece_may_be_short() {
        assert_eq!(piece_count(5 * PIECE_BYTES + 12_288), 6);
        assert_eq!(piece_length(4, 5 * PIECE_BYTES + 12_288), PIECE_BYTES);
        assert_eq!(piece_length(5, 5 * PIECE_BYTES + 12_288), 12_288);
        assert_eq!(piece_count(PIECE_BYTES), 1);
    }
}
