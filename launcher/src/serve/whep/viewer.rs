//! One WebRTC viewer: a task between its stream, its [`Sender`] and the socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::Rtc;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout_at;

use super::sender::{Gone, LIMITS, Next, Sender};
use super::socket::{Datagram, Socket};
use crate::relay::consumer::{Consumer, Limits};
use crate::relay::derived::Rendition;
use crate::relay::feed::Feed;
use crate::relay::stream::{Attachment, Stream};

/// A viewer that is not heard for this long is gone; browsers send something each second.
const SILENCE: Duration = Duration::from_secs(6);
/// How often the stream's own rate is looked at.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// How often in a row str0m may be told the time before others have their turn.
const MAX_ROUNDS: u32 = 256;

/// One viewer and its connection.
pub struct Viewer {
    sender: Sender,
    feed: Arc<Feed>,
    stream: Arc<Stream>,
    socket: Arc<Socket>,
    datagrams: mpsc::Receiver<Datagram>,
    /// The first one, until it is connected.
    consumer: Option<Arc<Consumer>>,
    /// Told that there are frames to take.
    frames: Arc<Notify>,
    /// What it sees, once it is connected.
    shown: Option<Shown>,
    /// What it is to see next.
    next: Option<Shown>,
    heard: Instant,
    /// When the stream's rate was looked at.
    rated: Instant,
}

/// A rendition that frames are taken of.
struct Shown {
    rendition: Rendition,
    stream: Arc<Stream>,
    _attachment: Attachment,
}

impl Viewer {
    /// A viewer of a stream of `feed` that was answered; `datagrams` are those that come from it.
    pub fn new(
        rtc: Rtc,
        feed: Arc<Feed>,
        stream: Arc<Stream>,
        socket: Arc<Socket>,
        datagrams: mpsc::Receiver<Datagram>,
    ) -> Self {
        let frames = Arc::new(Notify::new());
        let consumer = consumer(LIMITS, &frames);
        let now = Instant::now();
        Self {
            sender: Sender::new(rtc, consumer.clone(), stream.rate().bits, now),
            feed,
            stream,
            socket,
            datagrams,
            consumer: Some(consumer),
            frames,
            shown: None,
            next: None,
            heard: now,
            rated: now,
        }
    }

    /// Shows the stream until the viewer is gone.
    pub async fn run(mut self) -> Gone {
        loop {
            if let Err(gone) = self.step().await {
                return gone;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        if self.feed.is_forgotten() {
            return Err(Gone::Left);
        }
        let silence = self.heard + SILENCE;
        let due = self.flush().await?.min(silence);
        let happened = async {
            tokio::select! {
                datagram = self.datagrams.recv() => Happened::Received(datagram),
                () = self.frames.notified() => Happened::Frames,
            }
        };
        let happened = timeout_at(due.into(), happened).await;
        let now = Instant::now();
        match happened {
            Ok(Happened::Received(Some(datagram))) => {
                if self.sender.receive(&datagram, now)? {
                    self.heard = now;
                }
            }
            Ok(Happened::Received(None)) => return Err(Gone::Left),
            Ok(Happened::Frames) => {}
            Err(_) if now >= silence => return Err(Gone::Left),
            Err(_) => self.sender.pass(now)?,
        }
        Ok(())
    }

    /// Sends what has to be sent; when to look again.
    async fn flush(&mut self) -> Result<Instant, Gone> {
        let mut rounds = 0;
        loop {
            let now = Instant::now();
            if now - self.rated >= RATE_INTERVAL {
                self.rated = now;
                self.sender.set_rate(self.stream.rate().bits);
            }
            match self.sender.poll(now)? {
                Next::Transmit(transmit) => {
                    // A packet that the network refuses is lost, as others are on the way.
                    let _ = self.socket.send(&transmit).await;
                }
                Next::Connected => self.begin(),
                Next::KeyFrame => {
                    let shown = self.shown.as_ref();
                    shown
                        .map_or(&self.stream, |it| &it.stream)
                        .request_key_again();
                }
                Next::Wanted(rendition) => self.change(rendition),
                Next::Followed => self.shown = self.next.take(),
                Next::Wait(due) => {
                    // Tokio's timer would take a millisecond for each packet.
                    if due > now || rounds == MAX_ROUNDS {
                        return Ok(due);
                    }
                    self.sender.pass(now)?;
                    rounds += 1;
                }
            }
        }
    }

    fn begin(&mut self) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        self.shown = Some(Shown {
            rendition: Rendition::Whole,
            stream: self.stream.clone(),
            _attachment: self.stream.attach(consumer),
        });
    }

    /// Has it see that rendition as soon as there is a frame of it to begin with.
    fn change(&mut self, rendition: Rendition) {
        self.next = None;
        self.sender.follow(None);
        if self
            .shown
            .as_ref()
            .is_none_or(|shown| shown.rendition == rendition)
        {
            return;
        }
        let stream = match rendition {
            Rendition::Whole => Some(self.stream.clone()),
            Rendition::Small => self.feed.small().map(|small| {
                small.want();
                small.stream().clone()
            }),
        };
        let Some(stream) = stream else {
            return;
        };
        let limits = Limits {
            catch_up: 0,
            ..LIMITS
        };
        let consumer = consumer(limits, &self.frames);
        self.sender.follow(Some(consumer.clone()));
        let attachment = stream.attach_next(consumer);
        self.next = Some(Shown {
            rendition,
            stream,
            _attachment: attachment,
        });
    }
}

fn consumer(limits: Limits, frames: &Arc<Notify>) -> Arc<Consumer> {
    let wake = frames.clone();
    Arc::new(Consumer::new(limits, move || wake.notify_one()))
}

enum Happened {
    Received(Option<Datagram>),
    Frames,
}
