//! One viewer, of any output of the relay.

mod http;
mod wall;
mod webrtc;

use std::sync::Arc;
use std::time::Instant;

use path_emulator::Proxy;
use serde::{Deserialize, Serialize};

pub(crate) use http::Mjpeg;
use wall::Wall;
pub(crate) use webrtc::Browser;

use super::throttle::Throttle;
use crate::many::rtsp::{self, Player};
use crate::many::{Relay, name};

/// How pictures come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Over {
    /// RTSP, within the connection.
    Tcp,
    /// RTSP, over UDP.
    Udp,
    /// HTTP, as `stream.mjpeg`.
    Http,
}

/// An output of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// RTSP within the connection, JPEG.
    RtspJpeg,
    /// The same, H.264.
    RtspH264,
    /// `stream.mjpeg`.
    Mjpeg,
    /// The page's WebSocket.
    Wall,
    /// WebRTC, H.264.
    WebRtc,
}

impl Output {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::RtspJpeg,
        Self::RtspH264,
        Self::Mjpeg,
        Self::Wall,
        Self::WebRtc,
    ];

    /// What to call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RtspJpeg => "RTSP/TCP, JPEG",
            Self::RtspH264 => "RTSP/TCP, H.264",
            Self::Mjpeg => "stream.mjpeg",
            Self::Wall => "WebSocket",
            Self::WebRtc => "WebRTC, H.264",
        }
    }

    /// The camera that is watched: the first sends JPEG, the second H.264.
    fn camera(self) -> String {
        match self {
            Self::RtspJpeg | Self::Mjpeg | Self::Wall => name(0),
            Self::RtspH264 | Self::WebRtc => name(1),
        }
    }

    /// A viewer; asks again until `deadline` where the camera is not there yet.
    pub(crate) fn open(
        self,
        relay: &Relay,
        deadline: Instant,
    ) -> anyhow::Result<(Box<dyn Watching>, Narrowing)> {
        let camera = self.camera();
        Ok(match self {
            Self::RtspJpeg | Self::RtspH264 => {
                let player = Player::play(relay.viewers, &camera, deadline, rtsp::Way::Tcp)?;
                let throttle = Narrowing::Reading(player.throttle());
                (Box::new(Rtsp::from(player)), throttle)
            }
            Self::Mjpeg => {
                let mjpeg = Mjpeg::open(relay.browsers, &camera, deadline)?;
                let throttle = Narrowing::Reading(mjpeg.throttle());
                (Box::new(mjpeg), throttle)
            }
            Self::Wall => {
                let wall = Wall::open(relay.browsers, &camera)?;
                let throttle = Narrowing::Reading(wall.throttle());
                (Box::new(wall), throttle)
            }
            Self::WebRtc => {
                let browser = Browser::open(relay.browsers, &camera, deadline, webrtc::DELAY)?;
                let path = Narrowing::Path(browser.path());
                (Box::new(browser), path)
            }
        })
    }
}

/// A picture that came.
pub(crate) struct Seen {
    /// When it was captured, in milliseconds from some moment.
    pub(crate) captured: f64,
    /// What came for it, in bytes.
    pub(crate) bytes: usize,
    /// Whether nothing of it is missing, nor of what it builds on.
    pub(crate) whole: bool,
}

/// Somebody who watches.
pub(crate) trait Watching: Send {
    /// The next picture.
    fn next(&mut self) -> anyhow::Result<Seen>;
}

/// How a viewer is slowed down.
pub(crate) enum Narrowing {
    /// It reads no faster.
    Reading(Throttle),
    /// What is on the way to it takes longer.
    Path(Arc<Proxy>),
}

impl Narrowing {
    /// Bytes a second at most; `None` for all.
    pub(crate) fn set(&self, rate: Option<f64>) {
        match self {
            Self::Reading(throttle) => throttle.set(rate),
            Self::Path(proxy) => webrtc::narrow(proxy, rate),
        }
    }

    /// Lets nothing through any more, where what is on the way takes longer.
    pub(crate) fn cut(&self) {
        if let Self::Path(proxy) = self {
            webrtc::cut(proxy);
        }
    }
}

/// A player, whose pictures are told apart by their RTP times.
pub(crate) struct Rtsp {
    player: Player,
    first: Option<u32>,
}

impl From<Player> for Rtsp {
    fn from(player: Player) -> Self {
        Self {
            player,
            first: None,
        }
    }
}

impl Watching for Rtsp {
    fn next(&mut self) -> anyhow::Result<Seen> {
        let frame = self.player.frame()?;
        let first = *self.first.get_or_insert(frame.time);
        Ok(Seen {
            captured: f64::from(frame.time.wrapping_sub(first) as i32) / 90.0,
            bytes: frame.bytes,
            whole: frame.whole,
        })
    }
}
