//! The worker: a process of its own in which pictures are decoded and encoded.
//!
//! The relay itself decodes nothing. What has to be decoded (a JPEG that RTP cannot
//! carry, the last picture of a camera that fell silent, pictures that a page shows small, what
//! a slow WebRTC viewer sees, snapshots of H.264)
//! goes through the pipes of a child process, `launcher worker`, so that a picture on which
//! a decoder crashes costs that picture and not the relay. The child has no keys, no network and a bound on its
//! memory, and comes after everything else for processor time. Only a placeholder does not: it is
//! one picture, and viewers must see it within a second on a busy machine, too.
//!
//! Pipes rather than the relay's own protocol over loopback: they need no port, no token
//! and no handshake, they end with the process on either side, and a full pipe is all
//! the flow control there has to be.

mod batch;
mod client;
mod draw;
mod encode;
mod placeholder;
mod process;
mod sandbox;
mod scale;
mod snapshot;
pub mod wire;

use std::io::{BufReader, Read, stdin, stdout};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use self::encode::Encoder;
use self::wire::{Reply, Request};

pub use self::client::Client;
pub use self::process::{Killer, Process, Replies};
pub use self::scale::Scaler;
#[cfg(test)]
pub use self::scale::tests::picture;

/// Where replies go; whole ones at a time.
#[derive(Clone)]
struct Output(Arc<Mutex<std::io::Stdout>>);

impl Output {
    fn send(&self, reply: &Reply, body: &[u8]) -> std::io::Result<()> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wire::write(&mut *out, reply, body)
    }

    fn fail(&self, error: &anyhow::Error) -> std::io::Result<()> {
        let why = format!("{error:#}");
        self.send(&Reply::Failed { why }, &[])
    }
}

/// Does what the requests on standard input ask for, until it ends.
pub fn run() -> anyhow::Result<()> {
    sandbox::enter();
    gst::init().context("GStreamer does not start")?;
    serve(&mut BufReader::new(stdin().lock()))
}

fn serve(requests: &mut impl Read) -> anyhow::Result<()> {
    let output = Output(Arc::new(Mutex::new(stdout())));
    let (mut encoder, mut scaler) = (None, Scaler::default());
    while let Some((request, body)) = wire::read(requests)? {
        if !matches!(request, Request::Placeholder(_)) {
            sandbox::stand_back();
        }
        match request {
            Request::Encode(encoding) => {
                encoder = Some(Encoder::start(&encoding, output.clone())?);
            }
            Request::Picture { time, key } => {
                let encoder = encoder.as_ref().context("nothing is encoded")?;
                encoder.take(body, time, key)?;
            }
            Request::Placeholder(order) => match placeholder::make(&order, body) {
                Ok(units) => {
                    let sizes = units.iter().map(Vec::len).collect();
                    output.send(&Reply::Placeholder { sizes }, &units.concat())?;
                }
                Err(error) => output.fail(&error)?,
            },
            Request::Rehearse(coding) => match placeholder::rehearse(coding) {
                Ok(()) => output.send(&Reply::Rehearsed, &[])?,
                Err(error) => output.fail(&error)?,
            },
            Request::Scale { width, height } => match scaler.scale(body, width, height) {
                Ok(jpeg) => output.send(&Reply::Jpeg, &jpeg)?,
                Err(error) => output.fail(&error)?,
            },
            Request::Snapshot(coding) => match snapshot::make(&coding, body) {
                Ok(jpeg) => output.send(&Reply::Jpeg, &jpeg)?,
                Err(error) => output.fail(&error)?,
            },
        }
    }
    Ok(())
}
