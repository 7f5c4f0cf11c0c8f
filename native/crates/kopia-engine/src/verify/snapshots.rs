//! Trees of snapshots: every object that they name, down to the contents.
//!
//! An object that was seen is not walked again, so that ten snapshots of one tree cost little more
//! than one. Directories and index objects are always read; of file data the chosen share is.

use super::bytes::{self, Origin, ReadQueue, Reading};
use super::choice::{Choice, Seen};
use super::packs::PackLengths;
use super::report::{Findings, VerifyOptions, VerifyResult};
use crate::cancel::CancelToken;
use crate::content::ContentManager;
use crate::content::manager::not_found;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{extents, for_each_content};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::tree::{self, push_name};
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use kopia_format::{ContentId, ManifestId, ObjectId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Part of the memory budget in which the objects, and the contents, that were seen are remembered.
const SEEN_SHARE: u64 = 4;

/// Verifies the trees of `snapshots` (all of the repository if there are none).
///
/// # Errors
/// `Canceled`; `ManifestNotFound`; those of listing the storage. Damage is in the result.
pub fn verify_snapshots(
    repository: &Repository,
    snapshots: &[ManifestId],
    options: &VerifyOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<VerifyResult> {
    let ids = if snapshots.is_empty() { all_snapshots(repository)? } else { snapshots.to_vec() };
    let contents = repository.contents();
    let findings = Findings::new(options, progress);
    let packs = PackLengths::list(repository.storage().as_ref())?;
    let plan = |queue: &mut ReadQueue<'_>| {
        let choice = Choice::new(options.percent, options.seed);
        let mut walk = Walk {
            contents,
            packs: &packs,
            choice,
            findings: &findings,
            cancel,
            queue,
            objects: Seen::new(options.memory_budget_bytes / SEEN_SHARE),
            data: Seen::new(options.memory_budget_bytes / SEEN_SHARE),
            snapshot: Arc::from(""),
            path: Vec::new(),
        };
        ids.iter().try_for_each(|id| walk.snapshot(repository, id))
    };
    tree::on_walk_stack(|| {
        bytes::run(contents, options, &findings, cancel, Reading::unobserved(false), plan)
    })?;
    Ok(findings.finish())
}

fn all_snapshots(repository: &Repository) -> Result<Vec<ManifestId>> {
    let labels = crate::manifest::Labels::from([("type".to_owned(), "snapshot".to_owned())]);
    Ok(repository.manifests().find(&labels)?.into_iter().map(|found| found.id).collect())
}

struct Walk<'a, 'q> {
    contents: &'a ContentManager,
    packs: &'a PackLengths,
    choice: Choice,
    findings: &'a Findings<'a>,
    cancel: &'a CancelToken,
    queue: &'a mut ReadQueue<'q>,
    objects: Seen,
    data: Seen,
    snapshot: Arc<str>,
    path: Vec<u8>,
}

impl Walk<'_, '_> {
    fn snapshot(&mut self, repository: &Repository, id: &ManifestId) -> Result<()> {
        self.snapshot = Arc::from(id.as_str());
        self.path.clear();
        let root = match tree::open_snapshot(repository, id) {
            Err(error) if error.kind == ErrorKind::ManifestNotFound => return Err(error),
            manifest => manifest.and_then(|manifest| {
                let missing = || Error::new(ErrorKind::Corrupted, format!("snapshot {id} has no root entry"));
                manifest.root_entry.ok_or_else(missing)
            }),
        };
        match root {
            Ok(root) => self.entry(&root),
            Err(error) => self.damaged(&error),
        }
    }

    fn damaged(&self, error: &Error) -> Result<()> {
        if error.kind == ErrorKind::Canceled {
            return self.cancel.check();
        }
        self.findings.damage(Some(&self.snapshot), &self.path, error);
        Ok(())
    }

    /// Verifies what an entry names; fails only if the work is to end.
    fn entry(&mut self, entry: &DirectoryEntry) -> Result<()> {
        self.cancel.check()?;
        let object = match tree::object_of(entry) {
            Ok(object) => object,
            Err(error) => return self.damaged(&error),
        };
        // A direct file is one content, which is looked for among the contents: once is enough.
        let direct = entry.entry_type != EntryType::Directory && object.indirection == 0;
        if !direct && !self.objects.insert_object(&object) {
            return Ok(());
        }
        let verified = match entry.entry_type {
            EntryType::Directory => self.directory(object),
            _ => self.file(entry, object),
        };
        verified.or_else(|error| self.damaged(&error))
    }

    fn directory(&mut self, object: ObjectId) -> Result<()> {
        self.structure_of_index(object)?;
        let contents = self.contents;
        tree::for_each_entry(contents, object, &mut |child| {
            let length = self.path.len();
            push_name(&mut self.path, &child.name);
            let verified = self.entry(&child);
            self.path.truncate(length);
            verified
        })?;
        self.findings.directories.fetch_add(1, Ordering::Relaxed);
        Progress::add(&self.findings.progress.directories_done, 1);
        Ok(())
    }

    /// Pack lengths of all contents that a directory, or the index of a file, consists of. Reading them
    /// finds everything else.
    fn structure_of_index(&mut self, object: ObjectId) -> Result<()> {
        let contents = self.contents;
        for_each_content(contents, object, &mut |content| {
            self.cancel.check()?;
            let info = contents.info(&content)?.ok_or_else(|| not_found(&content))?;
            self.findings.contents.fetch_add(1, Ordering::Relaxed);
            self.packs.check(&info)
        })
    }

    fn file(&mut self, entry: &DirectoryEntry, object: ObjectId) -> Result<()> {
        let origin = Origin { snapshot: Arc::clone(&self.snapshot), path: Arc::from(&self.path[..]) };
        if object.indirection == 0 {
            self.data(object.content, &origin)?;
        } else {
            let index = ObjectId { indirection: object.indirection - 1, ..object };
            self.structure_of_index(index)?;
            let contents = self.contents;
            let length = extents(contents, object, &mut |extent| self.data(extent.object.content, &origin))?;
            check_size(entry, length)?;
        }
        self.findings.files.fetch_add(1, Ordering::Relaxed);
        Progress::add(&self.findings.progress.files_done, 1);
        Ok(())
    }

    /// Checks where a content is and, if it is chosen, has it read.
    fn data(&mut self, content: ContentId, origin: &Origin) -> Result<()> {
        self.cancel.check()?;
        if !self.data.insert_content(&content) {
            return Ok(());
        }
        let info = self.contents.info(&content)?.ok_or_else(|| not_found(&content))?;
        self.findings.contents.fetch_add(1, Ordering::Relaxed);
        self.packs.check(&info)?;
        if self.choice.is_chosen(&content) {
            self.queue.push(info, Some(origin.clone()))?;
        }
        Ok(())
    }
}

/// Unfinished files of checkpoints are shorter than their entries say; longer is wrong.
fn check_size(entry: &DirectoryEntry, length: u64) -> Result<()> {
    let size = entry.size.max(0).cast_unsigned();
    if length == size || (length < size && entry.name.starts_with(b".checkpointed.")) {
        return Ok(());
    }
    let message = format!("the object has {length} bytes, the entry says {size}");
    Err(Error::new(ErrorKind::Corrupted, message))
}
