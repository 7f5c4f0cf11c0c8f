//! A writing session: its ID is in the names of its packs and indexes, its marker protects packs
//! that no index names yet from being taken for orphans (format document §4.8).

use super::context::{ContentContext, fill_random};
use crate::error::Result;
use kopia_format::session::{SessionMarker, encode_marker, session_id};
use kopia_format::{BlobId, SessionId};
use parking_lot::Mutex;

/// One session, from the first pack after a flush to the index that names its packs.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    marker: Mutex<Option<BlobId>>,
}

impl Session {
    /// A session with a fresh ID and no marker yet.
    pub(crate) fn new(context: &ContentContext) -> Result<Self> {
        let mut random = [0; 8];
        fill_random(&mut random)?;
        Ok(Self { id: session_id(random, context.clock.now()), marker: Mutex::new(None) })
    }

    /// Puts the marker, once: no pack may be stored before it.
    pub(crate) fn announce(&self, context: &ContentContext) -> Result<()> {
        let mut marker = self.marker.lock();
        if marker.is_some() {
            return Ok(());
        }
        let now = context.clock.now();
        let body = SessionMarker {
            id: self.id.clone(),
            start_time: now,
            checkpoint_time: now,
            username: context.username.clone(),
            hostname: context.hostname.clone(),
        };
        let mut json = Vec::new();
        encode_marker(&body, &mut json);
        *marker = Some(context.put_sealed("s", Some(self.id.as_str()), &json)?);
        Ok(())
    }

    /// Deletes the marker: an index names every pack of the session.
    pub(crate) fn end(&self, context: &ContentContext) -> Result<()> {
        match self.marker.lock().take() {
            Some(marker) => context.storage.delete(&marker),
            None => Ok(()),
        }
    }
}
