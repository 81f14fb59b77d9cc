//! The README's commands, run for real, in their order.
//!
//! Each line of its `sh` blocks runs in a shell of its own, as in a checkout. Only this
//! is replaced, so that no port, camera, screen or second machine is needed:
//!
//! * addresses by 127.0.0.1, ports by free ones,
//! * `v4l2src` by `videotestsrc is-live=true`, the same for a webcam's `source`,
//! * `autovideosink` by `fakesink`, `ffplay` by `ffmpeg` that takes 30 frames,
//! * the release build by the build that is tested.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use support::Launcher;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LAUNCHER: &str = env!("CARGO_BIN_EXE_launcher");
/// Frames after which a viewer has seen enough.
const FRAMES: u32 = 30;

#[test]
fn the_first_five_minutes() {
    let readme = Readme::read();
    let mut visit = Visit::start(&readme);
    for command in readme.blocks("```sh\n").flat_map(str::lines) {
        visit.follow(command);
    }
    visit.end();
}

#[test]
fn the_demo() {
    let mut demo = shell(Path::new("/"), "", &format!("{REPOSITORY}/scripts/demo"));
    let addresses = ["test1", "test2"].map(|name| {
        let line = demo.said(&format!("/{name}"));
        let address = line.split_whitespace().next().expect("an address");
        assert!(address.starts_with("rtsp://127.0.0.1:"), "{line}");
        address.to_owned()
    });
    for _ in &addresses {
        demo.said(": watch at ");
    }
    for address in addresses {
        let probe = "ffprobe -v error -show_entries stream=codec_name,width,height -of csv=p=0";
        shell(Path::new("/"), "", &format!("{probe} {address}")).said("mjpeg,1280,720");
    }
    demo.stop();
}

/// What the README says.
struct Readme(String);

impl Readme {
    fn read() -> Self {
        Self(fs::read_to_string(Path::new(REPOSITORY).join("README.md")).expect("a README"))
    }

    /// The code blocks that begin with `fence`.
    fn blocks(&self, fence: &'static str) -> impl Iterator<Item = &str> {
        self.0.split(fence).skip(1).map(|block| {
            let end = block.find("```").expect("an end of the block");
            &block[..end]
        })
    }

    /// The deployment that has `table`.
    fn deployment(&self, table: &str) -> &str {
        let mut blocks = self.blocks("```toml\n");
        let found = blocks.find(|block| block.contains(table));
        found.unwrap_or_else(|| panic!("the README has no deployment with {table}"))
    }
}

/// Somebody who follows the README, in a folder that looks like a checkout.
struct Visit<'a> {
    readme: &'a Readme,
    folder: tempfile::TempDir,
    exports: String,
    relay: Option<Relay>,
    direct_port: u16,
    /// Cameras, which stay until somebody stops them.
    cameras: Vec<Launcher>,
    /// Viewers, which have to end by themselves.
    viewers: Vec<Launcher>,
}

impl<'a> Visit<'a> {
    fn start(readme: &'a Readme) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("target")).unwrap();
        let built = Path::new(LAUNCHER).parent().expect("a folder");
        std::os::unix::fs::symlink(built, at("target/release")).unwrap();
        fs::create_dir(at("pipelines")).unwrap();
        for file in fs::read_dir(Path::new(REPOSITORY).join("pipelines")).expect("pipelines") {
            let file = file.unwrap();
            fs::copy(file.path(), at("pipelines").join(file.file_name())).unwrap();
        }
        edit(
            &at("pipelines/relay.toml"),
            &[
                ("0.0.0.0:8000", "127.0.0.1:0"),
                ("0.0.0.0:8554", "127.0.0.1:0"),
                ("0.0.0.0:8080", "127.0.0.1:0"),
            ],
        );
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        Self {
            readme,
            folder,
            exports: String::new(),
            relay: None,
            direct_port: free.expect("a port").port(),
            cameras: Vec::new(),
            viewers: Vec::new(),
        }
    }

