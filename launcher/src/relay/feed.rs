//! A camera as the relay has it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::derived::{Derived, Rendition};
use super::feeds::{Event, Listeners};
use super::frame::Codec;
use super::placeholder::Maker;
use super::state::State;
use super::stream::Stream;
use super::viewers::Viewers;

/// How long a refusal is told about: longer than a camera that is refused waits
/// before it tries again.
pub(super) const REFUSAL: Duration = Duration::from_secs(120);

/// Whether a camera is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It sends, or is about to.
    Here {
        /// When it came.
        since: Instant,
    },
    /// It left; its feed stays for the viewers that wait for it.
    Gone {
        /// When it left.
        since: Instant,
    },
}

/// One named camera inside the relay: its streams, and whether it is here.
///
/// Every way in ends in a feed and every way out starts at one. A feed stays
/// when its camera leaves, and a camera that returns finds the same feed, unless that was
/// forgotten meanwhile. No two of its locks are held at once.
pub struct Feed {
    name: Arc<str>,
    listeners: Arc<Listeners>,
    health: Mutex<Health>,
    streams: Mutex<BTreeMap<u16, Arc<Stream>>>,
    /// The H.264 of the stream of that number.
    derived: Mutex<Option<(u16, Arc<Derived>)>>,
    /// Its small rendition.
    small: Mutex<Option<(u16, Arc<Derived>)>>,
    viewers: Viewers,
    forgotten: AtomicBool,
}

struct Health {
    presence: Presence,
    /// When that began, for people.
    since: SystemTime,
    /// When it was refused last since it left, and why.
    refused: Option<(Instant, SystemTime, String)>,
    /// What the listeners were told last.
    told: Option<State>,
}

impl Feed {
    pub(super) fn new(name: &str, listeners: Arc<Listeners>) -> Self {
        Self {
            name: name.into(),
            listeners,
            health: Mutex::new(Health {
                presence: Presence::Here {
                    since: Instant::now(),
                },
                since: SystemTime::now(),
                refused: None,
                told: None,
            }),
            streams: Mutex::default(),
            derived: Mutex::default(),
            small: Mutex::default(),
            viewers: Viewers::default(),
            forgotten: AtomicBool::new(false),
        }
    }

    /// Who watches it.
    pub fn viewers(&self) -> &Viewers {
        &self.viewers
    }

    /// The camera's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the camera is here.
    pub fn presence(&self) -> Presence {
        self.lock_health().presence.clone()
    }

    /// How the camera is doing, now.
    pub fn state(&self) -> State {
        let now = Instant::now();
        let (presence, since, refused) = {
            let health = self.lock_health();
            let refused = health.refused.clone();
            (health.presence.clone(), health.since, refused)
        };
        let came = match presence {
            Presence::Here { since } => since,
            Presence::Gone { .. } => {
                return match refused.filter(|(at, ..)| now.duration_since(*at) < REFUSAL) {
                    Some((_, since, why)) => State::Refused { since, why },
                    None => State::Gone { since },
                };
            }
        };
        let streams = self.streams().into_iter().map(|(_, stream)| stream);
        let streams: Vec<_> = streams.collect();
        let refusal = streams.iter().find_map(|stream| stream.refusal(came));
        let (sound, pictures): (Vec<_>, Vec<_>) = streams
            .into_iter()
            .filter(|stream| stream.last_arrival().is_some())
            .partition(|stream| stream.codec().is_some_and(|(codec, _)| codec.is_audio()));
        // Sound alone is no camera whose pictures are refused.
        let streams = match pictures.is_empty() && refusal.is_none() {
            true => sound,
            false => pictures,
        };
        if streams.iter().any(|stream| stream.is_fresh(now)) {
            return State::Live;
        }
        if let Some((since, why)) = refusal {
            return State::Refused { since, why };
        }
        let last = streams.iter().filter_map(|stream| stream.last_arrival());
        match last.max_by_key(|(at, _)| *at) {
            Some((at, since)) if at >= came => State::Stale { since },
            _ => State::Waiting { since },
        }
    }

