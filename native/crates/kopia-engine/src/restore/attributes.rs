//! Owner, mode and times, in this order: a change of owner takes setuid bits away, and any takes the time along.
//!
//! As few calls as can be: what the system gave a new file already is not set again. Unlike Kopia,
//! a file whose owner could not be set loses its setuid and setgid bits: they would be another user's.

use super::job::Job;
use kopia_format::Timestamp;
use kopia_format::snapshot::{DirectoryEntry, mode_bits};
use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, AsRawFd};

const SET_ID_BITS: u32 = 0o6000;
const PERMISSION_BITS: u32 = 0o7777;
/// Mode of a new file until its owner is right.
const PRIVATE_MODE: u32 = 0o600;

/// What the system gives a file that is made in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Creation {
    uid: u32,
    gid: u32,
    /// Modes come out as asked for, less the umask; not so under a default ACL.
    modes_exact: bool,
}

impl Creation {
    /// Learns from a file that was made with `requested`.
    pub(super) fn learn(job: &Job<'_>, found: &Stat, requested: u32) -> Self {
        let modes_exact = found.st_mode & PERMISSION_BITS == requested & !job.umask;
        Self { uid: found.st_uid, gid: found.st_gid, modes_exact }
    }
}

/// What a file has at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    uid: u32,
    gid: u32,
    /// `None` if it is not known.
    mode: Option<u32>,
}

impl From<&Stat> for Current {
    fn from(found: &Stat) -> Self {
        Self { uid: found.st_uid, gid: found.st_gid, mode: Some(found.st_mode & PERMISSION_BITS) }
    }
}

impl Current {
    /// Of a file just made with `requested` where `creation` is known.
    pub(super) fn created(creation: &Creation, job: &Job<'_>, requested: u32) -> Self {
        let mode = creation.modes_exact.then_some(requested & !job.umask);
        Self { uid: creation.uid, gid: creation.gid, mode }
    }
}

/// The mode to make a file with: its own if that can stay, else one that only its owner can use.
pub(super) fn mode_to_create_with(
    job: &Job<'_>,
    entry: &DirectoryEntry,
    creation: Option<&Creation>,
) -> Mode {
    let wanted = mode_bits::to_unix(entry.mode);
    let owner_stays =
        creation.is_some_and(|c| !job.options.owners || (c.uid, c.gid) == (entry.uid, entry.gid));
    let plain = wanted & (job.umask | !0o777) == 0;
    Mode::from_raw_mode(if job.options.modes && owner_stays && plain { wanted } else { PRIVATE_MODE })
}

/// Sets what is not right yet on an open file or directory. Gives what the system refused, if that is to be gone on with.
pub(super) fn set(
    job: &Job<'_>,
    file: impl AsFd,
    entry: &DirectoryEntry,
    current: Current,
) -> Result<Option<Refused>> {
    let file = file.as_fd();
    let mut refused = None;
    let owner_differs = job.options.owners && (current.uid, current.gid) != (entry.uid, entry.gid);
    let owner = if owner_differs {
        fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
    } else {
        Ok(())
    };
    let owner_refused = owner.is_err();
    tolerate(job, "owner", owner, &mut refused)?;
    let mut wanted = mode_bits::to_unix(entry.mode);
    if owner_refused {
        wanted &= !SET_ID_BITS;
    }
    if job.options.modes && (owner_differs || current.mode != Some(wanted)) {
        tolerate(job, "permissions", fs::fchmod(file, Mode::from_raw_mode(wanted)), &mut refused)?;
    }
    if job.options.times {
        tolerate(job, "times", fs::futimens(file, &times(entry.modified)), &mut refused)?;
    }
    Ok(refused)
}

/// Sets the attributes of a directory whose children are complete.
pub(super) fn set_on_directory(
    job: &Job<'_>,
    handle: impl AsFd,
    entry: &DirectoryEntry,
) -> Result<Option<Refused>> {
    let found = fs::fstat(&handle)?;
    set(job, handle, entry, Current::from(&found))
}

/// Sets owner and times of a symlink; Linux symlinks have no mode.
pub(super) fn set_on_symlink(
    job: &Job<'_>,
    directory: impl AsFd,
    entry: &DirectoryEntry,
) -> Result<Option<Refused>> {
    let mut refused = None;
    let (directory, name) = (directory.as_fd(), entry.name.as_slice());
    if job.options.owners {
        let found = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (found.st_uid, found.st_gid) != (entry.uid, entry.gid) {
            let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            let done = fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            tolerate(job, "owner", done, &mut refused)?;
        }
    }
    if job.options.times {
        let times = times(entry.modified);
        let done = fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        tolerate(job, "times", done, &mut refused)?;
    }
    Ok(refused)
}

/// What the system refused to set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    /// `owner`, `permissions` or `times`; the first of them.
    pub(super) what: &'static str,
    pub(super) error: Errno,
}

/// Notes a refusal. Who is not privileged, an NFS server that maps root, an ID that a user namespace does not have
/// (`EINVAL`), a file system without owners (`ENOSYS`, `EOPNOTSUPP`): the bytes are right all the same.
fn tolerate(
    job: &Job<'_>,
    what: &'static str,
    result: Result<()>,
    refused: &mut Option<Refused>,
) -> Result<()> {
    match result {
        Err(error @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
            if job.options.ignore_permission_errors =>
        {
            refused.get_or_insert(Refused { what, error });
            Ok(())
        }
        result => result,
    }
}

/// Bits that let the owner of a directory work in it.
const OWNER_BITS: u32 = 0o700;

/// Lets this process work in an open directory that is its own and denies it (0555, say), as far as the system allows.
/// Gives the mode that it had, if that was changed.
pub(super) fn unlock(directory: impl AsFd) -> Option<Mode> {
    let directory = directory.as_fd();
    let wanted = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
    fs::accessat(directory, c".", wanted, AtFlags::EACCESS).err().filter(|error| *error == Errno::ACCESS)?;
    let mode = fs::fstat(directory).ok()?.st_mode & PERMISSION_BITS;
    fs::fchmod(directory, Mode::from_raw_mode(mode | OWNER_BITS)).ok()?;
    Some(Mode::from_raw_mode(mode))
}

/// As [`unlock`], for a directory below `parent` that cannot even be opened. No link is followed.
pub(super) fn unlock_unopened(parent: impl AsFd, name: &[u8]) -> Option<Mode> {
    let flags = fs::OFlags::PATH | fs::OFlags::DIRECTORY | fs::OFlags::NOFOLLOW | fs::OFlags::CLOEXEC;
    let place = fs::openat(parent, name, flags, Mode::empty()).ok()?;
    let mode = fs::fstat(&place).ok()?.st_mode & PERMISSION_BITS;
    // Such a handle takes no `fchmod`; its own name in /proc leads to the same directory.
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    fs::chmod(path, Mode::from_raw_mode(mode | OWNER_BITS)).ok()?;
    Some(Mode::from_raw_mode(mode))
}

fn times(modified: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
