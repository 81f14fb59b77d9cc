//! The keys of a session, old and new: new ones seal once the other side has shown that it has
//! them, and old ones open for a while longer, so that no datagram is lost to the change.

use std::time::Duration;

use super::Broken;
use crate::Time;
use crate::handshake::Established;

/// Packets, in either direction, after which keys are changed.
const MAX_PACKETS: u64 = 1 << 22;
/// Time after which keys are changed.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// How long old keys open what comes late.
const OLD_FOR: Duration = Duration::from_secs(10);

pub(super) struct Epochs {
    current: Established,
    since: Time,
    /// Packet numbers, sent and received, when the current keys began.
    sent: u64,
    came: u64,
    /// Offered, but not yet heard of.
    next: Option<Established>,
    old: Option<(Established, Time)>,
}

impl Epochs {
    pub(super) fn new(now: Time, first: Established) -> Self {
        Self {
            current: first,
            since: now,
            sent: 0,
            came: 0,
            next: None,
            old: None,
        }
    }

    /// What seals now.
    pub(super) fn current(&self) -> &Established {
        &self.current
    }

    /// Whether the keys have served long enough, `sent` and `came` being the numbers of the next
    /// packets.
    pub(super) fn are_worn(&self, now: Time, sent: u64, came: u64) -> bool {
        let packets = (sent - self.sent).max(came.saturating_sub(self.came));
        packets >= MAX_PACKETS || now.since(self.since) >= MAX_AGE
    }

    /// Keeps keys that the other side is offered, until it uses them.
    pub(super) fn offer(&mut self, next: Established) -> Result<(), Broken> {
        if self.next.is_some() || self.old.is_some() {
            return Err(Broken);
        }
        self.next = Some(next);
        Ok(())
    }

    /// Seals with `next` from now on.
    pub(super) fn turn(&mut self, now: Time, next: Established, sent: u64, came: u64) {
        let old = std::mem::replace(&mut self.current, next);
        self.old = Some((old, now + OLD_FOR));
        (self.since, self.sent, self.came) = (now, sent, came);
    }

    /// Opens a datagram to session index `index`. The second value is keys that turn out to be
    /// in use.
    pub(super) fn open<'a>(
        &mut self,
        index: u32,
        number: u64,
        datagram: &'a mut [u8],
    ) -> Option<(&'a [u8], Option<Established>)> {
        let is = |keys: &&Established| keys.local_index == index;
        if let Some(next) = self.next.take_if(|next| next.local_index == index) {
            return match next.keys.open(number, datagram) {
                Some(plaintext) => Some((plaintext, Some(next))),
                None => {
                    self.next = Some(next);
                    None
                }
            };
        }
        let old = self.old.as_ref().map(|(old, _)| old);
        let keys = Some(&self.current).filter(is).or(old.filter(is))?;
        let plaintext = keys.keys.open(number, datagram)?;
        Some((plaintext, None))
    }

    /// When the old keys end.
    pub(super) fn expires(&self) -> Option<Time> {
        self.old.as_ref().map(|(_, until)| *until)
    }

    /// Ends the old keys where their time is over; returns the session index that they had.
    pub(super) fn expire(&mut self, now: Time) -> Option<u32> {
        let (old, _) = self.old.take_if(|(_, until)| *until <= now)?;
        Some(old.local_index)
    }

    /// The session indices that datagrams may come to.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        let old = self.old.as_ref().map(|(old, _)| old.local_index);
        let next = self.next.as_ref().map(|next| next.local_index);
        [Some(self.current.local_index), next, old]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Cipher, Keys};

    fn established(index: u32) -> Established {
        Established {
            keys: Keys::new(Cipher::Aes256Gcm, &[index as u8; 32], &[index as u8; 32]),
            local_index: index,
            remote_index: index,
        }
    }

    fn sealed(index: u32) -> Vec<u8> {
        let mut datagram = vec![0; 13];
        established(index).keys.seal(7, &mut datagram, 0);
        datagram
    }

    #[test]
    fn keys_are_worn_by_packets_and_by_time() {
        let now = Time::from_nanos(5);
        let epochs = Epochs::new(now, established(1));
        assert!(!epochs.are_worn(now, MAX_PACKETS - 1, MAX_PACKETS - 1));
        assert!(epochs.are_worn(now, MAX_PACKETS, 0));
        assert!(epochs.are_worn(now, 0, MAX_PACKETS));
        assert!(!epochs.are_worn(now + MAX_AGE - Duration::from_nanos(1), 0, 0));
        assert!(epochs.are_worn(now + MAX_AGE, 0, 0));
    }

    #[test]
    fn old_keys_open_for_a_while_and_new_ones_from_their_offer_on() {
        let now = Time::from_nanos(5);
        let mut epochs = Epochs::new(now, established(1));
        epochs.offer(established(2)).unwrap();
        assert_eq!(epochs.offer(established(3)), Err(Broken), "one at a time");
        assert!(epochs.open(2, 7, &mut sealed(1)).is_none(), "not its keys");
        assert!(epochs.open(1, 7, &mut sealed(1)).is_some());
        assert_eq!(epochs.current().local_index, 1, "not heard of yet");
        let mut datagram = sealed(2);
        let (_, next) = epochs.open(2, 7, &mut datagram).unwrap();
        epochs.turn(now, next.expect("they are in use"), 100, 200);
        assert_eq!(epochs.current().local_index, 2);
        assert!(!epochs.are_worn(now, 100 + MAX_PACKETS - 1, 200 + MAX_PACKETS - 1));
        assert!(epochs.open(1, 7, &mut sealed(1)).is_some());
        assert!(epochs.indices().eq([2, 1]));
        assert_eq!(epochs.expire(now), None);
        assert_eq!(epochs.offer(established(3)), Err(Broken), "too soon");
        assert_eq!(epochs.expire(now + OLD_FOR), Some(1));
        assert!(epochs.open(1, 7, &mut sealed(1)).is_none());
    }
}
