//! Names and bodies of epoch blobs (§4.7.1). Source: Kopia `internal/epoch/epoch_utils.go`.
//!
//! The first part of a name is prefix ‖ number; the hash between prefix and suffix comes from
//! [`crate::index_blob::seal_blob`].

use crate::ids::{SessionId, encode_hex};
use std::collections::BTreeMap;

/// Body of an epoch marker `xe<E>`; not sealed.
pub const EPOCH_MARKER_BODY: &[u8] = b"epoch-marker";
/// Body of a deletion watermark `xw<T>`; not sealed.
pub const DELETION_WATERMARK_BODY: &[u8] = b"deletion-watermark";

/// Prefix of an uncompacted index blob: `xn<E>_`.
pub fn uncompacted_prefix(epoch: u64) -> String {
    format!("xn{epoch}_")
}

/// Prefix of a single-epoch compaction: `xs<E>_`.
pub fn single_prefix(epoch: u64) -> String {
    format!("xs{epoch}_")
}

/// Prefix of a range checkpoint of epochs `first` to `last`, both inclusive: `xr<A>_<B>_`.
pub fn range_prefix(first: u64, last: u64) -> String {
    format!("xr{first}_{last}_")
}

/// Name of the marker that starts `epoch`: `xe<E>`.
pub fn epoch_marker_name(epoch: u64) -> String {
    format!("xe{epoch}")
}

/// Name of a deletion watermark, Unix seconds: `xw<T>`.
pub fn deletion_watermark_name(watermark_seconds: i64) -> String {
    format!("xw{watermark_seconds}")
}

/// Suffix of the `xn` blobs of one flush of `session` in `shards` blobs: `<session>-c<N>`.
pub fn uncompacted_suffix(session: &SessionId, shards: usize) -> String {
    format!("{session}-c{shards}")
}

/// Suffix of a set of `shards` compacted blobs with fresh random bytes: `s<16 hex>-c<N>`.
pub fn compaction_suffix(random: [u8; 8], shards: usize) -> String {
    format!("s{}-c{shards}", encode_hex(&random))
}

/// Epoch number of a blob name, if it has one: the digits at the end of what stands before the
/// first `_`, after any letters.
pub fn epoch_of(name: &str) -> Option<u64> {
    let first = name.split('_').next()?;
    number(first.trim_start_matches(|letter: char| !letter.is_ascii_digit()))
}

/// First and last epoch of the name of a range checkpoint; `None` also if they are the wrong way
/// round.
pub fn epoch_range_of(name: &str) -> Option<(u64, u64)> {
    let mut parts = name.splitn(3, '_');
    let (_, last, _) = (parts.next()?, parts.next()?, parts.next()?);
    let (first, last) = (epoch_of(name)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Unix seconds of a watermark's name.
pub(super) fn watermark_of(name: &str) -> Option<i64> {
    name.strip_prefix("xw")?.parse().ok()
}

/// Adds `blob` to its group; a name without numbers has none.
pub(super) fn group<K: Ord, B>(groups: &mut BTreeMap<K, Vec<B>>, key: Option<K>, blob: B) {
    if let Some(key) = key {
        groups.entry(key).or_default().push(blob);
    }
}

/// Last epoch that is believed: one a second for a century. An empty blob says what epoch is written to, and
/// needs no password: a number that nobody can have come to is no epoch.
pub const EPOCH_MAX: u64 = u32::MAX as u64;

/// A decimal number of an epoch.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= EPOCH_MAX)
}
