//! Index objects of large objects: `{"stream":"kopia:indirect","entries":[…]}` (format document §5.2).

use crate::error::Result;
use crate::ids::ObjectId;

/// One entry: a stretch of the object and the object that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndirectEntry {
    /// Offset in the whole object.
    pub start: u64,
    /// Length of the stretch (plain bytes).
    pub length: u64,
    /// Object that holds it.
    pub object: ObjectId,
}

/// Encodes with the trailing newline, byte-identical to Kopia.
pub fn encode(_entries: &[IndirectEntry], _out: &mut Vec<u8>) { todo!() }
/// Decodes and checks that entries are contiguous and not empty.
pub fn decode(_json: &[u8]) -> Result<Vec<IndirectEntry>> { todo!() }
