//! Endpoints with addresses, the paths between them, and virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use camrelay_protocol::{
    Accept, Access, CameraToken, Config, Connect, Endpoint, Event, Frame, FrameFlags, PeerId,
    Random, ReceivedFrame, Role, Time,
};

use path_emulator::{Conditions, Nat, Path, Rng};

pub const RELAY: &str = "10.0.0.1:8000";
pub const CAMERA: &str = "10.0.0.2:40000";
pub const LATENCY: Duration = Duration::from_millis(120);

/// Frames carry their seed, added to this, as their wall time.
const EPOCH: u64 = 1_790_000_000_000_000;

/// When a frame was captured in true time: test frames carry it as their DTS offset.
fn captured(received: &ReceivedFrame) -> Time {
    Time::from_nanos(received.frame.dts_offset as u64)
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A host's clock.
#[derive(Clone, Copy, Default)]
pub struct HostClock {
    /// How much faster than true time it runs, in parts per million.
    pub ppm: f64,
    /// How far it is ahead when the world begins, in nanoseconds.
    pub ahead: i64,
}

impl HostClock {
    /// What it shows at a true time.
    pub fn at(self, now: Time) -> Time {
        let passed = now.since(BEGINNING).as_nanos() as f64;
        now.offset(self.ahead + (passed * self.ppm / 1e6) as i64)
    }

    /// The true time at which it shows `shown`, or some nanoseconds later.
    fn when(self, shown: Time) -> Time {
        let passed = shown.offset(-self.ahead).since(BEGINNING).as_nanos() as f64;
        let mut now = BEGINNING + Duration::from_nanos((passed / (1.0 + self.ppm / 1e6)) as u64);
        while self.at(now) < shown {
            now = now.offset(1);
        }
        now
    }
}

/// What happens to one datagram on its way.
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    Lost,
    Twice,
    Late(Duration),
}

/// When a world begins.
const BEGINNING: Time = Time::from_nanos(1_000_000_000);

/// Addresses of the network 10.128.0.0/9, where nobody is.
pub fn is_nobody(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.octets()[0] == 10 && ip.octets()[1] >= 128)
}

