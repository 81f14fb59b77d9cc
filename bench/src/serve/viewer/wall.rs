//! A viewer of the page's WebSocket; docs/http.md has its messages.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tungstenite::{Message, WebSocket};

use super::{Seen, Watching};
use crate::serve::throttle::{Throttle, Throttled};

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes before a picture.
const HEADER: usize = 24;

/// An open connection that is shown one camera.
pub(super) struct Wall {
    socket: WebSocket<Throttled>,
    throttle: Throttle,
}

impl Wall {
    /// Wishes to see a camera; it may come later.
    pub(super) fn open(port: u16, camera: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let stream = Throttled::new(stream);
        let throttle = stream.throttle();
        let url = format!("ws://127.0.0.1:{port}/api/v1/wall");
        let (mut socket, _) = tungstenite::client(url, stream)
            .map_err(|error| anyhow!("no WebSocket from the relay: {error}"))?;
        let wish = serde_json::json!({ "show": [{ "camera": camera }] });
        socket.send(Message::text(wish.to_string()))?;
        Ok(Self { socket, throttle })
    }

    /// How it is slowed down.
    pub(super) fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }
}

impl Watching for Wall {
    fn next(&mut self) -> anyhow::Result<Seen> {
        loop {
            let picture = match self.socket.read()? {
                Message::Binary(picture) => picture,
                Message::Close(_) => bail!("the relay closed the WebSocket"),
                _ => continue,
            };
            let (header, jpeg) = picture
                .split_first_chunk::<HEADER>()
                .context("a picture without its header")?;
            let number = u16::from_be_bytes([header[1], header[2]]);
            let wall = header[4..12].first_chunk().context("a short header")?;
            let seen = serde_json::json!({ "seen": number });
            self.socket.send(Message::text(seen.to_string()))?;
            return Ok(Seen {
                captured: u64::from_be_bytes(*wall) as f64,
                bytes: picture.len(),
                whole: jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]),
            });
        }
    }
}
