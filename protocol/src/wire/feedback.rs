//! FEEDBACK: what the receiver of media has and lacks. State, not events: a lost one is made good
//! by the next.

use super::Reader;
use crate::MAX_STREAMS;

/// Frames listed in one FEEDBACK, at most.
pub(crate) const MAX_FRAMES: usize = 32;
/// Arrival samples in one FEEDBACK, at most.
pub(crate) const MAX_SAMPLES: usize = 8;

/// When a packet arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The packet's number, as a distance below the largest.
    pub(crate) back: u16,
    /// Low 32 bits of the receiver's clock in microseconds.
    pub(crate) arrival: u32,
}

/// A frame that is not whole although its first flight is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deficit {
    pub(crate) stream: u16,
    pub(crate) sequence: u32,
    /// Symbols that each block still needs; empty for a frame nothing came of.
    pub(crate) blocks: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feedback {
    /// Largest packet number that came, 48 bits.
    pub(crate) largest: u64,
    /// Microseconds since it came.
    pub(crate) age: u32,
    /// Datagrams that came, authentic and new; wraps.
    pub(crate) packets: u32,
    /// Their bytes; wraps.
    pub(crate) bytes: u32,
    /// Share of datagrams lost lately, in 65,536ths.
    pub(crate) loss: u16,
    /// Correlation of the fates of neighbouring datagrams, in 65,536ths.
    pub(crate) clustering: u16,
    /// How long, in microseconds beyond the fastest path, symbols of a frame take to come (p99).
    pub(crate) spread: u32,
    /// How long the receiver waits for reordered packets, microseconds.
    pub(crate) reorder: u32,
    pub(crate) samples: Vec<Sample>,
    pub(crate) deficits: Vec<Deficit>,
}

impl Feedback {
    /// Appends the fields, as many deficits as `room` bytes hold.
    pub(crate) fn encode(&self, room: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.largest.to_be_bytes()[2..]);
        for field in [self.age, self.packets, self.bytes] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&self.loss.to_be_bytes());
        out.extend_from_slice(&self.clustering.to_be_bytes());
        out.extend_from_slice(&self.spread.to_be_bytes());
        out.extend_from_slice(&self.reorder.to_be_bytes());
        let samples = &self.samples[..self.samples.len().min(MAX_SAMPLES)];
        out.push(samples.len() as u8);
        for sample in samples {
            out.extend_from_slice(&sample.back.to_be_bytes());
            out.extend_from_slice(&sample.arrival.to_be_bytes());
        }
        let count_at = out.len();
        out.push(0);
        for deficit in self.deficits.iter().take(MAX_FRAMES) {
            if out.len() - start + 6 + deficit.blocks.len() > room {
                break;
            }
            out[count_at] += 1;
            out.push(deficit.stream as u8);
            out.extend_from_slice(&deficit.sequence.to_be_bytes());
            out.push(deficit.blocks.len() as u8);
            out.extend_from_slice(&deficit.blocks);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let high = reader.u16()?;
        let low = reader.u32()?;
        let mut feedback = Self {
            largest: u64::from(high) << 32 | u64::from(low),
            age: reader.u32()?,
            packets: reader.u32()?,
            bytes: reader.u32()?,
            loss: reader.u16()?,
            clustering: reader.u16()?,
            spread: reader.u32()?,
            reorder: reader.u32()?,
            ..Self::default()
        };
        let samples = reader.u8()?;
        if usize::from(samples) > MAX_SAMPLES {
            return None;
        }
        for _ in 0..samples {
            let (back, arrival) = (reader.u16()?, reader.u32()?);
            feedback.samples.push(Sample { back, arrival });
        }
        let frames = reader.u8()?;
        if usize::from(frames) > MAX_FRAMES {
            return None;
        }
        for _ in 0..frames {
            let stream = u16::from(reader.u8()?);
            let sequence = reader.u32()?;
            let blocks = reader.u8()?;
            if stream >= MAX_STREAMS || blocks > 16 {
                return None;
            }
            let blocks = reader.take(blocks.into())?.to_vec();
            feedback.deficits.push(Deficit {
                stream,
                sequence,
                blocks,
            });
        }
        Some(feedback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Feedback {
        Feedback {
            largest: 0x0102_0304_0506,
            age: 7,
            packets: 8,
            bytes: 9,
            loss: 10,
            clustering: 11,
            spread: 12,
            reorder: 13,
            samples: vec![
                Sample {
                    back: 0,
                    arrival: 14
                };
                MAX_SAMPLES
            ],
            deficits: (0..32)
                .map(|i| Deficit {
                    stream: i % 16,
                    sequence: i.into(),
                    blocks: vec![1; usize::from(i % 17)],
                })
                .collect(),
        }
    }

    #[test]
    fn round_trips_and_is_cut_to_its_room() {
        let feedback = example();
        let mut bytes = Vec::new();
        feedback.encode(1154, &mut bytes);
        assert_eq!(
            Feedback::decode(&mut Reader::new(&bytes)).as_ref(),
            Some(&feedback)
        );
        for cut in 0..bytes.len() {
            assert_eq!(Feedback::decode(&mut Reader::new(&bytes[..cut])), None);
        }
        let mut short = Vec::new();
        feedback.encode(100, &mut short);
        assert!(short.len() <= 100);
        let read = Feedback::decode(&mut Reader::new(&short)).unwrap();
        assert_eq!(read.deficits, feedback.deficits[..read.deficits.len()]);
    }

    #[test]
    fn counts_beyond_the_limits_are_refused() {
        let mut bytes = Vec::new();
        Feedback::default().encode(1154, &mut bytes);
        let samples_at = bytes.len() - 2;
        bytes.resize(2000, 0);
        bytes[samples_at] = MAX_SAMPLES as u8 + 1;
        assert_eq!(Feedback::decode(&mut Reader::new(&bytes)), None);
        bytes[samples_at] = 0;
        bytes[samples_at + 1] = MAX_FRAMES as u8 + 1;
        assert_eq!(Feedback::decode(&mut Reader::new(&bytes)), None);
    }
}
