//! What is wanted, gathered over many files, then sorted by where it is and cut into groups.
//!
//! Within a batch each content is read once, however many files hold it. The bounds keep memory flat
//! whatever the tree looks like.

use super::directory::TargetDirectory;
use super::file::LargeFile;
use super::job::Job;
use crate::content::ContentInfo;
use kopia_format::snapshot::DirectoryEntry;
use std::sync::Arc;

/// Bounds of a batch: uses (a few hundred bytes each) and stored bytes (a handful of packs).
const BATCH_USES_MAX: usize = 8192;
const BATCH_BYTES: u64 = 128 << 20;
/// Most bytes of a group; large contents are grouped up to this for the sake of hashing.
const GROUP_BYTES_MAX: u64 = 18 << 20;
/// Uses in a group: one content (the empty one, say) may have very many.
const GROUP_USES_MAX: usize = 1024;

/// What becomes of a content.
pub(super) enum Use {
    /// It is all of a file.
    Whole { directory: Arc<TargetDirectory>, entry: DirectoryEntry },
    /// It is the target of a symlink.
    Symlink { directory: Arc<TargetDirectory>, entry: DirectoryEntry },
    /// It is a stretch of a file; `length` is what the index object says.
    Part { file: Arc<LargeFile>, start: u64, length: Option<u64> },
}

impl Use {
    /// Lets go of the directory or file.
    pub(super) fn release(self, job: &Job<'_>) {
        match self {
            Self::Whole { directory, .. } | Self::Symlink { directory, .. } => {
                TargetDirectory::release(directory, job);
            }
            Self::Part { file, .. } => LargeFile::release(file, job),
        }
    }
}

/// A content and one use of it.
pub(super) struct Want {
    pub(super) info: ContentInfo,
    /// The content is an object-level compressed stream (`Z`).
    pub(super) compressed: bool,
    pub(super) purpose: Use,
}

/// Contents to be read together, with their uses.
#[derive(Default)]
pub(super) struct Group {
    /// Sorted by pack and offset, each once.
    pub(super) contents: Vec<ContentInfo>,
    /// Index of the content, whether it is a `Z`, use; sorted by index.
    pub(super) uses: Vec<(usize, bool, Use)>,
    /// Memory that it takes, about.
    pub(super) bytes: u64,
}

/// Wants that wait for being sorted.
#[derive(Default)]
pub(super) struct Batch {
    wants: Vec<Want>,
    bytes: u64,
}

/// Memory that reading a content takes: stored, and plain if that is not in the same place.
fn memory_bytes(info: &ContentInfo) -> u64 {
    let apart = info.compressor != kopia_format::compression::CompressorId::NONE;
    u64::from(info.packed_length) + if apart { u64::from(info.original_length) } else { 0 }
}

impl Batch {
    /// Takes a want; says whether the batch is full.
    pub(super) fn push(&mut self, want: Want) -> bool {
        self.bytes += u64::from(want.info.packed_length);
        self.wants.push(want);
        self.wants.len() >= BATCH_USES_MAX || self.bytes >= BATCH_BYTES
    }

    /// Empties the batch into groups for `job`'s workers.
    pub(super) fn take_groups(&mut self, job: &Job<'_>) -> Vec<Group> {
        self.bytes = 0;
        let mut wants = std::mem::take(&mut self.wants);
        wants.sort_by(|a, b| {
            let place = |want: &Want| (want.info.offset, want.info.id);
            a.info.pack.as_str().cmp(b.info.pack.as_str()).then_with(|| place(a).cmp(&place(b)))
        });
        let share = job.budget.bytes_max() / job.workers as u64;
        let bytes_enough = job.contents.read_group_bytes();
        let limits = Limits {
            bytes_enough,
            bytes_max: share.clamp(bytes_enough, GROUP_BYTES_MAX),
            lanes: job.contents.read_lanes(false),
        };
        limits.cut(wants)
    }
}

struct Limits {
    /// A group ends when it has this many bytes and enough contents to hash side by side.
    bytes_enough: u64,
    bytes_max: u64,
    lanes: usize,
}

impl Limits {
    fn cut(&self, wants: Vec<Want>) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut group = Group::default();
        for Want { info, compressed, purpose } in wants {
            let same = group.contents.last().is_some_and(|last| last.id == info.id);
            if self.is_full(&group, if same { None } else { Some(&info) }) {
                groups.push(std::mem::take(&mut group));
            }
            if group.contents.last().is_none_or(|last| last.id != info.id) {
                group.bytes += memory_bytes(&info);
                group.contents.push(info);
            }
            group.uses.push((group.contents.len() - 1, compressed, purpose));
        }
        if !group.uses.is_empty() {
            groups.push(group);
        }
        groups
    }

    fn is_full(&self, group: &Group, next: Option<&ContentInfo>) -> bool {
        if group.uses.len() >= GROUP_USES_MAX {
            return true;
        }
        let Some(next) = next else { return false };
        let enough = group.bytes >= self.bytes_enough && group.contents.len() >= self.lanes;
        !group.contents.is_empty() && (enough || group.bytes + memory_bytes(next) > self.bytes_max)
    }
}