pub struct World {
    pub now: Time,
    pub rng: Rng,
    /// The same for every pair of hosts; each direction of a pair draws its own chances.
    pub path: Conditions,
    /// Whether all that goes to the relay takes one path, and its bottleneck.
    pub shared: bool,
    /// Bits per second of the bottlenecks between hosts and the relay, where they have one of their own.
    pub rates: BTreeMap<SocketAddr, u64>,
    paths: BTreeMap<(SocketAddr, SocketAddr), Path>,
    hosts: BTreeMap<SocketAddr, Endpoint>,
    /// Hosts behind a NAT, which has their address outside, and a port for them.
    pub nats: BTreeMap<SocketAddr, Nat>,
    /// Clocks that are not right.
    pub clocks: BTreeMap<SocketAddr, HostClock>,
    flights: BTreeMap<(Time, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    /// In each of these times the relay's thread is held up for the second, and reads what came
    /// meanwhile after it.
    pub held_up: Option<(Duration, Duration)>,
    /// Hosts whose thread is held up until then.
    held: BTreeMap<SocketAddr, Time>,
    /// Until when nothing enters the paths to the relay: then all of it does at once.
    pub stalled: Time,
    /// Until when nothing comes through of what a host sends.
    pub deaf: Option<(SocketAddr, Time)>,
    came: BTreeMap<u64, Time>,
    /// Whether it is told when that came.
    pub stamps: bool,
    /// Whether the relay's thread reads nothing while its endpoint says that this can wait.
    pub lulls: bool,
    /// How often it read something.
    pub reads: u64,
    counter: u64,
    pub events: Vec<(SocketAddr, PeerId, Event)>,
    pub datagrams: u64,
    /// Bytes that the camera at [`CAMERA`] sent.
    pub sent_by_camera: u64,
    /// What the camera at [`CAMERA`] sent, where that is wanted.
    pub tap: Option<Vec<Vec<u8>>>,
    /// The same of what the relay sent.
    pub tap_of_relay: Option<Vec<Vec<u8>>>,
    /// Bytes that went to addresses of [`is_nobody`].
    pub sent_to_nobody: u64,
    /// When each frame was handed over at [`RELAY`], and when it was captured.
    pub arrivals: Vec<(Time, Time)>,
    pub latency: Duration,
    /// What callers are told of the size of datagrams; 0 has them find it out.
    pub mtu: u16,
    /// What happens to the datagram of that number, the first of all being 1.
    pub mishap: Option<(u64, Mishap)>,
    /// Larger datagrams than this do not arrive.
    pub largest: usize,
    /// Somebody who sees what the host at the first address sends to the relay, and sends a copy
    /// from the second one that comes sooner; what comes there he passes on.
    pub copier: Option<(SocketAddr, SocketAddr)>,
    /// Bytes that came to him.
    pub copier_got: usize,
}

impl World {
    pub fn new(seed: u64, path: Conditions) -> Self {
        println!("seed {seed}, {path:?}");
        Self {
            now: BEGINNING,
            rng: Rng::new(seed),
            path,
            shared: false,
            rates: BTreeMap::new(),
            paths: BTreeMap::new(),
            hosts: BTreeMap::new(),
            nats: BTreeMap::new(),
            clocks: BTreeMap::new(),
            flights: BTreeMap::new(),
            held_up: None,
            held: BTreeMap::new(),
            stalled: BEGINNING,
            deaf: None,
            came: BTreeMap::new(),
            stamps: true,
            lulls: false,
            reads: 0,
            counter: 0,
            events: Vec::new(),
            datagrams: 0,
            sent_by_camera: 0,
            tap: None,
            tap_of_relay: None,
            sent_to_nobody: 0,
            arrivals: Vec::new(),
            latency: LATENCY,
            mtu: 0,
            mishap: None,
            largest: usize::MAX,
            copier: None,
            copier_got: 0,
        }
    }

    /// Starts, or restarts with nothing remembered, an endpoint.
    pub fn start(&mut self, at: &str, config: Config) {
        let random = Seeded(Rng::new(self.rng.next()));
        self.start_with(at, config, random);
    }

    pub fn start_with(&mut self, at: &str, config: Config, random: impl Random + 'static) {
        self.hosts
            .insert(address(at), Endpoint::new(config, Box::new(random)));
    }

    pub fn start_relay(&mut self) {
        self.start_relay_at(RELAY);
    }

    pub fn start_relay_at(&mut self, at: &str) {
        let access = Access {
            accept: Accept::Lan,
            known: Vec::new(),
        };
        self.start(
            at,
            Config {
                access: Some(access),
                ..Config::default()
            },
        );
    }

    /// Takes an endpoint away without a word.
    pub fn kill(&mut self, at: &str) {
        drop(self.take(at));
    }

    /// Takes an endpoint away for a while.
    pub fn take(&mut self, at: &str) -> Endpoint {
        self.hosts.remove(&address(at)).expect("it runs")
    }

    /// Brings it back.
    pub fn put(&mut self, at: &str, endpoint: Endpoint) {
        self.hosts.insert(address(at), endpoint);
    }

    /// What the clock of a host shows.
    pub fn clock(&self, at: &str) -> HostClock {
        self.clocks.get(&address(at)).copied().unwrap_or_default()
    }

    /// Lets `duration` pass while a host and its clock stand still.
    pub fn suspend(&mut self, at: &str, duration: Duration) {
        let endpoint = self.take(at);
        self.run(duration);
        self.put(at, endpoint);
        self.step(at, -(duration.as_nanos() as i64));
    }

    /// Steps the clock of a host, by nanoseconds.
    pub fn step(&mut self, at: &str, nanos: i64) {
        self.clocks.entry(address(at)).or_default().ahead += nanos;
    }

    /// Moves an endpoint to another address.
    pub fn move_host(&mut self, from: &str, to: &str) {
        let endpoint = self.take(from);
        self.put(to, endpoint);
    }

