//! Making pending contents durable and visible, and seeing those of other clients.
//!
//! Order is what makes it safe: packs are stored and synced before the index that names them, and the marker of their
//! session does not go before them; entries join the committed index before they leave the pending ones, so that no thread ever
//! misses a content in between.

use super::index_set;
use super::index_writer::{WriteEpoch, encode_index, store_index};
use super::location::Location;
use super::manager::ContentManager;
use super::pending_pack::sorted_rows;
use super::session::Session;
use crate::error::Result;
use kopia_format::{BlobId, SessionId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries reach an index at the latest this long after they were written (format document §4.2).
const FLUSH_INTERVAL_SECONDS: i64 = 10 * 60;
/// Indexes are listed again after this time (format document §9).
const REFRESH_INTERVAL_SECONDS: i64 = 15 * 60;
/// What only the holder of the index lock may touch.
#[derive(Default)]
pub(super) struct IndexTurn {
    /// Sessions whose packs are stored but whose entries may not be in an index yet.
    sessions: Vec<Arc<Session>>,
}

impl ContentManager {
    /// Stores all pending packs, then their indexes: after this, other clients see every content put before.
    ///
    /// # Errors
    /// The storage's. What was not stored stays pending.
    pub fn flush(&self) -> Result<()> {
        self.context.check_writable()?;
        self.flush_in(&mut self.index_lock.lock())
    }

    /// Contents will be put: where requests take long, this session is announced meanwhile.
    ///
    /// # Errors
    /// `AccessDenied` when read only.
    pub(crate) fn expect_contents(&self) -> Result<()> {
        self.context.check_writable()?;
        self.packs.expect_contents()
    }

    /// Runs `write` so that all its puts and deletions reach the storage in one index blob, then flushes.
    pub(crate) fn in_one_flush(&self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        // The lock keeps flushes that fall due in here from starting.
        let mut turn = self.index_lock.lock();
        self.in_one_flush.store(true, Ordering::Relaxed);
        let written = write();
        self.in_one_flush.store(false, Ordering::Relaxed);
        written?;
        self.flush_in(&mut turn)
    }

    fn flush_in(&self, turn: &mut IndexTurn) -> Result<()> {
        let epoch = self.store_packs(turn)?;
        let mut rows = self.pending.row_buffer();
        self.pending.collect(&|location| !self.catalog.is_open(location.pack), &mut rows);
        self.store_rows_and_end(&sorted_rows(&rows, self.context.key_length()), &turn.sessions, epoch)?;
        turn.sessions.clear();
        self.flushed_seconds.store(self.context.clock.now().seconds, Ordering::Relaxed);
        Ok(())
    }

    /// Stores all packs. Where requests take long, the epoch that the index will be in is listed meanwhile.
    fn store_packs(&self, turn: &mut IndexTurn) -> Result<Option<WriteEpoch>> {
        let beside = !self.is_local() && self.context.epochs.enabled && self.pending.len() > 0;
        std::thread::scope(|scope| {
            let epoch = beside.then(|| scope.spawn(|| WriteEpoch::list(&self.context)));
            turn.sessions.extend(self.packs.store_all()?);
            // What could not be listed is listed again when it is needed.
            Ok(epoch.and_then(|thread| thread.join().ok()?.ok()))
        })
    }

    /// Stores the index and ends the sessions whose packs it names. Where requests take long the markers of sessions
    /// that are young go beside it, not after it: a marker protects only packs older than a day.
    fn store_rows_and_end(
        &self,
        rows: &[&[u8]],
        sessions: &[Arc<Session>],
        epoch: Option<WriteEpoch>,
    ) -> Result<()> {
        let now = self.context.clock.now();
        let end = || sessions.iter().try_for_each(|session| session.end(&self.context));
        let store = || if rows.is_empty() { Ok(()) } else { self.store_rows(rows, sessions, epoch) };
        if self.is_local() || !sessions.iter().all(|session| session.is_young(now)) {
            return store().and_then(|()| end());
        }
        std::thread::scope(|scope| {
            let ending = scope.spawn(end);
            store()?;
            ending.join().unwrap_or(Ok(()))
        })
    }

    fn store_rows(&self, rows: &[&[u8]], sessions: &[Arc<Session>], epoch: Option<WriteEpoch>) -> Result<()> {
        let key_length = self.context.key_length();
        let session = match sessions.last() {
            Some(session) => session.id.clone(),
            None => Session::new(&self.context)?.id,
        };
        // Packs are on stable storage before an index names them, the index before it counts as stored.
        self.context.storage.sync()?;
        let blob = self.store_index_of(rows, &session, epoch)?;
        self.context.storage.sync()?;
        self.committed.add(Arc::new(self.table_of(rows)?), [blob])?;
        let stored = rows.iter().map(|row| row.split_at(key_length));
        self.pending.remove_unchanged(stored.map(|(key, location)| (key, Location::decode(location))));
        Ok(())
    }

    fn store_index_of(
        &self,
        rows: &[&[u8]],
        session: &SessionId,
        epoch: Option<WriteEpoch>,
    ) -> Result<BlobId> {
        let (version, key_length) = (self.context.index_version, self.context.key_length());
        let index = encode_index(version, &self.catalog, rows, key_length, None)?;
        store_index(&self.context, session, &index, epoch)
    }

    /// Flushes if enough is pending or the last flush is long ago. While another thread is at it,
    /// this one goes on writing, up to twice the bound.
    pub(super) fn flush_if_due(&self) -> Result<()> {
        let age = self.context.clock.now().seconds - self.flushed_seconds.load(Ordering::Relaxed);
        let pending = self.pending.len();
        if age < FLUSH_INTERVAL_SECONDS && pending < self.pending_max {
            return Ok(());
        }
        if let Some(mut turn) = self.index_lock.try_lock() {
            return self.flush_in(&mut turn);
        }
        if pending >= 2 * self.pending_max && !self.in_one_flush.load(Ordering::Relaxed) {
            drop(self.index_lock.lock());
        }
        Ok(())
    }

    pub(super) fn refresh_if_due(&self) -> Result<()> {
        let age = self.context.clock.now().seconds - self.refreshed_seconds.load(Ordering::Relaxed);
        if age < REFRESH_INTERVAL_SECONDS {
            return Ok(());
        }
        self.index_lock.try_lock().map_or(Ok(()), |_turn| self.refresh_in_turn())
    }

    /// Reads what other clients have written since.
    ///
    /// # Errors
    /// As [`Self::open`]; that the repository may not be used any more (upgrade).
    pub fn refresh(&self) -> Result<()> {
        let _turn = self.index_lock.lock();
        self.refresh_in_turn()
    }

    fn refresh_in_turn(&self) -> Result<()> {
        (self.context.before_refresh)()?;
        let now = self.context.clock.now().seconds;
        index_set::load(&self.context, &self.catalog, &self.committed, None)?;
        self.refreshed_seconds.store(now, Ordering::Relaxed);
        Ok(())
    }
}
