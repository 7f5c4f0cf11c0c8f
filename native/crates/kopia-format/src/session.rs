//! Session IDs and markers (format document §4.8).

use crate::error::Result;
use crate::ids::SessionId;
use crate::time::Timestamp;

/// Body of a session marker blob `s<hash>-<session>`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SessionMarker { pub id: SessionId, pub start_time: Timestamp, pub checkpoint_time: Timestamp, pub username: String, pub hostname: String }

/// Builds a session ID from 8 random bytes and the time.
pub fn session_id(_random: [u8; 8], _now: Timestamp) -> SessionId { todo!() }
/// JSON of a marker.
pub fn encode_marker(_marker: &SessionMarker, _out: &mut Vec<u8>) { todo!() }
/// Reads a marker.
pub fn decode_marker(_json: &[u8]) -> Result<SessionMarker> { todo!() }
