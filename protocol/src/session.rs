//! One authenticated association: packet numbers, the control channel, streams both ways.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Clock;
use crate::control::Control;
use crate::fragment::{Coded, Layout, flags_to_wire, frame_header, symbol_room};
use crate::handshake::Established;
use crate::reassembly::{Limits, Outcome, Output, Reassembly};
use crate::replay::ReplayWindow;
use crate::wire::control::Message;
use crate::wire::fragment::Fragment;
use crate::wire::header::{HEADER_LEN, Header, Kind, MAX_PACKET_NUMBER, TAG_LEN};
use crate::wire::item::{Item, Items, encode_fragment_head};
use crate::{Error, Frame, MAX_CAPS, MAX_STREAMS, Rejection, Stats, Time};

/// UDP payload that every path is taken to carry (fits an IPv6 tunnel of 1280 bytes).
pub(crate) const BASE_MTU: u16 = 1200;
/// Frames waiting to be sent, at most; a new one beyond that is dropped whole.
pub(crate) const MAX_QUEUED_FRAMES: usize = 64;
/// Bytes waiting to be sent, at most.
pub(crate) const MAX_QUEUED_BYTES: usize = 16 << 20;
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
/// Pings waiting for their answer to leave, at most.
const MAX_PONGS: usize = 4;

/// A stream that this side sends.
#[derive(Clone, Debug)]
pub(crate) struct SendStream {
    pub(crate) caps: String,
    generation: u8,
    next: u32,
}

struct Queued {
    fragment: Fragment,
    layout: Layout,
    coded: Coded,
    /// The place of the next data symbol to send.
    place: usize,
}

/// What happened inside the session.
#[derive(Debug)]
pub(crate) enum Happened {
    Message(Message),
    Stream { stream: u16, output: Output },
}

/// The other side cannot be understood, or does not take what is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

pub(crate) struct Session {
    pub(crate) remote: SocketAddr,
    established: Established,
    caller: bool,
    replay: ReplayWindow,
    next_packet: u64,
    control: Control,
    rtt: Option<Duration>,
    last_heard: Time,
    last_ping: Option<Time>,
    pongs: VecDeque<(u64, Time)>,
    latency: Duration,
    mtu: u16,
    max_frame_size: usize,
    send: BTreeMap<u16, SendStream>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    receive: BTreeMap<u16, Reassembly>,
    clock: Clock,
    closing: Option<(Rejection, Time)>,
    close_sent: bool,
    pub(crate) stats: Stats,
}

impl Session {
    pub(crate) fn new(
        now: Time,
        remote: SocketAddr,
        established: Established,
        caller: bool,
        mtu: u16,
        latency: Duration,
        max_frame_size: usize,
    ) -> Self {
        let cipher = established.keys.cipher().name();
        Self {
            remote,
            established,
            caller,
            replay: ReplayWindow::new(),
            next_packet: 0,
            control: Control::default(),
            rtt: None,
            last_heard: now,
            last_ping: None,
            pongs: VecDeque::new(),
            latency,
            mtu: if mtu == 0 { BASE_MTU } else { mtu },
            max_frame_size,
            send: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            receive: BTreeMap::new(),
            clock: Clock::new(),
            closing: None,
            close_sent: false,
            stats: Stats {
                cipher,
                ..Stats::default()
            },
        }
    }

    pub(crate) fn local_index(&self) -> u32 {
        self.established.local_index
    }