    pub fn host(&mut self, at: &str) -> &mut Endpoint {
        self.hosts.get_mut(&address(at)).expect("it runs")
    }

    pub fn connect(&mut self, at: &str, role: Role) -> PeerId {
        self.connect_with(at, role, None)
    }

    pub fn connect_with(&mut self, at: &str, role: Role, token: Option<CameraToken>) -> PeerId {
        self.connect_to(RELAY, at, role, token)
    }

    pub fn connect_to(
        &mut self,
        relay: &str,
        at: &str,
        role: Role,
        token: Option<CameraToken>,
    ) -> PeerId {
        let connect = Connect {
            remote: address(relay),
            token,
            role,
            latency: self.latency,
            late_policy: Default::default(),
            mtu: self.mtu,
        };
        let now = self.clock(at).at(self.now);
        self.host(at).connect(now, connect).unwrap()
    }

    pub fn publish(&mut self, at: &str, camera: &str) -> PeerId {
        let peer = self.connect(
            at,
            Role::Publish {
                camera: camera.into(),
            },
        );
        let now = self.clock(at).at(self.now);
        self.host(at).set_caps(now, peer, 0, "image/jpeg").unwrap();
        peer
    }

    /// A frame of `len` bytes captured now, its bytes made from `seed`.
    pub fn frame(&self, seed: u64, len: usize) -> Frame {
        let data: Bytes = pattern(seed, len);
        Frame {
            data,
            capture: self.now,
            dts_offset: self.now.as_nanos() as i64,
            duration: None,
            wall: Some(EPOCH + seed),
            flags: FrameFlags {
                key: true,
                ..FrameFlags::default()
            },
        }
    }

    /// Holds up the thread of a host from now on.
    pub fn hold(&mut self, at: &str, duration: Duration) {
        self.held.insert(address(at), self.now + duration);
    }

    /// Until when the thread of a host is held up.
    fn held_until(&self, at: SocketAddr) -> Option<Time> {
        let regularly = self.held_up.filter(|_| at == address(RELAY));
        let regularly = regularly.map(|(each, held)| {
            let begun = self.now.as_nanos() / each.as_nanos() as u64 * each.as_nanos() as u64;
            Time::from_nanos(begun) + held
        });
        let until = self.held.get(&at).copied().max(regularly);
        until.filter(|until| *until > self.now)
    }

    /// Which host gets what is sent to an address; `None` where a NAT does not know of any.
    fn inside(&self, to: SocketAddr) -> Option<SocketAddr> {
        let behind = self.nats.iter().find(|(host, _)| host.ip() == to.ip());
        match behind {
            Some((host, _)) if *host == to => Some(to),
            Some((host, nat)) => nat.knows(to.port(), self.now.as_nanos()).then_some(*host),
            None => Some(to),
        }
    }

    /// Has the relay's thread wait while nothing that comes can be of use, as ports do.
    fn leave_unread(&mut self) {
        let relay = self.hosts.get(&address(RELAY)).filter(|_| self.lulls);
        let lull = relay.and_then(|relay| Some((relay.poll_lull()?, relay.poll_timeout())));
        if let Some((until, due)) = lull {
            let until = due.map_or(until, |due| due.min(until));
            self.held.insert(address(RELAY), until);
        }
    }

