//! Lets a body wait until the connection has written what the body gave it last.
//!
//! hyper takes more of a body while it still holds some of it. Of live pictures that
//! would be a queue: the next one is better chosen once the last one has left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What one connection has been given and not written yet.
#[derive(Clone, Default)]
pub struct Pace(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    unwritten: bool,
    waker: Option<Waker>,
}

impl Pace {
    /// The body gave something to write.
    pub fn given(&self) {
        self.lock().unwritten = true;
    }

    /// The connection wrote all it had.
    pub fn written(&self) {
        let mut state = self.lock();
        state.unwritten = false;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once all that was given is written.
    pub fn poll_written(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.unwritten {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
