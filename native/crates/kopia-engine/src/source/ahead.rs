//! Looking ahead: listings and metadata of a source, gathered while the repository is being opened.
//!
//! Deriving the key takes one core a sixth of a second; another can list the source meanwhile. What is
//! found is only a hint, bounded in memory: a directory that changed since is listed again, an entry that
//! does not look like the parent's is looked at again. Nothing is opened but directories, and no other
//! file system is entered: what ignore rules exclude must not make a backup wait.

use super::listing::Listing;
use super::metadata::{Kind, Metadata, open_directory};
use crate::clock::Clock;
use hashbrown::HashMap;
use kopia_format::Timestamp;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What a look ahead may keep, if it is not told otherwise.
pub const MEMORY_BYTES_MAX: usize = 3 << 20;
/// Directories within each other; each holds a handle.
const DEPTH_MAX: usize = 64;

/// A thread that looks ahead, and what it has found.
#[derive(Debug)]
pub struct Ahead {
    found: Arc<Found>,
    thread: Mutex<Option<JoinHandle<()>>>,
    started: Timestamp,
}

#[derive(Debug)]
struct Found {
    stopped: AtomicBool,
    /// By device and inode, with the directory's times before it was listed.
    directories: Mutex<HashMap<(u64, u64), (Times, Listing)>>,
}

/// When a directory was modified and changed last.
type Times = (Timestamp, Timestamp);

/// A directory that was not listed yet: its name, in this one.
struct Waiting {
    parent: Arc<OwnedFd>,
    name: CString,
    depth: usize,
}

impl Ahead {
    /// Begins to look at the directory at `path`; whatever fails is left to the upload.
    pub fn start(path: &Path, memory_bytes_max: usize, clock: &dyn Clock) -> Self {
        let found = Arc::new(Found { stopped: AtomicBool::new(false), directories: Mutex::default() });
        let started = clock.now();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).ok();
        let thread = root.and_then(|root| {
            let found = Arc::clone(&found);
            let walk = move || found.walk(root, memory_bytes_max);
            std::thread::Builder::new().name("look ahead".into()).spawn(walk).ok()
        });
        Self { found, thread: Mutex::new(thread), started }
    }
    /// Ends it; gives the time when it began, which is when an upload that uses it began.
    pub fn stop(&self) -> Timestamp {
        self.found.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().take() {
            // If it panicked, less was found.
            let _ = thread.join();
        }
        self.started
    }
    /// The listing of the directory with this metadata, once, if it is still the same.
    pub fn take(&self, directory: &Metadata) -> Option<Listing> {
        let found = self.found.directories.lock().remove(&(directory.device, directory.inode));
        let times = (directory.modified, directory.changed);
        found.and_then(|(seen, listing)| (seen == times).then_some(listing))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Not waited for: it may hang in a file system that does not answer.
        self.found.stopped.store(true, Ordering::Relaxed);
    }
}

impl Found {
    /// Lists the tree in the order of uploads until there is no more, or no more room.
    fn walk(&self, root: OwnedFd, memory_bytes_max: usize) {
        let Ok(Metadata { device, .. }) = Metadata::of_handle(root.as_fd()) else { return };
        let mut walk = Walk { device, left_bytes: memory_bytes_max, waiting: Vec::new() };
        let mut more = self.visit(root, 0, &mut walk);
        while let (Some(()), Some(Waiting { parent, name, depth })) = (more, walk.waiting.pop()) {
            if let Ok(handle) = open_directory(&*parent, &name) {
                more = self.visit(handle, depth, &mut walk);
            }
        }
    }

    /// Lists one directory and looks at its entries; `None` once it is time to end.
    fn visit(&self, handle: OwnedFd, depth: usize, walk: &mut Walk) -> Option<()> {
        let Ok(metadata) = Metadata::of_handle(handle.as_fd()) else { return Some(()) };
        if metadata.device != walk.device {
            return Some(());
        }
        let Ok(listing) = Listing::read_within(handle.as_fd(), walk.left_bytes) else { return Some(()) };
        let mut listing = listing?;
        let left_bytes = walk.left_bytes.saturating_sub(listing.memory_bytes());
        self.look_at_entries(handle.as_fd(), &mut listing, left_bytes);
        walk.left_bytes = walk.left_bytes.saturating_sub(listing.memory_bytes());
        if depth < DEPTH_MAX {
            walk.add_children(handle, &listing, depth + 1)?;
        }
        let key = (metadata.device, metadata.inode);
        self.directories.lock().insert(key, ((metadata.modified, metadata.changed), listing));
        (!self.is_stopped()).then_some(())
    }

