//! A viewer over WebRTC, made of str0m, behind a path that can be narrowed.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use path_emulator::{Conditions, Direction, Proxy, Route};
use str0m::change::SdpAnswer;
use str0m::media::{self, Frequency, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::{Seen, Watching};

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before asking again for a camera that is not there.
const AGAIN: Duration = Duration::from_millis(100);
/// The path each way, and what its bottleneck holds.
pub(super) const DELAY: Duration = Duration::from_millis(10);
const QUEUE: Duration = Duration::from_millis(250);
const SEED: u64 = 1;

/// A browser, as far as it matters here.
pub(crate) struct Browser {
    rtc: Rtc,
    socket: UdpSocket,
    path: Arc<Proxy>,
    seen: VecDeque<Seen>,
    /// Something that later frames build on is missing.
    broken: Option<Mid>,
}

/// Lets no more through to the viewers than so many bytes a second.
pub(super) fn narrow(path: &Proxy, rate: Option<f64>) {
    let conditions = Conditions {
        rate: rate.map_or(0, |rate| (rate * 8.0) as u64),
        queue: QUEUE,
        ..Conditions::clean(DELAY)
    };
    path.set(Direction::Back, conditions);
}

/// Lets nothing through to the viewers any more.
pub(super) fn cut(path: &Proxy) {
    let conditions = Conditions {
        down: true,
        ..Conditions::clean(DELAY)
    };
    path.set(Direction::Back, conditions);
}

impl Browser {
    /// Asks for a camera by WHEP, again until `deadline` where there is no such one yet; the path
    /// takes `delay` each way.
    pub(crate) fn open(
        port: u16,
        camera: &str,
        deadline: Instant,
        delay: Duration,
    ) -> anyhow::Result<Self> {
        let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = UdpSocket::bind(local(0))?;
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let mut rtc = Rtc::builder()
            .set_crypto_provider(crypto)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
        let mut changes = rtc.sdp_api();
        changes.add_media(
            MediaKind::Video,
            media::Direction::RecvOnly,
            None,
            None,
            None,
        );
        let (offer, pending) = changes.apply().context("an empty offer")?;
        let url = format!("http://127.0.0.1:{port}/cameras/{camera}/whep");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let answer = loop {
            let mut response = agent
                .post(&url)
                .content_type("application/sdp")
                .send(offer.to_sdp_string())?;
            let text = response.body_mut().read_to_string()?;
            match response.status().as_u16() {
                201 => break text,
                status if Instant::now() > deadline => bail!("WHEP gives {status}: {text}"),
                _ => std::thread::sleep(AGAIN),
            }
        };
        // a=candidate:FOUNDATION 1 udp PRIORITY ADDRESS PORT typ host
        let candidate = answer
            .lines()
            .find(|line| line.starts_with("a=candidate:"))
            .context("an answer without a candidate")?;
        let relay = candidate
            .split(' ')
            .nth(5)
            .and_then(|port| port.parse().ok());
        let relay: u16 = relay.context("a candidate without a port")?;
        let route = Route {
            listen: local(0),
            to: local(relay),
        };
        let clean = Conditions::clean(delay);
        let path = Proxy::start(&[route], clean, clean, SEED)?;
        let entry = path.addresses().first().context("a path without an end")?;
        let through = candidate.replace(&format!(" {relay} "), &format!(" {} ", entry.port()));
        let answer = SdpAnswer::from_sdp_string(&answer.replace(candidate, &through))?;
        rtc.sdp_api().accept_answer(pending, answer)?;
        Ok(Self {
            rtc,
            socket,
            path: Arc::new(path),
            seen: VecDeque::new(),
            broken: None,
        })
    }

    /// The path to it.
    pub(super) fn path(&self) -> Arc<Proxy> {
        self.path.clone()
    }

    /// Says what is to be said; when to do so again.
    fn flush(&mut self) -> anyhow::Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => return Ok(due),
                Output::Transmit(transmit) => {
                    self.socket
                        .send_to(&transmit.contents, transmit.destination)?;
                }
                Output::Event(Event::MediaData(frame)) => {
                    let is_key = frame.is_keyframe();
                    let whole = is_key || (frame.contiguous && self.broken.is_none());
                    self.broken = (!whole).then_some(frame.mid);
                    let ticks = frame.time.rebase(Frequency::NINETY_KHZ).numer();
                    self.seen.push_back(Seen {
                        captured: ticks as f64 / 90.0,
                        bytes: frame.data.len(),
                        whole,
                    });
                }
                Output::Event(_) => {}
            }
        }
    }
}

impl Watching for Browser {
    fn next(&mut self) -> anyhow::Result<Seen> {
        let begun = Instant::now();
        loop {
            let due = self.flush()?;
            if let Some(seen) = self.seen.pop_front() {
                return Ok(seen);
            }
            if begun.elapsed() > PATIENCE {
                bail!("no pictures over WebRTC");
            }
            if let Some(mut writer) = self.broken.and_then(|mid| self.rtc.writer(mid)) {
                // Refused where it asked just before.
                let _ = writer.request_keyframe(None, KeyframeRequestKind::Pli);
            }
            let patience = due.saturating_duration_since(Instant::now());
            let patience = patience.clamp(Duration::from_millis(1), Duration::from_millis(50));
            self.socket.set_read_timeout(Some(patience))?;
            let mut buffer = [0; 2048];
            let received = self.socket.recv_from(&mut buffer);
            let now = Instant::now();
            let input = match received {
                Ok((length, source)) => {
                    let destination = self.socket.local_addr()?;
                    let receive =
                        Receive::new(Protocol::Udp, source, destination, &buffer[..length])?;
                    Input::Receive(now, receive)
                }
                Err(_) => Input::Timeout(now),
            };
            self.rtc.handle_input(input)?;
        }
    }
}
