//! What the API says of a camera.

use std::time::{Duration, SystemTime};

use gst::prelude::*;
use serde::{Deserialize, Serialize};

use crate::relay::feed::Feed;
use crate::relay::feeds::Refused;
use crate::relay::frame::Codec;
use crate::relay::state;
use crate::relay::stream;
use crate::relay::viewers::Way;
use crate::serve::http::picture::video;

/// One camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub state: State,
    /// How old its newest picture is, in milliseconds; `None`: it has sent none.
    pub age_ms: Option<u64>,
    /// What it sends, by number.
    pub streams: Vec<Stream>,
    /// The way from the camera to the relay; `None` while it is not here.
    pub hop: Option<Hop>,
    /// As what its pictures are sent, and why.
    pub served: Served,
    /// Who watches it.
    pub viewers: Viewers,
    /// Where it is watched.
    pub urls: Urls,
}

/// How a camera is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `waiting`, `live`, `stale`, `gone` or `refused`.
    pub name: String,
    /// Since when, RFC 3339; `None` while it is live.
    pub since: Option<String>,
    /// Why it is refused, and what to do.
    pub why: Option<String>,
}

/// One stream of a camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Its number: video is 0, audio mostly 1.
    pub number: u16,
    /// `JPEG`, `H.264`, `H.265`, `Opus` or a media type; `None`: not known yet.
    pub codec: Option<String>,
    /// Pixels in a line.
    pub width: Option<u32>,
    /// Lines.
    pub height: Option<u32>,
    /// Frames a second, over the last two.
    pub fps: f64,
    /// Bits a second, over the last two seconds.
    pub bitrate: f64,
    /// Frames since the relay started.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames dropped for viewers that did not keep up, each viewer's counted.
    pub dropped: u64,
    /// Frames passed over because they were malformed.
    pub malformed: u64,
    /// What was wrong with the last of those; `None` where there was none.
    pub malformed_why: Option<String>,
}

/// The way from the camera to the relay, as the relay sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// Frames that the camera captured, as it told a second ago at the most.
    pub captured: u64,
    /// Of those, frames that it sent: it drops what the network does not carry.
    pub sent: u64,
    /// Frames that came whole and in time.
    pub delivered: u64,
    /// Frames that never did.
    pub lost: u64,
    /// Frames that were whole only after their deadline.
    pub late: u64,
    /// Frames that lacked something on arrival and were made whole.
    pub repaired: u64,
    /// Whole frames of no use, as a lost one is needed to decode them.
    pub undecodable: u64,
    /// Datagrams that the network loses, from 0 to 1.
    pub loss: f64,
    /// There and back, in milliseconds.
    pub rtt_ms: f64,
    /// From the capture of the newest frame to its arrival, in milliseconds.
    pub delay_ms: Option<f64>,
    /// Bytes received.
    pub bytes: u64,
    /// Datagrams to the relay's port, of whatever camera, that came faster than it read.
    pub overflow: u64,
}

/// How many watch, by which way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewers {
    /// Players.
    pub rtsp: usize,
    /// Streams of JPEGs, the page's included.
    pub http: usize,
    /// The page's large picture.
    pub webrtc: usize,
}

/// As what a camera's pictures are sent, and why, in words; `None` before there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// To RTSP viewers.
    pub rtsp: Option<String>,
    /// Over WebRTC.
    pub webrtc: Option<String>,
}

/// Where a camera is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urls {
    /// The newest picture; `None` where there is no camera but a name that was refused.
    pub snapshot: Option<String>,
    /// All pictures; `None` where the camera sends no JPEGs.
    pub mjpeg: Option<String>,
    /// For players; `None` where the relay has no `[rtsp]`.
    pub rtsp: Option<String>,
}

impl Camera {
    /// As things are now; `urls` are those of a camera that sends JPEGs.
    pub fn of(feed: &Feed, mut urls: Urls) -> Self {
        if video(feed).is_some_and(|(_, codec)| codec != Codec::Jpeg) {
            urls.mjpeg = None;
        }
        let streams = feed.streams();
        let picture = streams.iter().map(|(_, stream)| stream).find(|stream| {
            let codec = stream.codec();
            codec.is_some_and(|(codec, _)| !codec.is_audio())
        });
        let count = |way| feed.viewers().count(way);
        Self {
            name: feed.name().to_owned(),
            state: State::of(&feed.state()),
            age_ms: picture
                .and_then(|stream| stream.age())
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            hop: picture.and_then(|stream| Hop::of(stream)),
            streams: streams
                .iter()
                .map(|(number, stream)| Stream::of(*number, stream))
                .collect(),
            served: Served {
                rtsp: feed.served_over_rtsp(),
                webrtc: feed.served_over_webrtc(),
            },
            viewers: Viewers {
                rtsp: count(Way::Rtsp),
                http: count(Way::Http),
                webrtc: count(Way::WebRtc),
            },
            urls,
        }
    }

