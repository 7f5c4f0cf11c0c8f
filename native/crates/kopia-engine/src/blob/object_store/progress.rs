//! Bodies that know when they last moved, and the time limits over them.
//!
//! A time limit over a whole request would end slow uploads that do move; these count from the
//! last byte. Request bodies are handed out in small frames, because a frame is what can be seen
//! to move.

use super::pacing::Pacing;
use ::object_store::client::{HttpError, HttpErrorKind};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

const FRAME_BYTES: usize = 64 << 10;

/// When something last moved.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    started: Instant,
    moved_milliseconds: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), moved_milliseconds: Arc::default() }
    }

    fn moved(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_milliseconds.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.started + Duration::from_millis(self.moved_milliseconds.load(Ordering::Relaxed))
    }
}

/// Runs `future`, unless nothing moves for `limit`; then `None`.
pub(super) async fn while_moving<T>(
    progress: &Progress,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    loop {
        let deadline = progress.last() + limit;
        match tokio::time::timeout_at(deadline, &mut future).await {
            Ok(output) => return Some(output),
            Err(_) if progress.last() + limit > Instant::now() => {}
            Err(_) => return None,
        }
    }
}

/// Bytes that are sent, in frames.
#[derive(Debug)]
pub(super) struct SentBody {
    /// Last first; none is empty.
    rest: Vec<Bytes>,
    progress: Progress,
    pacing: Option<Pacing>,
}

impl SentBody {
    /// `pieces` are sent one after the other; none may be empty.
    pub(super) fn new(mut pieces: Vec<Bytes>, progress: Progress, pacing: Option<Pacing>) -> Self {
        pieces.reverse();
        Self { rest: pieces, progress, pacing }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Self { rest, progress, pacing } = &mut *self;
        let Some(piece) = rest.last_mut() else { return Poll::Ready(None) };
        // Waiting for the throttle is no stall.
        progress.moved();
        let mut length = piece.len().min(FRAME_BYTES);
        if let Some(pacing) = pacing {
            length = pacing.slice(length);
            if !ready!(pacing.poll_pass(length, context)) {
                return Poll::Ready(Some(Err(canceled())));
            }
        }
        let frame = piece.split_to(length);
        if piece.is_empty() {
            rest.pop();
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// A response whose bytes must keep coming.
pub(super) struct ReceivedBody<B> {
    inner: B,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    pacing: Option<Pacing>,
    /// What came and was not handed on yet.
    held: Bytes,
}

impl<B> ReceivedBody<B> {
    pub(super) fn new(inner: B, limit: Duration, pacing: Option<Pacing>) -> Self {
        Self { inner, limit, timer: Box::pin(tokio::time::sleep(limit)), pacing, held: Bytes::new() }
    }

    /// Hands on a slice of what is held, when the throttle lets it.
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame<Bytes>, HttpError>> {
        let mut length = self.held.len();
        if let Some(pacing) = &mut self.pacing {
            length = pacing.slice(length);
            if !ready!(pacing.poll_pass(length, context)) {
                return Poll::Ready(Err(canceled()));
            }
        }
        let next = Instant::now() + self.limit;
        self.timer.as_mut().reset(next);
        Poll::Ready(Ok(Frame::data(self.held.split_to(length))))
    }
}

impl<B: Body<Data = Bytes, Error = HttpError> + Unpin> Body for ReceivedBody<B> {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.held.is_empty()
            && let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context)
        {
            let next = Instant::now() + self.limit;
            self.timer.as_mut().reset(next);
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) if !bytes.is_empty() => self.held = bytes,
                Some(Ok(Ok(empty))) => return Poll::Ready(Some(Ok(Frame::data(empty)))),
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        if !self.held.is_empty() {
            return self.poll_held(context).map(Some);
        }
        ready!(self.timer.as_mut().poll(context));
        let seconds = self.limit.as_secs();
        Poll::Ready(Some(Err(stalled(format!("no byte of the response came for {seconds} s")))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.inner.is_end_stream()
    }
}

/// The error of a body that was given up while it waited; whoever waits for it knows why.
fn canceled() -> HttpError {
    let source = std::io::Error::new(std::io::ErrorKind::Interrupted, "canceled");
    HttpError::new(HttpErrorKind::Interrupted, source)
}

/// The error of a time limit.
pub(super) fn stalled(message: String) -> HttpError {
    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, message);
    HttpError::new(HttpErrorKind::Timeout, source)
}
