//! The UDP socket that all WebRTC viewers share.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use str0m::net::Transmit;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes of kernel buffer for sending: a key frame for each of many viewers at once.
const SEND_BUFFER: usize = 4 << 20;
/// Bytes of one datagram that is read whole; browsers send at most 1,500.
const DATAGRAM: usize = 2048;

/// A datagram that came in.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// Which of our addresses it was sent to.
    pub to: SocketAddr,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A bound socket. Answers leave from the address that was called.
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl Socket {
    /// Binds it; with port 0 the system picks one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let io = std::net::UdpSocket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        // Refused sizes leave the system's own: slower under bursts, never wrong.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&io), SEND_BUFFER);
        let local = io.local_addr()?;
        io.set_nonblocking(true)?;
        Ok(Self {
            io: UdpSocket::from_std(io)?,
            state,
            local,
        })
    }

    /// Where it is bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits for datagrams and calls `take` with each that came.
    pub async fn receive(&self, mut take: impl FnMut(Datagram)) -> io::Result<()> {
        let mut slots = vec![[0; DATAGRAM]; BATCH_SIZE];
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let receive = || {
            let mut slices = slots.iter_mut().map(|slot| IoSliceMut::new(slot));
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            self.state
                .recv(UdpSockRef::from(&self.io), &mut slices, &mut meta)
        };
        let filled = self.io.async_io(Interest::READABLE, receive).await?;
        for (slot, meta) in slots.iter().zip(&meta[..filled]) {
            let to = meta.dst_ip.unwrap_or(self.local.ip()).to_canonical();
            for bytes in slot[..meta.len.min(DATAGRAM)].chunks(meta.stride.max(1)) {
                take(Datagram {
                    from: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
                    to: SocketAddr::new(to, self.local.port()),
                    bytes: bytes.to_vec(),
                });
            }
        }
        Ok(())
    }

    /// Sends a datagram, once the kernel has room for it.
    pub async fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let to = transmit.destination;
        let datagram = quinn_udp::Transmit {
            destination: SocketAddr::new(self.mapped(to.ip()), to.port()),
            ecn: None,
            contents: &transmit.contents,
            segment_size: None,
            src_ip: Some(self.mapped(transmit.source.ip())),
        };
        self.io
            .async_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.io), &datagram)
            })
            .await
    }

    /// An address as this socket has to be given it: IPv4 inside IPv6 where it speaks both.
    fn mapped(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.local.is_ipv6() => v4.to_ipv6_mapped().into(),
            ip => ip,
        }
    }
}
