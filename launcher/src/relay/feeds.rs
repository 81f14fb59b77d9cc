//! Every camera that the relay knows.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::watch;

use super::feed::{Feed, Presence, REFUSAL};
use super::stream::Stream;

/// Cameras that one relay takes; those that left count while they are remembered.
pub const MAX_CAMERAS: usize = 1024;
/// Names that were refused and are no cameras, of which the last are remembered.
pub const MAX_REFUSED: usize = 64;

/// What happens to feeds, for the ways out.
pub enum Event {
    /// A camera that was not known came; viewers may ask for it from now on.
    Opened(Arc<Feed>),
    /// Viewers can start at this stream: the first such frame since the camera
    /// came, came back or changed its codec.
    Ready(Arc<Feed>, Arc<Stream>),
    /// [`Feed::state`] is another one than it was.
    StateChanged(Arc<Feed>),
    /// A camera that left long ago made room for a new one.
    Forgotten(Arc<Feed>),
}

/// There is no room for another camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay already has {MAX_CAMERAS} cameras, the most that it takes")]
pub struct Full;

/// A name that no camera of the relay has, which somebody came with and was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The name that it said.
    pub name: String,
    /// Where it came from last.
    pub remote: SocketAddr,
    /// When that was.
    pub since: SystemTime,
    /// Why it was refused, in words.
    pub why: String,
    at: Instant,
}

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// Who is told what happens to feeds.
#[derive(Default)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Adds one. It is called from streaming threads, with no lock held, and must not block.
    pub fn add(&mut self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.0.push(Box::new(listener));
    }

    pub(super) fn tell(&self, event: &Event) {
        self.0.iter().for_each(|listener| listener(event));
    }
}

/// The table of feeds: at most [`MAX_CAMERAS`], by name. No two of its locks are
/// held at once.
pub struct Feeds {
    listeners: Arc<Listeners>,
    changes: watch::Receiver<()>,
    feeds: Mutex<HashMap<Arc<str>, Arc<Feed>>>,
    refused: Mutex<VecDeque<Refused>>,
}

impl Feeds {
    /// An empty table.
    pub fn new(mut listeners: Listeners) -> Self {
        let (changed, changes) = watch::channel(());
        listeners.add(move |event| match event {
            Event::Opened(_) | Event::StateChanged(_) | Event::Forgotten(_) => {
                changed.send_replace(());
            }
            Event::Ready(..) => {}
        });
        Self {
            listeners: Arc::new(listeners),
            changes,
            feeds: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// Changes when the state of a camera does, and when one comes or is forgotten.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Every feed, by name.
    pub fn all(&self) -> Vec<Arc<Feed>> {
        let mut feeds: Vec<_> = self.lock().values().cloned().collect();
        feeds.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        feeds
    }

    /// Names that are no cameras and were refused of late, the last one first.
    pub fn refusals(&self) -> Vec<Refused> {
        let refused = self.lock_refused();
        refused
            .iter()
            .rev()
            .filter(|refused| refused.at.elapsed() < REFUSAL)
            .cloned()
            .collect()
    }

    /// Somebody came as camera `name` and was refused.
    pub fn refuse(&self, name: &str, remote: SocketAddr, why: &str) {
        if let Some(feed) = self.get(name) {
            feed.refused(why);
            return;
        }
        let mut refused = self.lock_refused();
        refused.retain(|known| known.name != name);
        if refused.len() == MAX_REFUSED {
            refused.pop_front();
        }
        refused.push_back(Refused {
            name: name.to_owned(),
            remote,
            since: SystemTime::now(),
            why: why.to_owned(),
            at: Instant::now(),
        });
    }

    /// The feed of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Feed>> {
        self.lock().get(name).cloned()
    }

    /// The feed of that name, made where there is none yet. In a full table the
    /// camera that left longest ago is forgotten.
    pub fn open(&self, name: &str) -> Result<Arc<Feed>, Full> {
        let mut feeds = self.lock();
        if let Some(feed) = feeds.get(name) {
            return Ok(feed.clone());
        }
        let forgotten = if feeds.len() < MAX_CAMERAS {
            None
        } else {
            let longest_gone = feeds
                .values()
                .filter_map(|feed| match feed.presence() {
                    Presence::Here { .. } => None,
                    Presence::Gone { since } => Some((since, feed.name())),
                })
                .min()
                .ok_or(Full)?;
            let name: Arc<str> = longest_gone.1.into();
            feeds.remove(&name)
        };
        let feed = Arc::new(Feed::new(name, self.listeners.clone()));
        feeds.insert(name.into(), feed.clone());
        drop(feeds);
        self.lock_refused().retain(|refused| refused.name != name);
        if let Some(forgotten) = forgotten {
            self.listeners.tell(&Event::Forgotten(forgotten));
        }
        self.listeners.tell(&Event::Opened(feed.clone()));
        Ok(feed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_refused(&self) -> MutexGuard<'_, VecDeque<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::relay::state::State;

    #[test]
    fn refusals_are_told_and_bounded() {
        let feeds = Feeds::new(Listeners::default());
        let remote = ([192, 0, 2, 1], 9).into();
        for number in 0..MAX_REFUSED + 1 {
            feeds.refuse(&format!("camera{number}"), remote, "no key");
        }
        feeds.refuse("camera7", remote, "a wrong key");
        let refusals = feeds.refusals();
        assert_eq!(refusals.len(), MAX_REFUSED);
        assert_eq!(refusals[0].name, "camera7");
        assert_eq!(refusals[0].why, "a wrong key");
        assert!(refusals.iter().all(|refused| refused.name != "camera0"));

        let feed = feeds.open("camera7").expect("there is room");
        assert!(feeds.refusals().iter().all(|one| one.name != "camera7"));
        feeds.refuse("camera7", remote, "no key");
        assert_eq!(feed.state().name(), "waiting", "a stranger by its name");
        feed.left();
        assert_eq!(feed.state().name(), "gone");
        feeds.refuse("camera7", remote, "no key");
        assert!(matches!(feed.state(), State::Refused { why, .. } if why == "no key"));
        feed.joined();
        assert_eq!(feed.state().name(), "waiting");
        feed.left();
        assert_eq!(feed.state().name(), "gone");
    }

    #[test]
    fn is_bounded_and_forgets_the_camera_that_left_longest_ago() {
        let told = Arc::new(AtomicUsize::new(0));
        let mut listeners = Listeners::default();
        let count = told.clone();
        listeners.add(move |event| {
            if let Event::Forgotten(feed) = event {
                assert_eq!(feed.name(), "camera7");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let feeds = Feeds::new(listeners);
        for number in 0..MAX_CAMERAS {
            feeds
                .open(&format!("camera{number}"))
                .expect("there is room");
        }
        let known = feeds.open("camera7").expect("it is known");
        assert_eq!(feeds.open("another").err(), Some(Full));

        known.left();
        feeds.get("camera8").expect("it is known").left();
        feeds.open("another").expect("one made room");
        assert!(feeds.get("camera7").is_none());
        assert!(feeds.get("camera8").is_some());
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_camera_that_returns_finds_its_feed() {
        let feeds = Feeds::new(Listeners::default());
        let feed = feeds.open("door").expect("there is room");
        feed.left();
        let again = feeds.open("door").expect("there is room");
        assert!(Arc::ptr_eq(&feed, &again));
        assert!(feed.stream(15).is_some());
        assert!(feed.stream(16).is_none());
    }
}
