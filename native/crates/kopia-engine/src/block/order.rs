//! Pieces become known in any order and are listed in their own: a window of bounded length between.

use super::layout::ListWriter;
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::ObjectId;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;

/// Pieces between the first that is not known and the last that was announced: some 3 MB.
const WINDOW_PIECES: usize = 1 << 16;

/// The list of one backup, and the pieces that are under way.
pub(super) struct Order<'a> {
    state: Mutex<State<'a>>,
    moved: Condvar,
}

struct State<'a> {
    /// Taken at the end.
    list: Option<ListWriter<'a>>,
    /// Number of the first slot.
    base: u64,
    slots: VecDeque<Option<ObjectId>>,
    failure: Option<Error>,
}

impl State<'_> {
    /// Lists what is known from the first slot on.
    fn advance(&mut self) -> Result<()> {
        let Some(list) = &mut self.list else { return Ok(()) };
        while let Some(Some(object)) = self.slots.front() {
            list.push(*object)?;
            self.slots.pop_front();
            self.base += 1;
        }
        Ok(())
    }
}

impl<'a> Order<'a> {
    /// # Errors
    /// As [`ListWriter::new`].
    pub(super) fn new(contents: &'a ContentManager) -> Result<Self> {
        let (list, slots) = (Some(ListWriter::new(contents)?), VecDeque::new());
        Ok(Self { state: Mutex::new(State { list, base: 0, slots, failure: None }), moved: Condvar::new() })
    }

    /// Announces the next piece, known or not; waits while too many are under way.
    ///
    /// # Errors
    /// `Canceled` once something failed; those of storing the list.
    pub(super) fn announce(&self, object: Option<ObjectId>) -> Result<()> {
        let mut state = self.state.lock();
        while state.slots.len() >= WINDOW_PIECES && state.failure.is_none() {
            self.moved.wait(&mut state);
        }
        if state.failure.is_some() {
            return Err(Error::new(ErrorKind::Canceled, "stopped"));
        }
        state.slots.push_back(object);
        state.advance()
    }

    /// Tells what an announced piece is.
    pub(super) fn resolve(&self, index: u64, object: Result<ObjectId>) {
        let mut state = self.state.lock();
        let resolved = object.and_then(|object| {
            let place = (index - state.base) as usize;
            state.slots[place] = Some(object);
            state.advance()
        });
        if let Err(error) = resolved {
            state.failure.get_or_insert(error);
        }
        self.moved.notify_all();
    }

    /// Whether something failed: nothing more need be done.
    pub(super) fn is_failed(&self) -> bool {
        self.state.lock().failure.is_some()
    }

    /// What failed first.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.state.lock().failure.take()
    }

    /// The object of the device and its length, once all pieces are known.
    ///
    /// # Errors
    /// Those of storing the list.
    pub(super) fn finish(&self) -> Result<(ObjectId, u64)> {
        let mut state = self.state.lock();
        match state.list.take() {
            Some(list) if state.slots.is_empty() => list.finish(),
            _ => Err(Error::new(ErrorKind::Internal, "pieces of the device are missing")),
        }
    }
}
