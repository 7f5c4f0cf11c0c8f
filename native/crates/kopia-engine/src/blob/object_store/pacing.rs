//! The throttle within bodies: a request cannot be cut, but its bytes can wait.
//!
//! What is sent waits before it goes. What comes is asked for in little pieces, each after it was let pass (`storage`);
//! what was not, listings and what was under way when a limit was set, waits before it is handed on, which holds the
//! sender back once the buffers of the connection are full.

use crate::blob::layers::throttling::{Flow, Throttle};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// Mark of a request whose answer was let pass before it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct LetPass;

/// Bytes of one body before the throttle that all bodies share.
#[derive(Debug)]
pub(super) struct Pacing {
    throttle: Arc<Throttle>,
    flow: Flow,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pacing {
    pub(super) fn new(throttle: &Arc<Throttle>, flow: Flow) -> Self {
        Self { throttle: Arc::clone(throttle), flow, wait: None }
    }

    /// As many of `length` bytes as should pass at once.
    pub(super) fn slice(&self, length: usize) -> usize {
        let slice = self.throttle.slice_bytes(self.flow).unwrap_or(u64::MAX);
        length.min(usize::try_from(slice).unwrap_or(usize::MAX))
    }

    /// Ready once `length` bytes may pass; `false` if the work was canceled meanwhile.
    pub(super) fn poll_pass(&mut self, length: usize, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(context));
                self.wait = None;
            }
            if self.throttle.is_canceled() {
                return Poll::Ready(false);
            }
            match self.throttle.take(self.flow, length as u64) {
                None => return Poll::Ready(true),
                Some(wait) => self.wait = Some(Box::pin(tokio::time::sleep(wait))),
            }
        }
    }
}
