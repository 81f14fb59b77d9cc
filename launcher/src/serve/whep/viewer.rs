//! One WebRTC viewer: from a stream's frames to sealed packets.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    frames: 8,
    bytes: 8 << 20,
    time: gst::ClockTime::from_mseconds(500),
};

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
        let happened = async {
            tokio::select! {
                datagram = self.datagrams.recv() => Happened::Received(datagram),
                () = self.frames.notified() => Happened::Frames,
            }
        };
        match timeout_at(due.into(), happened).await {
            Ok(Happened::Received(Some(datagram))) => self.receive(&datagram)?,
            Ok(Happened::Received(None)) => return Err(Gone::Left),
            Ok(Happened::Frames) => {
                while let Some(frame) = self.consumer.take() {
                    self.show(&frame)?;
                    self.flush().await?;
                }
            }
            Err(_) if Instant::now() >= silence => return Err(Gone::Left),
            Err(_) => self.rtc.handle_input(Input::Timeout(Instant::now()))?,
        }
        Ok(())
    }

    /// Sends what has to be sent; when to look again.
    async fn flush(&mut self) -> Result<Instant, Gone> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) if self.rtc.is_alive() => return Ok(due),
                Output::Timeout(_) => return Err(Gone::Left),
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
            Event::KeyframeRequest(_) => self.stream.request_key(),
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
        writer.write(payload, Instant::now(), time, bytes.as_slice())?;
        Ok(())
    }
}

enum Happened {
    Received(Option<Datagram>),
    Frames,
}
