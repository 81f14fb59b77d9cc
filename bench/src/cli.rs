//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use path_emulator::Conditions;
use serde::de::DeserializeOwned;

use crate::abuse::Abused;
use crate::cases::Case;
use crate::child::Load;
use crate::frame::MIN_FRAME;
use crate::many::Cameras;
use crate::serve::{Over, Viewers};
use crate::transport::Transport;

/// Measure camrelay beside SRT, RIST and bare UDP, as GStreamer elements on this machine.
///
/// Every sender and every receiver is a process of its own, so that what each costs is known.
/// Frames have contents drawn from a seed and carry the time at which they were sent.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Measure {
    /// Hops over lossy, long or narrow paths: frames on time, delay, extra bytes, CPU.
    Hop(HopOptions),
    /// Delay from sink to source on loopback, camrelay's beside bare UDP's.
    Delay(DelayOptions),
    /// Processor time of a frame on loopback, camrelay's beside the others', and what of it
    /// encryption is.
    Cpu(CpuOptions),
    /// A relay with many cameras, each watched once over RTSP: frames that came, memory, CPU.
    Many(ManyOptions),
    /// Cameras with a JPEG encoder behind a bottleneck that narrows and widens, or that they share:
    /// quality, freezes, frames lost.
    Rate(RateOptions),
    /// Outages and a camera whose address changes: how soon there are pictures again.
    Outage(OutageOptions),
    /// A relay with many viewers over RTSP and HTTP, beside gst-rtsp-server with nothing around it:
    /// CPU of a served frame, frames lost, first picture. Or with viewers that do not keep up.
    Serve(ServeOptions),
    /// A relay under a flood of handshakes from many addresses, beside a running camera: frames,
    /// answers, memory.
    Flood(FloodOptions),
    /// A relay with cameras that send damaged pictures, and a good one beside them.
    Mutate(MutateOptions),
    /// A camera that is killed and comes back: how soon each way out of the relay says so.
    Stale(StaleOptions),
    /// What clients may do to an RTSP server: to the relay, and to gst-rtsp-server with nothing
    /// around it. Fails where one of them does not do as expected.
    Abuse(AbuseOptions),
    /// The process of the latter.
    #[command(hide = true)]
    Abused {
        #[arg(value_parser = json::<Abused>)]
        settings: Abused,
    },
    /// The process of a camera that can be killed.
    #[command(hide = true)]
    Launch { text: String },
    /// The sending process of a hop.
    #[command(hide = true)]
    Send {
        #[arg(value_parser = json::<Load>)]
        load: Load,
        port: u16,
    },
    /// The receiving process of a hop.
    #[command(hide = true)]
    Receive {
        #[arg(value_parser = json::<Load>)]
        load: Load,
    },
    /// The process that is many cameras.
    #[command(hide = true)]
    Cameras {
        #[arg(value_parser = json::<Cameras>)]
        cameras: Cameras,
        port: u16,
    },
    /// The process that is a bare RTSP server.
    #[command(hide = true)]
    Bare {
        #[arg(value_parser = json::<Cameras>)]
        cameras: Cameras,
    },
    /// The process that is all viewers of a few cameras.
    #[command(hide = true)]
    Watch {
        #[arg(value_parser = json::<Viewers>)]
        viewers: Viewers,
        port: u16,
    },
    /// The process that is many viewers.
    #[command(hide = true)]
    Viewers {
        #[arg(value_parser = json::<Cameras>)]
        cameras: Cameras,
        port: u16,
    },
}

/// What a hop carries.
#[derive(Args, Clone)]
pub(crate) struct LoadOptions {
    /// Bytes of a frame, several apart by commas; k is a thousand.
    #[arg(long, value_name = "BYTES", default_value = "50k", value_parser = size,
          value_delimiter = ',')]
    pub(crate) size: Vec<usize>,

    /// Frames a second, several apart by commas.
    #[arg(long, value_name = "RATE", default_value = "30", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) fps: Vec<u32>,

    /// Seed of the frames and of the path's chances.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Seconds of frames that are not measured, at the start.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub(crate) warm_up: u32,
}

