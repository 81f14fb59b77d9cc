//! What clients may do to an RTSP server: the same to gst-rtsp-server with nothing around it and
//! to the relay.

mod bare;
mod picture;
mod scenarios;
mod waiting;

use std::panic;
use std::path::Path;
use std::thread;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub(crate) use bare::serve;

use self::picture::{CAMERA, Feed, Pictures};
use crate::cli::AbuseOptions;
use crate::many::Relay;
use crate::process::Process;
use crate::table::Table;
use crate::usage;

/// What the process of the bare server says.
#[derive(Debug, Serialize, Deserialize)]
enum FromBare {
    /// It listens there.
    Listening { port: u16 },
}

/// A server that a scenario has for itself.
struct Server {
    /// Where it listens for viewers, on 127.0.0.1.
    port: u16,
    running: Running,
}

enum Running {
    Bare(Process),
    /// The relay, and what sends to it.
    Relay(
        Relay,
        #[expect(dead_code, reason = "sends until it is dropped")] Feed,
    ),
}

/// What was seen of one server.
struct Seen {
    /// Whether the server stood it.
    held: bool,
    /// In words.
    said: String,
}

/// Something that a client does.
struct Scenario {
    /// In words.
    what: &'static str,
    /// The cameras that the relay gets.
    cameras: &'static [&'static str],
    /// Whether gst-rtsp-server must be seen not to stand it.
    bare_falls: bool,
    run: fn(&Server) -> anyhow::Result<Seen>,
}

impl Scenario {
    const fn new(what: &'static str, run: fn(&Server) -> anyhow::Result<Seen>) -> Self {
        Self {
            what,
            cameras: &[CAMERA],
            bare_falls: true,
            run,
        }
    }
}

impl Server {
    fn bare(pictures: &Path) -> anyhow::Result<Self> {
        let mut process = Process::start("abused", &pictures, None)?;
        let FromBare::Listening { port } = process.read()?;
        Ok(Self {
            port,
            running: Running::Bare(process),
        })
    }

    fn relay(
        launcher: &Path,
        cameras: &'static [&'static str],
        pictures: &Pictures,
    ) -> anyhow::Result<Self> {
        let relay = Relay::start(launcher)?;
        let feed = Feed::to_relay(cameras, pictures, relay.cameras)?;
        Ok(Self {
            port: relay.viewers,
            running: Running::Relay(relay, feed),
        })
    }

    /// Whether its process runs.
    fn runs(&mut self) -> bool {
        match &mut self.running {
            Running::Bare(process) => process.runs(),
            Running::Relay(relay, _) => relay.runs(),
        }
    }
}

/// Shows what each server does; fails where the relay does not stand something, or where the bare
/// server does that should not: then the scenario shows nothing.
pub(crate) fn run(options: &AbuseOptions) -> anyhow::Result<()> {
    usage::raise_file_limit();
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let launcher = options.launcher.path()?;
    let pictures = Pictures::new()?;
    let folder = tempfile::tempdir()?;
    pictures.write(folder.path())?;
    println!(
        "{}\n\nThe same requests to a gst-rtsp-server with nothing around it and to the relay, \
         each a process of its own, without users, with 1280x720 JPEG at 30/s:\n",
        usage::machine()
    );
    let (launcher, pictures, folder) = (&launcher, &pictures, folder.path());
    let seen: Vec<_> = thread::scope(|scope| {
        // Most of them wait most of the time.
        let running: Vec<_> = scenarios::ALL
            .iter()
            .map(|scenario| {
                let cameras = scenario.cameras;
                let bare = scope.spawn(|| meet(scenario, Server::bare(folder)));
                let relay =
                    scope.spawn(|| meet(scenario, Server::relay(launcher, cameras, pictures)));
                (scenario, bare, relay)
            })
            .collect();
        running
            .into_iter()
            .map(|(scenario, bare, relay)| (scenario, join(bare), join(relay)))
            .collect()
    });
    let mut table = Table::new(["what", "gst-rtsp-server, bare", "relay"]);
    let mut wrong = Vec::new();
    for (scenario, bare, relay) in seen {
        let (bare, relay) = (bare?, relay?);
        if !relay.held {
            wrong.push(format!("{}: the relay does not stand it", scenario.what));
        }
        if bare.held && scenario.bare_falls {
            wrong.push(format!("{}: gst-rtsp-server stands it", scenario.what));
        }
        table.row([scenario.what.to_owned(), bare.said, relay.said]);
    }
    println!("{table}");
    if !wrong.is_empty() {
        bail!("not as expected:\n{}", wrong.join("\n"));
    }
    Ok(())
}

/// What a server does about it.
fn meet(scenario: &Scenario, server: anyhow::Result<Server>) -> anyhow::Result<Seen> {
    let mut server = server?;
    let seen = (scenario.run)(&server);
    if !server.runs() {
        return Ok(Seen {
            held: false,
            said: "its process ends".into(),
        });
    }
    // Whoever should see pictures and sees none is harmed, too: now and then gst-rtsp-server
    // shows none to somebody who comes as the last viewer leaves.
    Ok(seen.unwrap_or_else(|error| Seen {
        held: false,
        said: format!("{error:#}"),
    }))
}

fn join(thread: thread::ScopedJoinHandle<'_, anyhow::Result<Seen>>) -> anyhow::Result<Seen> {
    thread
        .join()
        .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}
