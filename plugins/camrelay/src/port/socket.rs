//! A UDP socket that sends and receives batches of datagrams (GSO, GRO).

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;

use camrelay_protocol::Transmit;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::CAT;

/// Bytes of kernel buffer asked for, in each direction.
const KERNEL_BUFFER: usize = 8 << 20;
/// Bytes of one receive slot: the largest batch that the kernel joins (GRO).
const RECV_SLOT: usize = 1 << 16;
/// Most bytes of UDP payload that one send call can take, over IPv4 as over IPv6.
const MAX_SEND: usize = 65_507;

/// A bound, non-blocking UDP socket.
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// Datagrams waiting to leave for one remote.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The datagrams, back to back.
    pub(super) buffer: Vec<u8>,
    transmit: Option<Transmit>,
    sent: usize,
}

impl Outgoing {
    /// Takes up the batch that was written to `buffer`.
    pub(super) fn begin(&mut self, transmit: Transmit) {
        self.transmit = Some(transmit);
        self.sent = 0;
    }

    /// Whether datagrams are waiting.
    pub(super) fn is_pending(&self) -> bool {
        self.transmit.is_some()
    }
}

/// Room for one batch of received datagrams.
pub(super) struct Incoming {
    slots: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; RECV_SLOT * BATCH_SIZE],
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }

    /// Calls `take` with the source and the bytes of every datagram.
    pub(super) fn for_each(&mut self, mut take: impl FnMut(SocketAddr, &mut [u8])) {
        let slots = self.slots.chunks_exact_mut(RECV_SLOT);
        for (slot, meta) in slots.zip(&self.meta[..self.filled]) {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let filled = meta.len.min(slot.len());
            for datagram in slot[..filled].chunks_mut(meta.stride.max(1)) {
                take(from, datagram);
            }
        }
        self.filled = 0;
    }
}

impl Socket {
    /// A socket bound to `address`; port 0 lets the system pick.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let raw = RawSocket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            raw.set_only_v6(false)?;
        }
        raw.bind(&address.into())?;
        Self::new(raw.into())
    }

    /// A socket to call from: any port, IPv6 and IPv4 where the system has both.
    pub(super) fn for_calling() -> io::Result<Self> {
        Self::bind((Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| Self::bind((Ipv4Addr::UNSPECIFIED, 0).into()))
    }

    fn new(io: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let local = io.local_addr()?;
        let reference = UdpSockRef::from(&io);
        // Refused sizes leave the system's own: slower under bursts, never wrong.
        let _ = state.set_send_buffer_size(reference, KERNEL_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&io), KERNEL_BUFFER);
        // Linux reports twice the size that it granted.
        let granted = state.recv_buffer_size(UdpSockRef::from(&io))? / 2;
        if granted < KERNEL_BUFFER {
            warn_small_buffer(granted);
        }
        Ok(Self { io, state, local })
    }

    /// The address it is bound to, with the port that the system picked.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Most datagrams worth handing over at once.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Receives a batch; returns whether more may be waiting.
    pub(super) fn recv(&self, incoming: &mut Incoming) -> io::Result<bool> {
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
                    src_ip: None,
                },
            );
            match result {
                Ok(()) => outgoing.sent += contents.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // The network card cannot split batches: send the same one piecemeal.
                Err(_) if batched && self.max_segments() == 1 => {}
                Err(error) => {
                    gst::debug!(CAT, "cannot send to {}: {error}", transmit.remote);
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

fn warn_small_buffer(granted: usize) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        gst::warning!(
            CAT,
            "the kernel grants a UDP receive buffer of {granted} bytes, and bursts of frames may \
             overflow it; allow more with: sysctl -w net.core.rmem_max={KERNEL_BUFFER}"
        );
    });
}
