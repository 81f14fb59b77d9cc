//! Who may begin a handshake: anybody while few do; when many do, those who prove that they get
//! what is sent to their address, and of those not too many from one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ring::hmac;

use crate::cookie::{Cookie, Init};
use crate::{Random, Time};

/// Handshakes that are answered without proof: each second, and at once.
const STRANGERS: Rate = Rate::new(100.0, 100.0);
/// Nobody is answered without proof while so many sessions wait for their callers.
const MAX_STRANGERS: usize = 64;
/// Handshakes of one address (IPv6: of one /64) that are answered with proof.
const ADDRESS: Rate = Rate::new(32.0, 64.0);
/// COOKIE_REPLYs.
const COOKIES: Rate = Rate::new(10_000.0, 1000.0);
/// Addresses told apart, at most.
pub(super) const MAX_ADDRESSES: usize = 4096;
/// How often addresses are forgotten that asked for nothing lately.
const FORGET_INTERVAL: Duration = Duration::from_millis(100);
/// How long a cookie is good.
const SECRET_LIFETIME: Duration = Duration::from_secs(120);

/// What is answered to a HANDSHAKE_INIT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// What it asks for.
    Welcome,
    /// This cookie, to come back with.
    Prove(Cookie),
    /// Nothing.
    Refused,
}

/// How often something may happen.
#[derive(Clone, Copy)]
struct Rate {
    a_second: f64,
    at_once: f64,
}

impl Rate {
    const fn new(a_second: f64, at_once: f64) -> Self {
        Self { a_second, at_once }
    }
}

/// A token bucket.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Time,
}

impl Bucket {
    fn full(rate: Rate, now: Time) -> Self {
        Self {
            left: rate.at_once,
            at: now,
        }
    }

    fn fill(&mut self, rate: Rate, now: Time) {
        let passed = now.since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate.a_second).min(rate.at_once);
        self.at = self.at.max(now);
    }

    fn take(&mut self, rate: Rate, now: Time) -> bool {
        self.fill(rate, now);
        let taken = self.left >= 1.0;
        if taken {
            self.left -= 1.0;
        }
        taken
    }
}

pub(super) struct Gate {
    /// What cookies are made with, and since when.
    secret: Option<(hmac::Key, Time)>,
    strangers: Bucket,
    cookies: Bucket,
    addresses: HashMap<IpAddr, Bucket>,
    forgot: Time,
}

impl Gate {
    pub(super) fn new() -> Self {
        let start = Time::default();
        Self {
            secret: None,
            strangers: Bucket::full(STRANGERS, start),
            cookies: Bucket::full(COOKIES, start),
            addresses: HashMap::new(),
            forgot: start,
        }
    }

    /// What to do about a HANDSHAKE_INIT that came from `from`, where `unproved` sessions wait for
    /// their callers to show that they have the keys.
    pub(super) fn admit(
        &mut self,
        now: Time,
        from: SocketAddr,
        init: &Init<'_>,
        unproved: usize,
        random: &mut dyn Random,
    ) -> Admission {
        // Only what is proved counts against an address, so that nobody uses up another's share.
        let proved = init.has_proof() && init.proves(&self.cookie(now, from, random));
        if proved && let Some(bucket) = self.bucket(now, from.ip()) {
            return match bucket.take(ADDRESS, now) {
                true => Admission::Welcome,
                false => Admission::Refused,
            };
        }
        if unproved < MAX_STRANGERS && self.strangers.take(STRANGERS, now) {
            Admission::Welcome
        } else if !proved && self.cookies.take(COOKIES, now) {
            Admission::Prove(self.cookie(now, from, random))
        } else {
            Admission::Refused
        }
    }

    /// The bucket of an address; `None` while there are too many.
    fn bucket(&mut self, now: Time, ip: IpAddr) -> Option<&mut Bucket> {
        let network = network(ip);
        let full = self.addresses.len() >= MAX_ADDRESSES;
        if full && !self.addresses.contains_key(&network) {
            if now.since(self.forgot) < FORGET_INTERVAL {
                return None;
            }
            self.forgot = now;
            self.addresses.retain(|_, bucket| {
                bucket.fill(ADDRESS, now);
                bucket.left < ADDRESS.at_once
            });
            if self.addresses.len() >= MAX_ADDRESSES {
                return None;
            }
        }
        let fresh = Bucket::full(ADDRESS, now);
        Some(self.addresses.entry(network).or_insert(fresh))
    }

    fn cookie(&mut self, now: Time, from: SocketAddr, random: &mut dyn Random) -> Cookie {
        let good = self
            .secret
            .take_if(|(_, since)| now.since(*since) < SECRET_LIFETIME);
        let (secret, _) = self.secret.insert(good.unwrap_or_else(|| {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            (hmac::Key::new(hmac::HMAC_SHA256, &bytes), now)
        }));
        let mut address = [0; 18];
        let (ip, port) = address.split_at_mut(16);
        ip.copy_from_slice(&v6(from.ip()));
        port.copy_from_slice(&from.port().to_be_bytes());
        let mut cookie = Cookie::default();
        cookie.copy_from_slice(&hmac::sign(secret, &address).as_ref()[..16]);
        cookie
    }
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The addresses that one bucket serves: an IPv4 address, an IPv6 /64.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::MacKeys;
    use crate::fuzzing::Counting;

