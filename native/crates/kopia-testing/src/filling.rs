//! Fills a repository with very many small contents, fast: for tests and measurements of its care.
//!
//! No files are read; names and bytes are invented, and one snapshot stays while another is deleted again, so that
//! its contents are garbage.

use crate::data::splitmix;
use kopia_engine::content::{ContentManager, WriteScratch};
use kopia_engine::object::{ObjectWriter, ObjectWriterOptions};
use kopia_engine::repository::Repository;
use kopia_engine::{Result, snapshots};
use kopia_format::compression::CompressorId;
use kopia_format::snapshot::{
    Directory, DirectoryEntry, DirectorySummary, EntryType, SnapshotManifest, SnapshotStats, SourceInfo,
};
use kopia_format::{ManifestId, ObjectId, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;

/// What to fill in.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Files of the snapshot that stays, each one content of its own.
    pub files: u64,
    /// Files of the snapshot that is deleted again.
    pub unused: u64,
    /// Files in one directory.
    pub directory: u64,
    /// Files from one flush to the next, so in one index blob; 0 leaves that to the engine.
    pub flush: u64,
    /// Bytes of the largest file.
    pub bytes: u64,
    /// Both snapshots side by side in every pack; else the unused files come first, in packs of their own.
    pub spread: bool,
}

/// Carries out `plan`; the snapshot that stays.
///
/// # Errors
/// The repository's.
pub fn fill(repository: &Repository, plan: &Plan) -> Result<ManifestId> {
    Filling { repository, plan, unflushed: 0, trees: [Vec::new(), Vec::new()] }.run()
}

struct Filling<'a> {
    repository: &'a Repository,
    plan: &'a Plan,
    unflushed: u64,
    /// Directories of the snapshot that stays, and of the other one.
    trees: [Vec<DirectoryEntry>; 2],
}

impl Filling<'_> {
    fn run(mut self) -> Result<ManifestId> {
        let goals = [self.plan.files, self.plan.unused];
        let mut done = [0, 0];
        while done != goals {
            // Side by side: the one that is further behind; else the unused ones first.
            let behind = done[0] * goals[1] <= done[1] * goals[0] && done[0] < goals[0];
            let tree = if self.plan.spread { usize::from(!behind) } else { usize::from(done[1] < goals[1]) };
            let count = self.plan.directory.min(goals[tree] - done[tree]);
            self.directory(tree, done[tree]..done[tree] + count)?;
            done[tree] += count;
        }
        let [kept, unused] = std::mem::take(&mut self.trees);
        let stays = snapshot(self.repository, "kept", &kept)?;
        let gone = snapshot(self.repository, "unused", &unused)?;
        snapshots::delete(self.repository, &gone)?;
        self.repository.flush()?;
        Ok(stays)
    }

    fn directory(&mut self, tree: usize, files: Range<u64>) -> Result<()> {
        let name = format!("directory-{:09}", files.start);
        let mut entries = Vec::new();
        let chunk = if self.plan.flush == 0 { u64::MAX } else { self.plan.flush };
        let mut from = files.start;
        while from < files.end {
            let to = files.end.min(from.saturating_add(chunk - self.unflushed));
            entries.append(&mut store(self.repository.contents(), tree, from..to, self.plan.bytes)?);
            self.unflushed += to - from;
            from = to;
            if self.unflushed == chunk {
                self.repository.flush()?;
                self.unflushed = 0;
            }
        }
        let object = directory(self.repository.contents(), &entries)?;
        self.trees[tree].push(entry(name, EntryType::Directory, object, 0));
        Ok(())
    }
}

/// Stores invented files with as many threads as there are cores; their entries in order.
fn store(
    contents: &ContentManager,
    tree: usize,
    files: Range<u64>,
    bytes: u64,
) -> Result<Vec<DirectoryEntry>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = (files.end - files.start).div_ceil(threads);
    let parts = (0..threads).map(|part| {
        let start = files.end.min(files.start + part * share);
        start..files.end.min(start + share)
    });
    std::thread::scope(|scope| {
        let running: Vec<_> =
            parts.map(|part| scope.spawn(move || store_part(contents, tree, part, bytes))).collect();
        let mut entries = Vec::new();
        for part in running {
            entries.append(&mut part.join().expect("a worker does not panic")?);
        }
        Ok(entries)
    })
}

fn store_part(
    contents: &ContentManager,
    tree: usize,
    files: Range<u64>,
    bytes: u64,
) -> Result<Vec<DirectoryEntry>> {
    let mut scratch = WriteScratch::default();
    let each = |number: u64| {
        let length = 16 + number.wrapping_mul(0x9E37_79B9) % (bytes - 15);
        let data = splitmix(number * 2 + tree as u64, length as usize);
        let id = contents.write(None, data, CompressorId::NONE, &mut scratch)?;
        Ok(entry(format!("file-{number:09}"), EntryType::File, ObjectId::direct(id), length))
    };
    files.map(each).collect()
}

fn directory(contents: &ContentManager, entries: &[DirectoryEntry]) -> Result<ObjectId> {
    let options = ObjectWriterOptions {
        prefix: Some(b'k'),
        splitter: None,
        compressor: CompressorId::ZSTD_FASTEST,
        metadata_compressor: CompressorId::ZSTD_FASTEST,
    };
    let summary = DirectorySummary {
        total_file_count: entries.iter().filter(|entry| entry.entry_type == EntryType::File).count() as i64,
        ..DirectorySummary::default()
    };
    let mut json = Vec::new();
    Directory::encode(entries, &summary, &mut json);
    let mut writer = ObjectWriter::new(contents, options);
    writer.write(&json)?;
    writer.finish()
}

fn entry(name: String, entry_type: EntryType, object: ObjectId, size: u64) -> DirectoryEntry {
    let is_directory = entry_type == EntryType::Directory;
    DirectoryEntry {
        name: name.into_bytes(),
        entry_type,
        mode: if is_directory { 0o755 } else { 0o644 },
        size: size as i64,
        modified: Timestamp::from_unix_seconds(1_700_000_000),
        uid: 0,
        gid: 0,
        object: Some(object),
        summary: is_directory.then(Box::default),
    }
}

fn snapshot(repository: &Repository, name: &str, directories: &[DirectoryEntry]) -> Result<ManifestId> {
    let root = entry(name.into(), EntryType::Directory, directory(repository.contents(), directories)?, 0);
    save_snapshot(repository, ("bench", &format!("/{name}")), root)
}

/// Saves and flushes a snapshot of `root` by this user, of this path, on the host `here`.
///
/// # Errors
/// The repository's.
pub fn save_snapshot(
    repository: &Repository,
    (user, path): (&str, &str),
    root: DirectoryEntry,
) -> Result<ManifestId> {
    let now = repository.clock().now();
    let manifest = SnapshotManifest {
        id: None,
        source: SourceInfo { host: "here".into(), user_name: user.into(), path: path.into() },
        description: String::new(),
        start_time: now,
        end_time: now,
        stats: SnapshotStats::default(),
        incomplete_reason: String::new(),
        root_entry: Some(root),
        tags: BTreeMap::new(),
        pins: Vec::new(),
    };
    let id = snapshots::save(repository, &manifest)?;
    repository.flush()?;
    Ok(id)
}