impl LoadOptions {
    /// Every combination of size and rate, for `seconds` each; as the first transport's.
    pub(crate) fn loads(&self, seconds: u32, budget: Duration) -> Vec<Load> {
        let load = |size: usize, fps: u32| Load {
            transport: Transport::Camrelay,
            seed: self.seed,
            size,
            fps,
            warm_up: self.warm_up * fps,
            frames: seconds * fps,
            tail: fps,
            budget,
            phase: 0,
        };
        let sizes = self.size.iter();
        sizes
            .flat_map(|size| self.fps.iter().map(|fps| load(*size, *fps)))
            .collect()
    }
}

/// How to compare hops over a path.
#[derive(Args)]
pub(crate) struct HopOptions {
    /// Cases of the table, A to K, several apart by commas [default: all].
    #[arg(long = "case", value_name = "LETTERS", value_delimiter = ',', value_parser = case,
          conflicts_with_all = ["path", "budget"])]
    pub(crate) cases: Vec<Case>,

    /// Another path, the same in both directions: any of delay=10ms jitter=15ms loss=5% burst=5
    /// duplicates=1% rate=16M queue=60ms.
    #[arg(long, value_name = "CONDITIONS", requires = "budget")]
    pub(crate) path: Option<Conditions>,

    /// The latency given to the elements on that path.
    #[arg(long, value_name = "TIME", requires = "path", value_parser = humantime::parse_duration)]
    pub(crate) budget: Option<Duration>,

    /// Which pairs of elements.
    #[arg(long, value_delimiter = ',', default_value = "camrelay,srt,rist,udp")]
    pub(crate) transport: Vec<Transport>,

    /// Seconds to measure each.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    /// One pair after the other, instead of side by side with their frames sent in turn.
    #[arg(long)]
    pub(crate) in_turn: bool,

    #[command(flatten)]
    pub(crate) load: LoadOptions,
}

/// How to compare delays.
#[derive(Args)]
pub(crate) struct DelayOptions {
    /// Seconds to measure, side by side with frames sent in turn.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    #[command(flatten)]
    pub(crate) load: LoadOptions,
}

/// How to compare costs.
#[derive(Args)]
pub(crate) struct CpuOptions {
    /// Which pairs of elements.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "camrelay,srt,srt-aes,rist,udp"
    )]
    pub(crate) transport: Vec<Transport>,

    /// Rounds, in each of which every pair has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Seconds to measure in each turn.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    #[command(flatten)]
    pub(crate) load: LoadOptions,
}

/// How to load a relay.
#[derive(Args)]
pub(crate) struct ManyOptions {
    /// Cameras.
    #[arg(long, default_value_t = 200, value_parser = at_least_one)]
    pub(crate) cameras: usize,

    /// Frames a second of each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) fps: u32,

    /// Seconds to measure.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    #[command(flatten)]
    pub(crate) launcher: LauncherOption,
}

/// How to load a relay with viewers.
#[derive(Args)]
pub(crate) struct ServeOptions {
    /// Cameras, of 1280x720.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) cameras: usize,

    /// Viewers of each.
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub(crate) viewers: usize,

    /// How, several apart by commas: RTSP over TCP or UDP, HTTP (the relay alone).
    #[arg(long, value_delimiter = ',', default_value = "tcp,udp,http")]
    pub(crate) over: Vec<Over>,

    /// Frames a second of each camera.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) fps: u32,

    /// Seconds to measure each server.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    /// Instead, of the relay: how long viewers of each output wait for their first picture, also
    /// where the camera has to be encoded for them first.
    #[arg(long, conflicts_with = "slow")]
    pub(crate) first: bool,