    pub(crate) fn remote_index(&self) -> u32 {
        self.established.remote_index
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
        self.receive.values().map(Reassembly::memory).sum()
    }

    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
        self.receive
            .values_mut()
            .for_each(|stream| stream.set_latency(latency));
    }

    pub(crate) fn send_message(&mut self, message: &Message) -> Result<(), Broken> {
        self.control.send(message).map_err(|_| Broken)
    }

    /// Ends the session once what was handed over is sent: [`Self::is_over`] then.
    pub(crate) fn close(&mut self, now: Time, reason: Rejection) {
        self.closing.get_or_insert((reason, now + CLOSE_TIMEOUT));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether a session that is closing has ended, and why it was closed.
    pub(crate) fn is_over(&self, now: Time) -> Option<Rejection> {
        let (reason, deadline) = self.closing.as_ref()?;
        let over = *deadline <= now || (self.close_sent && self.control.is_idle());
        over.then(|| reason.clone())
    }

    // Sending.

    pub(crate) fn set_caps(
        &mut self,
        stream: u16,
        caps: &str,
        first: u32,
    ) -> Result<Result<(), Broken>, Error> {
        if stream >= MAX_STREAMS {
            return Err(Error::BadStream(stream));
        }
        if caps.len() > MAX_CAPS {
            return Err(Error::CapsTooLong(caps.len()));
        }
        let known = self.send.get(&stream);
        if known.is_some_and(|known| known.caps == caps) {
            return Ok(Ok(()));
        }
        let entry = SendStream {
            caps: caps.into(),
            generation: known.map_or(0, |known| known.generation.wrapping_add(1)),
            next: known.map_or(first, |known| known.next),
        };
        let message = Message::Caps {
            stream,
            generation: entry.generation,
            first: entry.next,
            caps: caps.into(),
        };
        self.send.insert(stream, entry);
        Ok(self.send_message(&message))
    }

    pub(crate) fn end_stream(&mut self, stream: u16) -> Result<(), Broken> {
        match self.send.remove(&stream) {
            Some(entry) => self.send_message(&Message::StreamEnd {
                stream,
                end: entry.next,
            }),
            None => Ok(()),
        }
    }

    /// Queues a frame, or drops it and counts it.
    pub(crate) fn send_frame(&mut self, now: Time, stream: u16, frame: Frame) -> Result<(), Error> {
        let room = symbol_room(self.mtu);
        let size = frame.data.len();
        let layout = Layout::new(size, room)
            .filter(|_| size <= self.max_frame_size)
            .ok_or(Error::FrameTooLarge {
                size,
                limit: self.max_frame_size,
            })?;
        let entry = self.send.get_mut(&stream).ok_or(Error::NoCaps(stream))?;
        let full =
            self.queue.len() >= MAX_QUEUED_FRAMES || self.queued_bytes + size > MAX_QUEUED_BYTES;
        if full || self.closing.is_some() || now.since(self.last_heard) >= SILENT_AFTER {
            self.stats.frames_dropped += 1;
            return Ok(());
        }
        let fragment = Fragment {
            flags: flags_to_wire(frame.flags),
            stream,
            sequence: entry.next,
            capture: frame.capture.low_micros(),
            symbol: 0,
            k: layout.k,
            first_flight: layout.k,
            block: 0,
            blocks: layout.blocks,
            code: 1,
        };
        entry.next = entry.next.wrapping_add(1);
        let header = frame_header(&frame, entry.generation).encode();
        self.queued_bytes += size;
        self.queue.push_back(Queued {
            fragment,
            layout,
            coded: Coded {
                header,
                data: frame.data,
            },
            place: 0,
        });
        Ok(())
    }

    fn ping_interval(&self, now: Time) -> Duration {
        if self.caller && self.silence(now) >= QUIET_AFTER {
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
        let pongs = if self.pongs.is_empty() {
            None
        } else {
            Some(Time::default())
        };
        let control = self.control.due(self.control_timeout());
        [Some(self.ping_due(now)), pongs, control]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_default()
    }

    /// Whether [`Self::write_batch`] has something to write.
    pub(crate) fn has_output(&self, now: Time) -> bool {
        !self.queue.is_empty() || self.close_is_due() || self.small_due(now) <= now
    }

    /// Says CLOSE once the frames before it are sent.
    fn send_close(&mut self, now: Time) {
        if self.close_is_due() {
            self.close_sent = true;
            if let Some((reason, deadline)) = &mut self.closing {
                *deadline = now + CLOSE_TIMEOUT;
                let message = Message::Close(reason.clone());
                // With the control channel full the deadline ends the session.
                let _ = self.send_message(&message);
            }
        }
    }

    fn close_is_due(&self) -> bool {
        self.closing.is_some() && !self.close_sent && self.queue.is_empty()
    }

    /// When something is to be done although nothing comes.
    pub(crate) fn poll_timeout(&self, now: Time) -> Time {
        let streams = self
            .receive
            .values()
            .filter_map(|s| s.poll_timeout(&self.clock));
        let closing = self.closing.as_ref().map(|(_, deadline)| *deadline);
        // A ping interval ends early when silence turns into quiet.
        let quiet =
            (self.caller && self.silence(now) < QUIET_AFTER).then(|| self.last_heard + QUIET_AFTER);
        streams
            .chain(closing)
            .chain(quiet)
            .chain([self.small_due(now)])
            .min()
            .unwrap_or(now)
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
            self.write_small(now, start, buffer);
            return Some(self.seal(start, buffer));
        }
        let mut size = None;
        for _ in 0..max_segments {
            // Symbols of one frame are equal in size; another frame begins another batch.
            let Some(queued) = self.queue.front() else {
                break;
            };
            let len = HEADER_LEN
                + crate::wire::fragment::FRAGMENT_LEN
                + usize::from(queued.layout.symbol_len)
                + TAG_LEN;
            if size.is_some_and(|size| size != len) {
                break;
            }
            let start = self.begin(buffer);
            self.write_symbol(buffer);
            size = Some(self.seal(start, buffer));
        }
        size
    }

    fn begin(&mut self, buffer: &mut Vec<u8>) -> usize {
        let start = buffer.len();
        let header = Header {
            kind: Kind::Data,
            suite: 0,
            index: self.established.remote_index,
            packet_number: self.next_packet,
        };
        buffer.extend_from_slice(&header.encode());
        start
    }

    fn seal(&mut self, start: usize, buffer: &mut Vec<u8>) -> usize {
        self.established.keys.seal(self.next_packet, buffer, start);
        self.next_packet += 1;
        self.stats.packets_sent += 1;
        let len = buffer.len() - start;
        self.stats.bytes_sent += len as u64;
        len
    }

    fn write_small(&mut self, now: Time, start: usize, buffer: &mut Vec<u8>) {
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
        let limit = start + usize::from(BASE_MTU) - TAG_LEN;
        self.control
            .write(now, self.control_timeout(), limit, buffer);
    }

    fn write_symbol(&mut self, buffer: &mut Vec<u8>) {
        let Some(queued) = self.queue.front_mut() else {
            return;
        };
        let len = usize::from(queued.layout.symbol_len);
        let (block, symbol) = queued.layout.locate(queued.place);
        encode_fragment_head(
            &Fragment {
                block,
                symbol,
                ..queued.fragment
            },
            buffer,
        );
        queued.coded.write(queued.place * len, len, buffer);
        queued.place += 1;
        if queued.place == queued.layout.symbols() {
            self.queued_bytes -= queued.coded.data.len();
            self.queue.pop_front();
            self.stats.frames_sent += 1;
        }
    }

    // Receiving.

    /// Takes a DATA datagram of this session. Returns whether it was authentic and new.
    pub(crate) fn handle_data(
        &mut self,
        now: Time,
        from: SocketAddr,
        packet_number: u64,
        datagram: &mut [u8],
        room: usize,
        out: &mut Vec<Happened>,
    ) -> Result<bool, Broken> {
        let len = datagram.len() as u64;
        if !self.replay.is_new(packet_number) {
            self.stats.packets_received_dropped += 1;
            return Ok(false);
        }
        let Some(plaintext) = self.established.keys.open(packet_number, datagram) else {
            self.stats.packets_received_dropped += 1;
            return Ok(false);
        };
        if self.replay.take(packet_number) {
            // The newest packet tells where the peer is now.
            self.remote = from;
        }
        self.last_heard = now;
        self.stats.packets_received += 1;
        self.stats.bytes_received += len;
        for item in Items::new(plaintext) {
            let Ok(item) = item else {
                self.stats.packets_received_dropped += 1;
                break;
            };
            match item {
                Item::Ping { sent } => {
                    if self.pongs.len() < MAX_PONGS {
                        self.pongs.push_back((sent, now));
                    }
                }
                Item::Pong {
                    sent,
                    received,
                    answered,
                } => self.handle_pong(now, sent, received, answered),
                Item::Control {
                    sequence,
                    more,
                    piece,
                } => {
                    let messages = self
                        .control
                        .handle_piece(sequence, more, piece)
                        .map_err(|_| Broken)?;
                    for message in messages {
                        self.handle_message(now, message, out)?;
                    }
                }
                Item::ControlAck { next } => self.control.handle_ack(next),
                Item::Fragment { fragment, symbol } => {
                    self.handle_fragment(now, &fragment, symbol, room)
                }
            }
        }
        self.poll_streams(now, out);
        Ok(true)
    }

    fn handle_pong(&mut self, now: Time, sent: u64, received: u64, answered: u64) {
        let away = answered.saturating_sub(received);
        let Some(nanos) = now
            .as_nanos()
            .checked_sub(sent)
            .and_then(|n| n.checked_sub(away))
        else {
            return;
        };
        let sample = Duration::from_nanos(nanos);
        // RFC 6298, section 2: an eighth of each new sample.
        let rtt = self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8);
        self.rtt = Some(rtt);
        self.stats.rtt_us = rtt.as_micros() as u64;
    }

    fn stream(&mut self, stream: u16) -> &mut Reassembly {
        let latency = self.latency;
        self.receive
            .entry(stream)
            .or_insert_with(|| Reassembly::new(stream, latency))
    }

    fn handle_message(
        &mut self,
        now: Time,
        message: Message,
        out: &mut Vec<Happened>,
    ) -> Result<(), Broken> {
        match message {
            Message::Caps {
                stream,
                generation,
                first,
                caps,
            } => {
                if !self.stream(stream).handle_caps(generation, first, caps) {
                    return Err(Broken);
                }
            }
            Message::StreamEnd { stream, end } => self.stream(stream).handle_end(now, end),
            other => {
                // What came before in order is told before.
                self.poll_streams(now, out);
                out.push(Happened::Message(other));
            }
        }
        Ok(())
    }

    fn handle_fragment(&mut self, now: Time, fragment: &Fragment, symbol: &[u8], room: usize) {
        if self.closing.is_some() {
            return;
        }
        let capture = self.clock.extend(fragment.capture);
        self.clock.observe(now, capture);
        let limits = Limits {
            frame: self.max_frame_size,
            memory: room,
        };
        match self
            .stream(fragment.stream)
            .handle_fragment(fragment, symbol, capture, limits)
        {
            Outcome::Taken | Outcome::Duplicate | Outcome::Old => {}
            Outcome::Inconsistent | Outcome::TooLarge(_) | Outcome::NoRoom => {
                self.stats.packets_received_dropped += 1;
            }
        }
    }

    /// Hands over what is due.
    pub(crate) fn poll_streams(&mut self, now: Time, out: &mut Vec<Happened>) {
        for (stream, reassembly) in &mut self.receive {
            reassembly.poll(now, &self.clock, |output| {
                out.push(Happened::Stream {
                    stream: *stream,
                    output,
                });
            });
        }
    }

    /// Counters, those of the streams included.
    pub(crate) fn stats(&self, now: Time) -> Stats {
        let sum = |of: fn(&Reassembly) -> u64| self.receive.values().map(of).sum();
        Stats {
            frames_delivered: sum(|s| s.delivered),
            frames_lost: sum(|s| s.lost),
            mtu: self.mtu,
            connected: !self.is_silent(now),
            ..self.stats.clone()
        }
    }
}