    fn look_at_entries(&self, directory: BorrowedFd<'_>, listing: &mut Listing, bytes_max: usize) {
        for index in 0..listing.reserve_seen(bytes_max) {
            if self.is_stopped() {
                return;
            }
            let wanted = matches!(listing.kind(index), Kind::File | Kind::Symlink);
            let metadata =
                wanted.then(|| Metadata::of_name(directory, listing.file_name(index)).ok()).flatten();
            listing.note_seen(metadata.as_ref());
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What is left to do, and room for it.
struct Walk {
    device: u64,
    left_bytes: usize,
    /// The next one last.
    waiting: Vec<Waiting>,
}

impl Walk {
    fn add_children(&mut self, handle: OwnedFd, listing: &Listing, depth: usize) -> Option<()> {
        let parent = Arc::new(handle);
        let directories = (0..listing.len()).take_while(|&index| listing.kind(index).sorts_as_directory());
        for index in directories.collect::<Vec<_>>().into_iter().rev() {
            let name = listing.file_name(index).to_owned();
            let bytes = size_of::<Waiting>() + name.count_bytes();
            self.left_bytes = self.left_bytes.checked_sub(bytes)?;
            self.waiting.push(Waiting { parent: Arc::clone(&parent), name, depth });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use std::fs;

    fn finished(path: &Path, memory_bytes_max: usize) -> Ahead {
        let ahead = Ahead::start(path, memory_bytes_max, &SystemClock);
        // To its own end, where `stop` would cut it off.
        let thread = ahead.thread.lock().take();
        thread.expect("started").join().expect("did not panic");
        ahead
    }

    fn directory(path: &Path) -> Metadata {
        Metadata::of_handle(fs::File::open(path).expect("opened").as_fd()).expect("metadata")
    }

    #[test]
    fn a_tree_is_listed_with_metadata_and_given_once() {
        let place = tempfile::tempdir().expect("directory");
        fs::create_dir(place.path().join("sub")).expect("made");
        fs::write(place.path().join("sub/file"), b"12345").expect("written");
        std::os::unix::fs::symlink("nowhere", place.path().join("link")).expect("linked");
        let ahead = finished(place.path(), MEMORY_BYTES_MAX);
        let root = ahead.take(&directory(place.path())).expect("looked at");
        assert_eq!((root.name(0), root.seen(0)), (&b"sub"[..], None));
        assert_eq!(root.seen(1).map(|link| link.size), Some(7));
        let sub = ahead.take(&directory(&place.path().join("sub"))).expect("looked at");
        assert_eq!(sub.seen(0).map(|file| file.size), Some(5));
        assert!(ahead.take(&directory(place.path())).is_none());
    }

    #[test]
    fn a_directory_that_changed_since_is_not_given() {
        let place = tempfile::tempdir().expect("directory");
        let ahead = finished(place.path(), MEMORY_BYTES_MAX);
        let changed =
            Metadata { modified: Timestamp { seconds: 1, nanoseconds: 0 }, ..directory(place.path()) };
        assert!(ahead.take(&changed).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let place = tempfile::tempdir().expect("directory");
        for number in 0..20 {
            let sub = place.path().join(format!("{number:02}"));
            fs::create_dir(&sub).expect("made");
            for file in 0..50 {
                fs::write(sub.join(format!("file-{file}")), b"").expect("written");
            }
        }
        let ahead = finished(place.path(), 20_000);
        let found = ahead.found.directories.lock();
        let bytes: usize = found.values().map(|(_, listing)| listing.memory_bytes()).sum();
        assert!((10_000..=22_000).contains(&bytes), "{bytes}");
        let first = directory(&place.path().join("00"));
        assert!(found.contains_key(&(first.device, first.inode)), "the first directories come first");
    }

    #[test]
    fn what_cannot_be_listed_is_left_to_the_upload() {
        let ahead = Ahead::start(Path::new("/nonexistent"), MEMORY_BYTES_MAX, &SystemClock);
        assert!(ahead.stop() > Timestamp::default());
        assert!(ahead.take(&directory(Path::new("/"))).is_none());
    }
}
