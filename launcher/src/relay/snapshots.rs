//! Snapshots of cameras that send no JPEGs: the newest picture, decoded and encoded in a
//! worker, one after the other and only when somebody asks.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use super::frame::{Codec, Frame};
use super::jpeg;
use super::placeholder::joined;
use super::stream::Stream;
use crate::worker::Client;
use crate::worker::wire::{Coding, Reply, Request};

/// Snapshots that wait to be made.
const MAX_WAITING: usize = 64;
/// What making one may take.
const MAKING: Duration = Duration::from_secs(6);
/// A worker that nobody needed for so long is let go.
const IDLE: Duration = Duration::from_secs(10);

/// Where snapshots are asked for; when the last of these is dropped, no more are made.
#[derive(Clone)]
pub struct Snapshots(SyncSender<Order>);

/// What comes of an order.
type Snapshot = anyhow::Result<Arc<Frame>>;

struct Order {
    stream: Arc<Stream>,
    asked: Instant,
    reply: oneshot::Sender<Snapshot>,
}

/// What was made last of a stream.
struct Made {
    /// It keeps the address from being another stream's.
    stream: Weak<Stream>,
    begun: Instant,
    frame: Arc<Frame>,
}

impl Snapshots {
    /// Starts a thread; the worker is started when it is needed.
    pub fn start() -> anyhow::Result<Self> {
        let (orders, ordered) = sync_channel(MAX_WAITING);
        thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || make_all(&ordered))
            .context("no thread for snapshots")?;
        Ok(Self(orders))
    }

    /// The newest picture of `stream` as a JPEG, with the times and the number that it has
    /// there.
    ///
    /// # Errors
    /// Where it cannot be decoded, and where too many are asked for.
    pub async fn take(&self, stream: Arc<Stream>) -> anyhow::Result<Arc<Frame>> {
        let answer = self.order(stream)?;
        answer.await.context("no more snapshots are made")?
    }

    fn order(&self, stream: Arc<Stream>) -> anyhow::Result<oneshot::Receiver<Snapshot>> {
        let (reply, answer) = oneshot::channel();
        let order = Order {
            stream,
            asked: Instant::now(),
            reply,
        };
        let ordered = self.0.try_send(order).ok();
        ordered.context("too many snapshots are asked for")?;
        Ok(answer)
    }
}

fn make_all(ordered: &Receiver<Order>) {
    let mut worker = Client::default();
    let mut all = HashMap::<usize, Made>::new();
    loop {
        let order = match ordered.recv_timeout(IDLE) {
            Ok(order) => order,
            Err(RecvTimeoutError::Timeout) => {
                worker.rest();
                all.clear();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if order.reply.is_closed() {
            continue;
        }
        let key = Arc::as_ptr(&order.stream) as usize;
        // Who asked before it was begun has the same.
        let known = all.get(&key).filter(|made| made.begun >= order.asked);
        let snapshot = match known {
            Some(made) => Ok(made.frame.clone()),
            None => {
                let begun = Instant::now();
                make(&mut worker, &order.stream).inspect(|frame| {
                    all.retain(|_, made| made.stream.strong_count() > 0);
                    let made = Made {
                        stream: Arc::downgrade(&order.stream),
                        begun,
                        frame: frame.clone(),
                    };
                    all.insert(key, made);
                })
            }
        };
        // Who left does not mind.
        let _ = order.reply.send(snapshot);
    }
}

fn make(worker: &mut Client, stream: &Stream) -> Snapshot {
    let group = stream.newest_group();
    let Some(newest) = group.last() else {
        stream.request_key();
        bail!("it waits for a key frame");
    };
    let coding = match newest.codec {
        Codec::H264 => Coding::H264,
        Codec::H265 => Coding::H265,
        _ => bail!("none is made of {}", newest.codec),
    };
    let request = Request::Snapshot(coding);
    let (Reply::Jpeg, jpeg) = worker.ask(&request, &joined(&group)?, MAKING)? else {
        bail!("the worker answers something else");
    };
    let picture = jpeg::check(&jpeg)?;
    Ok(Arc::new(Frame {
        buffer: gst::Buffer::from_mut_slice(jpeg),
        caps: gst::Caps::new_empty_simple("image/jpeg"),
        codec: Codec::Jpeg,
        jpeg: Some(picture),
        ..**newest
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::feeds::{Feeds, Listeners};

    /// A stream whose camera sent one picture of H.264.
    fn stream(feeds: &Feeds, is_key: bool) -> Arc<Stream> {
        let feed = feeds.open("door").expect("there is room");
        let stream = feed.stream(0).expect("a good number");
        let mut harness = gst_check::Harness::with_element(&stream.sink(), Some("sink"), None);
        harness.set_src_caps_str("video/x-h264,stream-format=byte-stream,alignment=au");
        let mut buffer = gst::Buffer::from_slice([0, 0, 1, 9, 0xf0]);
        let writable = buffer.make_mut();
        writable.set_pts(gst::ClockTime::ZERO);
        if !is_key {
            writable.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        harness.push(buffer).expect("the sink takes it");
        stream
    }

    #[test]
    fn what_builds_on_nothing_waits_for_a_key_frame() {
        gst::init().expect("GStreamer starts");
        let feeds = Feeds::new(Listeners::default());
        let stream = stream(&feeds, false);
        let made = make(&mut Client::default(), &stream);
        let error = made.expect_err("nothing to decode it with").to_string();
        assert_eq!(error, "it waits for a key frame");
    }

    #[test]
    fn those_that_wait_are_bounded() {
        gst::init().expect("GStreamer starts");
        let feeds = Feeds::new(Listeners::default());
        let stream = stream(&feeds, true);
        // Nobody makes any.
        let (orders, ordered) = sync_channel(MAX_WAITING);
        let snapshots = Snapshots(orders);
        let order = || snapshots.order(stream.clone());
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| order()).collect();
        assert!(waiting.iter().all(Result::is_ok));
        let error = order().expect_err("there is no room").to_string();
        assert_eq!(error, "too many snapshots are asked for");
        drop(waiting);
        assert!(ordered.try_iter().all(|order| order.reply.is_closed()));
    }
}
