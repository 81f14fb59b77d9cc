//! One stream of a camera inside the relay: its newest frame and who takes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;

use super::begin::{KEY_REQUEST_INTERVAL, KeyRequests, squeezed};
use super::consumer::{Consumer, Offered};
use super::feed::Feed;
use super::feeds::Event;
use super::flaws::Flaws;
use super::frame::{Codec, Frame};
use super::intake::{self, Malformed};
use super::placeholder::{Card, Maker, Standby};
use super::state::{Arrivals, Rate};

/// A camera that sends bad frames is complained about once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// So many pictures in a row that RTP carries in another way than those before say that
/// the camera has changed.
const ODD_PICTURES: u32 = 10;

/// One stream of a camera: video is 0, audio mostly 1.
///
/// Frames come in through [`Stream::sink`] and go out by reference, to each
/// [`Consumer`] through a queue of its own. `gstreamer-utils`' `StreamProducer`
/// does the like, but a consumer of it belongs to one appsink: here viewers stay
/// while a camera's pipeline comes and goes. It also starts a viewer at the next
/// frame rather than the newest, and lets a full queue drop frames that later
/// ones build on.
pub struct Stream {
    feed: Weak<Feed>,
    camera: Arc<str>,
    state: Mutex<State>,
}

/// What a stream has carried since the relay started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames passed on, placeholders not counted.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames dropped for viewers that did not keep up, each viewer's counted.
    pub dropped: u64,
    /// Frames passed over because they were malformed.
    pub malformed: u64,
}

#[derive(Default)]
struct State {
    codec: Option<Codec>,
    /// When the codec was learnt.
    since: Option<Instant>,
    newest: Option<Arc<Frame>>,
    /// The newest key frame, where the codec has any.
    key: Option<Arc<Frame>>,
    /// Whether the camera's coming was followed by a frame that viewers can start at.
    ready: bool,
    consumers: Arc<[Arc<Consumer>]>,
    upstream: glib::WeakRef<gst_app::AppSink>,
    source: glib::WeakRef<gst::Element>,
    /// How long frames travel at the least, and when that was asked.
    travel: (Duration, Option<Instant>),
    key_requests: KeyRequests,
    /// When one was asked for who did not keep up.
    key_asked_again: Option<Instant>,
    /// Whether a key frame is wanted of what has no sink.
    key_wished: bool,
    /// Whether RTP carries its JPEGs only in another coding.
    encoded: bool,
    /// Pictures in a row of which the contrary is true.
    odd: u32,
    standby: Standby,
    /// Without what was dropped for the consumers of now.
    counts: Counts,
    /// The number of the next frame.
    sequence: u64,
    arrivals: Arrivals,
    flaws: Flaws,
    complained: Option<Instant>,
}

/// A consumer's place at a stream; ends when it is dropped.
pub struct Attachment {
    stream: Arc<Stream>,
    consumer: Arc<Consumer>,
}

impl Stream {
    pub(super) fn new(feed: Weak<Feed>, camera: Arc<str>) -> Self {
        Self {
            feed,
            camera,
            state: Mutex::default(),
        }
    }

    /// What it is coded in, once that is known, and since when that is known.
    pub fn codec(&self) -> Option<(Codec, Instant)> {
        let state = self.lock();
        state.codec.clone().zip(state.since)
    }

    /// The newest frame that a viewer can start at.
    pub fn start(&self) -> Option<Arc<Frame>> {
        self.lock().start().cloned()
    }

    /// The newest frame, whether a viewer can start at it or not. While the camera
    /// sends nothing it may be a [placeholder](Frame::placeholder).
    pub fn newest(&self) -> Option<Arc<Frame>> {
        self.lock().newest.clone()
    }

    /// The frames that its newest picture is decoded from, that picture's last; none where
    /// they are too many to be kept.
    pub(super) fn newest_group(&self) -> Vec<Arc<Frame>> {
        let state = self.lock();
        match &state.newest {
            Some(newest) if newest.placeholder => vec![newest.clone()],
            _ => state.standby.last(),
        }
    }

