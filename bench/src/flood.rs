//! A relay under a flood of handshakes from addresses that never go on, beside a running camera.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use camrelay_protocol::{
    Accept, Access, Config, Connect, Endpoint, LatePolicy, Random, Role, Time,
};
use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks, AppSrc};
use gstcamrelay::port::{Port, PortSettings};
use path_emulator::Rng;

use crate::cli::FloodOptions;
use crate::{frame, usage};

/// Frames of the running camera.
const FRAME: usize = 50_000;
const FPS: u64 = 30;
const CAPS: &str = "image/jpeg,width=1280,height=720,framerate=30/1";
/// First messages that are made; the flood repeats them from its many addresses.
const MESSAGES: usize = 200;
/// How often the flood sends.
const BATCHES_PER_SECOND: u64 = 100;

/// Floods a relay of this process, and says what it cost.
pub(crate) fn run(options: &FloodOptions) -> anyhow::Result<()> {
    println!("{}\n", usage::machine());
    usage::raise_file_limit();
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let relay = Port::listen(PortSettings {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        identity: None,
        access: Access {
            accept: Accept::Lan,
            known: Vec::new(),
        },
    })?;
    let camera = Camera::start("door", relay.local_addr().port())?;
    let flood = Flood::new(options, relay.local_addr())?;
    camera.send(0..2 * FPS)?;
    ensure!(camera.came() > 0, "the camera does not come through");

    let (before, came_before, rss_before) = (relay.admissions(), camera.came(), rss()?);
    let (cpu_before, missing_before) = (usage::cpu(), camera.missing()?);
    let sending = std::thread::spawn(move || flood.send());
    let half = u64::from(options.seconds) * FPS / 2;
    camera.send(2 * FPS..2 * FPS + half)?;
    let asked = frame::now();
    let newcomer = Camera::start("gate", relay.local_addr().port())?;
    while newcomer.came() == 0 {
        ensure!(
            frame::now() - asked < 30_000_000_000,
            "no other camera gets in"
        );
        newcomer.send(0..1)?;
    }
    let newcomer_after = Duration::from_nanos(frame::now() - asked);
    camera.send(2 * FPS + half..2 * FPS + 2 * half)?;
    let answers = sending
        .join()
        .map_err(|_| anyhow!("the flood's thread failed"))??;
    std::thread::sleep(Duration::from_millis(500));
    let (after, rss_after) = (relay.admissions(), rss()?);
    let now = camera.missing()?;
    let [left_out, lost, kernel] = std::array::from_fn(|i| now[i] - missing_before[i]);

    println!(
        "HANDSHAKE_INITs sent        {} from {} addresses in {} s",
        answers.sent, options.addresses, options.seconds
    );
    let arrived = camera.came() - came_before;
    println!(
        "frames of the camera        {} sent, {arrived} arrived, {left_out} left out by camrelaysink, {lost} lost",
        2 * half
    );
    println!("another camera's first frame after {newcomer_after:.0?}");
    println!(
        "handshakes answered         {}",
        after.answered - before.answered
    );
    println!(
        "COOKIE_REPLYs               {}",
        after.cookies - before.cookies
    );
    println!(
        "refused with silence        {}",
        after.refused - before.refused
    );
    println!(
        "datagrams to the addresses  {}, {} bytes ({:.2} of those that came)",
        answers.datagrams,
        answers.bytes,
        answers.bytes as f64 / answers.asked_bytes as f64
    );
    println!("dropped by the kernel       {kernel} datagrams");
    println!(
        "sessions now                {}, {} of them unproved",
        after.sessions, after.unproved
    );
    println!(
        "memory of this process      {} kB before, {} kB after",
        rss_before, rss_after
    );
    println!(
        "processor time              {:.2?} (relay, camera and flood)",
        usage::cpu() - cpu_before
    );
    Ok(())
}

/// Kilobytes of memory that this process has.
fn rss() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("no VmRSS")?.trim();
    Ok(words.trim_end_matches(" kB").parse()?)
}

/// A camera, and what its relay has of it.
struct Camera {
    pipelines: [gst::Element; 2],
    source: AppSrc,
    frames: frame::Frames,
    came: Arc<AtomicU64>,
}

