//! A frame on its way out.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;
use crate::fec;
use crate::fragment::{Coded, Layout};
use crate::wire::fragment::{FLAG_REPAIR, Fragment};
use crate::wire::item::encode_fragment_head;

/// Symbols that were sent together and may be under way.
pub(super) struct UnderWay {
    pub(super) block: u8,
    pub(super) packet: u64,
    pub(super) at: Time,
}

/// A frame, from the queue to the end of its time for repairs.
pub(super) struct Outgoing {
    pub(super) fragment: Fragment,
    pub(super) layout: Layout,
    pub(super) coded: Coded,
    /// Others build on it, or it on them.
    pub(super) is_chain: bool,
    /// How long it takes to leave at the target,
    pub(super) takes: Duration,
    /// and until when it must have.
    pub(super) due: Time,
    /// Symbols of the first flight already sent, all blocks together.
    pub(super) sent: usize,
    pub(super) first_sent: Time,
    pub(super) last_packet: u64,
    pub(super) last_sent: Time,
    /// Next fresh parity number of each block.
    pub(super) fresh: Vec<u16>,
    pub(super) under_way: VecDeque<UnderWay>,
    pub(super) probes: u32,
}

impl Outgoing {
    pub(super) fn first_flight(&self) -> usize {
        usize::from(self.fragment.first_flight) * usize::from(self.layout.blocks)
    }

    /// Appends symbol `number` of `block`.
    pub(super) fn write(&self, block: u8, number: u16, repair: bool, out: &mut Vec<u8>) {
        let flags = self.fragment.flags | if repair { FLAG_REPAIR } else { 0 };
        encode_fragment_head(
            &Fragment {
                flags,
                block,
                symbol: number,
                ..self.fragment
            },
            out,
        );
        let len = usize::from(self.layout.symbol_len);
        let k = u16::from(self.layout.k);
        if number < k {
            return self
                .coded
                .write(self.layout.place(block, number) * len, len, out);
        }
        let at = out.len();
        out.resize(at + len, 0);
        let mut scratch = Vec::new();
        for data in 0..k {
            let symbol = self
                .coded
                .read(self.layout.place(block, data) * len, len, &mut scratch);
            fec::add_data(number, &mut out[at..], data, symbol);
        }
    }

    /// When its time for repairs is over: that of its first flight is not counted where it is
    /// long, as the receiver does.
    pub(super) fn over_at(&self, budget: Duration) -> Time {
        (self.first_sent + budget).max(self.last_sent + budget / 2)
    }

    pub(super) fn is(&self, stream: u16, sequence: u32) -> bool {
        self.fragment.stream == stream && self.fragment.sequence == sequence
    }
}
