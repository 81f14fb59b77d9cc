//! Where the other side is: an address that its datagrams begin to come from is asked to prove
//! itself before anything else is sent there, and the old one is kept as long as it speaks.

use std::net::SocketAddr;
use std::time::Duration;

use ring::hmac;

use crate::Time;
use crate::wire::header::{HEADER_LEN, TAG_LEN};

/// What a PATH_CHALLENGE carries, and its PATH_RESPONSE.
pub(crate) type Token = [u8; 8];

/// Bytes sent to an address that has not proved itself, for each byte that came from it.
const MAX_AMPLIFICATION: usize = 3;
/// Time between two challenges.
const REPEAT: Duration = Duration::from_millis(100);
/// How long an address may take to prove itself, and how long the old one is kept without
/// another question once it has.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of a datagram with a PATH_CHALLENGE.
const CHALLENGE_LEN: usize = HEADER_LEN + 1 + size_of::<Token>() + TAG_LEN;

struct Question {
    token: Token,
    asked: Option<Time>,
    answered: bool,
}

impl Question {
    /// When it is to be asked; `from`: when it could be at first.
    fn due(&self, from: Time) -> Option<Time> {
        (!self.answered).then(|| self.asked.map_or(from, |at| at + REPEAT))
    }
}

/// A new address that is being tried.
struct Probe {
    candidate: SocketAddr,
    since: Time,
    /// What the candidate copied from the old address has come from there, too, by then.
    not_before: Time,
    /// The number of the packet that came from it first.
    first: u64,
    new: Question,
    old: Question,
    /// Something as new as what the candidate sent came from the old address, too.
    old_speaks: bool,
    came: usize,
    sent: usize,
}

pub(super) struct Path {
    remote: SocketAddr,
    secret: hmac::Key,
    asked: u64,
    probe: Option<Probe>,
    /// No other address is tried before.
    kept_until: Time,
}

impl Path {
    /// `secret` is random and stays here: what is asked cannot be guessed.
    pub(super) fn new(remote: SocketAddr, secret: [u8; 32]) -> Self {
        Self {
            remote,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            asked: 0,
            probe: None,
            kept_until: Time::default(),
        }
    }

    /// Where the other side is.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether a repeated packet from `from` would tell anything.
    pub(super) fn wants_repeated(&self, from: SocketAddr, number: u64) -> bool {
        let waiting = self.probe.as_ref().filter(|probe| !probe.old_speaks);
        from == self.remote && waiting.is_some_and(|probe| number >= probe.first)
    }

    /// Takes note of where an authentic packet came from. `newest` is the round trip's time where
    /// it has the highest number.
    pub(super) fn handle_packet(
        &mut self,
        now: Time,
        from: SocketAddr,
        number: u64,
        len: usize,
        newest: Option<Duration>,
    ) {
        match &mut self.probe {
            Some(probe) if from == self.remote => probe.old_speaks |= number >= probe.first,
            Some(probe) if from == probe.candidate => probe.came += len,
            None if from != self.remote && now >= self.kept_until => {
                let Some(rtt) = newest else {
                    return;
                };
                let [new, old] = [self.question(), self.question()];
                self.probe = Some(Probe {
                    candidate: from,
                    since: now,
                    not_before: now + rtt.min(PATIENCE / 2),
                    first: number,
                    new,
                    old,
                    old_speaks: false,
                    came: len,
                    sent: 0,
                });
            }
            _ => {}
        }
    }

    fn question(&mut self) -> Question {
        self.asked += 1;
        let mut token = Token::default();
        let tag = hmac::sign(&self.secret, &self.asked.to_be_bytes());
        token.copy_from_slice(&tag.as_ref()[..8]);
        Question {
            token,
            asked: None,
            answered: false,
        }
    }

    /// Takes an answer. Returns whether the other side is at another address now.
    pub(super) fn handle_response(&mut self, now: Time, token: Token) -> bool {
        if let Some(probe) = &mut self.probe {
            for question in [&mut probe.new, &mut probe.old] {
                question.answered |= question.token == token && question.asked.is_some();
            }
        }
        self.decide(now)
    }

    /// Decides where it can. Returns whether the other side is at another address now.
    pub(super) fn decide(&mut self, now: Time) -> bool {
        let Some(probe) = &self.probe else {
            return false;
        };
        let over = now.since(probe.since) >= PATIENCE;
        if probe.old_speaks && probe.old.answered {
            // Somebody forwards the other side's datagrams, or only some of them go another way.
            self.kept_until = probe.since + PATIENCE;
            self.probe = None;
        } else if probe.new.answered && (over || !probe.old_speaks && now >= probe.not_before) {
            self.remote = probe.candidate;
            self.probe = None;
            return true;
        } else if over {
            self.probe = None;
        }
        false
    }