impl Camera {
    fn start(name: &str, port: u16) -> anyhow::Result<Self> {
        let relay = gst::parse::launch(&format!(
            "camrelaysrc name=source address=127.0.0.1 port={port} camera={name} ! appsink name=out sync=false"
        ))?;
        let camera = gst::parse::launch(&format!(
            "appsrc name=in is-live=true format=time caps={CAPS} ! camrelaysink name=sink port={port} camera={name}"
        ))?;
        let came = Arc::new(AtomicU64::new(0));
        let counter = came.clone();
        let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let whole = sample
                .buffer()
                .and_then(|buffer| buffer.map_readable().ok())
                .is_some_and(|bytes| frame::read(&bytes).is_some());
            counter.fetch_add(u64::from(whole), Ordering::Relaxed);
            Ok(gst::FlowSuccess::Ok)
        });
        let out: AppSink = part(&relay, "out")?;
        out.set_callbacks(callbacks.build());
        relay.set_state(gst::State::Playing)?;
        camera.set_state(gst::State::Playing)?;
        Ok(Self {
            source: part(&camera, "in")?,
            pipelines: [camera, relay],
            frames: frame::Frames::new(1, FRAME),
            came,
        })
    }

    /// Frames that came whole.
    fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    /// Sends frames of those numbers, as many a second as a camera does.
    fn send(&self, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let begin = frame::now();
        for (sent, number) in (1..).zip(numbers) {
            let mut buffer = gst::Buffer::from_slice(self.frames.stamped(number as u32));
            let time = self.source.current_running_time();
            buffer.get_mut().context("a new buffer")?.set_pts(time);
            self.source
                .push_buffer(buffer)
                .map_err(|error| anyhow!("cannot send: {error}"))?;
            sleep_until(begin + sent * 1_000_000_000 / FPS);
        }
        Ok(())
    }

    /// Frames that camrelaysink left out, frames lost, and datagrams that the kernel dropped.
    fn missing(&self) -> anyhow::Result<[u64; 3]> {
        let stat = |pipeline: usize, element: &str, name: &str| {
            let element: gst::Element = part(&self.pipelines[pipeline], element)?;
            let stats = element.property::<gst::Structure>("stats");
            anyhow::Ok(stats.get::<u64>(name)?)
        };
        Ok([
            stat(0, "sink", "frames-dropped")?,
            stat(1, "source", "frames-lost")?,
            stat(1, "source", "packets-dropped-by-kernel")?,
        ])
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        for pipeline in &self.pipelines {
            // The process ends with it.
            let _ = pipeline.set_state(gst::State::Null);
        }
    }
}

fn part<T: IsA<glib::Object>>(pipeline: &gst::Element, name: &str) -> anyhow::Result<T> {
    let bin = pipeline.downcast_ref::<gst::Bin>();
    let part = bin.and_then(|bin| bin.by_name(name));
    part.and_then(|part| part.dynamic_cast::<T>().ok())
        .with_context(|| format!("no part {name}"))
}

fn sleep_until(moment: u64) {
    std::thread::sleep(Duration::from_nanos(moment.saturating_sub(frame::now())));
}

/// Callers that never go on.
struct Flood {
    sockets: Vec<UdpSocket>,
    messages: Vec<Vec<u8>>,
    relay: SocketAddr,
    handshakes: u64,
    seconds: u64,
}

/// What the flood sent and got.
#[derive(Default)]
struct Answers {
    sent: u64,
    asked_bytes: u64,
    datagrams: u64,
    bytes: u64,
}

impl Flood {
    fn new(options: &FloodOptions, relay: SocketAddr) -> anyhow::Result<Self> {
        let sockets = (0..options.addresses)
            .map(|host| {
                // 127.64.0.0/10: Linux takes every address of 127.0.0.0/8 for its own.
                let address = Ipv4Addr::from(0x7f40_0001 + host);
                let socket = UdpSocket::bind((address, 0));
                let socket = socket.with_context(|| format!("cannot bind {address}"))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            sockets,
            messages: (1..=MESSAGES as u64)
                .map(message)
                .collect::<Result<_, _>>()?,
            relay,
            handshakes: options.handshakes,
            seconds: options.seconds.into(),
        })
    }

    fn send(self) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        let batches = self.seconds * BATCHES_PER_SECOND;
        let begin = frame::now();
        let mut numbers = 0..self.handshakes;
        for batch in 1..=batches {
            let until = self.handshakes * batch / batches;
            for number in numbers.by_ref().take((until - answers.sent) as usize) {
                let socket = &self.sockets[number as usize % self.sockets.len()];
                let message = &self.messages[number as usize % self.messages.len()];
                socket.send_to(message, self.relay)?;
                answers.sent += 1;
                answers.asked_bytes += message.len() as u64;
            }
            self.listen(&mut answers);
            sleep_until(begin + batch * 1_000_000_000 / BATCHES_PER_SECOND);
        }
        std::thread::sleep(Duration::from_millis(100));
        self.listen(&mut answers);
        Ok(answers)
    }

    fn listen(&self, answers: &mut Answers) {
        let mut datagram = [0; 2048];
        for socket in &self.sockets {
            while let Ok(len) = socket.recv(&mut datagram) {
                answers.datagrams += 1;
                answers.bytes += len as u64;
            }
        }
    }
}

/// The first message of a caller.
fn message(seed: u64) -> anyhow::Result<Vec<u8>> {
    struct Drawn(Rng);
    impl Random for Drawn {
        fn fill(&mut self, out: &mut [u8]) {
            out.iter_mut().for_each(|byte| *byte = self.0.next() as u8);
        }
    }
    let mut caller = Endpoint::new(Config::default(), Box::new(Drawn(Rng::new(seed))));
    let camera = "ghost".into();
    let now = Time::from_nanos(1);
    caller.connect(
        now,
        Connect {
            remote: (Ipv4Addr::LOCALHOST, camrelay_protocol::DEFAULT_PORT).into(),
            token: None,
            role: Role::Publish { camera },
            latency: Duration::from_millis(120),
            late_policy: LatePolicy::default(),
            mtu: 0,
        },
    )?;
    caller.handle_timeout(now);
    let mut datagram = Vec::new();
    caller
        .poll_transmit(now, 1, &mut datagram)
        .context("the caller says nothing")?;
    Ok(datagram)
}