    /// Why there is no picture of it, where that is because it is refused.
    pub fn why_no_picture(&self) -> Option<String> {
        let streams = self.streams();
        let mut starts = streams.iter().filter_map(|(_, stream)| stream.start());
        if starts.any(|frame| !frame.codec.is_audio()) {
            return None;
        }
        match self.state() {
            State::Refused { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Whether it was taken off the table: what comes by its name has another feed.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Where it is gone it is to be taken off the table, and who waits for its pictures is
    /// told; false where it is here.
    pub(super) fn forget(&self) -> bool {
        let health = self.lock_health();
        let is_gone = matches!(health.presence, Presence::Gone { .. });
        if is_gone {
            // Under the lock, so that it does not come in between.
            self.forgotten.store(true, Ordering::Relaxed);
        }
        drop(health);
        if is_gone {
            self.streams().iter().for_each(|(_, stream)| stream.wake());
        }
        is_gone
    }

    /// Tells the listeners where the state is another one than they know.
    pub(super) fn look(self: &Arc<Self>) {
        let state = self.state();
        let mut health = self.lock_health();
        if health.told.as_ref() == Some(&state) {
            return;
        }
        health.told = Some(state);
        drop(health);
        self.tell(&Event::StateChanged(self.clone()));
    }

    /// The streams by number.
    pub fn streams(&self) -> Vec<(u16, Arc<Stream>)> {
        let streams = self.lock_streams();
        streams
            .iter()
            .map(|(number, stream)| (*number, stream.clone()))
            .collect()
    }

    /// The stream of that number, made where there is none yet; `None` for a
    /// number at or above [`camrelay_protocol::MAX_STREAMS`].
    pub fn stream(self: &Arc<Self>, number: u16) -> Option<Arc<Stream>> {
        if number >= camrelay_protocol::MAX_STREAMS {
            return None;
        }
        let mut streams = self.lock_streams();
        let stream = streams
            .entry(number)
            .or_insert_with(|| Arc::new(Stream::new(Arc::downgrade(self), self.name.clone())));
        Some(stream.clone())
    }

    /// The camera's pictures as H.264: its own, or for JPEG those that a worker encodes
    /// of it, which runs while that stream has consumers. `None`: neither can be had.
    pub fn h264(&self) -> Option<Arc<Stream>> {
        let streams = self.streams();
        let own = streams.iter().find(|(_, stream)| {
            let codec = stream.codec();
            codec.is_some_and(|(codec, _)| codec == Codec::H264)
        });
        match own {
            Some((_, own)) => Some(own.clone()),
            None => self.derived().map(|derived| derived.stream().clone()),
        }
    }

    /// What encodes the camera's JPEGs as H.264.
    pub fn derived(&self) -> Option<Arc<Derived>> {
        self.derive(&self.derived, Rendition::Whole, &[Codec::Jpeg])
    }

    /// What encodes less of the camera's H.264, or JPEGs, for who cannot be given all of it;
    /// runs while it has consumers.
    pub fn small(&self) -> Option<Arc<Derived>> {
        self.derive(&self.small, Rendition::Small, &[Codec::H264, Codec::Jpeg])
    }

    /// What encodes the first stream that is coded in one of `codecs`, in the order of these.
    fn derive(
        &self,
        place: &Mutex<Option<(u16, Arc<Derived>)>>,
        rendition: Rendition,
        codecs: &[Codec],
    ) -> Option<Arc<Derived>> {
        let streams = self.streams();
        let (number, source) = codecs.iter().find_map(|wanted| {
            streams.iter().find(|(_, stream)| {
                let codec = stream.codec();
                codec.is_some_and(|(codec, _)| codec == *wanted)
            })
        })?;
        let mut derived = lock(place);
        match &*derived {
            Some((known, derived)) if known == number => Some(derived.clone()),
            _ => {
                let fresh = Derived::new(self.name.clone(), source.clone(), rendition);
                *derived = Some((*number, fresh.clone()));
                Some(fresh)
            }
        }
    }

    /// Looks after placeholders and what is encoded; to be called a few times a second,
    /// and at the time that it returns.
    pub(super) fn tend(&self, maker: &Maker) -> Option<Instant> {
        let now = Instant::now();
        let streams = self.streams().into_iter();
        let next = streams.filter_map(|(_, stream)| stream.tend(now, maker));
        let next = next.min();
        for place in [&self.derived, &self.small] {
            let derived = lock(place).clone();
            if let Some((_, derived)) = derived {
                derived.tend();
            }
        }
        next
    }

    /// The camera came, for the first time or again.
    pub fn joined(self: &Arc<Self>) {
        self.enter(Presence::Here {
            since: Instant::now(),
        });
        for (_, stream) in self.streams() {
            stream.restart();
        }
        self.look();
    }

    /// The camera left.
    pub fn left(self: &Arc<Self>) {
        self.enter(Presence::Gone {
            since: Instant::now(),
        });
        self.look();
    }

    /// The camera, or somebody by its name, was not let in. That says something about
    /// the camera only while it is not here.
    pub(super) fn refused(&self, why: &str) {
        self.lock_health().refused = Some((Instant::now(), SystemTime::now(), why.to_owned()));
    }

    fn enter(&self, presence: Presence) {
        let mut health = self.lock_health();
        health.presence = presence;
        health.since = SystemTime::now();
        health.refused = None;
    }

    pub(super) fn tell(&self, event: &Event) {
        self.listeners.tell(event);
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_streams(&self) -> MutexGuard<'_, BTreeMap<u16, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(place: &Mutex<Option<(u16, Arc<Derived>)>>) -> MutexGuard<'_, Option<(u16, Arc<Derived>)>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
