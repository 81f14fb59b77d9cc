//! One WebRTC viewer: from a stream's frames to sealed packets.
//!
//! str0m estimates what the path carries (transport-wide congestion control, as browsers do it)
//! and paces packets by it. The next frame is given to it when the one before has all but left; so
//! what the path does not carry waits in the consumer's queue, where whole frames are left out.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::bwe::{Bitrate, BweKind};
use str0m::format::Codec as Coding;
use str0m::media::{MediaTime, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::{Event, IceConnectionState, Input, Output, Rtc, RtcError};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout_at;

use super::socket::{Datagram, Socket};
use crate::relay::consumer::{Consumer, Limits};
use crate::relay::frame::{Codec, Frame};
use crate::relay::stream::{Attachment, Stream};

/// A viewer that is not heard for this long is gone; browsers send something each second.
const SILENCE: Duration = Duration::from_secs(6);
/// What may wait while packets of the frame before go out. A viewer that does not keep up
/// goes on at the next key frame.
const LIMITS: Limits = Limits {
    frames: 16,
    burst: 16,
    bytes: 8 << 20,
    time: gst::ClockTime::from_mseconds(300),
};
/// What str0m may still hold of a frame when it is given the next, as time on the path.
const BACKLOG: Duration = Duration::from_millis(20);
/// What a path is taken to carry at least, until it is known: most are networks at home.
const START: Bitrate = Bitrate::mbps(8);
/// What a frame may take of the path's time, if the next is a key frame that has to be asked for:
/// bursts at the very rate of a path fill what little it can hold.
const REST: f64 = 1.5;
/// How often a path that frames were left out for is asked whether it carries more now. The
/// estimate itself would grow by 8 % a second.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// What a path carries in any case, in bits a second.
const MIN_RATE: f64 = 10_000.0;
/// How often the stream's own rate is looked at.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// How often in a row str0m may be told the time before others have their turn.
const MAX_ROUNDS: u32 = 256;

/// Why a viewer is let go.
#[derive(Debug)]
pub enum Gone {
    /// Nothing was heard of it, or it said good-bye.
    Left,
    /// The camera sends something else now, which needs another offer.
    Codec(Codec),
    /// It broke the rules.
    Failed(RtcError),
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it is not heard any more"),
            Self::Codec(codec) => write!(f, "the camera sends {codec} now"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl From<RtcError> for Gone {
    fn from(error: RtcError) -> Self {
        Self::Failed(error)
    }
}

/// One viewer and its connection.
pub struct Viewer {
    rtc: Rtc,
    stream: Arc<Stream>,
    socket: Arc<Socket>,
    datagrams: mpsc::Receiver<Datagram>,
    /// The media that the offer asked for.
    media: Option<(Mid, Pt)>,
    consumer: Arc<Consumer>,
    /// Told that there are frames to take.
    frames: Arc<Notify>,
    /// There once it is connected.
    attachment: Option<Attachment>,
    heard: Instant,
    /// What the path carries.
    estimate: Bitrate,
    /// When the path should be at rest again, after the last frame.
    rested: Instant,
    /// Frames that were left out when the path was asked last, and when that was.
    probed: (u64, Instant),
    /// When the stream's rate was looked at.
    rated: Option<Instant>,
}

/// What a path to a viewer of this stream is first taken to carry.
pub fn first_estimate(stream: &Stream) -> Bitrate {
    START.max(wanted(stream))
}

/// What a path has to carry so that a key frame is not late either.
fn wanted(stream: &Stream) -> Bitrate {
    Bitrate::from(stream.rate().bits * 2.0)
}

impl Viewer {
    /// A viewer that was answered; `datagrams` are those that come from it.
    pub fn new(
        rtc: Rtc,
        stream: Arc<Stream>,
        socket: Arc<Socket>,
        datagrams: mpsc::Receiver<Datagram>,
    ) -> Self {
        let frames = Arc::new(Notify::new());
        let wake = frames.clone();
        Self {
            rtc,
            estimate: first_estimate(&stream),
            rested: Instant::now(),
            probed: (0, Instant::now()),
            rated: None,
            stream,
            socket,
            datagrams,
            media: None,
            consumer: Arc::new(Consumer::new(LIMITS, move || wake.notify_one())),
            frames,
            attachment: None,
            heard: Instant::now(),
        }
    }

    /// Shows the stream until the viewer is gone.
    pub async fn run(mut self) -> Gone {
        loop {
            if let Err(gone) = self.step().await {
                return gone;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let silence = self.heard + SILENCE;
        let due = self.flush().await?.min(silence);
        if self.has_room() {
            self.probe()?;
            if let Some(frame) = self.consumer.take() {
                return self.show(&frame);
            }
        }
        let happened = async {
            tokio::select! {
                datagram = self.datagrams.recv() => Happened::Received(datagram),
                () = self.frames.notified() => Happened::Frames,
            }
        };
        match timeout_at(due.into(), happened).await {
            Ok(Happened::Received(Some(datagram))) => self.receive(&datagram)?,
            Ok(Happened::Received(None)) => return Err(Gone::Left),
            Ok(Happened::Frames) => {}
            Err(_) if Instant::now() >= silence => return Err(Gone::Left),
            Err(_) => self.rtc.handle_input(Input::Timeout(Instant::now()))?,
        }
        Ok(())
    }

    /// Sends what has to be sent; when to look again.
    async fn flush(&mut self) -> Result<Instant, Gone> {
        let mut rounds = 0;
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(_) if !self.rtc.is_alive() => return Err(Gone::Left),
                Output::Timeout(due) => {
                    // Tokio's timer would take a millisecond for each packet.
                    let now = Instant::now();
                    if due > now || rounds == MAX_ROUNDS {
                        return Ok(due);
                    }
                    self.rtc.handle_input(Input::Timeout(now))?;
                    rounds += 1;
                }
                Output::Transmit(transmit) => {
                    // A packet that the network refuses is lost, as others are on the way.
                    let _ = self.socket.send(&transmit).await;
                }
                Output::Event(event) => self.happened(&event)?,
            }
        }
    }

    fn happened(&mut self, event: &Event) -> Result<(), Gone> {
        match event {
            Event::MediaAdded(added) if self.media.is_none() => {
                let writer = self.rtc.writer(added.mid);
                let payload = writer.and_then(|writer| {
                    let mut payloads = writer.payload_params();
                    let whole = payloads.find(|payload| {
                        let spec = payload.spec();
                        spec.codec == Coding::H264 && spec.format.packetization_mode == Some(1)
                    });
                    whole.map(str0m::format::PayloadParams::pt)
                });
                self.media = payload.map(|payload| (added.mid, payload));
            }
            Event::Connected => {
                self.attachment = Some(self.stream.attach(self.consumer.clone()));
            }
            Event::KeyframeRequest(_) => self.stream.request_key_again(),
            Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                self.estimate = *estimate;
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                return Err(Gone::Left);
            }
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self, datagram: &Datagram) -> Result<(), Gone> {
        let now = Instant::now();
        // Anything that is none of the kinds that WebRTC knows is nothing.
        let Ok(received) = Receive::new(Protocol::Udp, datagram.from, datagram.to, &datagram.bytes)
        else {
            return Ok(());
        };
        let input = Input::Receive(now, received);
        if self.rtc.accepts(&input) {
            self.heard = now;
            self.rtc.handle_input(input)?;
        }
        Ok(())
    }

    /// Whether what str0m was given has all but left.
    fn has_room(&mut self) -> bool {
        let Some((mid, _)) = self.media else {
            return true;
        };
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx_by_mid(mid, None);
        let waiting = stream
            .and_then(|stream| stream.queue_info())
            .map_or(0, |queue| queue.byte_size());
        self.on_path(waiting) <= BACKLOG
            && (Instant::now() >= self.rested || !self.consumer.is_behind())
    }

    /// How long the path takes to carry so many bytes.
    fn on_path(&self, bytes: usize) -> Duration {
        let rate = self.estimate.as_f64().max(MIN_RATE);
        Duration::from_secs_f64(bytes as f64 * 8.0 / rate)
    }

    /// Tells str0m what it would be good for the path to carry; has it find out anew where that
    /// was too much, beginning with twice what it thinks.
    fn probe(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        let (before, at) = self.probed;
        let dropped = self.consumer.dropped();
        if dropped != before && now - at >= PROBE_INTERVAL {
            self.probed = (dropped, now);
            self.rtc.bwe().reset(self.estimate);
            self.rtc.bwe().set_desired_bitrate(self.estimate);
            self.rtc.handle_input(Input::Timeout(now))?;
            self.rated = None;
        }
        if self.rated.is_none_or(|at| now - at >= RATE_INTERVAL) {
            self.rated = Some(now);
            let wanted = first_estimate(&self.stream);
            self.rtc.bwe().set_desired_bitrate(wanted);
        }
        Ok(())
    }

    fn show(&mut self, frame: &Frame) -> Result<(), Gone> {
        if frame.codec != Codec::H264 {
            return Err(Gone::Codec(frame.codec.clone()));
        }
        let Some((mid, payload)) = self.media else {
            return Ok(());
        };
        let (Some(writer), Ok(bytes)) = (self.rtc.writer(mid), frame.buffer.map_readable()) else {
            return Ok(());
        };
        let time = MediaTime::from_90khz(frame.captured.nseconds() * 9 / 100_000);
        let now = Instant::now();
        writer.write(payload, now, time, bytes.as_slice())?;
        self.rested = now + self.on_path(bytes.len()).mul_f64(REST);
        Ok(())
    }
}

enum Happened {
    Received(Option<Datagram>),
    Frames,
}
