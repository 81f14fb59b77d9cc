//! The proxy between real sockets.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use path_emulator::{Conditions, Direction, MAX_CLIENTS, MAX_QUEUED_BYTES, Proxy, Route};

/// Longer than anything takes that works.
const DEADLINE: Duration = Duration::from_secs(60);

fn socket(ip: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A proxy in front of a socket.
struct Bench {
    proxy: Proxy,
    behind: UdpSocket,
}

impl Bench {
    fn new(path: &str) -> Self {
        let behind = socket(Ipv4Addr::LOCALHOST);
        let route = Route {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            to: behind.local_addr().unwrap(),
        };
        let conditions: Conditions = path.parse().unwrap();
        let proxy = Proxy::start(&[route], conditions, conditions, 1).unwrap();
        Self { proxy, behind }
    }

    fn entry(&self) -> SocketAddr {
        self.proxy.addresses()[0]
    }

    /// Sends from `client` to the other side and an answer back; returns the address that the
    /// other side saw.
    fn exchange(&self, client: &UdpSocket, words: &str) -> SocketAddr {
        client.send_to(words.as_bytes(), self.entry()).unwrap();
        let mut buffer = [0; 100];
        let (len, seen) = self.behind.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], words.as_bytes());
        self.behind.send_to(b"answer", seen).unwrap();
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"answer"[..], self.entry()));
        seen
    }

    #[track_caller]
    fn until(&self, what: &str, mut condition: impl FnMut(&Proxy) -> bool) {
        let begun = Instant::now();
        while !condition(&self.proxy) {
            assert!(begun.elapsed() < DEADLINE, "still not: {what}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_datagram_takes_its_time_there_and_back() {
    let bench = Bench::new("delay=30ms");
    let client = socket(Ipv4Addr::LOCALHOST);
    let begun = Instant::now();
    bench.exchange(&client, "hello");
    assert!(begun.elapsed() >= Duration::from_millis(60));
    for direction in [Direction::There, Direction::Back] {
        let counters = bench.proxy.counters(direction);
        assert_eq!((counters.datagrams, counters.lost), (1, 0));
    }
}

#[test]
fn clients_are_told_apart() {
    let bench = Bench::new("");
    let clients: Vec<UdpSocket> = (0..20).map(|_| socket(Ipv4Addr::LOCALHOST)).collect();
    let mut seen: Vec<SocketAddr> = clients
        .iter()
        .enumerate()
        .map(|(n, client)| bench.exchange(client, &format!("client {n}")))
        .collect();
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(bench.exchange(client, "again"), seen[n]);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20);
}

#[test]
fn routes_share_one_path() {
    let behind = [socket(Ipv4Addr::LOCALHOST), socket(Ipv4Addr::LOCALHOST)];
    let routes = behind.each_ref().map(|behind| Route {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        to: behind.local_addr().unwrap(),
    });
    let proxy = Proxy::start(&routes, Default::default(), Default::default(), 1).unwrap();
    let client = socket(Ipv4Addr::LOCALHOST);
    for (n, (address, behind)) in proxy.addresses().iter().zip(&behind).enumerate() {
        client.send_to(&[n as u8], address).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(behind.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], n as u8);
    }
    assert_eq!(proxy.counters(Direction::There).datagrams, 2);
}

#[test]
fn another_address_is_the_same_client() {
    let bench = Bench::new("");
    let client = socket(Ipv4Addr::LOCALHOST);
    let before = bench.exchange(&client, "before");
    bench.proxy.rebind();
    let mut after = before;
    bench.until("another address", |_| {
        after = bench.exchange(&client, "after");
        after != before
    });
    assert_eq!(bench.exchange(&client, "later"), after);
}

#[test]
fn an_outage_begins_and_ends_while_it_runs() {
    let bench = Bench::new("");
    let client = socket(Ipv4Addr::LOCALHOST);
    bench.exchange(&client, "before");
    let mut conditions = bench.proxy.conditions(Direction::There);
    conditions.down = true;
    bench.proxy.set(Direction::There, conditions);
    client.send_to(b"lost", bench.entry()).unwrap();
    bench.until("lost", |proxy| proxy.counters(Direction::There).lost == 1);
    conditions.down = false;
    bench.proxy.set(Direction::There, conditions);
    bench.exchange(&client, "after");
}

#[test]
fn the_queue_is_bounded() {
    let bench = Bench::new("delay=60s");
    let client = socket(Ipv4Addr::LOCALHOST);
    let datagram = [0; 60_000];
    let room = MAX_QUEUED_BYTES / datagram.len();
    let there = || bench.proxy.counters(Direction::There);
    for sent in 1..=room as u64 + 2 {
        client.send_to(&datagram, bench.entry()).unwrap();
        bench.until("taken", |_| there().datagrams == sent);
    }
    assert_eq!((there().overflowed, there().delivered), (2, 0));
}

#[test]
fn one_client_too_many_replaces_the_one_silent_for_longest() {
    let bench = Bench::new("");
    let first = socket(Ipv4Addr::LOCALHOST);
    let second = socket(Ipv4Addr::LOCALHOST);
    let first_seen = bench.exchange(&first, "first");
    let second_seen = bench.exchange(&second, "second");
    // Addresses of their own: a port may be given out again.
    for n in 0..MAX_CLIENTS - 2 {
        let ip = Ipv4Addr::new(127, 1, (n >> 8) as u8, n as u8);
        bench.exchange(&socket(ip), "one more");
    }
    assert_eq!(bench.exchange(&first, "still there"), first_seen);
    bench.exchange(&socket(Ipv4Addr::new(127, 2, 0, 1)), "one too many");
    assert_eq!(bench.exchange(&first, "still there"), first_seen);
    assert_ne!(bench.exchange(&second, "forgotten"), second_seen);
}
