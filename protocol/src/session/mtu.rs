//! How large a datagram the path carries (RFC 8899): PINGs with padding, from the largest size
//! down, and a watch over whether large datagrams go on arriving.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Time;
use crate::replay::ReplayWindow;
use crate::wire::feedback::Feedback;

/// UDP payload that every path is taken to carry (fits an IPv6 tunnel of 1280 bytes).
pub(super) const BASE_MTU: u16 = 1200;
/// The same where a path carries no more than IPv4 asks of it; datagrams without media never have
/// more.
pub(super) const LEAST_MTU: u16 = 548;
/// Sizes of IP packets tried: Ethernet, PPPoE, WireGuard, a common VPN, the least of IPv6, and what
/// a session begins with.
const PACKETS: [u16; 6] = [1500, 1492, 1420, 1360, 1280, BASE_MTU + IPV4_HEADERS];
/// Bytes of the headers of IP and UDP.
const IPV4_HEADERS: u16 = 20 + 8;
const IPV6_HEADERS: u16 = 40 + 8;
/// Losses of one size after which a smaller one is tried.
const MAX_LOSSES: u8 = 3;
/// The same before the least is gone to, which costs most; it is used for the time being from the
/// first on.
const LOSSES_TO_LEAST: u8 = 6;
/// How long a probe may take (RFC 8899, section 5.1.1: PROBE_TIMER).
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// After this, larger sizes are tried again (RFC 8899, section 5.1.1: PMTU_RAISE_TIMER).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// The same, after large datagrams ceased to arrive.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long nothing may be heard of large datagrams before that is looked into.
const CHECK_AFTER: Duration = Duration::from_millis(100);
/// Time between two checks while nothing at all arrives, at most.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A PING to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// The clock that it carries, by which its PONG is known.
    pub(super) clock: u64,
    /// Size of the datagram; 0 without padding.
    pub(super) size: u16,
}

enum Search {
    /// Trying a size of [`PACKETS`].
    At {
        rung: usize,
        losses: u8,
        sent: Option<(u64, Time)>,
    },
    Rests(Time),
}

/// A small and a large PING, sent together.
struct Check {
    at: Time,
    clocks: [u64; 2],
    came: [bool; 2],
    losses: u8,
    interval: Duration,
}

pub(super) struct Mtu {
    size: u16,
    fixed: bool,
    headers: u16,
    /// Media was sent: before, the size does not matter.
    active: bool,
    search: Search,
    /// Numbers of the packets above [`Self::smaller`].
    large: ReplayWindow,
    /// Since when nothing was heard of large packets that were sent.
    unheard: Option<Time>,
    check: Option<Check>,
    /// To be sent: of the search, and of a check.
    waiting: [Option<Probe>; 3],
}

impl Mtu {
    /// `fixed` is the size to use; 0 finds it out.
    pub(super) fn new(remote: SocketAddr, fixed: u16) -> Self {
        Self {
            size: if fixed == 0 { BASE_MTU } else { fixed },
            fixed: fixed != 0,
            headers: headers(remote),
            active: false,
            search: begin(),
            large: ReplayWindow::new(),
            unheard: None,
            check: None,
            waiting: [None; 3],
        }
    }

    /// Bytes of UDP payload: less while the path is suspected to carry no more.
    pub(super) fn size(&self) -> u16 {
        let suspected = |check: &Check| self.size > BASE_MTU || check.losses > 0;
        match self.check.as_ref().is_some_and(suspected) {
            true => self.smaller(),
            false => self.size,
        }
    }

    /// The size to fall to where the path ceases to carry this one. What IPv6 has to carry is enough
    /// for the base size.
    fn smaller(&self) -> u16 {
        match self.headers {
            IPV4_HEADERS if self.size <= BASE_MTU => LEAST_MTU,
            _ => BASE_MTU,
        }
    }

    /// Begins again on another path.
    pub(super) fn restart(&mut self, remote: SocketAddr) {
        if !self.fixed {
            let active = self.active;
            *self = Self::new(remote, 0);
            self.active = active;
        }
    }

    /// Takes note of a datagram with media that leaves.
    pub(super) fn on_sent(&mut self, now: Time, number: u64, len: usize) {
        self.active = true;
        let smaller = self.smaller();
        if self.size > smaller && len > smaller.into() {
            self.large.take(number);
            self.unheard.get_or_insert(now);
        }
    }

    pub(super) fn on_feedback(&mut self, feedback: &Feedback) {
        let samples = feedback.samples.iter().map(|sample| u64::from(sample.back));
        let mut came = samples
            .chain([0])
            .filter_map(|back| feedback.largest.checked_sub(back));
        if self.unheard.is_some() && came.any(|number| self.large.has(number)) {
            (self.unheard, self.check) = (None, None);
        }
    }

