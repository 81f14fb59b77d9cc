//! One authenticated association: packet numbers, the control channel, media both ways.

mod delays;
mod epochs;
mod figures;
mod flow;
mod incoming;
mod lull;
mod mtu;
mod outgoing;
mod pace;
mod path;
mod receiver;
mod sender;
#[cfg(test)]
mod storms;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use self::delays::Delays;
use self::epochs::Epochs;
use self::mtu::{LEAST_MTU, Mtu, Probe};
use self::path::{Path, Token};
use self::receiver::Receiver;
use self::sender::Sender;
use crate::control::Control;
use crate::handshake::Established;
use crate::reassembly::Output;
use crate::replay::ReplayWindow;
use crate::stats::{Received, Sent};
use crate::wire::control::Message;
use crate::wire::feedback::Feedback;
use crate::wire::header::{HEADER_LEN, Header, Kind, MAX_PACKET_NUMBER, TAG_LEN};
use crate::wire::item::{Item, encode_feedback, pad};
use crate::{Error, Frame, LatePolicy, MAX_STREAMS, Rejection, Stats, Time};

/// Bytes of incoming frames held, at most.
pub(crate) const MAX_RECEIVE_MEMORY: usize = 32 << 20;
/// Media stops when the other side was not heard for this long.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(3);

const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How often a caller that hears nothing asks.
const SILENT_PING_INTERVAL: Duration = Duration::from_millis(100);
/// Silence after which it asks so often.
const QUIET_AFTER: Duration = Duration::from_millis(1300);
const MIN_CONTROL_TIMEOUT: Duration = Duration::from_millis(50);
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// How long a CLOSE is repeated.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Key-frame requests closer together than this are one.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(200);
/// The same, where frames have come lately.
const QUIET_WITH_MEDIA: Duration = Duration::from_millis(100);
/// Challenges closer together than this tell of one new path at most: who copies datagrams can cause
/// them, too.
const CHALLENGED_AGAIN: Duration = Duration::from_secs(2);
/// Pings, or challenges, waiting for their answer to leave, at most.
const MAX_PONGS: usize = 4;

/// What happened inside the session.
#[derive(Debug)]
pub(crate) enum Happened {
    Message(Message),
    Stream { stream: u16, output: Output },
}

/// The other side cannot be understood, or does not take what is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A session that ends.
struct Closing {
    reason: Rejection,
    asked: Time,
    /// When CLOSE was first sent.
    sent: Option<Time>,
}

/// What a session begins with, beside its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Where the other side is.
    pub(crate) remote: SocketAddr,
    /// Whether this side called.
    pub(crate) caller: bool,
    /// Bytes of UDP payload; 0 finds it out.
    pub(crate) mtu: u16,
    pub(crate) latency: Duration,
    pub(crate) max_frame_size: usize,
    /// Random, and nobody else's.
    pub(crate) secret: [u8; 32],
}

pub(crate) struct Session {
    path: Path,
    epochs: Epochs,
    mtu: Mtu,
    caller: bool,
    replay: ReplayWindow,
    next_packet: u64,
    control: Control,
    rtt: Option<Duration>,
    /// The first ping that was sent since then tells the round trip's time alone.
    rtt_anew: Option<Time>,
    last_heard: Time,
    last_ping: Option<Time>,
    pongs: VecDeque<(u64, Time)>,
    responses: VecDeque<Token>,
    /// When a challenge last told of a new path, and the last one.
    challenged: Option<(Time, Token)>,
    max_frame_size: usize,
    sender: Sender,
    receiver: Receiver,
    keyframe_asked: BTreeMap<u16, Time>,
    closing: Option<Closing>,
    stats: Stats,
    /// What became of frames, as it was last told, and when.
    told: (Time, Received, Sent),
    /// The same, where the other side told.
    heard: Option<(Received, Sent)>,
}

