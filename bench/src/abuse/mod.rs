//! What clients may do to an RTSP server: the same to gst-rtsp-server with nothing around it and
//! to the relay.

mod bare;
mod crowd;
mod foretold;
mod media;
mod picture;
mod requests;
mod scenarios;
mod sessions;
mod waiting;

use std::panic;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub(crate) use bare::serve;

use self::picture::{CAMERA, FILM, Feed, Pictures};
use crate::cli::AbuseOptions;
use crate::many::Relay;
use crate::process::Process;
use crate::table::Table;
use crate::usage;

/// How long a process may take to be gone, and how often it is looked.
const GONE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// The user of whom both servers know, and with which password.
const USER: (&str, &str) = ("ann", "secret");
/// How she logs in (RFC 7617).
const LOGIN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
/// The same user in the relay's deployment; `launcher keys password` made the hash.
const USERS: &str = "
[[user]]
name = \"ann\"
password = \"$argon2id$v=19$m=19456,t=2,p=1$jMoYHqkb6FpEmLuQNxtl5g$dy7LK9SEo3sETgL8PisGIB2kM/JzjATnL1PiOYqyJoE\"
rights = [\"view\"]
";

/// What the process of the bare server is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Abused {
    /// A folder with what [`Pictures::write`] writes.
    pictures: PathBuf,
    /// Whether there are users.
    users: bool,
    /// Connections that may wait to be accepted, if not as many as it has by itself.
    backlog: Option<i32>,
}

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
    /// How a viewer says who it is, as a line; empty where there are no users.
    login: &'static str,
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
    /// Whether there are users.
    users: bool,
    /// Connections that may wait to be accepted by the bare server, if not its own few.
    backlog: Option<i32>,
    /// Whether gst-rtsp-server must be seen not to stand it.
    bare_falls: bool,
    run: fn(&Server) -> anyhow::Result<Seen>,
}

impl Scenario {
    const fn new(what: &'static str, run: fn(&Server) -> anyhow::Result<Seen>) -> Self {
        Self {
            what,
            cameras: &[CAMERA],
            users: false,
            backlog: None,
            bare_falls: true,
            run,
        }
    }

    fn login(&self) -> &'static str {
        if self.users { LOGIN } else { "" }
    }
}

impl Server {
    fn bare(scenario: &Scenario, pictures: &Path) -> anyhow::Result<Self> {
        let settings = Abused {
            pictures: pictures.to_owned(),
            users: scenario.users,
            backlog: scenario.backlog,
        };
        let mut process = Process::start("abused", &settings, None)?;
        let FromBare::Listening { port } = process.read()?;
        Ok(Self {
            port,
            login: scenario.login(),
            running: Running::Bare(process),
        })
    }

    fn relay(
        scenario: &Scenario,
        launcher: &Path,
        pictures: &Pictures,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut more = String::new();
        if scenario.users {
            more += USERS;
        }
        if scenario.cameras.contains(&FILM) {
            more += &picture::film_camera(folder)?;
        }
        let relay = Relay::start_with(launcher, &more)?;
        let feed = Feed::to_relay(scenario.cameras, pictures, relay.cameras)?;
        Ok(Self {
            port: relay.viewers,
            login: scenario.login(),
            running: Running::Relay(relay, feed),
        })
    }

    /// Has the system send that signal to its process.
    fn signal(&self, signal: libc::c_int) -> anyhow::Result<()> {
        let process = match &self.running {
            Running::Bare(process) => process.id(),
            Running::Relay(relay, _) => relay.id(),
        };
        // SAFETY: it has no memory to do with. The process is a child that was not waited for.
        let done = unsafe { libc::kill(process.try_into()?, signal) };
        anyhow::ensure!(done == 0, "{}", std::io::Error::last_os_error());
        Ok(())
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
         each a process of its own, with 1280x720 JPEG at 30/s:\n",
        usage::machine()
    );
    let (launcher, pictures, folder) = (&launcher, &pictures, folder.path());
    let seen: Vec<_> = thread::scope(|scope| {
        // Most of them wait most of the time.
        let running: Vec<_> = scenarios::ALL
            .iter()
            .map(|scenario| {
                let bare = scope.spawn(|| meet(scenario, Server::bare(scenario, folder)));
                let relay = move || Server::relay(scenario, launcher, pictures, folder);
                let relay = scope.spawn(move || meet(scenario, relay()));
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
    // One that was aborted closes its connections a little before it is gone.
    let deadline = Instant::now() + if seen.is_err() { GONE } else { Duration::ZERO };
    while server.runs() && Instant::now() < deadline {
        thread::sleep(LOOK);
    }
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
