//! Session IDs and markers (format document §4.8).
//!
//! A marker says that packs named with its session may not be indexed yet, so that nobody takes
//! them for garbage. Here is its plain JSON; sealing it is the work of `index_blob`.

use crate::error::Result;
use crate::ids::{SessionId, encode_hex};
use crate::json::cursor::{Fault, read_all};
use crate::json::{ObjectWriter, write_time};
use crate::time::Timestamp;

/// 2000-01-01T00:00:00Z, from which session months are counted.
const MONTHS_START_SECONDS: i64 = 946_684_800;
/// A session "month" has 30 days.
const MONTH_SECONDS: i64 = 30 * 86_400;

/// Body of a session marker blob `s<hash>-<session>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionMarker {
    /// The session.
    pub id: SessionId,
    /// When its first pack was opened.
    pub start_time: Timestamp,
    /// When it was last known to be alive; packs are protected for 96 hours after it.
    pub checkpoint_time: Timestamp,
    /// Who writes.
    pub username: String,
    /// Where.
    pub hostname: String,
}

/// Builds a session ID from 8 random bytes and the time: `s`, 16 hex digits, the month in hex.
///
/// Source: Kopia `repo/content/sessions.go`.
pub fn session_id(random: [u8; 8], now: Timestamp) -> SessionId {
    // A clock before 2000 gives month 0: the random part alone tells sessions apart.
    let month = (now.seconds.saturating_sub(MONTHS_START_SECONDS) / MONTH_SECONDS).max(0);
    SessionId::new(format!("s{}{month:x}", encode_hex(&random)))
}

/// JSON of a marker. Times are written in UTC; Kopia writes and reads any zone.
pub fn encode_marker(marker: &SessionMarker, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.string("id", marker.id.as_str().as_bytes());
    write_time(marker.start_time, json.field("startTime"));
    write_time(marker.checkpoint_time, json.field("checkpointTime"));
    json.string("username", marker.username.as_bytes());
    json.string("hostname", marker.hostname.as_bytes());
    json.end();
}

/// Reads a marker.
///
/// # Errors
/// Anything but the JSON of a marker is malformed.
pub fn decode_marker(json: &[u8]) -> Result<SessionMarker> {
    let empty = SessionMarker {
        id: SessionId::new(""),
        start_time: Timestamp::GO_ZERO,
        checkpoint_time: Timestamp::GO_ZERO,
        username: String::new(),
        hostname: String::new(),
    };
    read_all("session marker", json, |cursor| {
        let mut marker = empty;
        let fields = &["id", "startTime", "checkpointTime", "username", "hostname"];
        let present = cursor.object(fields, |cursor, name| {
            match name {
                "id" => marker.id = SessionId::new(cursor.string()?),
                "startTime" => marker.start_time = cursor.time()?,
                "checkpointTime" => marker.checkpoint_time = cursor.time()?,
                "username" => marker.username = cursor.string()?.into_owned(),
                _ => marker.hostname = cursor.string()?.into_owned(),
            }
            Ok(())
        })?;
        if present { Ok(marker) } else { Err(Fault::Bad("null".into())) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("valid")
    }

    #[test]
    fn the_month_is_counted_from_2000_in_30_days() {
        // From the names in the vectors: sessions of November 2026 end in 147.
        let random = [0x56, 0x11, 0xb6, 0x37, 0xf6, 0xbb, 0x0c, 0x27];
        assert_eq!(session_id(random, at("2026-11-21T01:38:25Z")).as_str(), "s5611b637f6bb0c27147");
        assert_eq!(session_id([0; 8], at("2000-01-30T23:59:59Z")).as_str(), "s00000000000000000");
        assert_eq!(session_id([0; 8], at("2000-01-31T00:00:00Z")).as_str(), "s00000000000000001");
        assert_eq!(session_id([0; 8], Timestamp::GO_ZERO).as_str(), "s00000000000000000");
    }

    #[test]
    fn markers_in_a_local_zone_are_read() {
        let json = br#"{"id":"s00147","startTime":"2026-11-21T02:38:25.5+01:00","checkpointTime":"2026-11-21T02:38:26+01:00","username":"u","hostname":"h"}"#;
        let marker = decode_marker(json).expect("valid");
        assert_eq!(marker.start_time, at("2026-11-21T01:38:25.5Z"));
        assert_eq!((marker.username.as_str(), marker.hostname.as_str()), ("u", "h"));
        assert!(decode_marker(b"null").is_err());
        assert!(decode_marker(b"{").is_err());
    }

    proptest! {
        #[test]
        fn markers_survive(random: [u8; 8], seconds in 0i64..4_000_000_000, username: String, hostname: String) {
            let start_time = Timestamp::from_unix_seconds(seconds);
            let id = session_id(random, start_time);
            let marker = SessionMarker { id, start_time, checkpoint_time: start_time.plus_nanoseconds(1), username, hostname };
            let mut json = Vec::new();
            encode_marker(&marker, &mut json);
            prop_assert_eq!(decode_marker(&json).expect("own output"), marker);
        }
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>) {
            let _ = decode_marker(&bytes);
        }
    }
}