    struct Caller {
        keys: MacKeys,
        init: Vec<u8>,
    }

    impl Caller {
        fn new() -> Self {
            let keys = MacKeys::new(None);
            let mut init = vec![0x11; 44];
            keys.sign(&mut init);
            Self { keys, init }
        }

        fn ask(&self, gate: &mut Gate, now: Time, from: SocketAddr) -> Admission {
            let init = self.keys.read(&self.init).unwrap();
            gate.admit(now, from, &init, 0, &mut Counting(now.as_nanos()))
        }

        fn prove(&mut self, cookie: Cookie) {
            let reply = {
                let init = self.keys.read(&self.init).unwrap();
                self.keys.seal(&init, &cookie, [0; 12])
            };
            assert!(self.keys.take_cookie(&mut self.init, &reply));
        }
    }

    fn address(host: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from(0x0a00_0000 + host), 4000).into()
    }

    /// A gate whose share for strangers is used up.
    fn busy(now: Time) -> Gate {
        let mut gate = Gate::new();
        let stranger = Caller::new();
        for host in 0..100 {
            let said = stranger.ask(&mut gate, now, address(host));
            assert_eq!(said, Admission::Welcome, "{host}");
        }
        gate
    }

    fn cookie(gate: &mut Gate, now: Time, from: SocketAddr) -> Cookie {
        match Caller::new().ask(gate, now, from) {
            Admission::Prove(cookie) => cookie,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cookie_opens_for_its_address_and_its_time() {
        let now = Time::from_nanos(1_000_000_000);
        let mut gate = busy(now);
        let mut caller = Caller::new();
        caller.prove(cookie(&mut gate, now, address(1)));
        assert_eq!(caller.ask(&mut gate, now, address(1)), Admission::Welcome);
        let elsewhere = caller.ask(&mut gate, now, address(2));
        assert!(matches!(elsewhere, Admission::Prove(_)));
        let mut port = address(1);
        port.set_port(4001);
        assert!(matches!(
            caller.ask(&mut gate, now, port),
            Admission::Prove(_)
        ));

        let later = now + SECRET_LIFETIME;
        let stranger = Caller::new();
        while stranger.ask(&mut gate, later, address(3)) == Admission::Welcome {}
        let late = caller.ask(&mut gate, later, address(1));
        assert!(matches!(late, Admission::Prove(_)), "{late:?}");
    }

    #[test]
    fn one_address_gets_its_share_and_uses_up_nobody_elses() {
        let now = Time::from_nanos(1_000_000_000);
        let mut gate = busy(now);
        let (mut greedy, mut modest) = (Caller::new(), Caller::new());
        greedy.prove(cookie(&mut gate, now, address(1)));
        modest.prove(cookie(&mut gate, now, address(2)));
        let welcome = (0..1000)
            .filter(|_| greedy.ask(&mut gate, now, address(1)) == Admission::Welcome)
            .count();
        assert_eq!(welcome, 64);
        assert_eq!(modest.ask(&mut gate, now, address(2)), Admission::Welcome);
        let later = now + Duration::from_millis(500);
        while Caller::new().ask(&mut gate, later, address(3)) == Admission::Welcome {}
        let welcome = (0..1000)
            .filter(|_| greedy.ask(&mut gate, later, address(1)) == Admission::Welcome)
            .count();
        assert_eq!(welcome, 16);
    }

    #[test]
    fn the_table_of_addresses_and_the_cookies_are_bounded() {
        let now = Time::from_nanos(1_000_000_000);
        let mut gate = busy(now);
        for host in 0..MAX_ADDRESSES as u32 + 10 {
            let now = now + Duration::from_micros(u64::from(host));
            let ip = address(host).ip();
            let bucket = gate.bucket(now, ip);
            assert_eq!(bucket.is_some(), host < MAX_ADDRESSES as u32, "{host}");
            bucket
                .into_iter()
                .for_each(|b| assert!(b.take(ADDRESS, now)));
        }
        assert_eq!(gate.addresses.len(), MAX_ADDRESSES);
        // Those who asked for nothing lately make room.
        let later = now + Duration::from_secs(3);
        assert!(gate.bucket(later, address(90_000).ip()).is_some());
        assert_eq!(gate.addresses.len(), 1);

        let mut gate = busy(now);
        let stranger = Caller::new();
        let cookies = (0..5000)
            .filter(|host| stranger.ask(&mut gate, now, address(*host)) != Admission::Refused)
            .count();
        assert_eq!(cookies, 1000);
    }

    #[test]
    fn ipv6_counts_by_network() {
        let ip = |text: &str| network(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1:2:3:4"), ip("2001:db8::5:6:7:8"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
        assert_ne!(ip("10.0.0.1"), ip("10.0.0.2"));
    }
}
