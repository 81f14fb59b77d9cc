//! Runs the launcher and reads what it says, line by line.
#![allow(dead_code, reason = "no test uses all of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a line may take to come; only ever reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// The line of a `[[user]]` with a password.
pub fn password_line(password: &str) -> String {
    let mut hash = Command::new(env!("CARGO_BIN_EXE_launcher"))
        .args(["keys", "password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut asked = hash.stdin.take().expect("piped");
    writeln!(asked, "{password}").expect("it reads");
    drop(asked);
    let hash = hash.wait_with_output().expect("it ends").stdout;
    String::from_utf8(hash).expect("text").trim().to_owned()
}

/// A running launcher, or another program; killed when it is dropped.
pub struct Launcher {
    child: Child,
    log: Lines,
}

/// Lines of a pipe, as they come.
pub struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Launcher {
    /// `launcher COMMAND --config CONFIG`.
    pub fn start(command: &str, config: &Path) -> Self {
        Self::with(command, config, |_| {})
    }

    /// The same, with what `prepare` does to the command.
    pub fn with(command: &str, config: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_launcher"));
        launcher.args([command, "--config"]).arg(config);
        prepare(&mut launcher);
        Self::run(&mut launcher)
    }

    /// Any command; its standard error is its log.
    pub fn run(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Self {
            log: lines(child.stderr.take().expect("piped")),
            child,
        }
    }

    /// The next line of its log with `text` in it.
    #[track_caller]
    pub fn said(&mut self, text: &str) -> String {
        self.log.contains(text)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its workers, by process.
    pub fn workers(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("it runs");
        let children: Vec<_> = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
            .collect();
        let ids = children.iter().flat_map(|list| list.split_whitespace());
        ids.filter_map(|id| id.parse().ok()).collect()
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Stops it as Ctrl-C does; it must end well.
    #[track_caller]
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.expect("kill runs").success());
        assert_eq!(self.ended(), Some(0), "{}", self.log.seen.join("\n"));
    }

    /// What it says, when it must end by itself with `code`.
    #[track_caller]
    pub fn fails(mut self, code: i32) -> String {
        let ended = self.ended();
        let said = self.log.seen.join("\n");
        assert_eq!(ended, Some(code), "{said}");
        said
    }

    /// What it says, when it must end by itself and well.
    #[track_caller]
    pub fn ends(self) -> String {
        self.fails(0)
    }

    /// Its exit code, once it ended.
    #[track_caller]
    fn ended(&mut self) -> Option<i32> {
        self.log.end();
        self.child.wait().expect("it can be waited for").code()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    /// The next line with `text` in it.
    #[track_caller]
    pub fn contains(&mut self, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {text:?} after:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the end.
    #[track_caller]
    fn end(&mut self) {
        let begin = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end after:\n{}", self.seen.join("\n"))
                }
            }
        }
    }
}

/// Reads a pipe in a thread of its own, so that nobody who writes to it waits. The lines are
/// printed, too, for when a test fails for want of what another program should have done.
pub fn lines(pipe: impl Read + Send + 'static) -> Lines {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        for line in lines {
            println!("{line}");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Lines {
        lines,
        seen: Vec::new(),
    }
}
