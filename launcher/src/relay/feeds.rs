//! Every camera that the relay knows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::feed::{Feed, Presence, REFUSAL};
use super::stream::Stream;

/// Cameras that one relay takes; those that left count while they are remembered.
pub const MAX_CAMERAS: usize = 1024;
/// A camera that left so long ago is forgotten, where nothing that its owner wrote names it.
pub const LONG_GONE: Duration = Duration::from_secs(24 * 3600);
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
    /// A camera that left is off the table: to make room, for good, or as somebody asked.
    Forgotten(Arc<Feed>),
}

/// There is no room for another camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay already has {MAX_CAMERAS} cameras, the most that it takes")]
pub struct Full;

/// Why a camera is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// There is none of that name, nor was one refused.
    Unknown,
    /// It is here.
    Here,
}

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
    declared: Mutex<HashSet<String>>,
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
            declared: Mutex::default(),
        }
    }

    /// What its owner wrote names these cameras, and no others: they stay when they are gone.
    pub fn declare(&self, names: HashSet<String>) {
        *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = names;
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

    /// The camera of that name came: its feed, as [`Self::open`] finds or makes it.
    pub fn join(&self, name: &str) -> Result<Arc<Feed>, Full> {
        loop {
            let feed = self.open(name)?;
            feed.joined();
            // From here on it is not forgotten, but it may have been just before.
            if !feed.is_forgotten() {
                return Ok(feed);
            }
        }
    }

    /// Takes a camera that is gone off the table, or a name that was refused off the list.
    pub fn forget(&self, name: &str) -> Result<(), Kept> {
        let mut feeds = self.lock();
        let Some(feed) = feeds.get(name).cloned() else {
            drop(feeds);
            let mut refused = self.lock_refused();
            let before = refused.len();
            refused.retain(|known| known.name != name);
            return match refused.len() < before {
                true => Ok(()),
                false => Err(Kept::Unknown),
            };
        };
        if !feed.forget() {
            return Err(Kept::Here);
        }
        feeds.remove(name);
        drop(feeds);
        self.listeners.tell(&Event::Forgotten(feed));
        Ok(())
    }

    /// Forgets who left [`LONG_GONE`] before `now` or earlier, and is not declared.
    pub(super) fn forget_long_gone(&self, now: Instant) {
        let is_long_gone = |feed: &Arc<Feed>| match feed.presence() {
            Presence::Here { .. } => false,
            Presence::Gone { since } => now.saturating_duration_since(since) >= LONG_GONE,
        };
        let mut gone = self.all();
        gone.retain(is_long_gone);
        if gone.is_empty() {
            return;
        }
        let declared = self
            .declared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for feed in gone.iter().filter(|feed| !declared.contains(feed.name())) {
            // One that came back just now stays.
            if self.forget(feed.name()).is_ok() {
                tracing::info!("camera {}: gone for a day, and forgotten", feed.name());
            }
        }
    }

    /// The feed of that name, made where there is none yet. In a full table the
    /// camera that left longest ago is forgotten.
    pub fn open(&self, name: &str) -> Result<Arc<Feed>, Full> {
        let mut feeds = self.lock();
        if let Some(feed) = feeds.get(name) {
            return Ok(feed.clone());
        }
        let mut forgotten = None;
        while feeds.len() >= MAX_CAMERAS {
            let longest_gone = feeds
                .values()
                .filter_map(|feed| match feed.presence() {
                    Presence::Here { .. } => None,
                    Presence::Gone { since } => Some((since, feed)),
                })
                .min_by_key(|(since, _)| *since);
            let (_, longest_gone) = longest_gone.ok_or(Full)?;
            // It may come back just now.
            if longest_gone.forget() {
                let name: Arc<str> = longest_gone.name().into();
                forgotten = feeds.remove(&name);
            }
        }
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
    fn only_cameras_that_are_gone_are_forgotten_and_come_anew() {
        let feeds = Feeds::new(Listeners::default());
        let feed = feeds.join("door").expect("there is room");
        assert_eq!(feeds.forget("door"), Err(Kept::Here));
        feed.left();
        assert_eq!(feeds.forget("door"), Ok(()));
        assert!(feed.is_forgotten() && feeds.all().is_empty());
        assert_eq!(feeds.forget("door"), Err(Kept::Unknown));
        let again = feeds.join("door").expect("there is room");
        assert!(!Arc::ptr_eq(&again, &feed) && !again.is_forgotten());

        feeds.refuse("thief", ([192, 0, 2, 1], 9).into(), "no key");
        assert_eq!(feeds.forget("thief"), Ok(()));
        assert!(feeds.refusals().is_empty());
    }

    #[test]
    fn who_is_gone_for_a_day_leaves_unless_it_is_declared() {
        let told = Arc::new(AtomicUsize::new(0));
        let mut listeners = Listeners::default();
        let count = told.clone();
        listeners.add(move |event| {
            if let Event::Forgotten(feed) = event {
                assert_eq!(feed.name(), "test");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let feeds = Feeds::new(listeners);
        feeds.declare(HashSet::from(["door".to_owned()]));
        for name in ["door", "test", "yard"] {
            feeds.join(name).expect("there is room");
        }
        let before = Instant::now();
        feeds.get("door").expect("it is known").left();
        feeds.get("test").expect("it is known").left();
        let after = Instant::now();
        let names = || {
            let all = feeds.all().into_iter();
            all.map(|feed| feed.name().to_owned()).collect::<Vec<_>>()
        };
        let just_before = before + LONG_GONE - Duration::from_nanos(1);
        feeds.forget_long_gone(just_before);
        assert_eq!(names(), ["door", "test", "yard"]);
        feeds.forget_long_gone(after + LONG_GONE);
        assert_eq!(names(), ["door", "yard"]);
        feeds.forget_long_gone(after + 100 * LONG_GONE);
        assert_eq!(
            names(),
            ["door", "yard"],
            "one is declared, the other is here"
        );
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
