//! One stream on its way to one viewer.

use std::sync::Arc;
use std::time::SystemTime;

use gst::prelude::*;
use tokio::sync::Notify;

use super::payload::{Cutter, Format, Packets};
use super::rtcp::Report;
use super::transport::Transport;
use super::udp::Registration;
use crate::relay::consumer::{Consumer, Limits};
use crate::relay::frame::{Codec, Frame};
use crate::relay::stream::{Attachment, Stream};

/// What may wait for a viewer whose turn comes a little late. Pictures that stand alone
/// are worth nothing when they are old, so that one that misses any goes on with the
/// newest; those that build on each other are kept longer, as a gap costs more.
fn limits(codec: &Codec) -> Limits {
    let (frames, burst, time) = match codec {
        Codec::Opus => (50, 50, gst::ClockTime::from_mseconds(500)),
        codec if codec.is_inter() => (64, 64, gst::ClockTime::SECOND),
        _ => (4, 16, gst::ClockTime::from_mseconds(500)),
    };
    Limits {
        frames,
        burst,
        bytes: 8 << 20,
        time,
        catch_up: 8 << 20,
    }
}

/// What one packet begins with: `$`, channel and length of an interleaved packet
/// (RFC 2326, section 10.12), then the RTP header (RFC 3550, section 5.1).
pub type Head = [u8; INTERLEAVED + RTP];
/// Bytes of a [`Head`] that only packets within a connection have.
pub const INTERLEAVED: usize = 4;
const RTP: usize = 12;

/// What was set up of a stream.
pub struct Setup {
    /// Its place in the description.
    pub place: usize,
    /// The stream.
    pub stream: Arc<Stream>,
    /// What it is coded in; nothing else is sent.
    pub codec: Codec,
    /// How RTP carries that.
    pub format: Format,
    /// As the description has it.
    pub payload_type: u8,
    /// Cuts its frames into packets.
    pub cutter: Arc<Cutter>,
    /// Where the packets go.
    pub transport: Transport,
    /// Listens to what a viewer over UDP reports.
    pub registration: Option<Registration>,
}

/// One stream on its way to one viewer: numbered from the first packet that this viewer
/// gets, so that it misses nothing where frames are left out for it.
pub struct Track {
    setup: Setup,
    ssrc: u32,
    sequence: u16,
    /// The RTP time at zero of GStreamer's system clock.
    offset: u32,
    /// Ticks of the frame before, without the offset.
    last: Option<u64>,
    packets: u32,
    octets: u32,
    heads: Vec<Head>,
    /// Frames that were left out for this viewer since it plays.
    missed: u64,
    playing: Option<(Arc<Consumer>, Attachment)>,
}

/// What there is to send.
pub enum Next {
    /// Nothing now.
    Nothing,
    /// A frame: its packets, which begin with [`Track::heads`].
    Frame(Arc<Packets>),
    /// The stream is coded in something else than what was set up.
    Changed,
}

impl Track {
    /// A stream that does not play yet. `random` makes its numbers hard to guess (RFC
    /// 3550, section 5.1).
    pub fn new(setup: Setup, random: [u8; 10]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = random;
        Self {
            setup,
            ssrc: u32::from_be_bytes([a, b, c, d]),
            sequence: u16::from_be_bytes([e, f]),
            offset: u32::from_be_bytes([g, h, i, j]),
            last: None,
            packets: 0,
            octets: 0,
            heads: Vec::new(),
            missed: 0,
            playing: None,
        }
    }

    /// Its place in the description.
    pub fn place(&self) -> usize {
        self.setup.place
    }

    /// Where its packets go.
    pub fn transport(&self) -> Transport {
        self.setup.transport
    }

    /// Its synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Begins with the newest frame that a viewer can start at; `wake` is told of it and
    /// of every one after it.
    pub fn play(&mut self, wake: &Arc<Notify>) {
        let wake = wake.clone();
        let limits = limits(&self.setup.codec);
        let consumer = Arc::new(Consumer::new(limits, move || wake.notify_one()));
        let attachment = self.setup.stream.attach(consumer.clone());
        self.missed = 0;
        self.playing = Some((consumer, attachment));
    }

