//! The relay's end of a worker.

use std::io::{self, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wire::{self, Reply, Request};

/// What a worker is given of the environment: where programs, libraries and GStreamer's
/// list of plugins are.
const ENVIRONMENT: [&str; 8] = [
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    "GST_PLUGIN_PATH",
    "GST_PLUGIN_SYSTEM_PATH",
    "GST_REGISTRY",
    "TMPDIR",
];

/// A running worker; killed when it is dropped.
pub struct Process {
    child: Arc<Mutex<Child>>,
    requests: ChildStdin,
}

/// What a worker answers.
pub struct Replies(BufReader<Patient>);

/// Ends a worker from another thread than the one that writes to it.
pub struct Killer(Arc<Mutex<Child>>);

impl Process {
    /// Starts one: this program again.
    pub fn start() -> io::Result<(Self, Replies)> {
        if cfg!(test) {
            // This program is a test.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| {
                let value = std::env::var_os(name)?;
                Some((name, value))
            }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The encoder says things there that mean nothing.
            .stderr(Stdio::null())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, replies) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        let process = Self {
            child: Arc::new(Mutex::new(child)),
            requests,
        };
        let patient = Patient {
            pipe: replies,
            deadline: None,
        };
        Ok((process, Replies(BufReader::with_capacity(1 << 16, patient))))
    }

    /// Asks for something. Waits where the worker is behind.
    pub fn ask(&mut self, request: &Request, body: &[u8]) -> io::Result<()> {
        wire::write(&mut self.requests, request, body)
    }

    /// What ends it.
    pub fn killer(&self) -> Killer {
        Killer(self.child.clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.killer().kill();
    }
}

impl Killer {
    /// Ends the worker, if it runs.
    pub fn kill(&self) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself, which is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Replies {
    /// The next one; `None`: the worker ended. Waits for ever without a `deadline`.
    pub fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<(Reply, Vec<u8>)>> {
        self.0.get_mut().deadline = deadline;
        wire::read(&mut self.0)
    }
}

/// A pipe that is read until a deadline.
struct Patient {
    pipe: ChildStdout,
    deadline: Option<Instant>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if !is_readable(&self.pipe, left)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.pipe.read(buffer)
    }
}

/// Whether there is something to read, or the end, within that time.
fn is_readable(pipe: &ChildStdout, time: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = time.as_millis().min(60_000) as libc::c_int;
    // SAFETY: it is one entry, of a descriptor that is open.
    match unsafe { libc::poll(&mut entry, 1, millis) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}
