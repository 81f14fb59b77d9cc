//! What serving viewers costs the relay, beside gst-rtsp-server with nothing around it.

mod bare;
mod first;
mod slow;
mod throttle;
mod viewer;
mod viewers;

use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub(crate) use bare::{mount, serve_bare};
pub(crate) use throttle::{Throttle, Throttled};
pub(crate) use viewer::{Browser, Over, Watching};
pub(crate) use viewers::watch_one;

use crate::cli::ServeOptions;
use crate::many::{Cameras, Relay, Sample};
use crate::process::Process;
use crate::table::{Table, percent};
use crate::usage;

/// How long what was sent may take to arrive, and viewers to settle.
const QUIET: Duration = Duration::from_secs(2);

/// Who watches.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Viewers {
    /// How many cameras there are.
    pub(crate) cameras: usize,
    /// Viewers of each.
    pub(crate) each: usize,
    /// How pictures come.
    pub(crate) over: Over,
}

/// What the process of the viewers says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromViewers {
    /// All see pictures; how long each took from its connection to the first whole one.
    Watching { first: Vec<Duration> },
    /// Whole frames that came so far, of all viewers, and those that came torn.
    Counts { whole: u64, torn: u64 },
}

/// What the process of the bare server says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromBare {
    /// It listens there.
    Listening { port: u16 },
}

/// A server of either kind.
enum Server {
    Bare(Process, u16),
    Relay { relay: Relay, _cameras: Process },
}

impl Server {
    fn bare(cameras: &Cameras) -> anyhow::Result<Self> {
        let mut process = Process::start("bare", cameras, None)?;
        let FromBare::Listening { port } = process.read()?;
        Ok(Self::Bare(process, port))
    }

    fn relay(cameras: &Cameras, options: &ServeOptions) -> anyhow::Result<Self> {
        let relay = Relay::start(&options.launcher.path()?)?;
        let cameras = Process::start("cameras", cameras, Some(relay.cameras))?;
        Ok(Self::Relay {
            relay,
            _cameras: cameras,
        })
    }

    fn port(&self, over: Over) -> u16 {
        match (self, over) {
            (Self::Bare(_, port), _) => *port,
            (Self::Relay { relay, .. }, Over::Tcp | Over::Udp) => relay.viewers,
            (Self::Relay { relay, .. }, Over::Http) => relay.browsers,
        }
    }

    fn sample(&self) -> anyhow::Result<Sample> {
        match self {
            Self::Bare(process, _) => Sample::of(process.id()),
            Self::Relay { relay, .. } => relay.sample(),
        }
    }
}

/// Measures it.
pub(crate) fn run(options: &ServeOptions) -> anyhow::Result<()> {
    usage::raise_file_limit();
    println!("{}\n", usage::machine());
    if options.first {
        return first::run(&Relay::start(&options.launcher.path()?)?);
    }
    if options.slow {
        let relay = Relay::start(&options.launcher.path()?)?;
        return slow::run(&relay, Duration::from_secs(options.throttled.into()));
    }
    let cameras = Cameras {
        count: options.cameras,
        fps: options.fps,
        large: true,
    };
    println!(
        "{} cameras of 1280x720 JPEG, some 116 kB a frame, at {}/s; {} viewers of each in one \
         process for {} s. Processor time is the server's, user and kernel; the relay's has \
         taking frames in, too.\n",
        options.cameras, options.fps, options.viewers, options.seconds
    );
    let mut table = Table::new([
        "",
        "frames served",
        "of those sent",
        "torn",
        "CPU/frame",
        "CPU",
        "memory",
        "first picture",
        "slowest",
    ]);
    for over in &options.over {
        if *over != Over::Http {
            let server = Server::bare(&cameras)?;
            table.row(measure(&server, options, *over)?);
        }
        let server = Server::relay(&cameras, options)?;
        table.row(measure(&server, options, *over)?);
    }
    println!("{table}");
    Ok(())
}

fn measure(server: &Server, options: &ServeOptions, over: Over) -> anyhow::Result<[String; 9]> {
    let settings = Viewers {
        cameras: options.cameras,
        each: options.viewers,
        over,
    };
    let mut viewers = Process::start("watch", &settings, Some(server.port(over)))?;
    let FromViewers::Watching { mut first } = viewers.read()? else {
        bail!("the viewers skipped their beginning");
    };
    first.sort_unstable();
    std::thread::sleep(QUIET);
    let (before, (whole, torn)) = (server.sample()?, counts(&mut viewers)?);
    std::thread::sleep(Duration::from_secs(options.seconds.into()));
    let (after, (whole_after, torn_after)) = (server.sample()?, counts(&mut viewers)?);
    let time = (after.at - before.at).as_secs_f64();
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    let served = whole_after - whole;
    let sent = time * f64::from(options.fps) * (options.cameras * options.viewers) as f64;
    let ms = |time: Option<&Duration>| {
        time.map_or_else(
            || "-".into(),
            |time| format!("{:.0} ms", time.as_secs_f64() * 1e3),
        )
    };
    let server = match server {
        Server::Bare(..) => "gst-rtsp-server",
        Server::Relay { .. } => "relay",
    };
    Ok([
        match over {
            Over::Tcp => format!("{server}, RTSP/TCP"),
            Over::Udp => format!("{server}, RTSP/UDP"),
            Over::Http => format!("{server}, HTTP"),
        },
        served.to_string(),
        percent(served as f64 / sent, 1),
        (torn_after - torn).to_string(),
        format!("{:.1} us", cpu / served.max(1) as f64 * 1e6),
        percent(cpu / time, 0),
        format!("{:.1} MB", after.memory as f64 / 1e6),
        ms(first.get(first.len() / 2)),
        ms(first.last()),
    ])
}

fn counts(viewers: &mut Process) -> anyhow::Result<(u64, u64)> {
    viewers.tell(&())?;
    match viewers.read().context("the viewers do not answer")? {
        FromViewers::Counts { whole, torn } => Ok((whole, torn)),
        FromViewers::Watching { .. } => bail!("the viewers did not count"),
    }
}
