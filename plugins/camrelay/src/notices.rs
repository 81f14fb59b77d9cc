//! Notices from a port's thread to an element, carried out in order on GStreamer's pool of
//! threads: posting messages, emitting signals and pushing events may block, ports may not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use camrelay_protocol::Code;
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use crate::port::{Notice, Observer};

/// Notices waiting; the oldest go first when an element is this far behind.
const MAX_WAITING: usize = 256;

/// The notices that wait for one element.
#[derive(Default)]
pub(crate) struct Notices(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Notice>,
    carrying_out: bool,
    /// Notices of an earlier start of the element count for nothing.
    epoch: u64,
}

/// What was told of why there is no session, since there last was one.
#[derive(Default)]
pub(crate) struct Told(Vec<Code>);

impl Told {
    /// Whether a reason is worth telling: each is once, and silence only where nothing else was.
    pub(crate) fn is_news(&mut self, code: Code) -> bool {
        let known = self.0.contains(&code) || code == Code::PathLost && !self.0.is_empty();
        if !known {
            self.0.push(code);
        }
        !known
    }
}

/// An element that takes notices.
pub(crate) trait Noticing: ObjectSubclass<Type: IsA<gst::Element> + Send + Sync> {
    /// Where its notices wait.
    fn notices(&self) -> &Notices;

    /// Carries out one notice; called with no lock held, for one notice at a time.
    fn notice(&self, notice: Notice);
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what waits, and whatever observers made so far will say.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        state.waiting.clear();
    }

    /// Adds a notice; returns whether somebody must carry out what waits.
    fn push(&self, epoch: u64, notice: Notice) -> bool {
        let mut state = self.lock();
        if state.epoch != epoch {
            return false;
        }
        if state.waiting.len() == MAX_WAITING {
            state.waiting.pop_front();
        }
        state.waiting.push_back(notice);
        !std::mem::replace(&mut state.carrying_out, true)
    }

    /// The next notice; `None` ends the carrying out.
    fn pop(&self) -> Option<Notice> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        state.carrying_out = next.is_some();
        next
    }
}

/// An observer that has `element` take each notice until it is reset.
pub(crate) fn observer<E: Noticing>(element: &E) -> Observer
where
    E::Type: IsA<gst::Element> + Send + Sync,
{
    let weak: glib::WeakRef<E::Type> = element.obj().downgrade();
    let epoch = element.notices().lock().epoch;
    Arc::new(move |notice| {
        let Some(object) = weak.upgrade() else {
            return;
        };
        if E::from_obj(&object).notices().push(epoch, notice) {
            object.call_async(|object| {
                let element = E::from_obj(object);
                while let Some(notice) = element.notices().pop() {
                    element.notice(notice);
                }
            });
        }
    })
}
