//! A UDP socket that sends and receives batches of datagrams (GSO, GRO).

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;

use camrelay_protocol::{Time, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::CAT;
use super::arrival::Arrivals;

/// Bytes of kernel buffer asked for, in each direction.
const KERNEL_BUFFER: usize = 8 << 20;
/// Bytes of one receive slot: the largest batch that the kernel joins (GRO).
const RECV_SLOT: usize = 1 << 16;
/// Most bytes of UDP payload that one send call can take, over IPv4 as over IPv6.
const MAX_SEND: usize = 65_507;

/// Numbers that the kernel tells of a socket's memory, and the place of its drops
/// (linux/sock_diag.h).
const SK_MEMINFO_VARS: usize = 9;
const SK_MEMINFO_DROPS: usize = 8;

/// Remotes whose called address is remembered; all are forgotten when there are more.
const MAX_CALLED: usize = 8192;

/// A bound, non-blocking UDP socket.
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// Bytes of receive buffer that the kernel granted.
    granted: usize,
    /// Answers come from the address that was called, of the many this machine may have.
    answers: bool,
}

/// Datagrams waiting to leave for one remote.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The datagrams, back to back.
    pub(super) buffer: Vec<u8>,
    transmit: Option<Transmit>,
    sent: usize,
    /// Which of this machine's addresses a remote called: its answers come from there.
    called: HashMap<SocketAddr, IpAddr>,
}

impl Outgoing {
    /// Takes up the batch that was written to `buffer`.
    pub(super) fn begin(&mut self, transmit: Transmit) {
        self.transmit = Some(transmit);
        self.sent = 0;
    }

    /// Takes up what is left of another one.
    pub(super) fn take_up(&mut self, rest: Self) {
        (self.buffer, self.transmit, self.sent) = (rest.buffer, rest.transmit, rest.sent);
    }

    /// Whether datagrams are waiting.
    pub(super) fn is_pending(&self) -> bool {
        self.transmit.is_some()
    }

    fn remember(&mut self, received: &[RecvMeta]) {
        for meta in received {
            if let Some(called) = meta.dst_ip {
                if self.called.len() == MAX_CALLED {
                    self.called.clear();
                }
                self.called.insert(canonical(meta.addr), called);
            }
        }
    }
}

/// Room for one batch of received datagrams.
pub(super) struct Incoming {
    slots: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
    arrivals: Arrivals,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; RECV_SLOT * BATCH_SIZE],
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            arrivals: Arrivals::default(),
        }
    }

    /// Calls `take` with the arrival, the source and the bytes of every datagram.
    pub(super) fn for_each(&mut self, mut take: impl FnMut(Time, SocketAddr, &mut [u8])) {
        let slots = self.slots.chunks_exact_mut(RECV_SLOT);
        for (slot, meta) in slots.zip(&self.meta[..self.filled]) {
            let from = canonical(meta.addr);
            let filled = meta.len.min(slot.len());
            let arrived = self.arrivals.of(meta.timestamp);
            for datagram in slot[..filled].chunks_mut(meta.stride.max(1)) {
                take(arrived, from, datagram);
            }
        }
        self.filled = 0;
    }
}

impl Socket {
    /// A socket to be called at `address`; port 0 lets the system pick.
    pub(super) fn for_listening(address: SocketAddr) -> io::Result<Self> {
        Self::bind(address, address.ip().is_unspecified())
    }

