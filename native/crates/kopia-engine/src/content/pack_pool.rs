//! The packs that are open for writing.
//!
//! A thread borrows a pack, appends and gives it back; while all are borrowed, a large content
//! opens a further one and a small content waits the moment. So no lock is held while bytes are
//! written, and small backups still make one pack of each kind. Who fills a pack finishes it, while
//! others go on in the next, as long as no more packs are in memory than there is room for.

use super::catalog::PackCatalog;
use super::context::ContentContext;
use super::group::copy_of;
use super::location::{Key, Location};
use super::pending_pack::{PackKind, PendingPack};
use super::session::Session;
use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Contents from this length on do not wait for a borrowed pack.
const PATIENT_BYTES: usize = 256 << 10;

/// Open packs of both kinds.
pub(crate) struct PackPool {
    context: Arc<ContentContext>,
    catalog: Arc<PackCatalog>,
    state: Mutex<State>,
    changed: Condvar,
    limits: PackLimits,
}

/// How many packs of file data there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackLimits {
    /// Taking contents.
    pub(crate) open_max: usize,
    /// Not stored yet: open, or on their way. One that is not streamed to the storage is in memory so long.
    pub(crate) unstored_max: usize,
}

#[derive(Default)]
struct State {
    /// Grows with each flush; a pack of an earlier generation takes no more contents.
    generation: u64,
    session: Option<Arc<Session>>,
    data: OpenPacks,
    metadata: OpenPacks,
    /// Packs of each generation that are not stored yet.
    unfinished: BTreeMap<u64, usize>,
    /// Those of file data, over all generations.
    data_unstored: usize,
    /// Why a pack was lost: its contents are gone, so nothing may be committed any more.
    failure: Option<Error>,
}

#[derive(Default)]
struct OpenPacks {
    idle: Vec<PendingPack>,
    /// Idle and borrowed ones.
    open: usize,
}

impl State {
    fn packs(&mut self, kind: PackKind) -> &mut OpenPacks {
        match kind {
            PackKind::Data => &mut self.data,
            PackKind::Metadata => &mut self.metadata,
        }
    }
}

/// A pack lent to one thread; appending gives it back.
pub(crate) struct BorrowedPack<'a> {
    pool: &'a PackPool,
    kind: PackKind,
    generation: u64,
    pack: Option<PendingPack>,
    returned: bool,
}

