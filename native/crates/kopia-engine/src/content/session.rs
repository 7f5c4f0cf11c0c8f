//! A writing session: its ID is in the names of its packs and indexes, its marker protects old packs
//! that no index names yet from being taken for orphans (format document §4.8).

use super::context::{ContentContext, fill_random};
use crate::error::Result;
use kopia_format::session::{SessionMarker, encode_marker, session_id};
use kopia_format::{BlobId, SessionId, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;

/// Packs without an index are safe for a day without a marker; what is much younger can miss its own early.
const YOUNG_SECONDS: i64 = 60 * 60;

/// One session, from the first pack after a flush to the index that names its packs.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    started: Timestamp,
    marker: Mutex<Marker>,
}

/// The marker is put once, and not again when the session is over.
enum Marker {
    Missing,
    Stored(BlobId),
    Deleted,
}

impl Session {
    /// A session with a fresh ID and no marker yet.
    pub(crate) fn new(context: &ContentContext) -> Result<Self> {
        let mut random = [0; 8];
        fill_random(&mut random)?;
        let started = context.clock.now();
        Ok(Self { id: session_id(random, started), started, marker: Mutex::new(Marker::Missing) })
    }

    /// Whether its packs are far from the age from which on they need a marker.
    pub(crate) fn is_young(&self, now: Timestamp) -> bool {
        (0..YOUNG_SECONDS).contains(&(now.seconds - self.started.seconds))
    }

    /// Starts to put the marker where that takes long; whoever announces then waits for it.
    pub(crate) fn announce_beside(self: &Arc<Self>, context: &Arc<ContentContext>) {
        let (session, context) = (Arc::clone(self), Arc::clone(context));
        // An error is found again by the next to announce, who has somebody to tell.
        let put = move || {
            session.announce(&context).map_or_else(|error| tracing::debug!(%error, "no marker yet"), drop)
        };
        drop(std::thread::Builder::new().name("session-marker".into()).spawn(put));
    }

    /// Puts the marker, once. Where requests take long it is on its way beside the first packs: it protects
    /// only packs older than a day (format document §8.7), and no index names one that was stored without it.
    pub(crate) fn announce(&self, context: &ContentContext) -> Result<()> {
        let mut marker = self.marker.lock();
        if !matches!(*marker, Marker::Missing) {
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
        *marker = Marker::Stored(context.put_sealed("s", Some(self.id.as_str()), &json)?);
        Ok(())
    }

    /// Deletes the marker: an index names every pack of the session, or is about to.
    pub(crate) fn end(&self, context: &ContentContext) -> Result<()> {
        match std::mem::replace(&mut *self.marker.lock(), Marker::Deleted) {
            Marker::Stored(marker) => context.storage.delete(&marker),
            Marker::Missing | Marker::Deleted => Ok(()),
        }
    }
}
