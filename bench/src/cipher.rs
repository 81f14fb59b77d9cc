//! What encryption costs a frame.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use camrelay_protocol::SealedFrame;

/// The largest datagrams of a path that carries IP packets of 1500 bytes.
const MTU: u16 = 1472;
const FRAMES: u32 = 2000;

/// What it takes to seal, and to open, a frame.
pub(crate) struct Cost {
    /// The cipher's name.
    pub(crate) cipher: &'static str,
    /// Datagrams of a frame, and bytes of each.
    pub(crate) shape: (usize, usize),
    pub(crate) seal: Duration,
    pub(crate) open: Duration,
}

/// Measures it for a frame of `size` bytes, as sessions do it.
pub(crate) fn cost(size: usize) -> anyhow::Result<Cost> {
    let mut frame = SealedFrame::new(size, MTU).context("the frame is too large")?;
    let [mut sealing, mut opening] = [Duration::ZERO; 2];
    let mut shape = frame.shape();
    for _ in 0..FRAMES {
        let begun = Instant::now();
        frame.seal();
        sealing += begun.elapsed();
        shape = frame.shape();
        let begun = Instant::now();
        let authentic = black_box(&mut frame).open();
        opening += begun.elapsed();
        ensure!(authentic, "{} failed", frame.cipher());
    }
    Ok(Cost {
        cipher: frame.cipher(),
        shape,
        seal: sealing / FRAMES,
        open: opening / FRAMES,
    })
}
