//! Reads groups and gives every content to its uses.

use super::batch::{Group, Use};
use super::file::{self, all_zero_if_repeated};
use super::job::Job;
use crate::content::GroupReader;
use crate::content::group::copy_of;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crossbeam_channel::Receiver;
use kopia_format::compression;
use std::time::Instant;

/// Most bytes that one `Z` content may give where nothing says how many.
const CHUNK_BYTES_MAX: u64 = 1 << 28;

/// Works until no more groups come.
pub(super) fn work(job: &Job<'_>, groups: &Receiver<Group>) {
    let mut reader = GroupReader::new(job.contents, &job.traffic);
    let mut inflated = Vec::new();
    for group in groups {
        if job.is_stopped() {
            group.uses.into_iter().for_each(|(.., purpose)| purpose.release(job));
            continue;
        }
        let _reserved = job.budget.reserve(group.bytes);
        let mut uses = group.uses.into_iter().peekable();
        let mut time = Instant::now();
        reader.read(&group.contents, &mut |index, read| {
            Progress::add(&job.progress.bytes_downloaded, u64::from(group.contents[index].packed_length));
            let mut mine = Vec::new();
            while let Some((_, compressed, purpose)) = uses.next_if(|(content, ..)| *content == index) {
                mine.push((compressed, purpose));
            }
            time = Progress::add_time(&job.progress.nanoseconds_reading, time);
            give(job, mine, read, &mut inflated);
            time = Progress::add_time(&job.progress.nanoseconds_storing, time);
        });
    }
}

/// Gives one content to all its uses.
fn give(job: &Job<'_>, uses: Vec<(bool, Use)>, read: Result<&[u8]>, inflated: &mut Vec<u8>) {
    let stored = match read {
        Ok(stored) => stored,
        Err(error) => {
            for (_, purpose) in uses {
                fail(job, &purpose, copy_of(&error));
                purpose.release(job);
            }
            return;
        }
    };
    let all_zero = all_zero_if_repeated(uses.len(), stored);
    for (compressed, purpose) in uses {
        let plain = if compressed { inflate(stored, inflated) } else { Ok(stored) };
        match plain {
            Ok(plain) => apply(job, &purpose, plain, all_zero && !compressed),
            Err(error) => fail(job, &purpose, error),
        }
        purpose.release(job);
    }
}

pub(super) fn inflate<'a>(stored: &[u8], out: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    compression::decompress(None, stored, CHUNK_BYTES_MAX as usize, out)?;
    Ok(out)
}

fn apply(job: &Job<'_>, purpose: &Use, data: &[u8], all_zero: bool) {
    match purpose {
        Use::Whole { directory, entry } => file::write_whole(job, directory, entry, data),
        Use::Symlink { directory, entry } => file::write_symlink(job, directory, entry, data),
        Use::Part { file, start, length } => match length {
            Some(length) if *length != data.len() as u64 => {
                let found = data.len();
                let message = format!("a chunk has {found} bytes where its index object says {length}");
                file.fail(job, Error::new(ErrorKind::Corrupted, message));
            }
            _ => {
                file.reaches(start + data.len() as u64);
                file.write(job, *start, data, all_zero);
            }
        },
    }
}

fn fail(job: &Job<'_>, purpose: &Use, error: Error) {
    match purpose {
        Use::Whole { directory, entry } | Use::Symlink { directory, entry } => {
            job.fail(directory.path(&entry.name), error);
        }
        Use::Part { file, .. } => file.fail(job, error),
    }
}