    /// Instead, of the relay: on each output one viewer that is throttled, then 500 that take
    /// nothing (over WebRTC 63, all that it lets watch beside another one).
    #[arg(long)]
    pub(crate) slow: bool,

    /// Seconds for which it is throttled.
    #[arg(long, default_value_t = 60, requires = "slow",
          value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) throttled: u32,

    #[command(flatten)]
    pub(crate) launcher: LauncherOption,
}

/// How much to damage.
#[derive(Args)]
pub(crate) struct MutateOptions {
    /// JPEGs.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) jpegs: u64,

    /// Access units of H.264.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) units: u64,

    /// Frames a second of each of the two cameras that send them, at most.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) fps: u32,

    #[command(flatten)]
    pub(crate) launcher: LauncherOption,
}

/// What to kill.
#[derive(Args)]
pub(crate) struct StaleOptions {
    /// Frames a second.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=60))]
    pub(crate) fps: u32,

    /// How often, for each codec.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) turns: u32,

    #[command(flatten)]
    pub(crate) launcher: LauncherOption,
}

/// Whom to harm.
#[derive(Args)]
pub(crate) struct AbuseOptions {
    #[command(flatten)]
    pub(crate) launcher: LauncherOption,
}

/// Which relay to measure.
#[derive(Args)]
pub(crate) struct LauncherOption {
    /// The launcher [default: the one beside this program].
    #[arg(long = "launcher", value_name = "PROGRAM")]
    program: Option<PathBuf>,
}

impl LauncherOption {
    /// The launcher to run.
    pub(crate) fn path(&self) -> std::io::Result<PathBuf> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("launcher")),
        }
    }
}

/// How to narrow a path.
#[derive(Args)]
pub(crate) struct RateOptions {
    /// Cameras. One is led through wide, narrow, wide; several share so many times the narrow rate.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) cameras: usize,

    /// Bits per second of the path while it is wide.
    #[arg(long, value_name = "RATE", default_value_t = 20_000_000)]
    pub(crate) wide: u64,

    /// Bits per second while it is narrow.
    #[arg(long, value_name = "RATE", default_value_t = 4_000_000)]
    pub(crate) narrow: u64,

    /// Longest queue before the bottleneck.
    #[arg(long, value_name = "TIME", default_value = "60ms", value_parser = humantime::parse_duration)]
    pub(crate) queue: Duration,

    /// Delay each way.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = humantime::parse_duration)]
    pub(crate) delay: Duration,
}

/// How to flood a relay.
#[derive(Args)]
pub(crate) struct FloodOptions {
    /// First messages of handshakes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) handshakes: u64,

    /// Seconds to send them in.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    pub(crate) seconds: u32,

    /// Addresses, of 127.0.0.0/8, to send them from.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) addresses: u32,
}

/// How to interrupt a path.
#[derive(Args)]
pub(crate) struct OutageOptions {
    /// Seconds that the outages last, one after the other.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5,60",
        value_delimiter = ','
    )]
    pub(crate) seconds: Vec<u64>,

    /// Delay each way.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = humantime::parse_duration)]
    pub(crate) delay: Duration,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=10_000).contains(count));
    count.ok_or_else(|| "a number from 1 to 10000 is needed".into())
}

fn case(text: &str) -> Result<Case, String> {
    Case::named(text).ok_or_else(|| format!("there is no case '{text}', only A to K"))
}

fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1000),
        None => (text, 1),
    };
    let size = digits.parse().ok().and_then(|n: usize| n.checked_mul(unit));
    size.filter(|size| (MIN_FRAME..=4_000_000).contains(size))
        .ok_or_else(|| format!("a frame has {MIN_FRAME} to 4000k bytes"))
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("50k"), Ok(50_000));
        assert_eq!(size("32"), Ok(32));
        assert!(size("31").is_err());
        assert!(size("4001k").is_err());
        assert!(size("k").is_err());
    }
}
