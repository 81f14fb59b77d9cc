//! A connection that is read no faster than it is told.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long what is read at once would last: no more is taken than that.
const PIECE: u64 = 100;
/// Unused time that may be made up for.
const CREDIT: Duration = Duration::from_millis(50);

/// What a connection is told. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Throttle(Arc<AtomicU64>);

impl Throttle {
    /// Bytes a second to read at most; `None`: as many as come.
    pub(crate) fn set(&self, rate: Option<f64>) {
        let rate = rate.map_or(0, |rate| rate.max(1.0) as u64);
        self.0.store(rate, Ordering::Relaxed);
    }
}

/// A connection with a [`Throttle`].
pub(crate) struct Throttled {
    stream: TcpStream,
    throttle: Throttle,
    /// When the next piece may be read.
    due: Instant,
}

impl Throttled {
    /// As fast as it can at first.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            throttle: Throttle::default(),
            due: Instant::now(),
        }
    }

    /// How long reading waits.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Its throttle.
    pub(crate) fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }
}

impl Read for Throttled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rate = self.throttle.0.load(Ordering::Relaxed);
        if rate == 0 {
            self.due = Instant::now();
            return self.stream.read(buffer);
        }
        std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        let most = buffer.len().min((rate / PIECE).max(1) as usize);
        let read = self.stream.read(&mut buffer[..most])?;
        let begin = self.due.max(Instant::now() - CREDIT);
        self.due = begin + Duration::from_secs_f64(read as f64 / rate as f64);
        Ok(read)
    }
}

impl Write for Throttled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
