//! What both index versions share: fixed-width entries in key order behind a header.
//!
//! Arithmetic on counts from the header is in u64 and is checked against the length of the
//! bytes before anything is allocated.

use crate::error::{FormatError, Result};
use crate::ids::{ContentId, HASH_LENGTH_MAX};
use std::cmp::Ordering;
use std::ops::Range;

/// Key length that Kopia writes when there are no entries to tell one.
const KEY_LENGTH_UNKNOWN: usize = 255;

/// Place and width of the entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryTable {
    pub(super) offset: usize,
    pub(super) count: u32,
    pub(super) key_length: usize,
    pub(super) value_length: usize,
}

impl EntryTable {
    /// Checks that keys have a possible length and that all entries lie inside `bytes`.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<()> {
        let unknown = self.count == 0 && self.key_length == KEY_LENGTH_UNKNOWN;
        if !unknown && !(2..=1 + HASH_LENGTH_MAX).contains(&self.key_length) {
            return Err(FormatError::malformed("index header", format!("key length {}", self.key_length)));
        }
        if self.end() > bytes.len() as u64 {
            let why = format!("{} entries do not fit in {} bytes", self.count, bytes.len());
            return Err(FormatError::malformed("index header", why));
        }
        Ok(())
    }

    /// First byte after the entries.
    pub(super) fn end(&self) -> u64 {
        self.offset as u64 + u64::from(self.count) * (self.key_length + self.value_length) as u64
    }

    /// Key and value of the entry at `position`.
    pub(super) fn entry<'a>(&self, bytes: &'a [u8], position: usize) -> Result<(&'a [u8], &'a [u8])> {
        self.slice(bytes, position).map(|entry| entry.split_at(self.key_length)).ok_or_else(|| {
            FormatError::malformed("index entry", format!("no entry {position} of {}", self.count))
        })
    }

    fn slice<'a>(&self, bytes: &'a [u8], position: usize) -> Option<&'a [u8]> {
        if position >= self.count as usize {
            return None;
        }
        let stride = self.key_length + self.value_length;
        let start = position.checked_mul(stride)?.checked_add(self.offset)?;
        bytes.get(start..start.checked_add(stride)?)
    }

    /// Position of the first entry for which `is_before` is false.
    pub(super) fn partition(&self, bytes: &[u8], is_before: impl Fn(&[u8]) -> bool) -> Result<usize> {
        let Range { mut start, mut end } = 0..self.count as usize;
        while start < end {
            let middle = start + (end - start) / 2;
            if is_before(self.entry(bytes, middle)?.0) {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(start)
    }
}

/// Order of an index key relative to `content`, without building the content's key.
pub(super) fn compare_key(key: &[u8], content: &ContentId) -> Ordering {
    let prefix = content.prefix().unwrap_or(0);
    match key.split_first() {
        None => Ordering::Less,
        Some((first, hash)) => first.cmp(&prefix).then_with(|| hash.cmp(content.hash().as_bytes())),
    }
}

/// The 32 bits at `at` of a fixed array, big-endian; `at + 4 <= N` is the caller's constant.
pub(super) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The first `N` bytes of a header.
pub(super) fn header<const N: usize>(bytes: &[u8]) -> Result<&[u8; N]> {
    bytes.first_chunk().ok_or_else(|| {
        FormatError::malformed("index header", format!("{} bytes, at least {N} needed", bytes.len()))
    })
}

/// The pack name of `length` bytes at `offset`.
pub(super) fn name_at(bytes: &[u8], offset: u32, length: u8) -> Result<&str> {
    let start = offset as usize;
    bytes
        .get(start..start.saturating_add(usize::from(length)))
        .and_then(|name| std::str::from_utf8(name).ok())
        .ok_or_else(|| {
            let why = format!("name of {length} bytes is outside the index or not UTF-8");
            FormatError::malformed("index pack name", why).at(u64::from(offset))
        })
}