impl PackPool {
    /// A pool with no packs.
    pub(crate) fn new(context: Arc<ContentContext>, catalog: Arc<PackCatalog>, limits: PackLimits) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { context, catalog, state, changed, limits }
    }

    /// Borrows a pack for a content of `length` bytes.
    pub(crate) fn borrow(&self, kind: PackKind, length: usize) -> Result<BorrowedPack<'_>> {
        let open_max = match kind {
            PackKind::Data if length >= PATIENT_BYTES => self.limits.open_max,
            _ => 1,
        };
        let mut state = self.state.lock();
        loop {
            state.check()?;
            let generation = state.generation;
            if let Some(pack) = state.packs(kind).idle.pop() {
                if self.would_be_too_long(&pack, length) {
                    state.packs(kind).open -= 1;
                    drop(state);
                    self.changed.notify_all();
                    self.finish(generation, pack)?;
                    state = self.state.lock();
                    continue;
                }
                return Ok(BorrowedPack { pool: self, kind, generation, pack: Some(pack), returned: false });
            }
            let has_room = kind == PackKind::Metadata || state.data_unstored < self.limits.unstored_max;
            if has_room && state.packs(kind).open < open_max {
                return self.open(state, kind);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Whether a pack in memory, nearly full, is better closed than made longer by `length` bytes.
    fn would_be_too_long(&self, pack: &PendingPack, length: usize) -> bool {
        let full = self.full_bytes();
        !self.context.storage.is_local()
            && pack.length() > full / 4 * 3
            && pack.length() + length as u64 > full
    }

    /// Packs are closed at this length: those that are in memory a little below what the format allows, since two of
    /// them and all else are to be less than 100 MiB.
    fn full_bytes(&self) -> u64 {
        let most = self.context.max_pack_size_bytes;
        if self.context.storage.is_local() { most } else { most / 20 * 17 }
    }

    fn open<'a>(&'a self, mut state: MutexGuard<'a, State>, kind: PackKind) -> Result<BorrowedPack<'a>> {
        let session = self.session(&mut state)?;
        let generation = state.generation;
        state.packs(kind).open += 1;
        *state.unfinished.entry(generation).or_default() += 1;
        state.data_unstored += usize::from(kind == PackKind::Data);
        drop(state);
        let mut borrowed = BorrowedPack { pool: self, kind, generation, pack: None, returned: false };
        if self.context.storage.is_local() {
            session.announce(&self.context)?;
        }
        borrowed.pack = Some(PendingPack::create(&self.context, &self.catalog, kind, &session)?);
        Ok(borrowed)
    }

    /// The session of packs that are opened now; its marker is stored before any of them, or is put beside them.
    fn session(&self, state: &mut State) -> Result<Arc<Session>> {
        if let Some(session) = &state.session {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::new(&self.context)?);
        state.session = Some(Arc::clone(&session));
        if !self.context.storage.is_local() {
            session.announce_beside(&self.context);
        }
        Ok(session)
    }

    /// Contents will be put: what they need of the storage can be on its way before the first.
    pub(crate) fn expect_contents(&self) -> Result<()> {
        if self.context.storage.is_local() { Ok(()) } else { self.session(&mut self.state.lock()).map(drop) }
    }

    fn give_back(&self, kind: PackKind, generation: u64, pack: PendingPack) -> Result<()> {
        let mut state = self.state.lock();
        let current = generation == state.generation;
        let full = pack.length() >= self.full_bytes();
        if current && full {
            state.packs(kind).open -= 1;
        } else if current {
            state.packs(kind).idle.push(pack);
            drop(state);
            self.changed.notify_all();
            return Ok(());
        }
        drop(state);
        self.changed.notify_all();
        self.finish(generation, pack)
    }

    fn finish(&self, generation: u64, pack: PendingPack) -> Result<()> {
        let kind = pack.kind;
        let result = pack.finish(&self.context, &self.catalog);
        let mut state = self.state.lock();
        if let Err(error) = &result {
            state.fail(error);
        }
        state.settle(kind, generation);
        self.changed.notify_all();
        result
    }

    /// Stores the pack of this number if it is open, so that it can be read; returns when it is stored.
    pub(crate) fn finish_pack(&self, number: u32) -> Result<()> {
        let mut state = self.state.lock();
        while self.catalog.is_open(number) {
            state.check()?;
            let generation = state.generation;
            for kind in [PackKind::Data, PackKind::Metadata] {
                let packs = state.packs(kind);
                if let Some(position) = packs.idle.iter().position(|pack| pack.number == number) {
                    let pack = packs.idle.swap_remove(position);
                    packs.open -= 1;
                    drop(state);
                    return self.finish(generation, pack);
                }
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Stores all packs opened before this call and gives the session that they belong to; contents
    /// put meanwhile go to new packs of a new session.
    ///
    /// # Errors
    /// That of any pack of this pool that could not be stored.
    pub(crate) fn store_all(&self) -> Result<Option<Arc<Session>>> {
        let mut state = self.state.lock();
        let generation = state.generation;
        state.generation += 1;
        let session = state.session.take();
        let data = std::mem::take(&mut state.data);
        let metadata = std::mem::take(&mut state.metadata);
        drop(state);
        let packs = data.idle.into_iter().chain(metadata.idle);
        // An error stays in the state, where the check below finds it; the other packs go on.
        let finish = |pack| drop(self.finish(generation, pack));
        if self.context.storage.is_local() {
            packs.for_each(finish);
        } else {
            std::thread::scope(|scope| packs.for_each(|pack| drop(scope.spawn(move || finish(pack)))));
        }
        let mut state = self.state.lock();
        while state.unfinished.range(..=generation).next().is_some() {
            self.changed.wait(&mut state);
        }
        state.check()?;
        Ok(session)
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(error) => Err(copy_of(error).while_doing("an earlier pack was lost")),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: &Error) {
        self.failure.get_or_insert_with(|| copy_of(error));
    }

    fn settle(&mut self, kind: PackKind, generation: u64) {
        self.data_unstored -= usize::from(kind == PackKind::Data);
        if let Some(count) = self.unfinished.get_mut(&generation) {
            *count -= 1;
            if *count == 0 {
                self.unfinished.remove(&generation);
            }
        }
    }
}

impl BorrowedPack<'_> {
    /// Appends a content and notes where it is: `locate` gets its offset and the number of the pack.
    ///
    /// # Errors
    /// The storage's. The pack is lost then, and with it every content in it.
    pub(crate) fn append(
        mut self,
        key: Key,
        pieces: &[&[u8]],
        locate: impl FnOnce(u32, u32) -> Location,
    ) -> Result<Location> {
        let mut pack = self.pack.take().expect("a borrowed pack stays until it is appended to");
        let offset = pack.append(pieces).inspect_err(|error| self.pool.state.lock().fail(error))?;
        let location = locate(offset, pack.number);
        pack.record(&key, &location);
        self.returned = true;
        self.pool.give_back(self.kind, self.generation, pack)?;
        Ok(location)
    }
}

impl Drop for BorrowedPack<'_> {
    fn drop(&mut self) {
        if self.returned {
            return;
        }
        // Creating or appending failed: nobody can use this pack any more.
        let mut state = self.pool.state.lock();
        if self.generation == state.generation {
            state.packs(self.kind).open -= 1;
        }
        state.settle(self.kind, self.generation);
        drop(state);
        self.pool.changed.notify_all();
    }
}
