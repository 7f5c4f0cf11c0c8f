//! A tree as a tar archive: ustar headers, with pax records for what does not fit (long names,
//! nanoseconds, large numbers).
//!
//! A file that cannot be read ends the archive: its header is written already. The header of a file
//! announces the entry's size; a shorter object is filled up with zeros, as on disk.

use super::job::Job;
use super::ordered::{self, BLOCK_BYTES, OrderedOutput, Piece};
use super::plan::check_name;
use crate::error::{Error, ErrorKind, Result};
use crate::object::read_direct;
use crate::tree::{self, push_name};
use kopia_format::Timestamp;
use kopia_format::snapshot::{DirectoryEntry, EntryType, mode_bits};
use std::io::Write;
use std::sync::atomic::Ordering;
use tar::{EntryType as MemberType, Header};

/// Longest name and link target in a header without pax.
const NAME_BYTES_MAX: usize = 100;
/// Largest numbers of 7 and 11 octal digits.
const OWNER_MAX: u32 = 0o777_7777;
const SIZE_MAX: u64 = 0o777_7777_7777;
/// Longest symlink target that any Linux could use.
const LINK_BYTES_MAX: usize = 4096;

/// Writes the tree below `root`, or the file that it is.
pub(super) fn to_tar(job: &Job<'_>, mut root: DirectoryEntry, out: &mut (dyn Write + Send)) -> Result<()> {
    ordered::run(job, out, move |output| {
        if root.entry_type == EntryType::Directory {
            add(output, b"", &root)?;
        } else {
            // Names of block-mode snapshots have slashes.
            let start = root.name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            root.name.drain(..start);
            let name = root.name.clone();
            add(output, &name, &root)?;
        }
        output.push(Piece::Literal(vec![0; 2 * BLOCK_BYTES]))
    })
}

fn add(output: &mut OrderedOutput<'_>, path: &[u8], entry: &DirectoryEntry) -> Result<()> {
    let job = output.job;
    let added = match entry.entry_type {
        EntryType::Directory => return add_directory(output, path, entry),
        EntryType::File => add_file(output, path, entry),
        EntryType::Symlink => add_symlink(output, path, entry),
        EntryType::Unknown(letter) => {
            let message = format!("entries of type {:?} cannot be restored", char::from(letter));
            job.fail(path.to_vec(), Error::new(ErrorKind::UnsupportedFormat, message));
            Ok(())
        }
    };
    added.map_err(|error| error.while_doing(String::from_utf8_lossy(path)))
}

fn add_directory(output: &mut OrderedOutput<'_>, path: &[u8], entry: &DirectoryEntry) -> Result<()> {
    let job = output.job;
    let mut name = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
    name.push(b'/');
    output.push(Piece::Literal(header(entry, &name, MemberType::Directory, b"", 0)))?;
    job.directories.fetch_add(1, Ordering::Relaxed);
    tree::for_each_entry(job.contents, tree::directory_object(entry)?, &mut |child| {
        let mut below = path.to_vec();
        push_name(&mut below, &child.name);
        match check_name(&child.name) {
            Ok(()) => add(output, &below, &child),
            Err(error) => {
                job.fail(below, error);
                Ok(())
            }
        }
    })
    .map(drop)
}

fn add_file(output: &mut OrderedOutput<'_>, path: &[u8], entry: &DirectoryEntry) -> Result<()> {
    let length = entry.size.max(0).cast_unsigned();
    let header = header(entry, path, MemberType::Regular, b"", length);
    output.push(Piece::Begin { header, length })?;
    output.push_object(tree::object_of(entry)?)?;
    output.push(Piece::End)
}

fn add_symlink(output: &mut OrderedOutput<'_>, path: &[u8], entry: &DirectoryEntry) -> Result<()> {
    let contents = output.job.contents;
    let object = tree::object_of(entry)?;
    if object.indirection > 0 {
        return Err(Error::new(ErrorKind::Corrupted, "the target of a symlink is one content, not many"));
    }
    let mut target = Vec::new();
    read_direct(contents, object, &mut target)?;
    if target.len() > LINK_BYTES_MAX {
        return Err(Error::new(ErrorKind::Corrupted, "the target of the symlink is too long"));
    }
    output.job.symlinks.fetch_add(1, Ordering::Relaxed);
    output.push(Piece::Literal(header(entry, path, MemberType::Symlink, &target, 0)))
}

/// Header of a member, with a pax header before it where one is needed.
fn header(entry: &DirectoryEntry, path: &[u8], kind: MemberType, link: &[u8], size: u64) -> Vec<u8> {
    let records = pax_records(entry, path, link, size);
    let mut out = Vec::with_capacity(4 * BLOCK_BYTES);
    if !records.is_empty() {
        let mut pax = Header::new_ustar();
        fill(&mut pax, b"PaxHeaders/entry", MemberType::XHeader, b"", records.len() as u64);
        pax.set_mode(0o644);
        out.extend_from_slice(checked(pax).as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    let mut member = Header::new_ustar();
    fill(&mut member, path, kind, link, if size > SIZE_MAX { 0 } else { size });
    member.set_mode(mode_bits::to_unix(entry.mode));
    member.set_uid(u64::from(entry.uid.min(OWNER_MAX)));
    member.set_gid(u64::from(entry.gid.min(OWNER_MAX)));
    member.set_mtime(entry.modified.seconds.clamp(0, SIZE_MAX.cast_signed()).cast_unsigned());
    out.extend_from_slice(checked(member).as_bytes());
    out
}

fn checked(mut header: Header) -> Header {
    header.set_cksum();
    header
}

fn fill(header: &mut Header, name: &[u8], kind: MemberType, link: &[u8], size: u64) {
    let fields = header.as_old_mut();
    let name = &name[..name.len().min(NAME_BYTES_MAX)];
    fields.name[..name.len()].copy_from_slice(name);
    let link = &link[..link.len().min(NAME_BYTES_MAX)];
    fields.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
}

fn pax_records(entry: &DirectoryEntry, path: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > NAME_BYTES_MAX || !path.is_ascii() {
        push_record(&mut records, "path", path);
    }
    if link.len() > NAME_BYTES_MAX || !link.is_ascii() {
        push_record(&mut records, "linkpath", link);
    }
    if size > SIZE_MAX {
        push_record(&mut records, "size", size.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > OWNER_MAX {
            push_record(&mut records, key, id.to_string().as_bytes());
        }
    }
    if entry.modified.nanoseconds != 0 || !(0..=SIZE_MAX.cast_signed()).contains(&entry.modified.seconds) {
        push_record(&mut records, "mtime", pax_time(entry.modified).as_bytes());
    }
    records
}

/// Seconds with nine decimals; before 1970 the decimals count away from zero.
fn pax_time(time: Timestamp) -> String {
    let nanoseconds = time.unix_nanoseconds();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, rest) =
        (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
    format!("{sign}{seconds}.{rest:09}")
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn push_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}
