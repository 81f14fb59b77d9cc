//! One hop: a receiving and a sending process, and a path between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use path_emulator::{Conditions, Counters, Direction, Proxy, Route};

use crate::cases::HEADERS;
use crate::child::{FromReceiver, FromSender, Load, Received};
use crate::process::Process;
use crate::transport::free_port;

/// What a hop did.
pub(crate) struct Outcome {
    pub(crate) load: Load,
    /// Delays of the measured frames that came, in ascending order.
    pub(crate) delays: Vec<Duration>,
    /// Processor time of the sending and of the receiving process, for the measured frames.
    pub(crate) sender_cpu: Duration,
    pub(crate) receiver_cpu: Duration,
    /// What passed, where there was a path.
    pub(crate) traffic: Option<Traffic>,
}

/// What passed while the measured frames were sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Bytes to the receiver and back, IP and UDP headers included.
    pub(crate) there: u64,
    pub(crate) back: u64,
    /// Share of datagrams that the emulator itself handed on more than a millisecond late.
    pub(crate) late: f64,
    /// Datagrams for which the emulator had no room.
    pub(crate) overflowed: u64,
}

impl Outcome {
    /// Share of the frames that came within `deadline`.
    pub(crate) fn on_time(&self, deadline: Duration) -> f64 {
        let in_time = self.delays.partition_point(|delay| *delay <= deadline);
        in_time as f64 / f64::from(self.load.frames)
    }

    /// The delay that a share of the frames that came do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.delays.len().checked_sub(1)?;
        Some(self.delays[(last as f64 * share).round() as usize])
    }

    /// Processor time of both processes for a frame.
    pub(crate) fn cpu_per_frame(&self) -> Duration {
        (self.sender_cpu + self.receiver_cpu) / self.load.frames
    }

    /// Bytes to the receiver beyond the frames' own, as a share of them.
    pub(crate) fn extra(&self) -> Option<f64> {
        let own = self.load.size as f64 * f64::from(self.load.frames);
        self.traffic.map(|traffic| traffic.there as f64 / own - 1.0)
    }

    /// Bytes back to the sender, as a share of the frames' own.
    pub(crate) fn back(&self) -> Option<f64> {
        let own = self.load.size as f64 * f64::from(self.load.frames);
        self.traffic.map(|traffic| traffic.back as f64 / own)
    }
}

/// Runs one hop, through a path where there is one, to its end.
pub(crate) fn run(load: Load, path: Option<Conditions>) -> anyhow::Result<Outcome> {
    hop(load, path).with_context(|| format!("{} failed", load.transport.name()))
}

fn hop(load: Load, path: Option<Conditions>) -> anyhow::Result<Outcome> {
    let mut receiver = Process::start("receive", &load, None)?;
    let FromReceiver::Ready { port } = receiver.read()? else {
        bail!("the receiver ended before it began");
    };
    let proxy = path.map(|path| proxy(&load, path, port)).transpose()?;
    let entry = proxy.as_ref().map_or(port, |proxy| {
        proxy.addresses().first().map_or(port, SocketAddr::port)
    });
    let mut sender = Process::start("send", &load, Some(entry))?;
    let FromSender::Measuring = sender.read()? else {
        bail!("the sender skipped its beginning");
    };
    let before = proxy.as_ref().map(counters);
    let FromSender::Measured = sender.read()? else {
        bail!("the sender skipped its end");
    };
    let after = proxy.as_ref().map(counters);
    let FromSender::Done { cpu: sender_cpu } = sender.read()? else {
        bail!("the sender did not say what it used");
    };
    receiver.end_input();
    let FromReceiver::Done(received) = receiver.read()? else {
        bail!("the receiver did not say what it got");
    };
    let Received { delays, cpu } = received;
    let mut delays: Vec<Duration> = delays.into_iter().map(Duration::from_nanos).collect();
    delays.sort_unstable();
    Ok(Outcome {
        load,
        delays,
        sender_cpu,
        receiver_cpu: cpu,
        traffic: before
            .zip(after)
            .map(|(before, after)| traffic(before, after)),
    })
}

/// Runs hops side by side.
pub(crate) fn run_together(
    loads: &[Load],
    path: Option<Conditions>,
) -> anyhow::Result<Vec<Outcome>> {
    std::thread::scope(|scope| {
        let hops = loads.iter().enumerate().map(|(place, load)| {
            let phase = load.interval() * place as u64 / loads.len() as u64;
            scope.spawn(move || run(Load { phase, ..*load }, path))
        });
        let hops: Vec<_> = hops.collect();
        let join = |hop: std::thread::ScopedJoinHandle<'_, anyhow::Result<Outcome>>| {
            hop.join().unwrap_or_else(|_| bail!("a hop panicked"))
        };
        hops.into_iter().map(join).collect()
    })
}

/// A path in front of `port` and what follows it.
fn proxy(load: &Load, path: Conditions, port: u16) -> anyhow::Result<Proxy> {
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let entry = free_port(load.transport.ports())?;
    let route = |place| Route {
        listen: local(entry + place),
        to: local(port + place),
    };
    let routes: Vec<Route> = (0..load.transport.ports()).map(route).collect();
    Proxy::start(&routes, path, path, load.seed).context("cannot start the path emulator")
}

fn counters(proxy: &Proxy) -> [Counters; 2] {
    [Direction::There, Direction::Back].map(|direction| proxy.counters(direction))
}

fn traffic(before: [Counters; 2], after: [Counters; 2]) -> Traffic {
    let bytes = |way: usize| {
        let datagrams = after[way].datagrams - before[way].datagrams;
        after[way].bytes - before[way].bytes + HEADERS * datagrams
    };
    let sum = |count: fn(&Counters) -> u64| -> u64 {
        let ways = before.iter().zip(&after);
        ways.map(|(before, after)| count(after) - count(before))
            .sum()
    };
    Traffic {
        there: bytes(0),
        back: bytes(1),
        late: sum(|one| one.late) as f64 / sum(|one| one.delivered).max(1) as f64,
        overflowed: sum(|one| one.overflowed),
    }
}
