//! The page in Chromium: what it shows, how it is used, and what other sites' pages
//! can do about it, which is nothing.

#[path = "support/browser.rs"]
mod browser;
#[path = "page/hostile.rs"]
mod hostile;
#[path = "page/large.rs"]
mod large;
#[path = "page/login.rs"]
mod login;
#[path = "page/look.rs"]
mod look;
mod support;
#[path = "page/wall.rs"]
mod wall;
#[path = "page/webrtc.rs"]
mod webrtc;
#[path = "page/words.rs"]
mod words;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use browser::Browser;
use path_emulator::{Conditions, Proxy, Route};
use support::Launcher;

/// WebDriver's names of keys.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";
const LEFT: &str = "\u{e012}";
const RIGHT: &str = "\u{e014}";

const JPEG: &str = "jpegenc";
const H264: &str = "openh264enc bitrate=1000000 gop-size=30";

/// A running relay and a place for the deployments of its cameras.
struct Relay {
    launcher: Launcher,
    cameras: String,
    /// `http://127.0.0.1:PORT`, or `https://`.
    page: String,
    folder: tempfile::TempDir,
}

impl Relay {
    fn start() -> Self {
        Self::with(tempfile::tempdir().expect("a folder"), "")
    }

    /// With a certificate that signed itself.
    fn secure() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new(env!("CARGO_BIN_EXE_launcher"))
            .args(["keys", "certificate", "relay.crt", "relay.key"])
            .current_dir(folder.path())
            .output();
        assert!(made.expect("it runs").status.success());
        let tls = "certificate = \"relay.crt\"\nprivate-key = \"relay.key\"\n";
        Self::with(folder, tls)
    }

    /// With these lines more in `[http]`.
    fn with(folder: tempfile::TempDir, lines: &str) -> Self {
        let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
        Self::of(folder, &format!("{text}{lines}"))
    }

    /// Of that deployment.
    fn of(folder: tempfile::TempDir, text: &str) -> Self {
        let file = folder.path().join("relay.toml");
        fs::write(&file, text).expect("a file");
        let mut launcher = Launcher::start("relay", &file);
        let line = launcher.said("listening for cameras on ");
        let cameras = line.rsplit(' ').next().expect("an address").to_owned();
        let line = launcher.said("listening for browsers on ");
        let page = line.rsplit(' ').next().expect("an address");
        let page = page.trim_end_matches('/').to_owned();
        Self {
            launcher,
            cameras,
            page,
            folder,
        }
    }

    /// A process with these cameras.
    fn cameras(&self, names: &[&str], encode: &str) -> Launcher {
        self.cameras_of(names, encode, (320, 240))
    }

    /// The same, with pictures of that size.
    fn cameras_of(&self, names: &[&str], encode: &str, size: (u32, u32)) -> Launcher {
        Launcher::start("camera", &self.deployment(names, encode, size))
    }

    fn deployment(&self, names: &[&str], encode: &str, (width, height): (u32, u32)) -> PathBuf {
        let camera = |name: &&str| {
            format!(
                "[[camera]]\nname = \"{name}\"\nencode = \"{encode}\"\nrelay = \"{}\"\n\
                 source = \"videotestsrc is-live=true pattern=ball \
                 ! video/x-raw,format=I420,width={width},height={height},framerate=15/1\"\n",
                self.cameras
            )
        };
        let file = self.folder.path().join(format!("{}.toml", names.len()));
        let text: String = names.iter().map(camera).collect();
        fs::write(&file, text).expect("a file");
        file
    }

    /// A path to its WebRTC, for [`Self::through`].
    fn path(&self, conditions: Conditions) -> Proxy {
        // That is at the UDP port of the number that the page is at.
        let port = self.port();
        let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let route = Route {
            listen: local(0),
            to: local(port),
        };
        Proxy::start(&[route], conditions, conditions, 1).expect("a path")
    }

    /// Where the page is.
    fn port(&self) -> u16 {
        let port = self.page.rsplit(':').next().expect("a port");
        port.parse().expect("a number")
    }

    /// Has what the page plays from now on come over that path.
    fn through(&self, browser: &Browser, path: &Proxy) {
        let (port, entry) = (self.port(), path.addresses()[0].port());
        browser.run(&format!(
            "window.real = fetch;
             window.fetch = async (...of) => {{
                 const answer = await real(...of);
                 if (!String(of[0]).endsWith('/whep')) return answer;
                 const text = (await answer.text()).replaceAll(' {port} typ host', ' {entry} typ host');
                 const {{ status, headers }} = answer;
                 return new Response(text, {{ status, headers }});
             }};"
        ));
    }

    /// The page, in a browser.
    fn page(&self) -> Browser {
        let browser = Browser::start("MAP evil.test 127.0.0.1");
        browser.open(&self.page);
        // What a picture looks like, and the tile of a camera.
        browser.run(
            "window.look = canvas => {
                 const small = new OffscreenCanvas(16, 12).getContext('2d');
                 small.drawImage(canvas, 0, 0, 16, 12);
                 return small.getImageData(0, 0, 16, 12).data.join();
             };
             window.tile = name => [...document.querySelectorAll('.tile')]
                 .find(tile => tile.querySelector('.name').textContent === name);
             window.seen = new Map();
             window.moves = name => {
                 const seen = window.seen.get(name) ?? new Set();
                 window.seen.set(name, seen);
                 seen.add(look(tile(name).querySelector('canvas')));
                 return seen.size > 3 && tile(name).dataset.state === 'live';
             };",
        );
        browser
    }
}
