//! How long a viewer waits for its first picture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::slow::cameras;
use super::viewer::{Browser, Mjpeg, Rtsp, Watching};
use crate::many::rtsp::{Player, Way};
use crate::many::{Relay, name};
use crate::table::{Table, ms};

/// Viewers of each output, one after the other.
const TURNS: usize = 20;
/// The same where an encoder has to have ended before each.
const COLD_TURNS: usize = 5;
/// After so long without viewers it has.
const IDLE: Duration = Duration::from_secs(13);
/// How far apart the others come: not at the same moment between two key frames.
const APART: Duration = Duration::from_millis(130);
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Clone, Copy)]
enum Watched {
    RtspJpeg,
    RtspH264,
    UdpH264,
    Mjpeg,
    WebRtcH264,
    /// JPEGs that are encoded for their first viewer.
    WebRtcCold,
}

impl Watched {
    const ALL: [Self; 6] = [
        Self::RtspJpeg,
        Self::RtspH264,
        Self::UdpH264,
        Self::Mjpeg,
        Self::WebRtcH264,
        Self::WebRtcCold,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RtspJpeg => "RTSP/TCP, JPEG",
            Self::RtspH264 => "RTSP/TCP, H.264",
            Self::UdpH264 => "RTSP/UDP, H.264",
            Self::Mjpeg => "stream.mjpeg",
            Self::WebRtcH264 => "WebRTC, H.264",
            Self::WebRtcCold => "WebRTC, JPEG that nobody watched",
        }
    }

    /// The first camera sends JPEG, the second H.264.
    fn open(self, relay: &Relay) -> anyhow::Result<Box<dyn Watching>> {
        let deadline = Instant::now() + DEADLINE;
        let play = |camera, way| {
            let player = Player::play(relay.viewers, &name(camera), deadline, way);
            player.map(|player| Box::new(Rtsp::from(player)))
        };
        let offer = |camera| {
            Browser::open(relay.browsers, &name(camera), deadline, Duration::ZERO).map(Box::new)
        };
        Ok(match self {
            Self::RtspJpeg => play(0, Way::Tcp)?,
            Self::RtspH264 => play(1, Way::Tcp)?,
            Self::UdpH264 => play(1, Way::Udp)?,
            Self::Mjpeg => Box::new(Mjpeg::open(relay.browsers, &name(0), deadline)?),
            Self::WebRtcH264 => offer(1)?,
            Self::WebRtcCold => offer(0)?,
        })
    }

    /// How long it takes from its connection to the first whole picture.
    fn first(self, relay: &Relay) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut viewer = self.open(relay)?;
        while !viewer.next()?.whole {}
        Ok(begun.elapsed())
    }
}

/// Measures it.
pub(super) fn run(relay: &Relay) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let sending = cameras(relay.cameras, stop.clone())?;
    let done = measure(relay);
    stop.store(true, Ordering::Relaxed);
    let sent = sending.join();
    println!("{}", done?);
    sent.unwrap_or_else(|_| bail!("the cameras panicked"))
}

fn measure(relay: &Relay) -> anyhow::Result<Table> {
    println!(
        "Cameras of 1280x720 at 30/s, of which one sends JPEG and the other H.264 with a key frame \
         every ten seconds and when one is asked for. From a viewer's connection to its first whole \
         picture, over loopback, a WebRTC viewer's handshakes included; one viewer after the other:\n"
    );
    let mut table = Table::new(["", "viewers", "first picture, median", "slowest"]);
    for watched in Watched::ALL {
        let is_cold = matches!(watched, Watched::WebRtcCold);
        let (turns, pause) = match is_cold {
            true => (COLD_TURNS, IDLE),
            false => (TURNS, APART),
        };
        eprintln!("{}: {turns} viewers", watched.name());
        // Only the first one may find the camera still without pictures.
        watched.first(relay)?;
        let mut times = Vec::new();
        for _ in 0..turns {
            thread::sleep(pause);
            times.push(watched.first(relay)?);
        }
        times.sort_unstable();
        table.row([
            watched.name().into(),
            turns.to_string(),
            ms(times[turns / 2]),
            ms(times[turns - 1]),
        ]);
    }
    Ok(table)
}
