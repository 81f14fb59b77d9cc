//! Every camera that the relay knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::feed::{Feed, Presence};
use super::stream::Stream;

/// Cameras that one relay takes; those that left count while they are remembered.
pub const MAX_CAMERAS: usize = 1024;

/// What happens to feeds, for the ways out.
pub enum Event {
    /// A camera that was not known came; viewers may ask for it from now on.
    Opened(Arc<Feed>),
    /// Viewers can start at this stream: the first such frame since the camera
    /// came, came back or changed its codec.
    Ready(Arc<Feed>, Arc<Stream>),
    /// A camera that left long ago made room for a new one.
    Forgotten(Arc<Feed>),
}

/// There is no room for another camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay already has {MAX_CAMERAS} cameras, the most that it takes")]
pub struct Full;

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

/// The table of feeds: at most [`MAX_CAMERAS`], by name.
pub struct Feeds {
    listeners: Arc<Listeners>,
    feeds: Mutex<HashMap<Arc<str>, Arc<Feed>>>,
}

impl Feeds {
    /// An empty table.
    pub fn new(listeners: Listeners) -> Self {
        Self {
            listeners: Arc::new(listeners),
            feeds: Mutex::default(),
        }
    }

    /// The feed of that name.
    #[cfg(test)]
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
        if let Some(forgotten) = forgotten {
            self.listeners.tell(&Event::Forgotten(forgotten));
        }
        self.listeners.tell(&Event::Opened(feed.clone()));
        Ok(feed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};

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