    pub(super) fn on_pong(&mut self, now: Time, clock: u64) {
        if let Search::At {
            rung,
            sent: Some((sent, _)),
            ..
        } = self.search
            && sent == clock
        {
            self.size = PACKETS[rung] - self.headers;
            self.search = Search::Rests(now + RAISE_AFTER);
        }
        if let Some(check) = &mut self.check {
            for (came, sent) in check.came.iter_mut().zip(check.clocks) {
                *came |= sent == clock;
            }
            if check.came[1] {
                (self.unheard, self.check) = (None, None);
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self, rtt: Duration) -> Option<Time> {
        if self.fixed || !self.active {
            return None;
        }
        if self.waiting.iter().any(Option::is_some) {
            return Some(Time::default());
        }
        let search = match &self.search {
            Search::At { sent: None, .. } => Time::default(),
            Search::At {
                sent: Some((_, at)),
                ..
            } => *at + PROBE_TIMEOUT.max(rtt * 2),
            Search::Rests(until) => *until,
        };
        let check = match &self.check {
            Some(check) => Some(check.at + check.interval),
            None => self.unheard.map(|since| since + CHECK_AFTER.max(rtt * 2)),
        };
        Some(check.map_or(search, |check| check.min(search)))
    }

    /// Carries out what is due.
    pub(super) fn handle_timeout(&mut self, now: Time, rtt: Duration) {
        if self.poll_timeout(rtt).is_none_or(|due| due > now) {
            return;
        }
        self.search(now, rtt);
        self.check(now, rtt);
    }

    fn search(&mut self, now: Time, rtt: Duration) {
        match &mut self.search {
            Search::Rests(until) if *until <= now => self.search = begin(),
            Search::At { rung, losses, sent } => {
                if sent
                    .take_if(|(_, at)| now.since(*at) >= PROBE_TIMEOUT.max(rtt * 2))
                    .is_some()
                {
                    *losses += 1;
                    if *losses == MAX_LOSSES {
                        (*rung, *losses) = (*rung + 1, 0);
                    }
                }
            }
            Search::Rests(_) => return,
        }
        let Search::At { rung, sent, .. } = &mut self.search else {
            return;
        };
        let size = PACKETS.get(*rung).map(|packet| packet - self.headers);
        let Some(size) = size.filter(|size| *size > self.size) else {
            self.search = Search::Rests(now + RAISE_AFTER);
            return;
        };
        if sent.is_none() {
            let clock = now.as_nanos() + 1;
            *sent = Some((clock, now));
            self.waiting[0] = Some(Probe { clock, size });
        }
    }

    fn check(&mut self, now: Time, rtt: Duration) {
        let interval = CHECK_AFTER.max(rtt * 3 / 2);
        let mut losses = 0;
        let mut wait = interval;
        match &self.check {
            None if self
                .unheard
                .is_none_or(|at| now.since(at) < CHECK_AFTER.max(rtt * 2)) =>
            {
                return;
            }
            Some(check) if now.since(check.at) < check.interval => return,
            // The small one alone came.
            Some(check) if check.came[0] => losses = check.losses + 1,
            // Nothing comes at all: that says nothing about sizes.
            Some(check) => wait = (check.interval * 2).min(MAX_CHECK_INTERVAL.max(interval)),
            None => {}
        }
        let enough = match self.size > BASE_MTU {
            true => MAX_LOSSES,
            false => LOSSES_TO_LEAST,
        };
        if losses == enough {
            self.size = self.smaller();
            (self.unheard, self.check) = (None, None);
            self.search = Search::Rests(now + RETRY_AFTER);
            return;
        }
        let clocks = [now.as_nanos() + 2, now.as_nanos() + 3];
        self.check = Some(Check {
            at: now,
            clocks,
            came: [false; 2],
            losses,
            interval: wait,
        });
        for (place, (clock, size)) in [(clocks[0], 0), (clocks[1], self.size)]
            .into_iter()
            .enumerate()
        {
            self.waiting[1 + place] = Some(Probe { clock, size });
        }
    }

    /// A PING to send.
    pub(super) fn take_probe(&mut self) -> Option<Probe> {
        self.waiting.iter_mut().find_map(Option::take)
    }

    pub(super) fn has_probe(&self) -> bool {
        self.waiting.iter().any(Option::is_some)
    }
}

fn begin() -> Search {
    Search::At {
        rung: 0,
        losses: 0,
        sent: None,
    }
}

fn headers(remote: SocketAddr) -> u16 {
    match remote.ip().to_canonical() {
        IpAddr::V4(_) => IPV4_HEADERS,
        IpAddr::V6(_) => IPV6_HEADERS,
    }
}
