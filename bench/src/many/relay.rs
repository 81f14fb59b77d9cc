//! The relay: the launcher in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::NamedTempFile;

/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

const DEPLOYMENT: &str = "\
[relay]
listen = \"127.0.0.1:0\"
[rtsp]
listen = \"127.0.0.1:0\"
[http]
listen = \"127.0.0.1:0\"
";

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    /// Port for cameras, UDP.
    pub(crate) cameras: u16,
    /// Port for viewers, TCP.
    pub(crate) viewers: u16,
    /// Port for browsers, TCP.
    pub(crate) browsers: u16,
    _deployment: NamedTempFile,
}

/// What the relay uses at a moment.
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Resident bytes.
    pub(crate) memory: u64,
    pub(crate) threads: u64,
    /// Processor time so far.
    pub(crate) cpu: Duration,
}

impl Relay {
    /// Starts `launcher relay`, and waits until it listens.
    pub(crate) fn start(launcher: &Path) -> anyhow::Result<Self> {
        Self::start_with(launcher, "")
    }

    /// The same, with more at the end of its deployment.
    pub(crate) fn start_with(launcher: &Path, more: &str) -> anyhow::Result<Self> {
        let mut deployment = NamedTempFile::with_suffix(".toml")?;
        deployment.write_all(DEPLOYMENT.as_bytes())?;
        deployment.write_all(more.as_bytes())?;
        let mut child = Command::new(launcher)
            .args(["relay", "--config"])
            .arg(deployment.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}; build it with: cargo build --release -p launcher",
                    launcher.display()
                )
            })?;
        let log = child.stderr.take().context("the relay has no log")?;
        let mut log = BufReader::new(log);
        let cameras = listening(&mut log, "listening for cameras on ");
        let viewers = listening(&mut log, "listening for viewers on rtsp://");
        let browsers = listening(&mut log, "listening for browsers on http://");
        let relay = Self {
            child,
            cameras: cameras?,
            viewers: viewers?,
            browsers: browsers?,
            _deployment: deployment,
        };
        std::thread::spawn(move || pass_on(log));
        Ok(relay)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it says of a camera.
    pub(crate) fn camera(&self, name: &str) -> anyhow::Result<Value> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.browsers))?;
        connection.set_read_timeout(Some(ANSWER))?;
        write!(
            connection,
            "GET /api/v1/cameras/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        let body = body.with_context(|| format!("the relay answers '{answer}'"))?;
        serde_json::from_str(body).with_context(|| format!("the relay says '{body}' of {name}"))
    }

    /// What it uses now.
    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        Sample::of(self.child.id())
    }
}

impl Sample {
    /// What that process uses now.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(path).context("the server has ended")
        };
        let status = read("status")?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let first = line.and_then(|rest| rest.split_whitespace().next());
            first.and_then(|number| number.parse::<u64>().ok())
        };
        let stat = read("stat")?;
        // The name of the program, in parentheses, may hold spaces.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum();
        // SAFETY: it reads a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
        Ok(Self {
            at: Instant::now(),
            memory: number("VmRSS:").context("the server has ended")? * 1024,
            threads: number("Threads:").unwrap_or(0),
            cpu: Duration::from_secs_f64(ticks as f64 / per_second),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in the line of the log that follows `words`.
fn listening(log: &mut BufReader<ChildStderr>, words: &str) -> anyhow::Result<u16> {
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        if let Some((_, address)) = line.split_once(words) {
            let address = address.trim_end().split('/').next().unwrap_or_default();
            let address: SocketAddr = address.parse()?;
            return Ok(address.port());
        }
        eprint!("{line}");
        line.clear();
    }
    bail!("the relay ended early; see above")
}

/// Shows what the relay warns of.
fn pass_on(log: BufReader<ChildStderr>) {
    for line in log.lines().map_while(Result::ok) {
        if line.contains(" WARN ") || line.contains(" ERROR ") {
            eprintln!("{line}");
        }
    }
}
