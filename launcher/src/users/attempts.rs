//! Wrong passwords of late, by who gave them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong passwords within [`WINDOW`] after which no more are looked at.
pub const MAX_FAILURES: u32 = 10;
/// How long they count, from the first on.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How many are remembered; of more, the oldest is forgotten.
pub const MAX_REMEMBERED: usize = 4096;

/// Where an attempt came from, and for which user: so that who guesses one user's
/// password locks out nobody else at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// An IPv4 address, or the network of an IPv6 address, of which anybody has a lot.
    address: IpAddr,
    /// The number of the user; `None` for every name that is no user's.
    user: Option<usize>,
}

impl Who {
    /// Somebody at this address who gives the name of that user.
    pub fn new(address: IpAddr, user: Option<usize>) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) >> 64 << 64;
                IpAddr::V6(network.into())
            }
            v4 => v4,
        };
        Self { address, user }
    }
}

/// The table of wrong passwords.
#[derive(Default)]
pub struct Attempts(HashMap<Who, Failures>);

struct Failures {
    count: u32,
    since: Instant,
}

impl Attempts {
    /// Whether no more passwords are looked at.
    pub fn is_over(&self, who: &Who, now: Instant) -> bool {
        self.0.get(who).is_some_and(|failures| {
            failures.count >= MAX_FAILURES && now.duration_since(failures.since) < WINDOW
        })
    }

    /// Counts a wrong password; true when it was the last that is looked at.
    pub fn failed(&mut self, who: Who, now: Instant) -> bool {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&who) {
            let oldest = self.0.iter().min_by_key(|(_, failures)| failures.since);
            if let Some(oldest) = oldest.map(|(who, _)| *who) {
                self.0.remove(&oldest);
            }
        }
        let failures = self.0.entry(who).or_insert(Failures {
            count: 0,
            since: now,
        });
        if now.duration_since(failures.since) >= WINDOW {
            *failures = Failures {
                count: 0,
                since: now,
            };
        }
        failures.count += 1;
        failures.count == MAX_FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(address: &str, user: usize) -> Who {
        Who::new(address.parse().expect("an address"), Some(user))
    }

    #[test]
    fn ends_at_the_limit_and_begins_again_after_a_minute() {
        let mut attempts = Attempts::default();
        let begin = Instant::now();
        let ann = who("192.0.2.1", 0);
        for number in 1..=MAX_FAILURES {
            assert!(!attempts.is_over(&ann, begin));
            assert_eq!(attempts.failed(ann, begin), number == MAX_FAILURES);
        }
        let last = begin + WINDOW - Duration::from_nanos(1);
        assert!(attempts.is_over(&ann, last));
        assert!(!attempts.is_over(&ann, begin + WINDOW));
        assert!(!attempts.failed(ann, begin + WINDOW));
        assert!(!attempts.is_over(&ann, begin + WINDOW));

        assert!(!attempts.is_over(&who("192.0.2.1", 1), last));
        assert!(!attempts.is_over(&who("192.0.2.2", 0), last));
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        assert_eq!(who("2001:db8::1", 0), who("2001:db8::ffff:2", 0));
        assert_ne!(who("2001:db8::1", 0), who("2001:db8:0:1::1", 0));
        assert_eq!(who("::ffff:192.0.2.1", 0), who("192.0.2.1", 0));
        assert_ne!(who("192.0.2.1", 0), who("192.0.2.2", 0));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut attempts = Attempts::default();
        let begin = Instant::now();
        let first = Who::new([10, 0, 0, 0].into(), None);
        for _ in 0..MAX_FAILURES {
            attempts.failed(first, begin);
        }
        for number in 0..MAX_REMEMBERED as u32 {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + number);
            attempts.failed(Who::new(address.into(), None), begin + WINDOW / 2);
            assert!(attempts.0.len() <= MAX_REMEMBERED);
        }
        assert!(!attempts.is_over(&first, begin + WINDOW / 2), "forgotten");
    }
}