    /// Does what the README says next.
    fn follow(&mut self, command: &str) {
        let (first, rest) = command.split_once(' ').unwrap_or((command, ""));
        match first {
            // It runs this very test.
            "./scripts/test" => assert!(Path::new(REPOSITORY).join(command).exists()),
            // See `the_demo`.
            "./scripts/demo" => {}
            "./scripts/setup" => self.run(&command.replace('.', REPOSITORY)),
            "cargo" if rest == "build --release" => self.run(&format!(
                "cargo build --locked --manifest-path {REPOSITORY}/Cargo.toml"
            )),
            "export" => self.exports += &format!("{command}; "),
            "cp" if rest.ends_with(" door.toml") => {
                self.run(command);
                let camera = self.on_loopback(self.readme.deployment("[[camera]]"));
                fs::write(self.folder.path().join("door.toml"), camera).unwrap();
            }
            "ffplay" => {
                let address = self.on_loopback(rest);
                self.run(&format!(
                    "ffmpeg -nostdin -v error -i {address} -frames:v {FRAMES} -f null -"
                ));
            }
            "gst-launch-1.0" if rest.contains("camrelaysink") => {
                let (_, name) = rest.split_once("camera=").expect("a name");
                self.camera(command, name.trim());
            }
            "gst-launch-1.0" if rest.starts_with("camrelaysrc") => {
                let command = self.on_loopback(command);
                self.viewers.push(self.shell(&command));
            }
            "target/release/launcher" => match rest.split_whitespace().next() {
                Some("relay") => {
                    let mut running = self.shell(command);
                    self.relay = Some(Relay {
                        camera_port: port(&running.said("listening for cameras on")),
                        rtsp_port: port(&running.said("listening for viewers on")),
                        running,
                    });
                }
                Some("camera") => self.camera(command, "door"),
                Some("check" | "keys") => self.run(command),
                _ => panic!("README.md has a launcher command unknown to this test: {command}"),
            },
            _ => panic!("README.md has a command unknown to this test: {command}"),
        }
    }

    /// Runs a command that ends by itself.
    fn run(&self, command: &str) {
        let said = self.shell(command).ends();
        // Other tests run the launcher at this very moment.
        assert!(
            !said.contains("Compiling launcher "),
            "this builds another launcher than the tests have: {command}; \
             do dev-dependencies turn on features of its dependencies?"
        );
    }

    /// Starts a camera, and waits until the relay has it where it goes to the relay.
    fn camera(&mut self, command: &str, name: &str) {
        let command = self.on_loopback(command);
        self.cameras.push(self.shell(&command));
        if !command.contains(&format!("port={}", self.direct_port)) {
            let relay = self.relay.as_mut().expect("the README starts a relay");
            relay.running.said(&format!("camera {name}: watch at "));
        }
    }

    /// A text of the README for this machine.
    fn on_loopback(&self, text: &str) -> String {
        let mut text = text
            .replace("v4l2src", "videotestsrc is-live=true")
            .replace("/dev/video0", "videotestsrc is-live=true")
            .replace("autovideosink", "fakesink")
            .replace("192.168.1.10", "127.0.0.1")
            .replace("camrelaysrc", &format!("camrelaysrc num-buffers={FRAMES}"))
            .replace("port=8001", &format!("port={}", self.direct_port));
        if let Some(relay) = &self.relay {
            text = text
                .replace(
                    "host=127.0.0.1",
                    &format!("host=127.0.0.1 port={}", relay.camera_port),
                )
                .replace(":8000", &format!(":{}", relay.camera_port))
                .replace(":8554", &format!(":{}", relay.rtsp_port));
        }
        text
    }

    fn shell(&self, command: &str) -> Launcher {
        shell(self.folder.path(), &self.exports, command)
    }

    /// Every viewer has seen enough; everything else is stopped, and ends well.
    fn end(self) {
        for viewer in self.viewers {
            viewer.ends();
        }
        self.cameras.into_iter().for_each(Launcher::stop);
        self.relay
            .expect("the README starts a relay")
            .running
            .stop();

        let listen = "listen = \"127.0.0.1:0\"";
        let known = self
            .readme
            .deployment("[relay]")
            .replace("[relay]\n", &format!("[relay]\n{listen}\n"));
        fs::write(self.folder.path().join("known.toml"), known).unwrap();
        let check = "target/release/launcher check --config known.toml";
        shell(self.folder.path(), "", check).ends();
    }
}

/// The port of the address in a line, `…:8554` or `…:8554/NAME`.
fn port(line: &str) -> u16 {
    let (_, port) = line.rsplit_once(':').expect("an address");
    let digits = port.split('/').next().expect("a port");
    digits.parse().expect("a port")
}

fn edit(file: &Path, replacements: &[(&str, &str)]) {
    let mut text = fs::read_to_string(file).expect("a file");
    for (old, new) in replacements {
        assert!(text.contains(old), "{} has no {old}", file.display());
        text = text.replace(old, new);
    }
    fs::write(file, text).unwrap();
}

/// Runs one command after `exports`; what it says goes to its log.
fn shell(folder: &Path, exports: &str, command: &str) -> Launcher {
    println!("$ {command}");
    let mut shell = Command::new("bash");
    shell
        .arg("-ec")
        .arg(format!("exec 1>&2; {exports}exec {command}"))
        .current_dir(folder);
    // What cargo told this test is not for the cargo that it runs, which would build anew.
    shell.env_remove("OUT_DIR");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" && name != "CARGO_TARGET_DIR" {
            shell.env_remove(&*name);
        }
    }
    Launcher::run(&mut shell)
}

/// The relay, with the ports that it has here.
struct Relay {
    running: Launcher,
    camera_port: u16,
    rtsp_port: u16,
}
