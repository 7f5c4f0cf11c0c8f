//! Complete sets of compacted index blobs (§4.7.2).
//!
//! Blobs named `…-s<set>-c<count>` count only once `count` of their set are listed, so that a
//! half-written or half-deleted compaction is never used. `xn` blobs are named alike but are not
//! filtered. Source: Kopia `internal/completeset`.

use super::ListedBlob;
use std::collections::HashMap;

/// The set that is complete first in the order of `blobs`; a name of another form is a set by itself.
pub(super) fn first_complete_set(blobs: &[&ListedBlob]) -> Option<Vec<ListedBlob>> {
    let mut sets = HashMap::<&str, Vec<&ListedBlob>>::new();
    for blob in blobs {
        let Some((set, count)) = set_of(blob.id.as_str()) else {
            return Some(vec![(*blob).clone()]);
        };
        let members = sets.entry(set).or_default();
        members.push(blob);
        if members.len() as u64 == count {
            return Some(members.iter().map(|member| (*member).clone()).collect());
        }
    }
    None
}

/// Set and count of a name of the form `…-s<set>-c<count>`.
fn set_of(name: &str) -> Option<(&str, u64)> {
    let mut parts = name.split('-').skip(1);
    let set = parts.next().filter(|set| set.starts_with('s'))?;
    let count = parts.next()?.strip_prefix('c')?.parse::<i64>().ok()?;
    // A count below 1 is a number all the same: such a set is never complete.
    Some((set, u64::try_from(count).unwrap_or(0)))
}
