//! Lengths of all packs, from one listing: enough to see that a pack is lost or cut off.

use crate::blob::Storage;
use crate::content::ContentInfo;
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;

/// Prefixes of packs.
const PACK_PREFIXES: [&str; 2] = ["p", "q"];
/// Longest pack name that is kept as such.
type Name = u128;

/// Lengths of packs by name.
#[derive(Debug, Default)]
pub(super) struct PackLengths {
    lengths: HashMap<Name, u64>,
    /// Packs with names of another shape.
    others: HashMap<Box<str>, u64>,
}

/// `p` or `q` and 32 hex digits: 16 bytes of memory instead of 60. Sessions in the name do not tell more.
fn short_name(name: &str) -> Option<Name> {
    let hex = name.get(1..33)?;
    let number = u128::from_str_radix(hex, 16).ok()?;
    Some(if name.starts_with('q') { !number } else { number })
}

impl PackLengths {
    /// Lists the packs.
    pub(super) fn list(storage: &dyn Storage) -> Result<Self> {
        let mut found = Self::default();
        for prefix in PACK_PREFIXES {
            storage.list(prefix, &mut |blob| {
                match short_name(blob.id.as_str()) {
                    Some(name) => found.lengths.insert(name, blob.length),
                    None => found.others.insert(blob.id.as_str().into(), blob.length),
                };
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// # Errors
    /// `BlobNotFound` or `Corrupted`, naming content and pack.
    pub(super) fn check(&self, info: &ContentInfo) -> Result<()> {
        let name = info.pack.as_str();
        let length = match short_name(name) {
            Some(name) => self.lengths.get(&name),
            None => self.others.get(name),
        };
        let (kind, why) = match length {
            None => (ErrorKind::BlobNotFound, "the pack is not in the storage".to_owned()),
            Some(length) if u64::from(info.offset) + u64::from(info.packed_length) > *length => {
                let why = format!("the pack has only {length} bytes, {} are needed", {
                    u64::from(info.offset) + u64::from(info.packed_length)
                });
                (ErrorKind::Corrupted, why)
            }
            Some(_) => return Ok(()),
        };
        let what = format!("content {} in pack {} at offset {}", info.id, info.pack, info.offset);
        Err(Error::new(kind, why).while_doing(what).with("content", info.id).with("pack", &info.pack))
    }
}
