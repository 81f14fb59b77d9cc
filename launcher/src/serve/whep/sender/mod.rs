//! What a WebRTC viewer is sent, and when: str0m and the rules around it, without sockets and
//! without a clock.
//!
//! str0m estimates what the path carries (transport-wide congestion control, as browsers do it)
//! and paces packets by it. The next frame is given to it when the one before has all but left; so
//! what the path does not carry waits in the consumer's queue, where whole frames are left out.
//! A viewer that frames are left out for goes on with a [small rendition](Rendition), until the
//! path is seen to carry everything again.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::bwe::{Bitrate, BweKind};
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::format::{Codec as Coding, PayloadParams};
use str0m::media::{MediaTime, Mid, Pt};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::{Event, IceConnectionState, Input, Output, Rtc, RtcConfig, RtcError};

use super::socket::Datagram;
use crate::relay::consumer::{Consumer, Limits};
use crate::relay::derived::Rendition;
use crate::relay::frame::{Codec, Frame};

/// What may wait while packets of the frame before go out. A viewer that does not keep up
/// goes on at the next key frame.
pub const LIMITS: Limits = Limits {
    frames: 16,
    burst: 16,
    bytes: 8 << 20,
    time: gst::ClockTime::from_mseconds(300),
    // What a path carries in two seconds that is like `START`.
    catch_up: 2 << 20,
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
/// What a path has to carry for a viewer to be shown everything again, of what that takes.
const ROOM: f64 = 1.25;
/// How long a viewer sees the small rendition at least; doubled, up to [`LONGEST_HOLD`], when the
/// path did not carry everything for as long.
const HOLD: Duration = Duration::from_secs(2);
/// See [`HOLD`].
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// Streams of fewer bits a second are not made smaller.
const WORTH: f64 = 600_000.0;
/// Packets kept to be sent again, half a megabyte: half a second of 8 Mbit/s.
const RESENT: usize = 400;
/// What a path carries in any case, in bits a second.
const MIN_RATE: f64 = 10_000.0;

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

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// Send this, and ask again.
    Transmit(Transmit),
    /// Frames can be taken from now on; ask again.
    Connected,
    /// The viewer needs a key frame; ask again.
    KeyFrame,
    /// The viewer should see that rendition: [`Sender::follow`] a consumer of it; ask again.
    Wanted(Rendition),
    /// It sees what it was to [follow](Sender::follow); ask again.
    Followed,
    /// Nothing until that time; where that is past, [`Sender::pass`] the time.
    Wait(Instant),
}

/// What str0m was given.
enum Given {
    Nothing,
    /// A frame, or something else to do now.
    Something,
    /// The first frame of what the viewer was to follow.
    First,
}

/// What goes to one viewer.
pub struct Sender {
    rtc: Rtc,
    consumer: Arc<Consumer>,
    /// What it is to see instead, from the first frame on.
    next: Option<Arc<Consumer>>,
    /// What it should see, and since when.
    wanted: (Rendition, Instant),
    /// What it had dropped then.
    dropped: u64,
    /// How long it sees the small rendition at least.
    hold: Duration,
    /// What the whole stream takes, in bits a second.
    rate: f64,
    /// The media that the offer asked for.
    media: Option<(Mid, Pt)>,
    /// What it would be good for the path to carry.
    desired: Bitrate,
    /// What the path carries.
    estimate: Bitrate,
    /// When the path should be at rest again, after the last frame.
    rested: Instant,
    /// Frames that were left out when the path was asked last, and when that was.
    probed: (u64, Instant),
}

/// How str0m is to be set up for a viewer of a stream of that many bits a second.
pub fn config(crypto: Arc<CryptoProvider>, certificate: DtlsCert, rate: f64) -> RtcConfig {
    Rtc::builder()
        .set_crypto_provider(crypto)
        .set_dtls_cert(certificate)
        .set_ice_lite(true)
        .clear_codecs()
        .enable_h264(true)
        .enable_bwe(Some(desired(rate)))
        .set_send_buffer_video(RESENT)
}

/// What a path has to carry so that a key frame of such a stream is not late either; also what
/// it is first taken to carry.
fn desired(rate: f64) -> Bitrate {
    START.max(Bitrate::from(rate * 2.0))
}

impl Sender {
    /// What goes to a viewer that was answered, of a stream of `rate` bits a second.
    pub fn new(rtc: Rtc, consumer: Arc<Consumer>, rate: f64, now: Instant) -> Self {
        let mut sender = Self {
            rtc,
            consumer,
            next: None,
            wanted: (Rendition::Whole, now),
            dropped: 0,
            hold: HOLD,
            rate,
            media: None,
            desired: desired(rate),
            estimate: desired(rate),
            rested: now,
            probed: (0, now),
        };
        sender.set_rate(rate);
        sender
    }

