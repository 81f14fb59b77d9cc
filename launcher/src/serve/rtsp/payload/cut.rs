//! Where a frame is cut into packets.

use std::ops::Range;

/// The most of a packet that follows its RTP header, in bytes: with RTP, UDP and IPv6
/// headers it passes a path of 1,480 bytes.
pub const MAX_BODY: usize = 1388;

/// Where a frame is cut into packets.
#[derive(Default)]
pub struct Cut {
    /// Payload headers, one after the other.
    pub(super) heads: Vec<u8>,
    /// For each packet its range of `heads` and its range of the frame.
    pub(super) pieces: Vec<(Range<usize>, Range<usize>)>,
}

impl Cut {
    /// Adds a packet of these bytes and that range of the frame.
    pub fn add(&mut self, head: &[u8], body: Range<usize>) {
        let start = self.heads.len();
        self.heads.extend_from_slice(head);
        self.pieces.push((start..self.heads.len(), body));
    }

    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The payload's header of each, and its bytes of the frame.
    pub fn iter<'a>(&'a self, frame: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let pieces = self.pieces.iter();
        pieces.map(|(head, body)| (&self.heads[head.clone()], &frame[body.clone()]))
    }
}
