//! Which of several index blobs an entry goes to when there are too many for one (§4.4.4).
//!
//! Source: Kopia `repo/content/index/index_builder.go`. Shards that get no entry are not written,
//! so the number of blobs may be less than [`shard_count`].

use crate::ids::ContentId;
use std::fmt::{self, Write as _};

/// Most entries of one index blob.
pub const SHARD_ENTRIES_MAX: u64 = 16_000_000;

/// Number of shards of so many entries; at least 1.
pub fn shard_count(entries: u64) -> u32 {
    // 2³² shards would be 6·10¹⁶ entries: more than an index can name.
    u32::try_from(entries.div_ceil(SHARD_ENTRIES_MAX).max(1)).unwrap_or(u32::MAX)
}

/// The shard out of `count` that `content` belongs to: FNV-1a of its text form.
pub fn shard_of(content: &ContentId, count: u32) -> u32 {
    if count <= 1 {
        return 0;
    }
    let mut hash = Fnv1a(0x811c_9dc5);
    // Neither this hash nor the text of a content ID can fail.
    let _ = write!(hash, "{content}");
    hash.0 % count
}

/// 32-bit FNV-1a over formatted text, so that no string is built.
struct Fnv1a(u32);

impl fmt::Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        Ok(())
    }
}