    /// A challenge to send, and where to.
    pub(super) fn take_challenge(&mut self, now: Time) -> Option<(SocketAddr, Token)> {
        let due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        let (new, old) = self.challenges_due();
        let probe = self.probe.as_mut()?;
        let (to, question) = if due(new) {
            probe.sent += CHALLENGE_LEN;
            (probe.candidate, &mut probe.new)
        } else if due(old) {
            (self.remote, &mut probe.old)
        } else {
            return None;
        };
        question.asked = Some(now);
        Some((to, question.token))
    }

    /// When the new and the old address are to be asked.
    fn challenges_due(&self) -> (Option<Time>, Option<Time>) {
        let Some(probe) = &self.probe else {
            return (None, None);
        };
        let room = probe.came * MAX_AMPLIFICATION >= probe.sent + CHALLENGE_LEN;
        let new = probe.new.due(probe.since).filter(|_| room);
        let old = probe.old.due(probe.since).filter(|_| probe.old_speaks);
        (new, old)
    }

    /// When [`Self::take_challenge`] has something.
    pub(super) fn challenge_due(&self) -> Option<Time> {
        let (new, old) = self.challenges_due();
        new.into_iter().chain(old).min()
    }

    /// When [`Self::decide`] can.
    pub(super) fn decision_due(&self) -> Option<Time> {
        let probe = self.probe.as_ref()?;
        Some(match probe.new.answered && !probe.old_speaks {
            true => probe.not_before,
            false => probe.since + PATIENCE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(8);

    fn address(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 4000).into()
    }

    fn ms(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn path() -> Path {
        Path::new(address(1), [7; 32])
    }

    #[test]
    fn an_address_that_answers_is_moved_to() {
        let mut path = path();
        path.handle_packet(ms(0), address(2), 5, 100, None);
        assert!(path.decision_due().is_none(), "an old packet says nothing");
        path.handle_packet(ms(0), address(2), 6, 100, Some(RTT));
        let (to, token) = path.take_challenge(ms(0)).unwrap();
        assert_eq!((to, path.remote()), (address(2), address(1)));
        assert!(!path.handle_response(ms(10), [0; 8]), "a guess");
        assert!(path.handle_response(ms(10), token));
        assert_eq!(path.remote(), address(2));
    }

    #[test]
    fn little_is_sent_to_an_address_before_it_answers() {
        let mut path = path();
        path.handle_packet(ms(0), address(2), 6, 29, Some(RTT));
        let sent = (0..1000).filter(|at| path.take_challenge(ms(*at)).is_some());
        assert_eq!(sent.count(), 2, "74 bytes for 29");
        assert!(path.challenge_due().is_none());
        assert!(!path.decide(ms(1000)));
        assert!(path.decision_due().is_none() && path.remote() == address(1));
    }

    #[test]
    fn who_forwards_faster_gets_nothing_while_the_old_address_speaks() {
        let mut path = path();
        for round in 0..5u64 {
            let at = |millis| ms(round * 1000 + millis);
            path.handle_packet(at(0), address(9), 10 * round, 100, Some(RTT));
            assert!(path.wants_repeated(address(1), 10 * round));
            path.handle_packet(at(1), address(1), 10 * round, 100, None);
            let (to, new) = path.take_challenge(at(1)).unwrap();
            let (back, old) = path.take_challenge(at(1)).unwrap();
            assert_eq!((to, back), (address(9), address(1)));
            assert!(!path.handle_response(at(20), new) && !path.handle_response(at(21), old));
            assert_eq!(path.remote(), address(1));
            // No other question at once.
            path.handle_packet(at(30), address(9), 10 * round + 1, 100, Some(RTT));
            assert!(path.decision_due().is_none());
        }
    }

    #[test]
    fn an_old_address_that_does_not_answer_is_left() {
        let mut path = path();
        path.handle_packet(ms(0), address(2), 6, 100, Some(RTT));
        path.handle_packet(ms(1), address(1), 7, 100, Some(RTT));
        let (_, new) = path.take_challenge(ms(1)).unwrap();
        assert!(
            !path.handle_response(ms(20), new),
            "the old one may answer yet"
        );
        assert!(path.decide(ms(1000)));
        assert_eq!(path.remote(), address(2));
    }
}