    /// A name that is no camera's, and was refused.
    pub fn refused(refused: Refused) -> Self {
        Self {
            name: refused.name,
            state: State::of(&state::State::Refused {
                since: refused.since,
                why: refused.why,
            }),
            age_ms: None,
            streams: Vec::new(),
            hop: None,
            served: Served::default(),
            viewers: Viewers::default(),
            urls: Urls::default(),
        }
    }
}

impl State {
    fn of(state: &state::State) -> Self {
        Self {
            name: state.name().to_owned(),
            since: state.since().map(time),
            why: match state {
                state::State::Refused { why, .. } => Some(why.clone()),
                _ => None,
            },
        }
    }
}

impl Stream {
    fn of(number: u16, stream: &stream::Stream) -> Self {
        let (counts, rate) = (stream.counts(), stream.rate());
        let size = stream.newest().and_then(|frame| frame.size());
        Self {
            number,
            codec: stream.codec().map(|(codec, _)| codec.to_string()),
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            fps: rounded(rate.fps),
            bitrate: rate.bits.round(),
            frames: counts.frames,
            bytes: counts.bytes,
            dropped: counts.dropped,
            malformed: counts.malformed,
            malformed_why: stream.last_flaw(),
        }
    }
}

impl Hop {
    fn of(stream: &stream::Stream) -> Option<Self> {
        let stats = stream.hop()?;
        Some(Self::read(&stats, stream.delay()))
    }

    /// Of the counters of a `camrelaysrc`.
    fn read(stats: &gst::StructureRef, delay: Option<Duration>) -> Self {
        let count = |name: &str| stats.get::<u64>(name).unwrap_or_default();
        let figure = |name: &str| stats.get::<f64>(name).unwrap_or_default();
        Self {
            captured: count("frames-captured"),
            sent: count("frames-sent"),
            delivered: count("frames-delivered"),
            lost: count("frames-lost"),
            late: count("frames-late"),
            repaired: count("recovered-by-parity") + count("recovered-by-resend"),
            undecodable: count("frames-undecodable"),
            loss: figure("loss-fraction"),
            rtt_ms: rounded(figure("rtt-ms")),
            delay_ms: delay.map(|delay| rounded(delay.as_secs_f64() * 1e3)),
            bytes: count("bytes-received"),
            overflow: count("packets-dropped-by-kernel"),
        }
    }
}

impl stream::Stream {
    /// How long ago the newest picture of the camera was captured.
    fn age(&self) -> Option<Duration> {
        let (arrived, _) = self.last_arrival()?;
        Some(arrived.elapsed() + self.delay().unwrap_or_default())
    }

    /// How long the newest picture of the camera was on its way.
    fn delay(&self) -> Option<Duration> {
        let frame = self.newest().filter(|frame| !frame.placeholder)?;
        let now = gst::SystemClock::obtain().time();
        Some(frame.age(now).saturating_sub(frame.arrived.elapsed()))
    }
}

fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Counters of a hop, no two of which are alike.
    pub fn hop() -> Hop {
        let stats = gst::Structure::builder("stats")
            .field("frames-captured", 101u64)
            .field("frames-sent", 102u64)
            .field("frames-delivered", 103u64)
            .field("frames-lost", 104u64)
            .field("frames-late", 105u64)
            .field("recovered-by-parity", 1000u64)
            .field("recovered-by-resend", 106u64)
            .field("frames-undecodable", 107u64)
            .field("bytes-received", 108u64)
            .field("packets-dropped-by-kernel", 109u64)
            .field("loss-fraction", 0.25)
            .field("rtt-ms", 12.5)
            .build();
        Hop::read(&stats, Some(Duration::from_micros(34_500)))
    }

    #[test]
    fn every_counter_of_a_hop_has_its_own_name() {
        gst::init().expect("GStreamer starts");
        let expected = Hop {
            captured: 101,
            sent: 102,
            delivered: 103,
            lost: 104,
            late: 105,
            repaired: 1106,
            undecodable: 107,
            loss: 0.25,
            rtt_ms: 12.5,
            delay_ms: Some(34.5),
            bytes: 108,
            overflow: 109,
        };
        assert_eq!(hop(), expected);
        // And the element has them all.
        gstcamrelay::plugin_register_static().expect("the elements load");
        let source = gst::ElementFactory::make("camrelaysrc").build();
        let stats: gst::Structure = source.expect("it loads").property("stats");
        for name in [
            "frames-captured",
            "frames-sent",
            "frames-delivered",
            "frames-lost",
            "frames-late",
            "recovered-by-parity",
            "recovered-by-resend",
            "frames-undecodable",
            "bytes-received",
            "packets-dropped-by-kernel",
        ] {
            assert_eq!(stats.get::<u64>(name), Ok(0), "{name}");
        }
        for name in ["loss-fraction", "rtt-ms"] {
            assert!(stats.get::<f64>(name).is_ok(), "{name}");
        }
    }
}
