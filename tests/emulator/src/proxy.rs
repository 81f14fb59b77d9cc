//! A path between real sockets, in real time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use polling::{Event, Events, PollMode, Poller};

use crate::{Conditions, Path};

/// Clients of a proxy at once; one more takes the place of the one silent for longest.
pub const MAX_CLIENTS: usize = 512;
/// Datagrams under way at once; more are dropped and counted.
pub const MAX_QUEUED: usize = 1 << 16;
/// Bytes under way at once; more are dropped and counted.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Kernel buffer asked for, in bytes: a frame may come in one burst.
const KERNEL_BUFFER: usize = 4 << 20;
/// Longest datagram, in bytes.
const MAX_DATAGRAM: usize = 1 << 16;
/// Datagrams taken from one socket before what is due leaves.
const BATCH: usize = 64;
/// Forwarded later than this after it was due, a datagram counts as late.
const LATE: Duration = Duration::from_millis(1);
/// What a seed is changed by for the way back.
const BACK: u64 = 0x9e37_79b9_7f4a_7c15;

/// A port of the path: where clients send to, and what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where datagrams of clients are taken; port 0 lets the system pick.
    pub listen: SocketAddr,
    /// Where they go.
    pub to: SocketAddr,
}

/// A way along the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the clients.
    There,
    /// To the clients.
    Back,
}

/// What one direction has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams taken.
    pub datagrams: u64,
    /// Bytes of UDP payload taken.
    pub bytes: u64,
    /// Datagrams that the path lost: by chance, at the bottleneck's queue, or while down.
    pub lost: u64,
    /// Datagrams handed on, copies included.
    pub delivered: u64,
    /// Datagrams dropped because too much was under way: the proxy's own limit, not the path's.
    pub overflowed: u64,
    /// Datagrams handed on more than a millisecond after they were due: the machine was busy.
    pub late: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            datagrams,
            bytes,
            lost,
            delivered,
            overflowed,
            late,
        } = self;
        write!(
            f,
            "{datagrams} datagrams of {bytes} bytes taken, {lost} lost, {delivered} handed on \
             ({late} late by over a millisecond), {overflowed} dropped for want of room"
        )
    }
}

/// A path between clients and what is behind it, on a thread of its own until it is dropped.
///
/// Every client has a socket of its own towards the other side, as behind a NAT. All routes
/// and clients share the path: its delay, its losses and its bottleneck.
pub struct Proxy {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    poller: Poller,
}

struct State {
    paths: [Path; 2],
    counters: [Counters; 2],
    rebind: bool,
    stop: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Starts a proxy with `there` and `back` as the two directions of its path, whose chances
    /// are drawn from `seed`.
    ///
    /// # Errors
    /// Where a route's address cannot be bound, or the system has no more threads or sockets.
    pub fn start(
        routes: &[Route],
        there: Conditions,
        back: Conditions,
        seed: u64,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let mut listeners = Vec::new();
        for (key, route) in routes.iter().enumerate() {
            let socket = bind(route.listen)?;
            // SAFETY: the thread owns the socket and deletes it before it closes it.
            unsafe { poller.add_with_mode(&socket, Event::readable(key), PollMode::Level)? };
            listeners.push((socket, route.to));
        }
        let addresses = listeners.iter().map(|(socket, _)| socket.local_addr());
        let addresses = addresses.collect::<io::Result<_>>()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                paths: [Path::new(there, seed), Path::new(back, seed ^ BACK)],
                counters: Default::default(),
                rebind: false,
                stop: false,
            }),
            poller,
        });
        let mut worker = Worker {
            shared: shared.clone(),
            next_key: listeners.len(),
            listeners,
            clients: HashMap::new(),
            keys: HashMap::new(),
            under_way: BinaryHeap::new(),
            queued_bytes: 0,
            queued: 0,
            began: Instant::now(),
            buffer: vec![0; MAX_DATAGRAM],
        };
        let thread = std::thread::Builder::new()
            .name("path-emulator".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            addresses,
            thread: Some(thread),
        })
    }

    /// Where clients send to, one for each route.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What a direction does now.
    pub fn conditions(&self, direction: Direction) -> Conditions {
        self.shared.state().paths[direction as usize].conditions
    }

    /// Changes what a direction does to datagrams from now on; those under way stay as they are.
    pub fn set(&self, direction: Direction, conditions: Conditions) {
        self.shared.state().paths[direction as usize].conditions = conditions;
    }

    /// Gives every client another address towards the other side, as when a NAT forgets.
    pub fn rebind(&self) {
        self.shared.state().rebind = true;
        self.wake();
    }

    /// What a direction has done.
    pub fn counters(&self, direction: Direction) -> Counters {
        self.shared.state().counters[direction as usize]
    }

    fn wake(&self) {
        // It fails only where the poller is gone, and the thread with it.
        let _ = self.shared.poller.notify();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            // What a panic had to say is on standard error already.
            let _ = thread.join();
        }
    }
}

