//! One camera among the RTSP server's URLs: what its media is built of, and when
//! it has to go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPClient, gst_rtsp::RTSPStatusCode};

use super::factory::can_carry;
use super::media::Media;
use super::source::Source;
use crate::relay::feed::Feed;
use crate::relay::frame::{Codec, Frame};
use crate::relay::jpeg::Misfit;
use crate::relay::stream::Stream;

/// A stream that is known but has no frame yet keeps viewers waiting this long
/// at most; then they are shown the others without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The streams that a media shows: number, stream, and a frame to start at.
pub type Layout = Vec<(u16, Arc<Stream>, Arc<Frame>)>;

/// Why a camera cannot be watched over RTSP now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No picture that a viewer can start at is here yet.
    #[error("it has sent no picture yet")]
    NotYet,
    /// What it sends cannot go into RTP as it is.
    #[error("RTP cannot carry its JPEG ({0}); {advice}", advice = .0.advice())]
    Misfit(Misfit),
    /// RTSP players know no such stream.
    #[error("RTSP players cannot be given {0}; send JPEG, H.264 or H.265")]
    Codec(Codec),
}

impl Refusal {
    /// What the viewer is answered.
    pub fn status(&self) -> RTSPStatusCode {
        match self {
            Self::NotYet => RTSPStatusCode::ServiceUnavailable,
            Self::Misfit(_) | Self::Codec(_) => RTSPStatusCode::UnsupportedMediaType,
        }
    }
}

/// One camera among the URLs.
pub struct Mount {
    feed: Arc<Feed>,
    /// Where viewers are disconnected.
    context: glib::MainContext,
    /// Whether it was said where the camera is watched.
    announced: AtomicBool,
    state: Mutex<State>,
}

/// The media is held besides its viewers, and let go some time after the last one
/// left. Otherwise gst-rtsp-server 1.22 hands a media that is just ending to who
/// comes next, and then refuses to start it.
#[derive(Default)]
struct State {
    /// Numbers the medias; a new one is built when it changes.
    generation: u64,
    current: Current,
    /// Medias of earlier generations, to be let go in the next round but one: who
    /// was handed one of these before has long started it by then.
    retired: Vec<Media>,
    /// Those to be let go in the next round.
    releasing: Vec<Media>,
}

/// The media of this generation.
#[derive(Default)]
struct Current {
    media: Option<Media>,
    /// What it shows; empty before it is built.
    shows: Vec<(u16, Codec)>,
    sources: Vec<Weak<Source>>,
    /// Who set it up.
    viewers: Vec<glib::WeakRef<RTSPClient>>,
    /// Nobody watched in the round before.
    idle: bool,
}

/// A media's word with its mount.
pub struct Ticket {
    mount: Weak<Mount>,
    generation: u64,
}

impl Mount {
    /// The mount of a camera; `context` is where the server runs.
    pub fn new(feed: Arc<Feed>, context: glib::MainContext) -> Self {
        Self {
            feed,
            context,
            announced: AtomicBool::new(true),
            state: Mutex::default(),
        }
    }

    /// The camera.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What a media shows that is built now.
    pub fn layout(&self) -> Result<Layout, Refusal> {
        let mut layout = Layout::new();
        let mut refusal = Refusal::NotYet;
        for (number, stream) in self.feed.streams() {
            let Some((codec, since)) = stream.codec() else {
                continue;
            };
            if !can_carry(&codec) {
                refusal = Refusal::Codec(codec);
                continue;
            }
            match stream.start().filter(|frame| frame.codec == codec) {
                Some(frame) => match frame.jpeg.and_then(|picture| picture.misfit) {
                    Some(misfit) => refusal = Refusal::Misfit(misfit),
                    None => layout.push((number, stream, frame)),
                },
                None => {
                    stream.request_key();
                    if since.elapsed() < PATIENCE {
                        return Err(Refusal::NotYet);
                    }
                }
            }
        }
        if layout.is_empty() {
            Err(refusal)
        } else {
            Ok(layout)
        }
    }

    /// The camera came (again), or sends something else.
    pub fn announce_again(&self) {
        self.announced.store(false, Ordering::Relaxed);
    }

    /// What viewers see, the first time that they can.
    pub fn news(&self) -> Option<String> {
        if self.announced.load(Ordering::Relaxed) {
            return None;
        }
        let layout = self.layout().ok()?;
        let first = !self.announced.swap(true, Ordering::Relaxed);
        let streams = layout.iter().map(|(_, _, start)| match start.size() {
            Some((width, height)) => format!("{} {width}x{height}", start.codec),
            None => start.codec.to_string(),
        });
        first.then(|| streams.collect::<Vec<_>>().join(", "))
    }

