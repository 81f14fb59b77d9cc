//! The two UDP ports from which every viewer over UDP is sent to: RTP and RTCP.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use quinn_udp::{Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::payload::Packets;
use super::track::{Head, INTERLEAVED};

/// Pairs of ports that are tried before there is said to be none.
const ATTEMPTS: usize = 100;
/// The most that one system call sends: what an IP packet could hold.
const MAX_BATCH: usize = 65_000;
/// What the kernel may hold of packets that wait for the network, in bytes; it grants
/// what its own limit allows.
const SEND_BUFFER: usize = 4 << 20;

/// The sockets.
pub struct Udp {
    rtp: UdpSocket,
    state: UdpSocketState,
    rtcp: UdpSocket,
    ports: (u16, u16),
    /// Whether the viewer behind that address reported something of late.
    heard: Mutex<HashMap<SocketAddr, Arc<AtomicBool>>>,
}

/// A viewer whose reports are listened to, until this is dropped.
pub struct Registration {
    udp: Arc<Udp>,
    viewer: SocketAddr,
    heard: Arc<AtomicBool>,
}

impl Udp {
    /// Binds a port and the one after it: `first`, where it is given and free, or any
    /// even port. To be called within a runtime.
    pub fn bind(address: IpAddr, first: Option<u16>) -> anyhow::Result<Self> {
        let (rtp, rtcp) = match first {
            Some(first) => pair(address, first).with_context(|| {
                format!(
                    "cannot send to viewers from UDP ports {first} and {}: is another relay \
                     running? Stop it, or choose others as ports of [rtsp]",
                    first + 1
                )
            })?,
            None => any_pair(address).context("no two UDP ports are free")?,
        };
        let ports = (rtp.local_addr()?.port(), rtcp.local_addr()?.port());
        // What the kernel does not grant is no fault.
        let _ = socket2::SockRef::from(&rtp).set_send_buffer_size(SEND_BUFFER);
        let state = UdpSocketState::new((&rtp).into())?;
        let into_tokio = |socket: StdSocket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        Ok(Self {
            rtp: into_tokio(rtp)?,
            state,
            rtcp: into_tokio(rtcp)?,
            ports,
            heard: Mutex::default(),
        })
    }

    /// The ports of RTP and RTCP.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Listens to what this viewer reports.
    pub fn register(self: &Arc<Self>, viewer: SocketAddr) -> Registration {
        let heard = Arc::new(AtomicBool::new(false));
        self.table().insert(viewer, heard.clone());
        Registration {
            udp: self.clone(),
            viewer,
            heard,
        }
    }

    /// Sends a frame to a viewer, from the address that it connected to.
    pub async fn frame(
        &self,
        from: IpAddr,
        to: SocketAddr,
        heads: &[Head],
        packets: &Packets,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        let segments = self.state.max_gso_segments();
        let mut batch = Batch::default();
        scratch.clear();
        for (rtp, (head, body)) in heads.iter().zip(packets.iter()) {
            let rtp = &rtp[INTERLEAVED..];
            let length = rtp.len() + head.len() + body.len();
            if !batch.takes(length, segments) {
                self.send(from, to, scratch, batch.size).await?;
                scratch.clear();
                batch = Batch::default();
            }
            batch.add(length);
            scratch.extend_from_slice(rtp);
            scratch.extend_from_slice(head);
            scratch.extend_from_slice(body);
        }
        self.send(from, to, scratch, batch.size).await
    }

