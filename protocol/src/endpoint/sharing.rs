//! What the relay tells cameras whose frames pass the same bottleneck: how much more or less than
//! the others each of them gets.

use std::time::Duration;

use super::peers::Side;
use super::{Endpoint, PeerId};
use crate::Time;
use crate::session::Delays;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Sessions that are compared with each other, at most.
const MAX_COMPARED: usize = 128;
/// Delays less alike than the first are those of two paths, more alike than the second of one.
const ALIKE: [f64; 2] = [0.5, 0.7];
/// What uses less than this share of what it may wants no more.
const WANTS_MORE: f64 = 0.6;

/// A session whose frames come.
#[derive(Clone, Copy, Debug)]
struct Contender {
    peer: PeerId,
    /// Bits per second that come.
    rate: f64,
    /// Bits per second that its sender stays below; `None` where that met no limit.
    target: Option<u64>,
}

impl Contender {
    /// Whether this gets as much as the path lets it have, and not as much as it wants.
    fn wants_more(&self) -> bool {
        self.target
            .is_some_and(|target| self.rate >= WANTS_MORE * target as f64)
    }
}

impl Endpoint {
    /// Once a second, finds the sessions that share a bottleneck, and has each told how what comes of
    /// it compares to the others.
    pub(super) fn share_out(&mut self, now: Time) {
        let passed = now.since(self.shared_out);
        if passed < EVERY {
            return;
        }
        self.shared_out = now;
        let mut contenders = Vec::new();
        for (peer, entry) in &mut self.peers {
            if let (Side::Listening(_), Some(session)) = (&entry.side, &mut entry.session) {
                contenders.push(Contender {
                    peer: *peer,
                    rate: session.arriving(passed),
                    target: session.told_target(),
                });
            }
        }
        contenders.retain(|one| one.rate > 0.0);
        // Those that met a limit come first.
        contenders.sort_by_key(|one| (one.target.is_none(), one.peer));
        contenders.truncate(MAX_COMPARED);
        let shares: Vec<_> = contenders
            .iter()
            .map(|one| self.share_of(one, &contenders))
            .collect();
        for (one, share) in contenders.iter().zip(shares) {
            let entry = self.peers.get_mut(&one.peer);
            if let Some(session) = entry.and_then(|entry| entry.session.as_mut()) {
                session.set_share(share);
            }
        }
    }

    /// What one gets, as a share of the mean of those behind the same bottleneck: without those that
    /// want no more than the little they get. `None` where there are no others.
    fn share_of(&self, one: &Contender, all: &[Contender]) -> Option<f64> {
        let own = self.delays_of(one.peer)?;
        let (mut sum, mut count) = (one.rate, 1.0);
        for other in all {
            let is_limited = one.target.is_some() || other.target.is_some();
            let counts = other.wants_more() || other.rate > one.rate;
            if other.peer == one.peer || !is_limited || !counts {
                continue;
            }
            let alike = own.likeness(self.delays_of(other.peer)?);
            let weight = ((alike - ALIKE[0]) / (ALIKE[1] - ALIKE[0])).clamp(0.0, 1.0);
            sum += weight * other.rate;
            count += weight;
        }
        (count > 1.0).then(|| one.rate * count / sum)
    }

    fn delays_of(&self, peer: PeerId) -> Option<&Delays> {
        Some(self.peers.get(&peer)?.session.as_ref()?.delays())
    }
}