    /// Takes no more frames.
    pub fn pause(&mut self) {
        self.playing = None;
    }

    /// Whether its viewer, over UDP, reported something since this was asked before.
    pub fn heard(&self) -> bool {
        self.setup
            .registration
            .as_ref()
            .is_some_and(Registration::heard)
    }

    /// The next frame.
    pub fn next(&mut self) -> Next {
        let Some((consumer, _)) = &self.playing else {
            return Next::Nothing;
        };
        let missed = consumer.dropped();
        let skips = missed != self.missed && self.setup.codec == Codec::Jpeg;
        self.missed = missed;
        while let Some(mut frame) = consumer.take() {
            while let Some(newer) = skips.then(|| consumer.take()).flatten() {
                frame = newer;
            }
            if frame.codec != self.setup.codec {
                return Next::Changed;
            }
            if let Some(packets) = self.setup.cutter.packets(&frame) {
                self.stamp(&frame, &packets);
                return Next::Frame(packets);
            }
        }
        Next::Nothing
    }

    /// Whether frames that were captured before wait for this viewer, which it is to have
    /// as fast as it takes them.
    pub fn is_catching_up(&self) -> bool {
        let playing = self.playing.as_ref();
        playing.is_some_and(|(consumer, _)| consumer.is_catching_up())
    }

    /// What the packets of the frame from [`Track::next`] begin with.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn stamp(&mut self, frame: &Frame, packets: &Packets) {
        let mut ticks = self.ticks(frame.captured);
        if !frame.codec.is_inter() {
            // A picture that is shown again, or was captured by a clock that was set back.
            ticks = self.last.map_or(ticks, |last| ticks.max(last + 1));
        }
        self.last = Some(ticks);
        let time = self.offset.wrapping_add(ticks as u32).to_be_bytes();
        let ssrc = self.ssrc.to_be_bytes();
        let channel = match self.setup.transport {
            Transport::Tcp { rtp, .. } => rtp,
            Transport::Udp { .. } => 0,
        };
        let last = packets.len().saturating_sub(1);
        self.heads.clear();
        for (index, (head, body)) in packets.iter().enumerate() {
            let size = head.len() + body.len();
            let length = ((RTP + size) as u16).to_be_bytes();
            let marker = if packets.marked() && index == last {
                0x80
            } else {
                0
            };
            let sequence = self.sequence.to_be_bytes();
            let mut bytes = [0; INTERLEAVED + RTP];
            bytes[..INTERLEAVED].copy_from_slice(&[b'$', channel, length[0], length[1]]);
            bytes[4..8].copy_from_slice(&[
                0x80,
                marker | self.setup.payload_type,
                sequence[0],
                sequence[1],
            ]);
            bytes[8..12].copy_from_slice(&time);
            bytes[12..].copy_from_slice(&ssrc);
            self.heads.push(bytes);
            self.sequence = self.sequence.wrapping_add(1);
            self.octets = self.octets.wrapping_add(size as u32);
        }
        self.packets = self.packets.wrapping_add(packets.len() as u32);
    }

    /// What it has sent, and which moment its times mean; `None` while it does not play.
    pub fn report(&self) -> Option<Report> {
        self.playing.as_ref()?;
        let now = self.ticks(gst::SystemClock::obtain().time());
        Some(Report {
            ssrc: self.ssrc,
            now: (SystemTime::now(), self.offset.wrapping_add(now as u32)),
            packets: self.packets,
            octets: self.octets,
        })
    }

    fn ticks(&self, time: gst::ClockTime) -> u64 {
        let rate = u128::from(self.setup.format.rate);
        (u128::from(time.nseconds()) * rate / 1_000_000_000) as u64
    }
}
