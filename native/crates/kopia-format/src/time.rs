//! A point in time as Kopia stores it: RFC 3339 text with up to nine fractional digits.

use crate::error::Result;

/// A point in time: seconds since 1970-01-01T00:00:00Z and nanoseconds, 0..1e9.
///
/// Wider than a nanosecond count in 64 bits: Go's zero time (year 1) must be representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since the epoch; may be negative.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Parses RFC 3339 with any numeric offset.
    pub fn parse(_text: &str) -> Result<Self> {
        todo!()
    }
    /// Appends `2006-01-02T15:04:05.999999999Z` (UTC; trailing zeros and a bare dot removed).
    pub fn write_rfc3339(&self, _out: &mut Vec<u8>) {
        todo!()
    }
}
