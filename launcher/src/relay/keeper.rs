//! Notices which cameras fall silent, shows it to their viewers, and has those forgotten
//! that left long ago.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::feeds::Feeds;
use super::placeholder::Maker;

/// How often all cameras are looked at; one that falls silent just when it does.
const ROUND: Duration = Duration::from_millis(100);

/// Looks at all cameras until it is dropped.
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Tells the listeners of these feeds when a camera's state changes.
    pub fn start(feeds: Arc<Feeds>) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let maker = Maker::start()?;
        let thread = thread::Builder::new()
            .name("keeper".into())
            .spawn(move || {
                let mut wait = ROUND;
                while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    let round = Instant::now() + ROUND;
                    feeds.forget_long_gone(Instant::now());
                    let all = feeds.all();
                    let dues = all.iter().filter_map(|feed| {
                        let due = feed.tend(&maker);
                        feed.look();
                        due
                    });
                    let due = dues.min().map_or(round, |due| due.min(round));
                    wait = due.saturating_duration_since(Instant::now());
                }
            })
            .context("no thread that looks after the cameras")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::feeds::{Event, Listeners};
    use crate::relay::state::STALE;

    /// What a step may take; only ever reached when a test fails.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn says_when_a_camera_falls_silent_and_is_back() {
        gst::init().expect("GStreamer starts");
        let (sender, changes) = channel();
        let mut listeners = Listeners::default();
        listeners.add(move |event| {
            if let Event::StateChanged(feed) = event {
                let _ = sender.send(feed.state().name());
            }
        });
        let feeds = Arc::new(Feeds::new(listeners));
        let feed = feeds.open("door").expect("there is room");
        let next = || changes.recv_timeout(DEADLINE).expect("a change");
        let _keeper = Keeper::start(feeds.clone()).expect("a thread");
        assert_eq!(next(), "waiting");

        let stream = feed.stream(0).expect("a good number");
        let mut harness = gst_check::Harness::with_element(&stream.sink(), Some("sink"), None);
        harness.set_src_caps_str("video/x-raw");
        let mut push = || {
            let mut buffer = gst::Buffer::with_size(1).expect("memory");
            buffer.make_mut().set_pts(gst::ClockTime::ZERO);
            harness.push(buffer).expect("the sink takes it");
        };
        for _ in 0..2 {
            let pushed = Instant::now();
            push();
            assert_eq!(next(), "live");
            assert_eq!(next(), "stale");
            assert!(pushed.elapsed() >= STALE);
        }
        feed.left();
        assert_eq!(next(), "gone");
        feed.joined();
        assert_eq!(next(), "waiting", "it has sent nothing since it came");
        push();
        assert_eq!(next(), "live");
        assert_eq!(stream.newest().map(|frame| frame.sequence), Some(2));
    }
}
