//! Writes answers and frames into a viewer's connection.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::payload::Packets;
use super::track::Head;

/// A connection that takes nothing for so long is given up.
pub const STALL: Duration = Duration::from_secs(10);

/// The end of a connection that is written to. What is begun is written to its end, so
/// that packets stay whole; meanwhile newer frames push out older ones in front of it.
pub struct Writer<W>(W);

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes into `to`, which should take lists of pieces.
    pub fn new(to: W) -> Self {
        Self(to)
    }

    /// Writes these bytes.
    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut self.0, &mut [IoSlice::new(bytes)]).await
    }

    /// Writes an RTCP packet on that channel.
    pub async fn packet(&mut self, channel: u8, packet: &[u8]) -> io::Result<()> {
        let length = (packet.len() as u16).to_be_bytes();
        let head = [b'$', channel, length[0], length[1]];
        write(
            &mut self.0,
            &mut [IoSlice::new(&head), IoSlice::new(packet)],
        )
        .await
    }

    /// Writes a frame.
    pub async fn frame(&mut self, heads: &[Head], packets: &Packets) -> io::Result<()> {
        let pieces = (heads.iter().zip(packets.iter()))
            .flat_map(|(rtp, (head, body))| [rtp, head, body])
            .filter(|piece| !piece.is_empty());
        let mut slices: Vec<_> = pieces.map(IoSlice::new).collect();
        write(&mut self.0, &mut slices).await
    }
}

async fn write<W: AsyncWrite + Unpin>(
    to: &mut W,
    mut slices: &mut [IoSlice<'_>],
) -> io::Result<()> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    while !slices.is_empty() {
        let written = timeout(STALL, to.write_vectored(slices))
            .await
            .map_err(stalled)??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    timeout(STALL, to.flush()).await.map_err(stalled)?
}