impl Session {
    pub(crate) fn new(now: Time, established: Established, terms: Terms) -> Self {
        let cipher = established.keys.cipher().name();
        let Terms {
            remote,
            caller,
            latency,
            max_frame_size,
            ..
        } = terms;
        let mtu = Mtu::new(remote, terms.mtu);
        Self {
            path: Path::new(remote, terms.secret),
            epochs: Epochs::new(now, established),
            caller,
            replay: ReplayWindow::new(),
            next_packet: 0,
            control: Control::default(),
            rtt: None,
            rtt_anew: None,
            last_heard: now,
            last_ping: None,
            pongs: VecDeque::new(),
            responses: VecDeque::new(),
            challenged: None,
            max_frame_size,
            sender: Sender::new(mtu.size(), max_frame_size, latency),
            mtu,
            receiver: Receiver::new(latency),
            keyframe_asked: BTreeMap::new(),
            closing: None,
            stats: Stats {
                cipher,
                ..Stats::default()
            },
            told: (now, Received::default(), Sent::default()),
            heard: None,
        }
    }

    /// The session indices that its datagrams may come to.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> {
        self.epochs.indices()
    }

    pub(crate) fn remote_index(&self) -> u32 {
        self.epochs.current().remote_index
    }

    /// Where the other side is.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.path.remote()
    }

    // Keys.

    /// Caller: whether it is time for new keys.
    pub(crate) fn is_worn(&self, now: Time) -> bool {
        let came = self.replay.end();
        self.closing.is_none() && self.epochs.are_worn(now, self.next_packet, came)
    }

    /// Listener: keeps new keys that the caller is told of, until it uses them.
    pub(crate) fn offer_keys(&mut self, next: Established) -> Result<(), Broken> {
        self.epochs.offer(next)
    }

    /// Uses new keys that both sides have.
    pub(crate) fn turn_keys(&mut self, now: Time, next: Established) {
        self.stats.rekeys += 1;
        let came = self.replay.end();
        self.epochs.turn(now, next, self.next_packet, came);
    }

    /// Ends old keys; returns the session index that is free now.
    pub(crate) fn expire_keys(&mut self, now: Time) -> Option<u32> {
        self.epochs.expire(now)
    }

    /// Bits per second to stay below; `None` where no limit was met.
    pub(crate) fn target_bitrate(&self) -> Option<u64> {
        self.sender.target_bitrate()
    }

    /// How long the other side's frames took lately.
    pub(crate) fn delays(&self) -> &Delays {
        self.receiver.delays()
    }

    /// Bits per second that come, smoothed; asked for in regular intervals, the last one of which
    /// was so long.
    pub(crate) fn arriving(&mut self, interval: Duration) -> f64 {
        self.receiver.arriving(interval)
    }

    /// Bits per second that the other side stays below, as it told; `None` where it met no limit.
    pub(crate) fn told_target(&self) -> Option<u64> {
        let (_, sent) = self.heard?;
        Some(sent.target).filter(|target| *target > 0)
    }

    /// Takes note of what comes, as a share of what comes on average of those behind the same
    /// bottleneck; `None` where that is not known.
    pub(crate) fn set_share(&mut self, share: Option<f64>) {
        self.receiver.set_share(share);
    }

    /// How long nothing authentic has come.
    pub(crate) fn silence(&self, now: Time) -> Duration {
        now.since(self.last_heard)
    }

    /// When the silence will have lasted `timeout`.
    pub(crate) fn expires(&self, timeout: Duration) -> Time {
        self.last_heard + timeout
    }

    pub(crate) fn is_silent(&self, now: Time) -> bool {
        self.silence(now) >= SILENT_AFTER
    }

    pub(crate) fn receive_memory(&self) -> usize {
        self.receiver.memory()
    }

    /// Bytes of frames that wait to leave, or are kept for repairs.
    pub(crate) fn send_memory(&self) -> usize {
        self.sender.memory()
    }

    /// How long, beyond the one-way delay, frames may take, those that come and those that go.
    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.receiver.set_latency(latency);
        self.sender.set_budget(latency);
    }

    /// What becomes of incoming frames that are not whole when a newer one is.
    pub(crate) fn set_late_policy(&mut self, policy: LatePolicy) {
        self.receiver.set_late_policy(policy);
    }

    pub(crate) fn send_message(&mut self, message: &Message) -> Result<(), Broken> {
        self.control.send(message).map_err(|_| Broken)
    }

    /// Ends the session once what was handed over is sent: [`Self::is_over`] then.
    pub(crate) fn close(&mut self, now: Time, reason: Rejection) {
        self.closing.get_or_insert(Closing {
            reason,
            asked: now,
            sent: None,
        });
    }

    /// Ends the session at once: what was handed over is not the other side's any more.
    pub(crate) fn send_away(&mut self, now: Time, reason: Rejection) {
        self.sender.drop_all();
        self.close(now, reason);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether everything was said, CLOSE included, and only its acknowledgement is waited for.
    pub(crate) fn has_said_close(&self) -> bool {
        self.closing
            .as_ref()
            .is_some_and(|closing| closing.sent.is_some())
    }

    /// Whether a session that is closing has ended, and why it was closed.
    pub(crate) fn is_over(&self, now: Time) -> Option<Rejection> {
        let closing = self.closing.as_ref()?;
        let sent = closing.sent?;
        let over = self.control.is_idle() || now.since(sent) >= CLOSE_TIMEOUT;
        over.then(|| closing.reason.clone())
    }

    // Sending.

    pub(crate) fn set_caps(
        &mut self,
        stream: u16,
        caps: &str,
        first: u32,
    ) -> Result<Result<(), Broken>, Error> {
        let message = self.sender.set_caps(stream, caps, first)?;
        Ok(message.map_or(Ok(()), |message| self.send_message(&message)))
    }

    pub(crate) fn end_stream(&mut self, stream: u16) -> Result<(), Broken> {
        match self.sender.end_stream(stream) {
            Some(message) => self.send_message(&message),
            None => Ok(()),
        }
    }

    /// Queues a frame, or drops it and counts it; returns whether the encoder is to make a key frame.
    pub(crate) fn send_frame(
        &mut self,
        now: Time,
        stream: u16,
        frame: Frame,
    ) -> Result<bool, Error> {
        let refuse = self.closing.is_some() || self.is_silent(now);
        self.sender.push(now, stream, frame, refuse)
    }

    /// How long a silence a caller puts up with: one that gets frames soon misses them.
    fn quiet_after(&self) -> Duration {
        let media = self.receiver.last_symbol();
        let lately = media.is_some_and(|at| self.last_heard.since(at) < QUIET_AFTER);
        if lately {
            QUIET_WITH_MEDIA
        } else {
            QUIET_AFTER
        }
    }

    fn ping_interval(&self, now: Time) -> Duration {
        if self.caller && self.silence(now) >= self.quiet_after() {
            SILENT_PING_INTERVAL
        } else {
            PING_INTERVAL
        }
    }

    fn ping_due(&self, now: Time) -> Time {
        self.last_ping
            .map_or(Time::default(), |last| last + self.ping_interval(now))
    }

    fn control_timeout(&self) -> Duration {
        (self.rtt.unwrap_or(INITIAL_RTT) * 3 / 2).max(MIN_CONTROL_TIMEOUT)
    }

    fn small_due(&self, now: Time) -> Time {
        let answers = !self.pongs.is_empty() || !self.responses.is_empty();
        let answers = answers.then(Time::default);
        let control = self.control.due(self.control_timeout());
        let report = self.receiver.report_due();
        [Some(self.ping_due(now)), answers, control, report]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_default()
    }

    /// Whether [`Self::write_batch`] has something to write.
    pub(crate) fn has_output(&self, now: Time) -> bool {
        self.small_due(now) <= now
            || self.mtu.has_probe()
            || self.sender.next_len(now).is_some()
            || self.close_due().is_some_and(|due| due <= now)
    }

    /// When CLOSE is to be said: once the frames before it have come or had their time.
    fn close_due(&self) -> Option<Time> {
        let closing = self
            .closing
            .as_ref()
            .filter(|closing| closing.sent.is_none())?;
        let patience = self.sender.budget() + self.rtt.unwrap_or(INITIAL_RTT);
        Some(if self.sender.is_settled() {
            Time::default()
        } else {
            closing.asked + patience
        })
    }

    fn send_close(&mut self, now: Time) {
        if self.close_due().is_some_and(|due| due <= now)
            && let Some(closing) = &mut self.closing
        {
            closing.sent = Some(now);
            let message = Message::Close(closing.reason.clone());
            // With the control channel full the timeout ends the session.
            let _ = self.send_message(&message);
        }
    }

    /// Carries out what is due to be sent later than its cause.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.sender.abandon(now);
        self.sender.handle_timeout(now);
        if self.path.decide(now) {
            self.moved(now);
        }
        if !self.is_silent(now) {
            let rtt = self.rtt.unwrap_or(INITIAL_RTT);
            self.mtu.handle_timeout(now, rtt);
            self.sender.set_mtu(self.mtu.size());
        }
    }

    /// The other side is at another address.
    fn moved(&mut self, now: Time) {
        self.stats.moves += 1;
        self.mtu.restart(self.path.remote());
        self.sender.set_mtu(self.mtu.size());
        self.learn_path_anew(now);
    }

    /// The other side is asked to prove its address: this one's is another to it, as it seems.
    fn challenged(&mut self, now: Time, token: Token) {
        let known = self
            .challenged
            .is_some_and(|(at, last)| last == token || now.since(at) < CHALLENGED_AGAIN);
        if !known {
            self.challenged = Some((now, token));
            self.learn_path_anew(now);
        }
    }

    /// The path is another one: how long the old one took says nothing of it.
    fn learn_path_anew(&mut self, now: Time) {
        self.sender.learn_path_anew();
        self.receiver.learn_path_anew();
        self.measure_round_trip(now);
    }

    /// Asks at once how long a round trip takes, and believes the answer alone.
    fn measure_round_trip(&mut self, now: Time) {
        self.rtt_anew = Some(now);
        self.last_ping = None;
    }

    /// A PATH_CHALLENGE to send, and where to; the datagram is appended.
    pub(crate) fn write_challenge(
        &mut self,
        now: Time,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let (remote, token) = self.path.take_challenge(now)?;
        let start = self.begin(buffer);
        Item::PathChallenge { token }.encode(buffer);
        self.seal(start, buffer);
        Some(remote)
    }

    /// Whether [`Self::write_challenge`] has something to write.
    pub(crate) fn has_challenge(&self, now: Time) -> bool {
        self.path.challenge_due().is_some_and(|due| due <= now)
    }

    /// When something is to be done although nothing comes.
    pub(crate) fn poll_timeout(&self, now: Time) -> Time {
        let closing = self
            .closing
            .as_ref()
            .and_then(|closing| closing.sent)
            .map(|sent| sent + CLOSE_TIMEOUT);
        // A ping interval ends early when silence turns into quiet.
        let patience = self.quiet_after();
        let quiet =
            (self.caller && self.silence(now) < patience).then(|| self.last_heard + patience);
        let mtu = self.mtu.poll_timeout(self.rtt.unwrap_or(INITIAL_RTT));
        let mtu = mtu.filter(|_| !self.is_silent(now));
        let path = [
            self.path.challenge_due(),
            self.path.decision_due(),
            self.epochs.expires(),
            mtu,
        ];
        let receiver = self
            .receiver
            .poll_timeout()
            .filter(|_| self.closing.is_none());
        let media = [receiver, self.sender.poll_timeout()];
        let rest = [closing, self.close_due(), quiet, Some(self.small_due(now))];
        media
            .into_iter()
            .chain(rest)
            .chain(path)
            .flatten()
            .min()
            .unwrap_or(now)
    }

    /// Until when nothing that comes can be of use at once; `None`: the next thing may.
    pub(crate) fn lull(&self) -> Option<Time> {
        let only_receives = !self.sender.has_streams() && self.closing.is_none();
        self.receiver.lull().filter(|_| only_receives)
    }

    /// Appends one batch of datagrams, each of the size returned but the last, which may be
    /// shorter; `None` where there is nothing to send.
    pub(crate) fn write_batch(
        &mut self,
        now: Time,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<usize> {
        if self.next_packet > MAX_PACKET_NUMBER - max_segments as u64 {
            return None;
        }
        self.send_close(now);
        if self.small_due(now) <= now {
            let start = self.begin(buffer);
            let again = self.write_small(now, start, buffer);
            let size = self.seal(start, buffer);
            if let Some((feedback, copies)) = again {
                for _ in 1..copies.min(max_segments) {
                    let start = self.begin(buffer);
                    encode_feedback(&feedback, size - HEADER_LEN - TAG_LEN, buffer);
                    pad(start + size - TAG_LEN, buffer);
                    self.seal(start, buffer);
                }
            }
            return Some(size);
        }
        if let Some(Probe { clock, size }) = self.mtu.take_probe() {
            let start = self.begin(buffer);
            Item::Ping { sent: clock }.encode(buffer);
            pad((start + usize::from(size)).saturating_sub(TAG_LEN), buffer);
            return Some(self.seal(start, buffer));
        }
        self.sender.abandon(now);
        let mut size = None;
        for _ in 0..max_segments {
            // Symbols of one frame are equal in size; another size begins another batch.
            let Some(len) = self.sender.next_len(now) else {
                break;
            };
            if size.is_some_and(|size| size != len) {
                break;
            }
            let start = self.begin(buffer);
            self.sender.write(now, self.next_packet, buffer);
            self.mtu.on_sent(now, self.next_packet, len);
            size = Some(self.seal(start, buffer));
        }
        size
    }

    fn begin(&mut self, buffer: &mut Vec<u8>) -> usize {
        let start = buffer.len();
        let header = Header {
            kind: Kind::Data,
            suite: 0,
            index: self.epochs.current().remote_index,
            packet_number: self.next_packet,
        };
        buffer.extend_from_slice(&header.encode());
        start
    }

    fn seal(&mut self, start: usize, buffer: &mut Vec<u8>) -> usize {
        let keys = &self.epochs.current().keys;
        keys.seal(self.next_packet, buffer, start);
        self.next_packet += 1;
        self.stats.packets_sent += 1;
        let len = buffer.len() - start;
        self.stats.bytes_sent += len as u64;
        len
    }

    /// Writes all but media; returns the report that it holds, and how many datagrams are to carry
    /// that.
    fn write_small(
        &mut self,
        now: Time,
        start: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<(Feedback, usize)> {
        if self.ping_due(now) <= now {
            self.last_ping = Some(now);
            Item::Ping {
                sent: now.as_nanos(),
            }
            .encode(buffer);
        }
        for (sent, received) in self.pongs.drain(..) {
            let (received, answered) = (received.as_nanos(), now.as_nanos());
            Item::Pong {
                sent,
                received,
                answered,
            }
            .encode(buffer);
        }
        for token in self.responses.drain(..) {
            Item::PathResponse { token }.encode(buffer);
        }
        let limit = start + usize::from(LEAST_MTU) - TAG_LEN;
        let mut again = None;
        if self.receiver.report_due().is_some_and(|due| due <= now) {
            let (feedback, copies) = self.receiver.report(now, self.rtt.unwrap_or(INITIAL_RTT));
            encode_feedback(&feedback, limit - buffer.len(), buffer);
            again = Some((feedback, copies));
        }
        self.control
            .write(now, self.control_timeout(), limit, buffer);
        again
    }

    /// Hands over what is due.
    pub(crate) fn poll_streams(
        &mut self,
        now: Time,
        out: &mut Vec<Happened>,
    ) -> Result<(), Broken> {
        if self.closing.is_none() {
            self.receiver.poll(now, out);
        }
        self.tell_stats(now)?;
        for stream in self.receiver.take_wants_key() {
            self.request_keyframe(now, stream)?;
        }
        Ok(())
    }

    /// Asks for a key frame; requests close together are one.
    pub(crate) fn request_keyframe(&mut self, now: Time, stream: u16) -> Result<(), Broken> {
        let asked = self.keyframe_asked.get(&stream);
        if stream >= MAX_STREAMS || asked.is_some_and(|at| now.since(*at) < KEYFRAME_INTERVAL) {
            return Ok(());
        }
        self.keyframe_asked.insert(stream, now);
        self.send_message(&Message::KeyframeRequest { stream })
    }
}