    fn transmit(&mut self) {
        let mut buffer = Vec::new();
        let addresses: Vec<_> = self.hosts.keys().copied().collect();
        for from in addresses {
            if self.held_until(from).is_some() {
                continue;
            }
            let endpoint = self.hosts.get_mut(&from).unwrap();
            let now = self.clocks.get(&from).map_or(self.now, |c| c.at(self.now));
            while let Some(transmit) = endpoint.poll_transmit(now, 16, &mut buffer) {
                for datagram in buffer.chunks(transmit.segment_size) {
                    self.datagrams += 1;
                    if is_nobody(transmit.remote) {
                        self.sent_to_nobody += datagram.len() as u64;
                        continue;
                    }
                    if let Some((victim, copier)) = self.copier {
                        let soon = self.now + Duration::from_millis(1);
                        let flight = if transmit.remote == copier {
                            self.copier_got += datagram.len();
                            Some((from, victim, datagram.to_vec()))
                        } else if from == victim {
                            Some((copier, transmit.remote, datagram.to_vec()))
                        } else {
                            None
                        };
                        if let Some(flight) = flight {
                            self.counter += 1;
                            self.flights.insert((soon, self.counter), flight);
                        }
                        if transmit.remote == copier {
                            continue;
                        }
                    }
                    let is_deaf = |(host, until)| host == from && self.now < until;
                    if datagram.len() > self.largest || self.deaf.is_some_and(is_deaf) {
                        continue;
                    }
                    let seed = &mut self.rng;
                    let relay = address(RELAY);
                    let shares = self.shared && transmit.remote == relay;
                    let source = if shares { relay } else { from };
                    let path = self.paths.entry((source, transmit.remote));
                    let path = path.or_insert_with(|| Path::new(self.path, seed.next()));
                    path.conditions = self.path;
                    if let Some(rate) = self.rates.get(&from) {
                        path.conditions.rate = *rate;
                    }
                    if from == address(CAMERA) {
                        self.sent_by_camera += datagram.len() as u64;
                        self.tap
                            .as_mut()
                            .into_iter()
                            .for_each(|tap| tap.push(datagram.to_vec()));
                    }
                    if from == relay
                        && let Some(tap) = &mut self.tap_of_relay
                    {
                        tap.push(datagram.to_vec());
                    }
                    let enters = match transmit.remote == relay {
                        true => self.now.max(self.stalled),
                        false => self.now,
                    };
                    let mishap = self.mishap.filter(|(one, _)| *one == self.datagrams);
                    let (copies, late) = match mishap {
                        None => (1, Duration::ZERO),
                        Some((_, Mishap::Lost)) => (0, Duration::ZERO),
                        Some((_, Mishap::Twice)) => (2, Duration::ZERO),
                        Some((_, Mishap::Late(late))) => (1, late),
                    };
                    let outside = self.nats.get_mut(&from).map(|nat| {
                        let port = nat.leave(self.now.as_nanos());
                        SocketAddr::new(from.ip(), port)
                    });
                    let ways = path.send(enters.as_nanos(), datagram.len());
                    for at in ways.iter().cycle().take(ways.len() * copies) {
                        let at = Time::from_nanos(*at) + late;
                        self.counter += 1;
                        self.flights.insert(
                            (at, self.counter),
                            (outside.unwrap_or(from), transmit.remote, datagram.to_vec()),
                        );
                    }
                }
            }
            while let Some((peer, event)) = endpoint.poll_event() {
                if let (true, Event::Frame(received)) = (from == address(RELAY), &event) {
                    self.arrivals.push((self.now, captured(received)));
                }
                self.events.push((from, peer, event));
            }
        }
    }

    /// Sends a datagram of anyone's making.
    pub fn inject(&mut self, from: &str, to: &str, datagram: Vec<u8>) {
        self.inject_from(address(from), to, datagram);
    }

