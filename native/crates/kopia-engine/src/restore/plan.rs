//! The one thread that walks the tree: makes directories, looks contents up, hands out groups.
//!
//! It goes down while it reads a directory, so only the directories above are open and a million
//! siblings take no memory. It must not read file data: workers wait for it.

use super::batch::{Batch, Use, Want};
use super::directory::TargetDirectory;
use super::file::{self, LargeFile, Placement};
use super::job::Job;
use super::{existing, worker};
use crate::content::ContentInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::object::extents;
use crate::tree;
use crossbeam_channel::{Sender, bounded};
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use kopia_format::{ContentId, ObjectId};
use std::sync::Arc;

/// Walks a tree for a job.
pub(super) struct Planner<'job> {
    job: &'job Job<'job>,
    batch: Batch,
    groups: Sender<super::batch::Group>,
}

impl<'job> Planner<'job> {
    /// Runs `plan` in a thread of its own beside the job's workers, and waits for all.
    pub(super) fn run(job: &'job Job<'job>, plan: impl FnOnce(&mut Self) + Send) -> Result<()> {
        let (groups, received) = bounded(2 * job.workers);
        std::thread::scope(|scope| {
            for _ in 0..job.workers {
                let received = received.clone();
                scope.spawn(move || worker::work(job, &received));
            }
            drop(received);
            let planning = move || {
                let mut planner = Planner { job, batch: Batch::default(), groups };
                plan(&mut planner);
                planner.flush();
            };
            let thread = std::thread::Builder::new().stack_size(tree::WALK_STACK_BYTES);
            let started = thread.spawn_scoped(scope, planning);
            started.map(drop).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot start a thread for the restore").caused_by(error)
            })
        })
    }

    /// Restores what is in `entry`, a directory, to `directory`.
    pub(super) fn directory(&mut self, entry: &DirectoryEntry, directory: Arc<TargetDirectory>) {
        if let Err(error) = self.fill(entry, &directory) {
            self.job.fail(directory.path(b""), error);
        }
        TargetDirectory::release(directory, self.job);
    }

    fn fill(&mut self, entry: &DirectoryEntry, directory: &Arc<TargetDirectory>) -> Result<()> {
        let object = tree::directory_object(entry)?;
        if self.job.options.delete_extra && !directory.fresh {
            existing::delete_extra(self.job, directory, object)?;
        }
        let contents = self.job.contents;
        tree::for_each_entry(contents, object, &mut |child| {
            if self.job.is_stopped() {
                return Err(Error::new(ErrorKind::Canceled, "stopped"));
            }
            self.entry(directory, child);
            Ok(())
        })?;
        Ok(())
    }

    /// Restores one entry below `directory`.
    pub(super) fn entry(&mut self, directory: &Arc<TargetDirectory>, entry: DirectoryEntry) {
        let path = |entry: &DirectoryEntry| directory.path(&entry.name);
        if let Err(error) = check_name(&entry.name) {
            return self.job.fail(path(&entry), error);
        }
        let done = match entry.entry_type {
            EntryType::Directory => {
                self.keep_handles(directory);
                TargetDirectory::enter(self.job, directory, &entry).map(|below| self.directory(&entry, below))
            }
            EntryType::File => self.file(directory, &entry),
            EntryType::Symlink => self.symlink(directory, &entry),
            EntryType::Unknown(letter) => {
                let letter = char::from(letter);
                let message = format!("entries of type {letter:?} cannot be restored");
                Err(Error::new(ErrorKind::UnsupportedFormat, message))
            }
        };
        if let Err(error) = done {
            self.job.fail(path(&entry), error);
        }
    }

    fn file(&mut self, directory: &Arc<TargetDirectory>, entry: &DirectoryEntry) -> Result<()> {
        if file::skip_restored(self.job, directory, entry) {
            return Ok(());
        }
        let object = tree::object_of(entry)?;
        let directory = Arc::clone(directory);
        let entry = entry.clone();
        if object.indirection == 0 {
            let info = self.locate(&object.content)?;
            self.want(info, object.compressed, Use::Whole { directory, entry });
        } else {
            self.keep_handles(&directory);
            let file = Arc::new(LargeFile::new(self.job, entry, Placement::In(directory)));
            self.parts(&file, object);
            LargeFile::release(file, self.job);
        }
        Ok(())
    }

    /// Hands out what waits before the descriptors run out: each directory and large file of a batch holds one.
    fn keep_handles(&mut self, below: &TargetDirectory) {
        if self.job.handles.are_scarce() {
            self.flush();
            self.job.handles.wait(below.handles_above());
        }
    }

    fn symlink(&mut self, directory: &Arc<TargetDirectory>, entry: &DirectoryEntry) -> Result<()> {
        if file::skip_restored(self.job, directory, entry) {
            return Ok(());
        }
        let object = tree::object_of(entry)?;
        if object.indirection > 0 {
            return Err(Error::new(ErrorKind::Corrupted, "the target of a symlink is one content, not many"));
        }
        let info = self.locate(&object.content)?;
        let (directory, entry) = (Arc::clone(directory), entry.clone());
        self.want(info, object.compressed, Use::Symlink { directory, entry });
        Ok(())
    }

    /// Asks for all stretches of a file.
    pub(super) fn parts(&mut self, file: &Arc<LargeFile>, object: ObjectId) {
        let planned = if object.indirection == 0 {
            self.part(file, 0, None, object)
        } else {
            let contents = self.job.contents;
            extents(contents, object, &mut |extent| {
                if self.job.is_stopped() {
                    return Err(Error::new(ErrorKind::Canceled, "stopped"));
                }
                self.part(file, extent.start, Some(extent.length), extent.object)
            })
            .map(drop)
        };
        if let Err(error) = planned {
            file.fail(self.job, error);
        }
    }

    fn part(
        &mut self,
        file: &Arc<LargeFile>,
        start: u64,
        length: Option<u64>,
        object: ObjectId,
    ) -> Result<()> {
        let info = self.locate(&object.content)?;
        file.reaches(start + length.unwrap_or(0));
        self.want(info, object.compressed, Use::Part { file: Arc::clone(file), start, length });
        Ok(())
    }

    fn locate(&self, content: &ContentId) -> Result<ContentInfo> {
        self.job.contents.info(content)?.ok_or_else(|| crate::content::manager::not_found(content))
    }

    fn want(&mut self, info: ContentInfo, compressed: bool, purpose: Use) {
        if self.batch.push(Want { info, compressed, purpose }) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for group in self.batch.take_groups(self.job) {
            // Workers only go once this end is closed.
            let sent = self.groups.send(group);
            debug_assert!(sent.is_ok(), "no workers are left");
        }
    }
}

/// A name must be one component, and neither of the two that lead elsewhere.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        let text = String::from_utf8_lossy(name);
        let message = format!("the name {text:?} would lead out of its directory; refused");
        return Err(Error::new(ErrorKind::Corrupted, message));
    }
    Ok(())
}
