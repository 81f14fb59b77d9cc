//! Asks a worker for one thing after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::process::{Process, Replies};
use super::wire::{Reply, Request};

/// A worker that is started when it is needed, and again after it ended.
#[derive(Default)]
pub struct Client(Option<(Process, Replies)>);

impl Client {
    /// What the worker answers to `request`, within `patience`.
    ///
    /// # Errors
    /// Where it says that it cannot be done, and where it ends or takes too long: then the
    /// next request goes to another one.
    pub fn ask(
        &mut self,
        request: &Request,
        body: &[u8],
        patience: Duration,
    ) -> anyhow::Result<(Reply, Vec<u8>)> {
        match self.answer(request, body, patience) {
            Ok((Reply::Failed { why }, _)) => bail!("{why}"),
            Ok(answer) => Ok(answer),
            Err(error) => {
                tracing::warn!("{error:#}; another worker is started when one is needed");
                self.rest();
                Err(error)
            }
        }
    }

    /// Lets the worker go; another one is started when it is needed.
    pub fn rest(&mut self) {
        self.0 = None;
    }

    fn answer(
        &mut self,
        request: &Request,
        body: &[u8],
        patience: Duration,
    ) -> anyhow::Result<(Reply, Vec<u8>)> {
        let (process, replies) = match &mut self.0 {
            Some(running) => running,
            none => none.insert(Process::start().context("no worker starts")?),
        };
        process.ask(request, body).context("the worker ended")?;
        let reply = replies.next(Some(Instant::now() + patience));
        reply
            .context("the worker does not answer")?
            .context("the worker ended")
    }
}