    /// What it has carried.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let (mut counts, consumers) = (state.counts, state.consumers.clone());
        drop(state);
        counts.dropped += consumers.iter().map(|one| one.dropped()).sum::<u64>();
        counts
    }

    /// What was wrong with the last malformed frame; `None` where there was none.
    pub fn last_flaw(&self) -> Option<String> {
        self.lock().flaws.last().map(|why| why.to_string())
    }

    /// Since when nothing but malformed frames comes, and why, with what to do. Frames from
    /// before `came` do not count.
    pub(super) fn refusal(&self, came: Instant) -> Option<(SystemTime, String)> {
        let state = self.lock();
        let since_then = state.arrivals.last().filter(|(last, _)| *last >= came);
        let stale_at = since_then.and_then(|_| state.arrivals.stale_at());
        state.flaws.refusal(stale_at)
    }

    /// Wakes all who wait for frames.
    pub(super) fn wake(&self) {
        let consumers = self.lock().consumers.clone();
        consumers.iter().for_each(|consumer| consumer.wake());
    }

    /// What it carries now.
    pub fn rate(&self) -> Rate {
        self.lock().arrivals.rate(Instant::now())
    }

    /// When the camera's last frame came.
    pub fn last_arrival(&self) -> Option<(Instant, SystemTime)> {
        self.lock().arrivals.last()
    }

    /// Whether the camera's last frame came within a second of `now`, or within three
    /// frames where it sends seldom.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.lock().arrivals.is_fresh(now)
    }

    /// The counters of the `camrelaysrc` that brings its frames; `None` while there is none.
    pub fn hop(&self) -> Option<gst::Structure> {
        let source = self.lock().source.upgrade()?;
        Some(source.property("stats"))
    }

    /// Its frames come from this `camrelaysrc` now.
    pub fn comes_from(&self, source: &gst::Element) {
        let mut state = self.lock();
        state.source = source.downgrade();
        state.travel = Default::default();
    }

    /// How long its frames travel at the least: half a round trip. Their times are those of their capture
    /// as if they took none. It is asked once a second.
    fn travel(&self) -> Duration {
        let mut state = self.lock();
        let (known, asked) = state.travel;
        if asked.is_some_and(|asked| asked.elapsed() < Duration::from_secs(1)) {
            return known;
        }
        state.travel.1 = Some(Instant::now());
        drop(state);
        let round_trip = self.hop().and_then(|stats| stats.get::<f64>("rtt-ms").ok());
        let travel = Duration::try_from_secs_f64(round_trip.unwrap_or_default() / 2e3);
        let travel = travel.unwrap_or_default();
        self.lock().travel.0 = travel;
        travel
    }

    /// How many consumers take its frames.
    pub fn consumers(&self) -> usize {
        self.lock().consumers.len()
    }

    /// Learns the codec before the first frame is here.
    pub fn announce(&self, caps: &gst::CapsRef) {
        self.lock().set_codec(Codec::of(caps));
    }

    /// A new sink that feeds this stream from the end of a pipeline. A key frame
    /// is asked for there from now on, and at once where it matters.
    ///
    /// The pipeline must run on GStreamer's system clock.
    pub fn sink(self: &Arc<Self>) -> gst_app::AppSink {
        let stream = self.clone();
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .max_buffers(2)
            .drop(true)
            .callbacks(
                gst_app::AppSinkCallbacks::builder()
                    .new_sample(move |sink| {
                        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
                        stream.take(&sample, sink.base_time().unwrap_or_default());
                        Ok(gst::FlowSuccess::Ok)
                    })
                    .build(),
            )
            .build();
        let mut state = self.lock();
        state.upstream = sink.downgrade();
        state.key_requests = KeyRequests::default();
        drop(state);
        sink
    }

    /// Asks the camera for a key frame, unless that was just done.
    pub fn request_key(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        if !state.codec.as_ref().is_some_and(Codec::is_inter) || state.key_requests.has_asked(now) {
            return;
        }
        state.key_wished = true;
        let Some(pad) = state
            .upstream
            .upgrade()
            .and_then(|sink| sink.static_pad("sink"))
        else {
            return;
        };
        state.key_requests.ask(now);
        drop(state);
        pad.push_event(
            gst_video::UpstreamForceKeyUnitEvent::builder()
                .all_headers(true)
                .build(),
        );
    }

    /// The same for who lost what came before: at most every [`KEY_REQUEST_INTERVAL`], however
    /// many do and however often, as a key frame costs all other viewers something.
    pub fn request_key_again(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let asked = state.key_asked_again;
        if asked.is_some_and(|asked| now - asked < KEY_REQUEST_INTERVAL) {
            return;
        }
        state.key_asked_again = Some(now);
        drop(state);
        self.request_key();
    }

    /// Gives every frame from now on to `consumer`, and at once the newest that a
    /// viewer can start at; where the camera does not answer who asks for a key frame,
    /// those that lead from there to the newest as well, if they are not too many.
    pub fn attach(self: &Arc<Self>, consumer: Arc<Consumer>) -> Attachment {
        self.join(consumer, true)
    }

    /// The same from the next frame that a viewer can start at, which is asked for: `consumer`
    /// has seen what was before.
    pub fn attach_next(self: &Arc<Self>, consumer: Arc<Consumer>) -> Attachment {
        self.join(consumer, false)
    }

    fn join(self: &Arc<Self>, consumer: Arc<Consumer>, at_once: bool) -> Attachment {
        let mut state = self.lock();
        let mut wants_key = state.codec.as_ref().is_some_and(Codec::is_inter);
        if at_once
            && let Some(newest) = state.newest.clone()
            && let Some(start) = state.start().cloned()
        {
            if Arc::ptr_eq(&newest, &start) {
                consumer.offer(&start);
                wants_key = false;
            } else if !state.key_requests.are_ignored(Instant::now())
                || !consumer.catch_up(&state.group())
            {
                consumer.begin(&squeezed(&[start], newest.captured)[0]);
            }
        }
        state.consumers = state.consumers.iter().chain([&consumer]).cloned().collect();
        drop(state);
        if wants_key {
            self.request_key();
        }
        consumer.wake();
        Attachment {
            stream: self.clone(),
            consumer,
        }
    }

    /// The camera came (again): what follows continues nothing.
    pub(super) fn restart(&self) {
        let mut state = self.lock();
        state.ready = false;
        state.since = Some(Instant::now());
        state.key_requests = KeyRequests::default();
        state.arrivals.restart();
        state.flaws.end();
        let consumers = state.consumers.clone();
        drop(state);
        for consumer in consumers.iter() {
            consumer.require_key();
        }
    }

    /// Takes a frame in; malformed ones are counted and passed over.
    fn take(self: &Arc<Self>, sample: &gst::Sample, base_time: gst::ClockTime) {
        let Some((buffer, caps)) = sample.buffer_owned().zip(sample.caps_owned()) else {
            return;
        };
        match intake::frame(buffer, caps, sample.segment(), base_time) {
            Ok(mut frame) => {
                let travel = gst::ClockTime::try_from(self.travel()).unwrap_or_default();
                frame.pictured = frame.captured.saturating_sub(travel);
                self.pass_on(frame);
            }
            Err((codec, why)) => self.complain(&codec, why),
        }
    }

    /// Gives a frame its number and passes it on.
    fn pass_on(self: &Arc<Self>, mut frame: Frame) {
        let wall = SystemTime::now();
        let mut state = self.lock();
        state.set_codec(frame.codec.clone());
        frame.sequence = state.sequence;
        state.sequence += 1;
        let revives = !frame.placeholder && !state.arrivals.is_fresh(frame.arrived);
        if !frame.placeholder {
            let size = frame.buffer.size();
            state.counts.frames += 1;
            state.counts.bytes += size as u64;
            state.flaws.end();
            state.arrivals.note(frame.arrived, wall, size);
            if frame.codec.is_inter() && !frame.key && state.standby.shows() {
                // It continues what viewers do not see any more.
                drop(state);
                self.tell_state(revives);
                return self.request_key();
            }
        }
        let frame = Arc::new(frame);
        let overflows = !frame.placeholder
            && !frame.codec.is_audio()
            && state.standby.note(&frame)
            && !state.consumers.is_empty();
        if frame.key && frame.codec.is_inter() {
            state.key = Some(frame.clone());
            state.key_requests.came(frame.arrived);
        }
        let is_deaf = !frame.key && state.key_requests.are_ignored(frame.arrived);
        let refits = !frame.placeholder && state.refits(&frame);
        state.newest = Some(frame.clone());
        let is_start = !frame.placeholder && frame.key && (!state.ready || refits);
        let waits = !frame.key && !state.ready;
        state.ready |= is_start;
        let consumers = state.consumers.clone();
        drop(state);

        let mut needs_key = waits || overflows;
        let mut is_one_behind = false;
        let mut group = None;
        for consumer in consumers.iter() {
            match consumer.offer(&frame) {
                Offered::Taken => {}
                Offered::NeedsKey => {
                    needs_key = true;
                    if is_deaf {
                        consumer.catch_up(group.get_or_insert_with(|| self.lock().group()));
                    }
                }
                Offered::Behind => is_one_behind = true,
            }
            consumer.wake();
        }
        self.tell_state(revives);
        if needs_key {
            self.request_key();
        } else if is_one_behind {
            self.request_key_again();
        }
        if is_start && let Some(feed) = self.feed.upgrade() {
            feed.tell(&Event::Ready(feed.clone(), self.clone()));
        }
    }

    /// Tells at once that the camera is live (again), where this says so.
    fn tell_state(&self, revives: bool) {
        if revives && let Some(feed) = self.feed.upgrade() {
            feed.look();
        }
    }

    /// Passes on a frame of whole units, checked; whether it is good.
    pub(super) fn pass_on_units(self: &Arc<Self>, frame: Frame) -> bool {
        match intake::check_units(&frame.buffer) {
            Ok(()) => self.pass_on(frame),
            Err(why) => {
                self.complain(&frame.codec, why.into());
                return false;
            }
        }
        true
    }

    /// Whether a key frame was wanted since this was asked last, of what has no sink.
    pub(super) fn takes_key_wish(&self) -> bool {
        std::mem::take(&mut self.lock().key_wished)
    }

    /// Nothing that was here is of use any more: nobody was to be shown it.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.newest = None;
        state.key = None;
        state.ready = false;
    }

    /// Shows viewers that stay a placeholder while the camera sends nothing; to be called
    /// a few times a second, and at the time that it returns.
    ///
    /// It is made as soon as a frame is late, and shown when there is no doubt any more:
    /// making it takes its time.
    pub(super) fn tend(self: &Arc<Self>, now: Instant, maker: &Maker) -> Option<Instant> {
        let mut state = self.lock();
        let (_, since) = state.arrivals.last()?;
        let stale_at = state.arrivals.stale_at()?;
        let suspect_at = state.arrivals.suspect_at()?;
        let is_silent = stale_at <= now || state.standby.shows();
        let next = match suspect_at <= now {
            false => Some(suspect_at),
            true => (!is_silent).then_some(stale_at),
        };
        let codec = state.codec.clone().filter(|codec| !codec.is_audio());
        let Some(codec) = codec.filter(|_| !state.consumers.is_empty()) else {
            return next;
        };
        if !is_silent && now < suspect_at {
            drop(state);
            maker.rehearse(&codec, now);
            return next;
        }
        if is_silent && let Some(frame) = state.standby.due(now) {
            // A camera that is back may send something else.
            let is_same = state.codec.as_ref() == Some(&frame.codec);
            let next = state.standby.next_due();
            drop(state);
            if is_same {
                self.pass_on(frame);
            }
            return next;
        }
        let newest = state.newest.clone().filter(|newest| !newest.placeholder);
        let order = newest.and_then(|newest| {
            let camera = &self.camera;
            state.standby.order(self, camera, &newest, since)
        });
        let next = next.or(state.standby.next_due());
        drop(state);
        if let Some(order) = order
            && !maker.order(order)
        {
            self.lock().standby.was_not_ordered();
        }
        next
    }

    /// Whether viewers wait for the placeholder of that frame.
    pub(super) fn awaits(&self, of: &Arc<Frame>) -> bool {
        self.lock().standby.awaits(of)
    }

    /// A placeholder is made.
    pub(super) fn stand_in(&self, card: Card) {
        self.lock().standby.put(card);
    }

    fn complain(&self, codec: &Codec, why: Malformed) {
        let mut state = self.lock();
        state.counts.malformed += 1;
        let count = state.counts.malformed;
        let now = Instant::now();
        state.flaws.note(now, SystemTime::now(), codec, why);
        if state
            .complained
            .is_some_and(|before| now - before < COMPLAINT_INTERVAL)
        {
            return;
        }
        state.complained = Some(now);
        drop(state);
        tracing::warn!(
            "camera {}: a frame is no good {codec} ({why}) and is passed over; {count} so far",
            self.camera
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_codec(&mut self, codec: Codec) {
        if self.codec.as_ref() != Some(&codec) {
            self.codec = Some(codec);
            self.since = Some(Instant::now());
            self.newest = None;
            self.key = None;
            self.ready = false;
        }
    }

    /// Whether RTP has carried pictures like this one in another way until now. One odd
    /// picture among others changes nothing.
    fn refits(&mut self, frame: &Frame) -> bool {
        let Some(needs) = frame.jpeg.map(|picture| picture.needs_encoding()) else {
            return false;
        };
        if !self.ready {
            self.encoded = needs;
        }
        if self.encoded == needs {
            self.odd = 0;
            return false;
        }
        self.odd += 1;
        let refits = self.odd == ODD_PICTURES;
        if refits {
            self.encoded = needs;
            self.odd = 0;
        }
        refits
    }

    /// The frames that lead from the newest key frame to the newest, for who is to catch up
    /// with them; none where they are not here, or too many to be kept.
    fn group(&self) -> Vec<Arc<Frame>> {
        let group = self.standby.last();
        let is_same = |one: Option<&Arc<Frame>>, other: &Option<Arc<Frame>>| {
            let both = one.zip(other.as_ref());
            both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
        };
        // After the camera has come again, they are of before.
        if !self.ready || !is_same(group.first(), &self.key) || !is_same(group.last(), &self.newest)
        {
            return Vec::new();
        }
        let newest = group.iter().map(|frame| frame.captured).max();
        squeezed(&group, newest.unwrap_or_default())
    }

    fn start(&self) -> Option<&Arc<Frame>> {
        match &self.codec {
            Some(codec) if codec.is_inter() => self.key.as_ref(),
            _ => self.newest.as_ref(),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        state.counts.dropped += self.consumer.dropped();
        state.consumers = state
            .consumers
            .iter()
            .filter(|consumer| !Arc::ptr_eq(consumer, &self.consumer))
            .cloned()
            .collect();
    }
}

#[cfg(test)]
mod tests;
