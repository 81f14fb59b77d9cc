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
    state: Mutex<State>,
    raised: Condvar,
}

#[derive(Default)]
struct State {
    raised: bool,
    main_loops: Vec<glib::MainLoop>,
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
        let mut state = self.lock();
        state.raised = true;
        let main_loops = std::mem::take(&mut state.main_loops);
        drop(state);
        self.0.raised.notify_all();
        main_loops.iter().for_each(quit);
    }

    /// Whether somebody asked to stop.
    pub fn is_raised(&self) -> bool {
        self.lock().raised
    }

    /// Waits for the request.
    pub fn wait(&self) {
        let state = self.lock();
        let _state = self
            .0
            .raised
            .wait_while(state, |state| !state.raised)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Waits for the request, at most `timeout`; true when it came.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .0
            .raised
            .wait_timeout_while(state, timeout, |state| !state.raised)
            .unwrap_or_else(PoisonError::into_inner);
        state.raised
    }

    /// Makes the request end `main_loop`, which need not run yet: one that is
    /// run afterwards returns at once.
    pub fn quits(&self, main_loop: &glib::MainLoop) {
        let mut state = self.lock();
        if state.raised {
            drop(state);
            quit(main_loop);
        } else {
            state.main_loops.push(main_loop.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a loop from inside it: `quit` on one that does not run yet is forgotten.
fn quit(main_loop: &glib::MainLoop) {
    let context = main_loop.context();
    let main_loop = main_loop.clone();
    glib::idle_source_new(None, glib::Priority::HIGH, move || {
        main_loop.quit();
        glib::ControlFlow::Break
    })
    .attach(Some(&context));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_loops_that_run_before_and_after() {
        let stop = Stop::default();
        let early = glib::MainLoop::new(Some(&glib::MainContext::new()), false);
        let late = glib::MainLoop::new(Some(&glib::MainContext::new()), false);
        stop.quits(&early);
        assert!(!stop.is_raised());
        assert!(!stop.wait_timeout(Duration::ZERO));
        stop.raise();
        stop.quits(&late);
        early.run();
        late.run();
        stop.wait();
        assert!(stop.wait_timeout(Duration::ZERO));
    }

    #[test]
    fn wakes_a_thread_that_waits() {
        let stop = Stop::default();
        let waiting = stop.clone();
        let thread = thread::spawn(move || waiting.wait());
        stop.raise();
        thread.join().expect("the thread ends");
    }
}