    fn bind(address: SocketAddr, answers: bool) -> io::Result<Self> {
        let raw = RawSocket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            raw.set_only_v6(false)?;
        }
        raw.bind(&address.into())?;
        Self::new(raw.into(), answers)
    }

    /// A socket to call from: any port, IPv6 and IPv4 where the system has both.
    pub(super) fn for_calling() -> io::Result<Self> {
        Self::bind((Ipv6Addr::UNSPECIFIED, 0).into(), false)
            .or_else(|_| Self::bind((Ipv4Addr::UNSPECIFIED, 0).into(), false))
    }

    fn new(io: UdpSocket, answers: bool) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let local = io.local_addr()?;
        let reference = UdpSockRef::from(&io);
        // Refused sizes leave the system's own: slower under bursts, never wrong.
        let _ = state.set_send_buffer_size(reference, KERNEL_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&io), KERNEL_BUFFER);
        // Linux reports twice the size that it granted.
        let granted = state.recv_buffer_size(UdpSockRef::from(&io))? / 2;
        if let Some(advice) = advice(granted) {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| gst::warning!(CAT, "{advice}"));
        }
        Ok(Self {
            io,
            state,
            local,
            granted,
            answers,
        })
    }

    /// The address it is bound to, with the port that the system picked.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What to tell the system where it grants too small a receive buffer.
    pub(super) fn advice(&self) -> Option<String> {
        advice(self.granted)
    }

    /// Datagrams that came and were dropped because the receive buffer was full.
    pub(super) fn dropped_by_kernel(&self) -> u64 {
        let mut info = [0u32; SK_MEMINFO_VARS];
        let mut len = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `info`, which has as many.
        let read = unsafe {
            libc::getsockopt(
                self.io.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &mut len,
            )
        };
        // Kernels before 4.12 do not say.
        match read {
            0 => info[SK_MEMINFO_DROPS].into(),
            _ => 0,
        }
    }

    /// Most datagrams worth handing over at once.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Receives a batch; returns whether more may be waiting.
    pub(super) fn recv(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
    ) -> io::Result<bool> {
        incoming.filled = 0;
        let mut slots = incoming.slots.chunks_exact_mut(RECV_SLOT);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        match self
            .state
            .recv(UdpSockRef::from(&self.io), &mut slices, &mut incoming.meta)
        {
            Ok(filled) => {
                incoming.filled = filled;
                incoming.arrivals.read();
                if self.answers {
                    outgoing.remember(&incoming.meta[..filled]);
                }
                Ok(filled == BATCH_SIZE)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends what is waiting; `false`: the kernel's buffer is full, and some still waits.
    ///
    /// Whatever else the kernel says (no route, refused, too long) loses the datagram and
    /// no more: a path that is away now comes back.
    pub(super) fn send(&self, outgoing: &mut Outgoing) -> bool {
        let Some(transmit) = outgoing.transmit else {
            return true;
        };
        let segment = transmit.segment_size.max(1);
        while outgoing.sent < outgoing.buffer.len() {
            let segments = self.max_segments().min(MAX_SEND / segment).max(1);
            let rest = &outgoing.buffer[outgoing.sent..];
            let contents = &rest[..rest.len().min(segments * segment)];
            let batched = contents.len() > segment;
            let result = self.state.try_send(
                UdpSockRef::from(&self.io),
                &quinn_udp::Transmit {
                    destination: self.destination(transmit.remote),
                    ecn: None,
                    contents,
                    segment_size: batched.then_some(segment),
                    src_ip: outgoing.called.get(&transmit.remote).copied(),
                },
            );
            match result {
                Ok(()) => outgoing.sent += contents.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // The network card cannot split batches: send the same one piecemeal.
                Err(_) if batched && self.max_segments() == 1 => {}
                Err(error) => {
                    gst::debug!(CAT, "cannot send to {}: {error}", transmit.remote);
                    // That address may be this machine's no more.
                    outgoing.called.remove(&transmit.remote);
                    outgoing.sent += contents.len();
                }
            }
        }
        outgoing.transmit = None;
        true
    }

    /// The address as the socket's family writes it.
    fn destination(&self, remote: SocketAddr) -> SocketAddr {
        match remote.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => (ip.to_ipv6_mapped(), remote.port()).into(),
            _ => remote,
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// What to do about a receive buffer of `granted` bytes.
fn advice(granted: usize) -> Option<String> {
    (granted < KERNEL_BUFFER).then(|| {
        format!(
            "the kernel grants a UDP receive buffer of {granted} bytes, and bursts of frames may \
             overflow it; allow more with: sysctl -w net.core.rmem_max={KERNEL_BUFFER}"
        )
    })
}

/// An IPv4 address that came over an IPv6 socket as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Socket {
        gst::init().unwrap();
        Socket::for_listening((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    /// Sends a batch and returns the datagrams that arrive, in order.
    fn through(
        sender: &Socket,
        receiver: &Socket,
        batch: &[u8],
        segment_size: usize,
    ) -> Vec<Vec<u8>> {
        let mut outgoing = Outgoing::default();
        outgoing.buffer.extend_from_slice(batch);
        outgoing.begin(Transmit {
            remote: receiver.local_addr(),
            segment_size,
        });
        while !sender.send(&mut outgoing) {
            std::thread::yield_now();
        }
        assert!(!outgoing.is_pending());
        let mut incoming = Incoming::new();
        let mut received = Vec::new();
        while received.iter().map(Vec::len).sum::<usize>() < batch.len() {
            receiver.recv(&mut incoming, &mut outgoing).unwrap();
            incoming.for_each(|_, from, datagram| {
                assert_eq!(from.port(), sender.local_addr().port());
                received.push(datagram.to_vec());
            });
        }
        received
    }

    #[test]
    fn batches_arrive_as_the_datagrams_they_were() {
        let (sender, receiver) = (socket(), socket());
        // One, a few, and more than the kernel takes at once; the last one shorter, and not.
        for (len, segment) in [
            (1, 1200),
            (1200, 1200),
            (3601, 1200),
            (200_000, 1452),
            (130_680, 1452),
        ] {
            let batch: Vec<u8> = (0..len).map(|i| (i / 7) as u8).collect();
            let expected: Vec<Vec<u8>> = batch.chunks(segment).map(<[u8]>::to_vec).collect();
            assert!(
                through(&sender, &receiver, &batch, segment) == expected,
                "{len} by {segment}"
            );
        }
    }

    #[test]
    fn a_small_receive_buffer_is_advised_on_and_its_drops_are_counted() {
        assert_eq!(advice(KERNEL_BUFFER), None);
        let words = advice(KERNEL_BUFFER - 1).unwrap();
        assert!(
            words.ends_with("sysctl -w net.core.rmem_max=8388608"),
            "{words}"
        );

        let (sender, receiver) = (socket(), socket());
        let raw = socket2::SockRef::from(&receiver.io);
        raw.set_recv_buffer_size(1 << 16).unwrap();
        assert_eq!(receiver.dropped_by_kernel(), 0);
        const SENT: u64 = 1000;
        for _ in 0..SENT {
            sender
                .io
                .send_to(&[0; 1000], receiver.local_addr())
                .unwrap();
        }
        let mut buffer = [0; 2000];
        let came = (0..SENT)
            .take_while(|_| receiver.io.recv_from(&mut buffer).is_ok())
            .count();
        assert!(came < SENT as usize);
        assert_eq!(receiver.dropped_by_kernel(), SENT - came as u64);
    }

    #[test]
    fn a_socket_that_calls_reaches_both_families() {
        let caller = Socket::for_calling().unwrap();
        let receiver = socket();
        assert_eq!(through(&caller, &receiver, b"four", 1200), [b"four"]);
        if caller.local_addr().is_ipv6() {
            let six = Socket::for_listening((Ipv6Addr::LOCALHOST, 0).into()).unwrap();
            assert_eq!(through(&caller, &six, b"six", 1200), [b"six"]);
        }
    }

    #[test]
    fn a_remote_that_cannot_be_reached_does_no_harm() {
        let sender = socket();
        // Loopback has no way there.
        let mut outgoing = Outgoing::default();
        outgoing.buffer.extend_from_slice(b"x");
        outgoing.begin(Transmit {
            remote: (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
            segment_size: 1200,
        });
        assert!(sender.send(&mut outgoing));
        let receiver = socket();
        assert_eq!(through(&sender, &receiver, b"y", 1200), [b"y"]);
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_called() {
        let all = Socket::for_listening((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let caller = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let alias = Ipv4Addr::new(127, 0, 0, 2);
        caller.connect((alias, all.local_addr().port())).unwrap();
        caller.send(b"hello").unwrap();
        let (mut incoming, mut outgoing) = (Incoming::new(), Outgoing::default());
        let mut from = None;
        while from.is_none() {
            all.recv(&mut incoming, &mut outgoing).unwrap();
            incoming.for_each(|_, remote, _| from = Some(remote));
        }
        outgoing.buffer.extend_from_slice(b"answer");
        outgoing.begin(Transmit {
            remote: from.unwrap(),
            segment_size: 1200,
        });
        assert!(all.send(&mut outgoing));
        // A connected socket takes nothing from elsewhere.
        let mut answer = [0; 16];
        let timeout = std::time::Duration::from_secs(30);
        caller.set_read_timeout(Some(timeout)).unwrap();
        let len = caller.recv(&mut answer).unwrap();
        assert_eq!(&answer[..len], b"answer");
    }

    #[test]
    fn a_datagram_that_is_read_late_did_not_come_late() {
        use super::super::clock;

        const HELD: std::time::Duration = std::time::Duration::from_millis(50);
        let (sender, receiver) = (socket(), socket());
        let (mut incoming, mut outgoing) = (Incoming::new(), Outgoing::default());
        let mut waited = None;
        // The kernel begins to stamp what comes soon after it was asked to.
        for _ in 0..100 {
            let sent = clock::now();
            sender.io.send_to(b"x", receiver.local_addr()).unwrap();
            while clock::now().since(sent) < HELD {
                std::thread::yield_now();
            }
            receiver.recv(&mut incoming, &mut outgoing).unwrap();
            let read = clock::now();
            incoming.for_each(|arrived, _, _| waited = Some(read.since(arrived)));
            if waited >= Some(HELD / 2) {
                return;
            }
        }
        panic!("it waited for {HELD:?}, and is said to have waited for {waited:?}");
    }

    #[test]
    fn called_addresses_are_bounded() {
        let mut outgoing = Outgoing::default();
        for index in 0..=MAX_CALLED {
            let mut meta = RecvMeta::default();
            let [high, low] = (index as u16).to_be_bytes();
            meta.addr = (Ipv4Addr::new(10, 0, high, low), 9).into();
            meta.dst_ip = Some(Ipv4Addr::LOCALHOST.into());
            outgoing.remember(&[meta]);
            assert!(outgoing.called.len() <= MAX_CALLED);
        }
    }
}