    /// What the stream takes now, in bits a second.
    pub fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
        self.desired = desired(rate);
        self.rtc.bwe().set_desired_bitrate(self.desired);
    }

    /// Goes on with the frames of `next` as soon as there are any; `None`: with those of now.
    pub fn follow(&mut self, next: Option<Arc<Consumer>>) {
        self.next = next;
    }

    /// What is to be done next.
    pub fn poll(&mut self, now: Instant) -> Result<Next, Gone> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(_) if !self.rtc.is_alive() => return Err(Gone::Left),
                Output::Timeout(due) if due <= now => return Ok(Next::Wait(due)),
                Output::Timeout(due) => {
                    if let Some(rendition) = self.choose(now) {
                        return Ok(Next::Wanted(rendition));
                    }
                    match self.give(now)? {
                        Given::Nothing => return Ok(Next::Wait(due)),
                        Given::Something => {}
                        Given::First => return Ok(Next::Followed),
                    }
                }
                Output::Transmit(transmit) => return Ok(Next::Transmit(transmit)),
                Output::Event(event) => {
                    if let Some(next) = self.happened(&event)? {
                        return Ok(next);
                    }
                }
            }
        }
    }

    /// It is that late now.
    pub fn pass(&mut self, now: Instant) -> Result<(), Gone> {
        Ok(self.rtc.handle_input(Input::Timeout(now))?)
    }

    /// Takes what came from the viewer; whether it is of use.
    pub fn receive(&mut self, datagram: &Datagram, now: Instant) -> Result<bool, Gone> {
        // Anything that is none of the kinds that WebRTC knows is nothing.
        let Ok(received) = Receive::new(Protocol::Udp, datagram.from, datagram.to, &datagram.bytes)
        else {
            return Ok(false);
        };
        let input = Input::Receive(now, received);
        let is_taken = self.rtc.accepts(&input);
        if is_taken {
            self.rtc.handle_input(input)?;
        }
        Ok(is_taken)
    }

    fn happened(&mut self, event: &Event) -> Result<Option<Next>, Gone> {
        match event {
            Event::MediaAdded(added) if self.media.is_none() => {
                let writer = self.rtc.writer(added.mid);
                let payload = writer.and_then(|writer| {
                    let mut payloads = writer.payload_params();
                    let whole = payloads.find(|payload| {
                        let spec = payload.spec();
                        spec.codec == Coding::H264 && spec.format.packetization_mode == Some(1)
                    });
                    whole.map(PayloadParams::pt)
                });
                self.media = payload.map(|payload| (added.mid, payload));
            }
            Event::Connected => return Ok(Some(Next::Connected)),
            Event::KeyframeRequest(_) => return Ok(Some(Next::KeyFrame)),
            Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                self.estimate = *estimate;
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                return Err(Gone::Left);
            }
            _ => {}
        }
        Ok(None)
    }

    /// What the viewer should see from now on, if that is something else.
    fn choose(&mut self, now: Instant) -> Option<Rendition> {
        let (rendition, since) = self.wanted;
        let held = now - since;
        let dropped = self.consumer.dropped();
        let rendition = match rendition {
            Rendition::Whole => {
                if self.carries_all() {
                    // This process came late.
                    self.dropped = dropped;
                }
                if dropped == self.dropped || self.rate < WORTH {
                    return None;
                }
                self.hold = match held < self.hold * 2 {
                    true => (self.hold * 2).min(LONGEST_HOLD),
                    false => HOLD,
                };
                Rendition::Small
            }
            Rendition::Small => {
                if !self.carries_all() || held < self.hold {
                    return None;
                }
                Rendition::Whole
            }
        };
        self.wanted = (rendition, now);
        self.dropped = dropped;
        Some(rendition)
    }

    /// Whether the path has room for the whole stream.
    fn carries_all(&self) -> bool {
        self.estimate.as_f64() >= self.rate * ROOM
    }

    /// Gives str0m the next frame, if it has room for it.
    fn give(&mut self, now: Instant) -> Result<Given, Gone> {
        if !self.has_room(now) {
            return Ok(Given::Nothing);
        }
        let probes = self.probe(now)?;
        let first = self.next.as_ref().and_then(|next| next.take());
        let given = match (&first, probes) {
            (Some(_), _) => Given::First,
            (None, true) => Given::Something,
            (None, false) => Given::Nothing,
        };
        if first.is_some()
            && let Some(next) = self.next.take()
        {
            self.dropped = next.dropped();
            self.probed.0 = self.dropped;
            self.consumer = next;
        }
        let Some(frame) = first.or_else(|| self.consumer.take()) else {
            return Ok(given);
        };
        self.show(&frame, now)?;
        Ok(match given {
            Given::Nothing => Given::Something,
            given => given,
        })
    }

    /// Whether what str0m was given has all but left.
    fn has_room(&mut self, now: Instant) -> bool {
        let Some((mid, _)) = self.media else {
            return true;
        };
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx_by_mid(mid, None);
        let waiting = stream
            .and_then(|stream| stream.queue_info())
            .map_or(0, |queue| queue.byte_size());
        self.on_path(waiting) <= BACKLOG && (now >= self.rested || !self.consumer.is_behind())
    }

    /// How long the path takes to carry so many bytes.
    fn on_path(&self, bytes: usize) -> Duration {
        let rate = self.estimate.as_f64().max(MIN_RATE);
        Duration::from_secs_f64(bytes as f64 * 8.0 / rate)
    }

    /// Has str0m find out anew what the path carries where that is too little, beginning with
    /// twice what it thinks; whether it was told to.
    fn probe(&mut self, now: Instant) -> Result<bool, Gone> {
        let (before, at) = self.probed;
        let dropped = self.consumer.dropped();
        let is_small = self.wanted.0 == Rendition::Small;
        let lacks = is_small && !self.carries_all();
        if !(dropped > before || lacks) || now - at < PROBE_INTERVAL {
            return Ok(false);
        }
        self.probed = (dropped, now);
        self.rtc.bwe().reset(self.estimate);
        self.rtc.bwe().set_desired_bitrate(self.estimate);
        self.rtc.handle_input(Input::Timeout(now))?;
        self.rtc.bwe().set_desired_bitrate(self.desired);
        Ok(true)
    }

    fn show(&mut self, frame: &Frame, now: Instant) -> Result<(), Gone> {
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
        writer.write(payload, now, time, bytes.as_slice())?;
        self.rested = now + self.on_path(bytes.len()).mul_f64(REST);
        Ok(())
    }
}