    pub fn inject_from(&mut self, from: SocketAddr, to: &str, datagram: Vec<u8>) {
        self.counter += 1;
        let flight = (from, address(to), datagram);
        self.flights.insert((self.now, self.counter), flight);
    }

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut steps = 0u64;
        loop {
            self.transmit();
            self.leave_unread();
            let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
            let timers = self.hosts.iter().filter_map(|(at, endpoint)| {
                let due = endpoint.poll_timeout()?;
                let due = self.clocks.get(at).map_or(due, |clock| clock.when(due));
                Some(self.held_until(*at).map_or(due, |until| due.max(until)))
            });
            let timer = timers.min();
            let next = [flight, timer]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= end);
            let Some(next) = next else { break };
            steps += 1;
            assert!(steps < 50_000_000, "the endpoints keep busy without end");
            self.now = self.now.max(next);
            let mut held = Vec::new();
            let mut read = false;
            while let Some(entry) = self.flights.first_entry().filter(|e| e.key().0 <= self.now) {
                let (at, number) = *entry.key();
                let (from, to, mut datagram) = entry.remove();
                let Some(to) = self.inside(to) else {
                    continue;
                };
                if let Some(until) = self.held_until(to) {
                    self.came.entry(number).or_insert(at);
                    held.push(((until, number), (from, to, datagram)));
                    continue;
                }
                let came = self.came.remove(&number).filter(|_| self.stamps);
                let now = self.clocks.get(&to).map_or(self.now, |c| c.at(self.now));
                read |= to == address(RELAY);
                if let Some(endpoint) = self.hosts.get_mut(&to) {
                    endpoint.handle_datagram(now, came.unwrap_or(now), from, &mut datagram);
                }
            }
            self.flights.extend(held);
            self.reads += u64::from(read);
            let now = self.now;
            let running: Vec<_> = self.hosts.keys().copied().collect();
            for at in running {
                if self.held_until(at).is_some() {
                    continue;
                }
                let now = self.clocks.get(&at).map_or(now, |c| c.at(now));
                let endpoint = self.hosts.get_mut(&at).expect("it runs");
                if endpoint.poll_timeout().is_some_and(|at| at <= now) {
                    endpoint.handle_timeout(now);
                }
            }
        }
        self.now = end;
        self.transmit();
    }

    /// Runs until `done` of the events, at most `limit`; panics then.
    pub fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&[(SocketAddr, PeerId, Event)]) -> bool,
    ) {
        let end = self.now + limit;
        while !done(&self.events) {
            assert!(
                self.now < end,
                "not within {limit:?}; events: {:?}",
                self.summary()
            );
            self.run(Duration::from_millis(1));
        }
    }

    fn summary(&self) -> Vec<String> {
        self.events
            .iter()
            .filter(|(_, _, event)| !matches!(event, Event::Frame(_)))
            .map(|(at, peer, event)| format!("{at} {peer:?} {event:?}"))
            .collect()
    }

    /// Sends `count` frames, one each `interval`.
    pub fn stream(&mut self, at: &str, peer: PeerId, count: u64, interval: Duration, len: usize) {
        for number in 0..count {
            let mut frame = self.frame(number, len);
            let now = self.clock(at).at(self.now);
            frame.capture = now;
            self.host(at).send_frame(now, peer, 0, frame).unwrap();
            self.run(interval);
        }
    }

    /// The frames that the endpoint at `at` received.
    pub fn frames(&self, at: &str) -> Vec<&ReceivedFrame> {
        let of = |(host, _, event): &'_ (SocketAddr, PeerId, Event)| {
            *host == address(at) && matches!(event, Event::Frame(_))
        };
        self.events
            .iter()
            .filter(|entry| of(entry))
            .filter_map(|(_, _, event)| match event {
                Event::Frame(frame) => Some(frame),
                _ => None,
            })
            .collect()
    }

    /// Asserts that what arrived at `at` is intact, in order and without repetition; returns the
    /// seeds of the frames.
    pub fn assert_intact(&self, at: &str) -> Vec<u64> {
        let seeds: Vec<u64> = self
            .frames(at)
            .iter()
            .map(|received| {
                let seed = received.frame.wall.unwrap() - EPOCH;
                assert_eq!(
                    received.frame.data,
                    pattern(seed, received.frame.data.len())
                );
                seed
            })
            .collect();
        assert_eq!(
            seeds.iter().collect::<BTreeSet<_>>().len(),
            seeds.len(),
            "a frame came twice"
        );
        assert!(seeds.is_sorted(), "frames came out of order");
        seeds
    }
}

/// Randomness for an endpoint.
struct Seeded(Rng);

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        out.iter_mut().for_each(|byte| *byte = self.0.next() as u8);
    }
}

pub fn pattern(seed: u64, len: usize) -> Bytes {
    let mut rng = Rng::new(seed ^ len as u64);
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        data.extend_from_slice(&rng.next().to_le_bytes());
    }
    data.truncate(len);
    data.into()
}
