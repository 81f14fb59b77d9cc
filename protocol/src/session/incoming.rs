//! What comes of a session's datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use super::receiver::SHARE_UNIT;
use super::{Broken, Happened, INITIAL_RTT, MAX_PONGS, Session};
use crate::Time;
use crate::reassembly::{Limits, Outcome};
use crate::wire::control::Message;
use crate::wire::fragment::Fragment;
use crate::wire::header::Header;
use crate::wire::item::{Item, Items};

/// A PONG that took longer is no measure of the path: its PING was never sent, or somebody slept.
const MAX_RTT: Duration = Duration::from_secs(10);

impl Session {
    /// Takes a DATA datagram of this session, now, that arrived then. Returns whether it was
    /// authentic and new; [`Self::poll_streams`] is to follow.
    pub(crate) fn handle_data(
        &mut self,
        [now, arrived]: [Time; 2],
        from: SocketAddr,
        header: Header,
        datagram: &mut [u8],
        room: usize,
        out: &mut Vec<Happened>,
    ) -> Result<bool, Broken> {
        let len = datagram.len();
        let packet_number = header.packet_number;
        let repeated = !self.replay.is_new(packet_number);
        if repeated && !self.path.wants_repeated(from, packet_number) {
            self.stats.packets_received_dropped += 1;
            return Ok(false);
        }
        let opened = self.epochs.open(header.index, packet_number, datagram);
        let Some((plaintext, next)) = opened else {
            self.stats.packets_received_dropped += 1;
            return Ok(false);
        };
        let newest = !repeated && self.replay.take(packet_number);
        let newest = newest.then(|| self.rtt.unwrap_or(INITIAL_RTT));
        self.path
            .handle_packet(now, from, packet_number, len, newest);
        if repeated {
            self.stats.packets_received_dropped += 1;
            return Ok(false);
        }
        if let Some(next) = next {
            self.turn_keys(now, next);
        }
        self.last_heard = now;
        self.stats.packets_received += 1;
        self.stats.bytes_received += len as u64;
        self.receiver
            .handle_packet(arrived, packet_number, len, &self.replay);
        for item in Items::new(plaintext) {
            let Ok(item) = item else {
                self.stats.packets_received_dropped += 1;
                break;
            };
            match item {
                Item::Ping { sent } => {
                    if self.pongs.len() < MAX_PONGS {
                        self.pongs.push_back((sent, arrived));
                    }
                }
                Item::Pong {
                    sent,
                    received,
                    answered,
                } => self.handle_pong(arrived, sent, received, answered),
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
                Item::Feedback(feedback) => {
                    let rtt = self.rtt.unwrap_or(INITIAL_RTT);
                    if feedback.largest < self.next_packet {
                        self.mtu.on_feedback(&feedback);
                        self.sender.set_mtu(self.mtu.size());
                        self.sender.handle_feedback([now, arrived], &feedback, rtt);
                        if self.sender.take_longer() {
                            self.measure_round_trip(now);
                        }
                    }
                }
                Item::PathChallenge { token } => {
                    if self.responses.len() < MAX_PONGS {
                        self.responses.push_back(token);
                    }
                    self.challenged(now, token);
                }
                Item::PathResponse { token } => {
                    if self.path.handle_response(now, token) {
                        self.moved(now);
                    }
                }
                Item::Fragment { fragment, symbol } => {
                    self.handle_fragment([now, arrived], &fragment, symbol, room)
                }
            }
        }
        Ok(true)
    }

    fn handle_pong(&mut self, now: Time, sent: u64, received: u64, answered: u64) {
        self.mtu.on_pong(now, sent);
        self.sender.set_mtu(self.mtu.size());
        let away = answered.saturating_sub(received);
        let Some(nanos) = now
            .as_nanos()
            .checked_sub(sent)
            .and_then(|n| n.checked_sub(away))
        else {
            return;
        };
        let sample = Duration::from_nanos(nanos);
        if sample > MAX_RTT {
            return;
        }
        // RFC 6298, section 2: an eighth of each new sample.
        let known = match self.rtt_anew {
            Some(since) if sent >= since.as_nanos() => None,
            _ => self.rtt,
        };
        if known.is_none() {
            self.rtt_anew = None;
        }
        let rtt = known.map_or(sample, |rtt| (rtt * 7 + sample) / 8);
        self.rtt = Some(rtt);
        self.stats.rtt_us = rtt.as_micros() as u64;
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
                if !self
                    .receiver
                    .stream(stream)
                    .handle_caps(generation, first, caps)
                {
                    return Err(Broken);
                }
            }
            Message::StreamEnd { stream, end } => self.receiver.stream(stream).handle_end(now, end),
            Message::Stats(received, sent) => {
                if received.share > 0 {
                    let share = f64::from(received.share) / SHARE_UNIT;
                    self.sender.set_share(now, share);
                }
                self.receiver.set_limited(sent.target > 0);
                self.heard = Some((received, sent));
            }
            other => {
                // What came before in order is told before.
                self.poll_streams(now, out)?;
                out.push(Happened::Message(other));
            }
        }
        Ok(())
    }

    fn handle_fragment(
        &mut self,
        times: [Time; 2],
        fragment: &Fragment,
        symbol: &[u8],
        room: usize,
    ) {
        if self.closing.is_some() {
            return;
        }
        let limits = Limits {
            frame: self.max_frame_size,
            memory: room,
        };
        let rtt = self.rtt.unwrap_or(INITIAL_RTT);
        match self
            .receiver
            .handle_fragment(times, fragment, symbol, limits, rtt)
        {
            Outcome::Taken | Outcome::Duplicate | Outcome::Old => {}
            Outcome::Inconsistent | Outcome::TooLarge(_) | Outcome::NoRoom => {
                self.stats.packets_received_dropped += 1;
            }
        }
        if self.receiver.take_begun_anew() {
            let [now, _] = times;
            self.measure_round_trip(now);
        }
    }
}
