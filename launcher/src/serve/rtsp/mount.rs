//! One camera among the RTSP server's URLs: what a viewer of it is shown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::payload::{Cutter, format};
use crate::relay::derived::derived_size;
use crate::relay::feed::Feed;
use crate::relay::frame::{Codec, Frame};
use crate::relay::jpeg::Misfit;
use crate::relay::stream::Stream;

/// A stream that is known but has no frame yet keeps viewers waiting this long
/// at most; then they are shown the others without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the first viewer of a camera that has to be encoded waits for that to begin.
const ENCODING: Duration = Duration::from_secs(4);

/// The streams that a viewer is shown: number, stream, and a frame to start at.
pub type Layout = Vec<(u16, Arc<Stream>, Arc<Frame>)>;

/// Why a camera cannot be watched over RTSP now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No picture that a viewer can start at is here yet.
    #[error("it has sent no picture yet")]
    NotYet,
    /// The camera is refused.
    #[error("it is refused: {0}")]
    Refused(String),
    /// What it sends cannot go into RTP as it is, and is not encoded as H.264 yet.
    #[error("RTP cannot carry its JPEG ({0}), and it is not encoded as H.264 yet")]
    Encoding(Misfit),
    /// What it sends can neither go into RTP nor be encoded.
    #[error("RTP cannot carry its JPEG ({0}); {advice}", advice = .0.advice())]
    Misfit(Misfit),
    /// RTSP players know no such stream.
    #[error("RTSP players cannot be given {0}; send JPEG, H.264 or H.265")]
    Codec(Codec),
}

impl Refusal {
    /// What the viewer is answered.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotYet | Self::Refused(_) | Self::Encoding(_) => 503,
            Self::Misfit(_) | Self::Codec(_) => 415,
        }
    }
}

/// One camera among the URLs.
pub struct Mount {
    feed: Arc<Feed>,
    /// Whether it was said where the camera is watched.
    announced: AtomicBool,
    /// What cuts the frames of each stream into packets.
    cutters: Mutex<HashMap<u16, Arc<Cutter>>>,
    /// What viewers are shown; ends the sessions of those who were shown something else.
    shown: watch::Sender<Vec<(u16, Codec)>>,
}

/// What one viewer was shown as it came.
pub struct Shown {
    then: Vec<(u16, Codec)>,
    now: watch::Receiver<Vec<(u16, Codec)>>,
}

impl Shown {
    /// Waits until the viewer's session has to end, because the camera sends something else.
    pub async fn changed(&mut self) {
        // An error: the camera is forgotten.
        while self.now.changed().await.is_ok() && *self.now.borrow_and_update() == self.then {}
    }
}

impl Mount {
    /// The mount of a camera.
    pub fn new(feed: Arc<Feed>) -> Self {
        Self {
            feed,
            announced: AtomicBool::new(true),
            cutters: Mutex::default(),
            shown: watch::Sender::new(Vec::new()),
        }
    }

    /// The camera.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What a viewer is shown who comes now.
    pub fn layout(&self) -> Result<Layout, Refusal> {
        self.found().map_err(|refusal| match refusal {
            Refusal::NotYet => {
                let why = self.feed.why_no_picture();
                why.map_or(Refusal::NotYet, Refusal::Refused)
            }
            other => other,
        })
    }

    fn found(&self) -> Result<Layout, Refusal> {
        let mut layout = Layout::new();
        let mut refusal = Refusal::NotYet;
        for (number, stream) in self.feed.streams() {
            let Some((codec, since)) = stream.codec() else {
                continue;
            };
            if format(&codec).is_none() {
                refusal = Refusal::Codec(codec);
                continue;
            }
            match stream.start().filter(|frame| frame.codec == codec) {
                Some(frame) => match encoding(&frame) {
                    Some(misfit) if can_encode(&frame) => {
                        let derived = self.feed.derived().map(|it| it.stream().clone());
                        match derived.and_then(|stream| Some((stream.start()?, stream))) {
                            Some((start, stream)) => layout.push((number, stream, start)),
                            None => refusal = Refusal::Encoding(misfit),
                        }
                    }
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

    /// Has the camera encoded, for who asks for it, where it has to be; waits for that
    /// to begin.
    pub async fn prepare(&self) {
        if let Err(Refusal::Encoding(_)) = self.layout()
            && let Some(derived) = self.feed.derived()
        {
            derived.prepare(ENCODING).await;
        }
    }

    /// What cuts the frames of that stream into packets.
    pub fn cutter(&self, stream: u16) -> Arc<Cutter> {
        let mut cutters = self.cutters.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Cutter::new(self.feed.name()));
        cutters.entry(stream).or_insert_with(new).clone()
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
        let layout = match self.layout() {
            Ok(layout) => layout,
            Err(Refusal::Encoding(misfit)) => {
                let first = !self.announced.swap(true, Ordering::Relaxed);
                let what = "as H.264, encoded while it is watched: RTP cannot carry its JPEG";
                return first.then(|| format!("{what}, {misfit}"));
            }
            Err(_) => return None,
        };
        let first = !self.announced.swap(true, Ordering::Relaxed);
        let streams = layout.iter().map(|(_, _, start)| {
            let misfit = start.jpeg.and_then(|picture| picture.misfit);
            let recoded = match misfit {
                Some(Misfit::Huffman) => {
                    " re-coded without loss, as RTP has only the standard Huffman tables"
                }
                _ => "",
            };
            match start.size() {
                Some((width, height)) => format!("{} {width}x{height}{recoded}", start.codec),
                None => start.codec.to_string(),
            }
        });
        first.then(|| streams.collect::<Vec<_>>().join(", "))
    }

    /// A viewer was shown this layout.
    pub fn joined(&self, layout: &Layout) -> Shown {
        let then = codecs(layout);
        if self.shown.receiver_count() == 0 {
            self.shown.send_replace(then.clone());
        }
        let now = self.shown.subscribe();
        Shown { then, now }
    }

    /// Ends the sessions of viewers who were shown other streams than there are now.
    pub fn check(&self) {
        let now = match self.layout() {
            Ok(layout) => codecs(&layout),
            Err(Refusal::Codec(_) | Refusal::Misfit(_)) => Vec::new(),
            Err(Refusal::Encoding(_)) => {
                // That which is encoded may be what is shown.
                let mut shown = self.shown.borrow().clone().into_iter();
                if shown.any(|(_, codec)| codec == Codec::H264) {
                    return;
                }
                Vec::new()
            }
            Err(Refusal::NotYet | Refusal::Refused(_)) => return,
        };
        if self.shown.receiver_count() == 0 || *self.shown.borrow() == now {
            return;
        }
        self.shown.send_replace(now);
        tracing::info!(
            "camera {}: it sends other streams than before; RTSP viewers have to reconnect",
            self.feed.name()
        );
    }

    /// Ends the sessions of all viewers.
    pub fn close(&self) {
        self.shown.send_replace(Vec::new());
    }
}

/// Why RTP carries pictures like this one only in another coding.
fn encoding(frame: &Frame) -> Option<Misfit> {
    let picture = frame.jpeg.filter(|picture| picture.needs_encoding())?;
    picture.misfit
}

/// Whether a picture that RTP cannot carry can be encoded as H.264.
fn can_encode(frame: &Frame) -> bool {
    frame.jpeg.as_ref().and_then(derived_size).is_some()
}

fn codecs(layout: &Layout) -> Vec<(u16, Codec)> {
    let streams = layout.iter();
    streams
        .map(|(number, _, start)| (*number, start.codec.clone()))
        .collect()
}