/// One client of one route.
struct Client {
    route: usize,
    address: SocketAddr,
    /// Towards the other side.
    socket: UdpSocket,
    heard: Instant,
}

/// A datagram on its way, ordered by when it is due.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    /// Nanoseconds since the start.
    due: u64,
    /// Keeps those due together in the order in which they were taken.
    number: u64,
    client: usize,
    there: bool,
    data: Vec<u8>,
}

struct Worker {
    shared: Arc<Shared>,
    /// A route's socket and where it leads; its place is its key.
    listeners: Vec<(UdpSocket, SocketAddr)>,
    clients: HashMap<usize, Client>,
    keys: HashMap<(usize, SocketAddr), usize>,
    next_key: usize,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    queued_bytes: usize,
    /// Datagrams ever queued.
    queued: u64,
    began: Instant,
    buffer: Vec<u8>,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Events::new();
        while !self.shared.state().stop {
            self.rebind_if_asked();
            let timeout = self.forward_due();
            events.clear();
            match self.shared.poller.wait(&mut events, timeout) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("cannot wait for datagrams: {error}"),
            }
            for event in events.iter() {
                if event.key < self.listeners.len() {
                    self.take_from_clients(event.key);
                } else {
                    self.take_from_behind(event.key);
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn take_from_clients(&mut self, route: usize) {
        for _ in 0..BATCH {
            let (socket, _) = &self.listeners[route];
            let (len, from) = match socket.recv_from(&mut self.buffer) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An answer to something sent before: nobody is there any more.
                Err(_) => continue,
            };
            if let Some(client) = self.client(route, from) {
                self.send_off(client, Direction::There, len);
            }
        }
    }

    fn take_from_behind(&mut self, client: usize) {
        for _ in 0..BATCH {
            let Some(Client { socket, .. }) = self.clients.get(&client) else {
                return;
            };
            match socket.recv(&mut self.buffer) {
                Ok(len) => self.send_off(client, Direction::Back, len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody listens there yet, or any more.
                Err(_) => {}
            }
        }
    }

    /// The client with that address, new or old; `None`: the system has no socket for it.
    fn client(&mut self, route: usize, address: SocketAddr) -> Option<usize> {
        let heard = Instant::now();
        if let Some(key) = self.keys.get(&(route, address)) {
            self.clients.get_mut(key)?.heard = heard;
            return Some(*key);
        }
        if self.clients.len() >= MAX_CLIENTS {
            self.forget_silent();
        }
        let key = self.next_key;
        let socket = self.connect(key, self.listeners[route].1).ok()?;
        self.next_key += 1;
        self.keys.insert((route, address), key);
        let client = Client {
            route,
            address,
            socket,
            heard,
        };
        self.clients.insert(key, client);
        Some(key)
    }

    fn forget_silent(&mut self) {
        let silent = self.clients.iter().min_by_key(|(_, client)| client.heard);
        let Some(key) = silent.map(|(key, _)| *key) else {
            return;
        };
        if let Some(client) = self.clients.remove(&key) {
            self.keys.remove(&(client.route, client.address));
            self.delete(&client.socket);
        }
    }

    /// A socket towards `to`, heard as `key`.
    fn connect(&self, key: usize, to: SocketAddr) -> io::Result<UdpSocket> {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = bind(any)?;
        socket.connect(to)?;
        let poller = &self.shared.poller;
        // SAFETY: every socket is deleted before it is closed, by `delete`.
        unsafe { poller.add_with_mode(&socket, Event::readable(key), PollMode::Level)? };
        Ok(socket)
    }

    fn delete(&self, socket: &UdpSocket) {
        // It was added, and the poller lives: nothing to fail.
        let _ = self.shared.poller.delete(socket);
    }

    fn rebind_if_asked(&mut self) {
        if !std::mem::take(&mut self.shared.state().rebind) {
            return;
        }
        let keys: Vec<usize> = self.clients.keys().copied().collect();
        for key in keys {
            let Some(route) = self.clients.get(&key).map(|client| client.route) else {
                continue;
            };
            let Ok(mut socket) = self.connect(key, self.listeners[route].1) else {
                continue;
            };
            if let Some(client) = self.clients.get_mut(&key) {
                std::mem::swap(&mut client.socket, &mut socket);
            }
            self.delete(&socket);
        }
    }

    /// Gives the first `len` bytes of the buffer to the path.
    fn send_off(&mut self, client: usize, direction: Direction, len: usize) {
        let now = self.now();
        let mut state = self.shared.state();
        let arrivals = state.paths[direction as usize].send(now, len);
        let counters = &mut state.counters[direction as usize];
        counters.datagrams += 1;
        counters.bytes += len as u64;
        counters.lost += u64::from(arrivals.is_empty());
        for due in arrivals {
            if self.under_way.len() >= MAX_QUEUED || self.queued_bytes + len > MAX_QUEUED_BYTES {
                counters.overflowed += 1;
                continue;
            }
            self.queued += 1;
            self.queued_bytes += len;
            self.under_way.push(Reverse(UnderWay {
                due,
                number: self.queued,
                client,
                there: direction == Direction::There,
                data: self.buffer[..len].to_vec(),
            }));
        }
    }

    /// Hands on what is due; returns how long until the next is.
    fn forward_due(&mut self) -> Option<Duration> {
        let mut delivered = [0; 2];
        let mut late = [0; 2];
        let mut now = self.now();
        let timeout = loop {
            let Some(Reverse(first)) = self.under_way.peek() else {
                break None;
            };
            if first.due > now {
                now = self.now();
                if first.due > now {
                    break Some(Duration::from_nanos(first.due - now));
                }
            }
            let Some(Reverse(datagram)) = self.under_way.pop() else {
                break None;
            };
            self.queued_bytes -= datagram.data.len();
            let direction = match datagram.there {
                true => Direction::There,
                false => Direction::Back,
            };
            delivered[direction as usize] += 1;
            late[direction as usize] += u64::from(now - datagram.due > LATE.as_nanos() as u64);
            self.hand_on(&datagram);
        };
        let mut state = self.shared.state();
        for (index, counters) in state.counters.iter_mut().enumerate() {
            counters.delivered += delivered[index];
            counters.late += late[index];
        }
        timeout
    }

    fn hand_on(&self, datagram: &UnderWay) {
        let Some(client) = self.clients.get(&datagram.client) else {
            return;
        };
        // What the system refuses (nobody there, a full buffer) is lost, as on any path.
        let _ = match datagram.there {
            true => client.socket.send(&datagram.data),
            false => {
                let (socket, _) = &self.listeners[client.route];
                socket.send_to(&datagram.data, client.address)
            }
        };
    }
}

/// A socket that does not block, with large buffers.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let reference = socket2::SockRef::from(&socket);
    // Refused sizes leave the system's own.
    let _ = reference.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = reference.set_send_buffer_size(KERNEL_BUFFER);
    Ok(socket)
}
