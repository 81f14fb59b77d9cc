//! The request to stop, from a signal or from inside, for every thread.

use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Signals within this time of the first are the same request: Ctrl-C in a script
/// sends one to everybody, which the script may pass on.
const PATIENCE: Duration = Duration::from_secs(1);

/// A request to stop that every thread can wait for. Clones share one request.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// A request that SIGINT and SIGTERM raise. A signal [`PATIENCE`] later ends the
    /// process at once, in case stopping hangs.
    pub fn on_signals() -> anyhow::Result<Self> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).context("the signals cannot be taken over")?;
        let stop = Self::default();
        let raise = stop.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut first = None;
                for _ in signals.forever() {
                    if first.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        process::exit(1);
                    }
                    raise.raise();
                }
            })
            .context("no thread for the signals")?;
        Ok(stop)
    }

    /// Asks everybody to stop.
    pub fn raise(&self) {
        *self.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether somebody asked to stop.
    pub fn is_raised(&self) -> bool {
        *self.lock()
    }

    /// Waits for the request, at most `timeout`; true when it came.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let (raised, _) = self
            .0
            .changed
            .wait_timeout_while(self.lock(), timeout, |raised| !*raised)
            .unwrap_or_else(PoisonError::into_inner);
        *raised
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_a_thread_that_waits() {
        let stop = Stop::default();
        assert!(!stop.wait_timeout(Duration::ZERO));
        let waiting = stop.clone();
        let thread = thread::spawn(move || waiting.wait_timeout(Duration::from_secs(60)));
        stop.raise();
        assert!(thread.join().expect("the thread ends"));
        assert!(stop.is_raised());
    }
}