    /// The name under which gst-rtsp-server shares the media.
    pub fn key(&self) -> String {
        self.lock().generation.to_string()
    }

    /// A media was built that shows `layout`.
    pub fn built(&self, layout: Layout, sources: Vec<Weak<Source>>) {
        let mut state = self.lock();
        state.current.shows = layout
            .into_iter()
            .map(|(number, _, start)| (number, start.codec.clone()))
            .collect();
        state.current.sources = sources;
    }

    /// The word of the media that was just built.
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket {
            mount: Arc::downgrade(self),
            generation: self.lock().generation,
        }
    }

    /// A viewer set up the media; that may have been built of something else
    /// than the camera sends now.
    pub fn joined(&self, viewer: &RTSPClient) {
        self.left(viewer);
        self.lock().current.viewers.push(viewer.downgrade());
        self.check();
    }

    /// A viewer is done with the media, or gone.
    pub fn left(&self, viewer: &RTSPClient) {
        let viewers = &mut self.lock().current.viewers;
        viewers.retain(|known| known.upgrade().is_some_and(|known| known != *viewer));
    }

    /// Lets go what nobody watches; to be called every few seconds.
    pub fn round(&self) {
        let mut state = self.lock();
        let retired = std::mem::take(&mut state.retired);
        let released = std::mem::replace(&mut state.releasing, retired);
        let current = &mut state.current;
        let watched = current
            .viewers
            .iter()
            .any(|viewer| viewer.upgrade().is_some());
        let was_idle = std::mem::replace(&mut current.idle, !watched);
        if current.media.is_some() && was_idle && !watched {
            state.retire();
        }
        drop(state);
        for media in released {
            // What fails here is over already.
            let _ = media.unprepare();
        }
    }

    /// A viewer starts to play: it needs something to start at.
    pub fn plays(&self) {
        let sources = self.lock().current.sources.clone();
        for source in sources.iter().filter_map(Weak::upgrade) {
            source.refresh();
        }
    }

    /// Drops the media when it no longer shows what the camera sends.
    pub fn check(&self) {
        let now: Vec<_> = match self.layout() {
            Ok(layout) => layout
                .into_iter()
                .map(|(number, _, start)| (number, start.codec.clone()))
                .collect(),
            Err(Refusal::Codec(_)) => Vec::new(),
            Err(_) => return,
        };
        let state = self.lock();
        if !state.current.shows.is_empty() && state.current.shows != now {
            let generation = state.generation;
            drop(state);
            if self.drop_media(generation) {
                tracing::info!(
                    "camera {}: it sends other streams than before; RTSP viewers have to reconnect",
                    self.feed.name()
                );
            }
        }
    }

    /// Forgets the media of that generation and disconnects its viewers, so that
    /// the next one who comes gets a new media. False: that was done before.
    pub fn drop_media(&self, generation: u64) -> bool {
        let mut state = self.lock();
        if state.generation != generation {
            return false;
        }
        let viewers = state.retire();
        drop(state);
        // Not from here: this may be a thread of the media, which ends with its viewers.
        self.context.invoke(move || {
            for viewer in viewers.iter().filter_map(glib::WeakRef::upgrade) {
                viewer.close();
            }
        });
        true
    }

    /// Drops whatever media there is, and lets go all of them at once.
    pub fn close(&self) {
        let generation = self.lock().generation;
        self.drop_media(generation);
        self.round();
        self.round();
    }

    /// Makes the media fail as a broken element would.
    #[cfg(test)]
    pub fn fail_for_test(&self) {
        let sources = self.lock().current.sources.clone();
        for source in sources.iter().filter_map(Weak::upgrade) {
            source.fail_for_test();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The media met an error.
    pub fn failed(&self, error: &glib::Error) {
        if let Some(mount) = self.mount.upgrade()
            && mount.drop_media(self.generation)
        {
            tracing::warn!(
                "camera {}: its RTSP stream failed ({error}); viewers have to reconnect",
                mount.feed.name()
            );
        }
    }

    /// The media has started, and is the mount's to let go.
    pub fn hold(&self, media: &Media) {
        let Some(mount) = self.mount.upgrade() else {
            return;
        };
        let mut state = mount.lock();
        if state.generation == self.generation {
            state.current.media = Some(media.clone());
        } else {
            state.retired.push(media.clone());
        }
    }
}

impl State {
    /// Makes way for another media; the viewers of this one.
    fn retire(&mut self) -> Vec<glib::WeakRef<RTSPClient>> {
        let old = std::mem::take(&mut self.current);
        self.generation += 1;
        self.retired.extend(old.media);
        old.viewers
    }
}
