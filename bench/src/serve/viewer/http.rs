//! A viewer of `stream.mjpeg`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::{Seen, Watching};
use crate::serve::throttle::{Throttle, Throttled};

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before asking again for a camera that is not there.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest picture that is taken, in bytes.
const MAX_PICTURE: usize = 32 << 20;

/// A running answer.
pub(crate) struct Mjpeg {
    body: BufReader<Body>,
    throttle: Throttle,
}

impl Mjpeg {
    /// Asks for the pictures of a camera, again until `deadline` where there is no such one yet.
    pub(crate) fn open(port: u16, camera: &str, deadline: Instant) -> anyhow::Result<Self> {
        loop {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut stream = Throttled::new(stream);
            let request = format!(
                "GET /cameras/{camera}/stream.mjpeg HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let throttle = stream.throttle();
            let mut stream = BufReader::with_capacity(1 << 16, stream);
            let status = line(&mut stream)?;
            if status.split(' ').nth(1) == Some("200") {
                while !line(&mut stream)?.is_empty() {}
                let body = BufReader::with_capacity(1 << 16, Body { stream, left: None });
                return Ok(Self { body, throttle });
            }
            if Instant::now() > deadline {
                bail!("the pictures of {camera} give '{status}'");
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// How it is slowed down.
    pub(crate) fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }
}

impl Watching for Mjpeg {
    fn next(&mut self) -> anyhow::Result<Seen> {
        let (mut length, mut captured) = (None, None);
        loop {
            let line = line(&mut self.body)?.to_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = Some(value.parse::<usize>()?);
            }
            if let Some(value) = line.strip_prefix("x-capture-time: ") {
                captured = Some(humantime::parse_rfc3339(&value.to_uppercase())?);
            }
            // Boundaries and the line end before them are passed over as well.
            if line.is_empty() && length.is_some() {
                break;
            }
        }
        let length = length.filter(|length| *length <= MAX_PICTURE);
        let mut picture = vec![0; length.context("an odd length")?];
        self.body.read_exact(&mut picture)?;
        let captured = captured.context("a picture without its time")?;
        Ok(Seen {
            captured: captured.duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3,
            bytes: picture.len(),
            whole: picture.starts_with(&[0xff, 0xd8]) && picture.ends_with(&[0xff, 0xd9]),
        })
    }
}

/// A body in chunks (RFC 9112, section 7.1).
struct Body {
    stream: BufReader<Throttled>,
    /// What is left of the chunk; `None` before the first.
    left: Option<usize>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_none_or(|left| left == 0) {
            if self.left.is_some() {
                line(&mut self.stream)?;
            }
            let size = line(&mut self.stream)?;
            let size = usize::from_str_radix(&size, 16);
            let size = size.map_err(|_| std::io::Error::other("not a chunk"))?;
            if size == 0 {
                return Ok(0);
            }
            self.left = Some(size);
        }
        let left = self.left.unwrap_or_default();
        let most = buffer.len().min(left);
        let read = self.stream.read(&mut buffer[..most])?;
        self.left = Some(left - read);
        Ok(read)
    }
}

/// The next line, without its end.
fn line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}