    /// Sends packets of that size each, except for the last, which may be shorter.
    async fn send(
        &self,
        from: IpAddr,
        to: SocketAddr,
        packets: &[u8],
        size: usize,
    ) -> io::Result<()> {
        if packets.is_empty() {
            return Ok(());
        }
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: packets,
            segment_size: (packets.len() > size).then_some(size),
            src_ip: (!from.is_unspecified()).then_some(from),
        };
        let send = || match self.state.try_send((&self.rtp).into(), &transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // What else goes wrong is as good as lost on the way.
            _ => Ok(()),
        };
        self.rtp.async_io(Interest::WRITABLE, send).await
    }

    /// Sends a report.
    pub async fn report(&self, to: SocketAddr, report: &[u8]) {
        // What does not arrive is followed by another soon.
        let _ = self.rtcp.send_to(report, to).await;
    }

    /// Takes in reports for ever. Who sends them matters, not what they say.
    pub async fn listen(&self) {
        let mut buffer = [0; 2048];
        loop {
            // Errors are of earlier sends, which somebody refused.
            if let Ok((_, viewer)) = self.rtcp.recv_from(&mut buffer).await
                && let Some(heard) = self.table().get(&viewer)
            {
                heard.store(true, Ordering::Relaxed);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<AtomicBool>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Whether the viewer reported something since this was asked before.
    pub fn heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.udp.table();
        if table
            .get(&self.viewer)
            .is_some_and(|heard| Arc::ptr_eq(heard, &self.heard))
        {
            table.remove(&self.viewer);
        }
    }
}

/// Packets that one system call can send: all of one size, but for the last.
#[derive(Default)]
struct Batch {
    size: usize,
    count: usize,
    bytes: usize,
    closed: bool,
}

impl Batch {
    fn takes(&self, length: usize, segments: usize) -> bool {
        self.count == 0
            || !self.closed
                && length <= self.size
                && self.count < segments
                && self.bytes + length <= MAX_BATCH
    }

    fn add(&mut self, length: usize) {
        if self.count == 0 {
            self.size = length;
        }
        self.closed |= length < self.size;
        self.count += 1;
        self.bytes += length;
    }
}

fn pair(address: IpAddr, first: u16) -> io::Result<(StdSocket, StdSocket)> {
    let second = first
        .checked_add(1)
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((
        StdSocket::bind((address, first))?,
        StdSocket::bind((address, second))?,
    ))
}

fn any_pair(address: IpAddr) -> io::Result<(StdSocket, StdSocket)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    // Those of the wrong parity are kept, so that the system picks others.
    let mut odd = Vec::new();
    for _ in 0..ATTEMPTS {
        let rtp = StdSocket::bind((address, 0))?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 0 {
            match StdSocket::bind((address, port + 1)) {
                Ok(rtcp) => return Ok((rtp, rtcp)),
                Err(error) => last = error,
            }
        }
        odd.push(rtp);
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_of_one_size_and_a_shorter_end() {
        let cut = |lengths: &[usize], segments| {
            let mut batches = vec![Batch::default()];
            for length in lengths {
                let batch = batches.last_mut().expect("one at least");
                if batch.takes(*length, segments) {
                    batch.add(*length);
                } else {
                    let mut batch = Batch::default();
                    batch.add(*length);
                    batches.push(batch);
                }
            }
            batches.iter().map(|batch| batch.count).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[9, 9, 9, 4], 64), [4]);
        assert_eq!(cut(&[9, 9, 4, 4], 64), [3, 1]);
        assert_eq!(cut(&[4, 9, 9], 64), [1, 2]);
        assert_eq!(cut(&[9, 9, 9, 9], 3), [3, 1]);
        assert_eq!(cut(&[9, 9], 1), [1, 1]);
        assert_eq!(cut(&[1400; 47], 64), [46, 1]);
    }

    #[tokio::test]
    async fn reports_are_counted_for_their_viewer_only() {
        let local: IpAddr = [127, 0, 0, 1].into();
        let udp = Arc::new(Udp::bind(local, None).expect("free ports"));
        let (rtp, rtcp) = udp.ports();
        assert_eq!((rtp % 2, rtcp), (0, rtp + 1));
        assert!(Udp::bind(local, Some(rtp)).is_err(), "they are taken");
        let viewer = UdpSocket::bind((local, 0)).await.expect("a free port");
        let other = UdpSocket::bind((local, 0)).await.expect("a free port");
        let address = |socket: &UdpSocket| socket.local_addr().expect("it has one");
        let registration = udp.register(address(&viewer));
        let another = udp.register(address(&other));
        viewer
            .send_to(&[1], (local, rtcp))
            .await
            .expect("it goes out");
        let heard = async {
            while !registration.heard() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = udp.listen() => {}
            () = heard => {}
        }
        assert!(!registration.heard() && !another.heard());
        drop((registration, another));
        assert!(udp.table().is_empty());
    }
}
