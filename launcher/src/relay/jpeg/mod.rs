//! A look at every JPEG from outside before any C code sees it.
//!
//! GStreamer 1.22's `rtpjpegpay` trusts the lengths in a picture: a scan header
//! longer than the buffer takes the process down. [`check`] reads the headers as
//! ITU-T T.81, annex B writes them, up to the first scan, and finds the end of
//! the picture; what it passes, `rtpjpegpay` reads the same way.

mod huffman;
mod recode;
#[cfg(test)]
mod tests;

pub use recode::{Unfit, recode};

use std::fmt;

/// What a well-formed picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a line, 1 to 65535.
    pub width: u16,
    /// Lines, 1 to 65535.
    pub height: u16,
    /// Why RTP's JPEG format (RFC 2435) cannot carry it; `None`: it can.
    pub misfit: Option<Misfit>,
}

impl Picture {
    /// Whether RTP carries it only in another coding.
    pub fn needs_encoding(&self) -> bool {
        self.misfit.is_some_and(|misfit| misfit != Misfit::Huffman)
    }
}

/// What is wrong with a picture that no decoder should be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not start with SOI.
    #[error("it does not start as a JPEG does")]
    NoStart,
    /// A header runs past the end, or there is no scan.
    #[error("it ends inside its headers")]
    Truncated,
    /// No EOI after the scan.
    #[error("its end is missing")]
    NoEnd,
    /// A byte that is not 0xFF stands where a marker must, or a marker that cannot stand there.
    #[error("byte {0:#04x} stands where a marker must")]
    BadMarker(u8),
    /// A header's length does not go with what it holds.
    #[error("header {0:#04x} has a wrong length")]
    BadLength(u8),
    /// A table or frame header holds impossible values.
    #[error("header {0:#04x} holds impossible values")]
    BadValue(u8),
    /// Two frame headers, or none before the scan.
    #[error("it has no frame header, or more than one")]
    FrameHeader,
}

/// Why RFC 2435 cannot carry a picture, though it is a good JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Wider or higher than 2040 pixels (section 3.1.5).
    Size,
    /// Not a multiple of 8 pixels wide and high (section 3.1.5): it would be shown larger.
    Padding,
    /// Progressive, lossless, arithmetic or 12-bit (section 3.1.3 has baseline only).
    Process,
    /// Not three components in the usual order, interleaved.
    Components,
    /// Chroma neither 4:2:0 nor 4:2:2 as 2x1 (section 4.1).
    Sampling,
    /// Huffman tables other than the typical ones, which receivers assume (section
    /// 4.1), and nothing else: [`recode()`] puts the typical ones in.
    Huffman,
    /// Quantisation tables missing, or different for the two chroma components (section 4.2).
    Quantisation,
    /// Headers in a form that the payloader does not read.
    Headers,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "wider or higher than 2040 pixels",
            Self::Padding => "its sides are no multiples of 8 pixels",
            Self::Process => "not baseline (progressive, arithmetic or more than 8 bits)",
            Self::Components => "grey, or its colours in an unusual order",
            Self::Sampling => "chroma sampled neither 4:2:0 nor 4:2:2",
            Self::Huffman => "optimised Huffman tables",
            Self::Quantisation => "quantisation tables missing, or one for each colour",
            Self::Headers => "unusual headers",
        })
    }
}

impl Misfit {
    /// What its owner can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Size => "send smaller pictures, or H.264",
            Self::Padding => "send another size, or H.264",
            Self::Sampling => "put video/x-raw,format=I420 before its encoder, or send H.264",
            Self::Huffman => "have its encoder use the standard tables, or send H.264",
            Self::Process | Self::Components | Self::Quantisation | Self::Headers => {
                "send baseline JPEG in colour, or H.264"
            }
        }
    }
}

const SOF0: u8 = 0xc0;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const COM: u8 = 0xfe;

/// Largest size that RFC 2435 has numbers for, in pixels.
const MAX_RTP_SIZE: u16 = 2040;

/// Reads the headers of one JPEG and finds its end. Takes a few microseconds:
/// the picture itself is not decoded.
pub fn check(data: &[u8]) -> Result<Picture, Malformed> {
    if !data.starts_with(&[0xff, SOI]) {
        return Err(Malformed::NoStart);
    }
    let mut headers = Headers::default();
    let mut rest = &data[2..];
    loop {
        let marker;
        (marker, rest) = headers.marker(rest)?;
        let length = rest
            .first_chunk()
            .map(|length| usize::from(u16::from_be_bytes(*length)))
            .ok_or(Malformed::Truncated)?;
        if length < 2 {
            return Err(Malformed::BadLength(marker));
        }
        let segment = rest.get(2..length).ok_or(Malformed::Truncated)?;
        rest = &rest[length..];
        match marker {
            SOS => {
                let picture = headers.scan(segment)?;
                let end = rest.windows(2).rev().any(|pair| pair == [0xff, EOI]);
                return end.then_some(picture).ok_or(Malformed::NoEnd);
            }
            DHT => headers.huffman(segment)?,
            DQT => headers.quantisation(segment)?,
            DRI if segment.len() != 2 => return Err(Malformed::BadLength(DRI)),
            DRI | COM | 0xe0..=0xef => {}
            SOF0..=0xcf if marker != JPG && marker != DAC => headers.frame(marker, segment)?,
            // Allowed by T.81, but not skipped by the payloader.
            JPG | DAC | 0xdc | 0xde..=0xdf | 0xf0..=0xfd => headers.misfit(Misfit::Headers),
            _ => return Err(Malformed::BadMarker(marker)),
        }
    }
}

/// GStreamer's name for raw video that is sampled as a picture that passed [`check`].
pub fn raw_format(data: &[u8]) -> &'static str {
    let mut rest = data.get(2..).unwrap_or_default();
    while let &[0xff, marker, high, low, ref after @ ..] = rest {
        if let (SOF0..=0xc3, &[_, _, _, _, _, components, _, sampling, ..]) = (marker, after) {
            return match (components, sampling) {
                (1, _) => "GRAY8",
                (_, 0x21) => "Y42B",
                (_, 0x11) => "Y444",
                (_, 0x41) => "Y41B",
                _ => "I420",
            };
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(2 + length..).unwrap_or_default();
    }
    "I420"
}

/// One component of the frame header.
#[derive(Clone, Copy)]
struct Component {
    id: u8,
    sampling: u8,
    quantisation: u8,
}

/// What the headers said so far.
#[derive(Default)]
struct Headers<'a> {
    frame: Option<Frame>,
    /// The quantisation tables by number, each with its precision's size.
    tables: [Option<&'a [u8]>; 4],
    misfit: Option<Misfit>,
    /// Whether there are Huffman tables other than the typical ones.
    recode: bool,
}

struct Frame {
    width: u16,
    height: u16,
    components: Vec<Component>,
}

impl<'a> Headers<'a> {
    /// Keeps the first reason.
    fn misfit(&mut self, misfit: Misfit) {
        self.misfit.get_or_insert(misfit);
    }

    /// The marker at the start of `data`, and what follows it. Fill bytes before
    /// it (B.1.1.2) are passed over.
    fn marker(&mut self, data: &'a [u8]) -> Result<(u8, &'a [u8]), Malformed> {
        let (&first, rest) = data.split_first().ok_or(Malformed::Truncated)?;
        if first != 0xff {
            return Err(Malformed::BadMarker(first));
        }
        let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
        if fill > 0 {
            self.misfit(Misfit::Headers);
        }
        let (&marker, rest) = rest[fill..].split_first().ok_or(Malformed::Truncated)?;
        Ok((marker, rest))
    }

    /// B.2.2: precision, height, width, components of id, sampling, table.
    fn frame(&mut self, marker: u8, segment: &[u8]) -> Result<(), Malformed> {
        if self.frame.is_some() {
            return Err(Malformed::FrameHeader);
        }
        let (&[precision, h1, h0, w1, w0, count], rest) = segment
            .split_first_chunk()
            .ok_or(Malformed::BadLength(marker))?;
        if rest.len() != 3 * usize::from(count) {
            return Err(Malformed::BadLength(marker));
        }
        let components: Vec<_> = rest
            .chunks_exact(3)
            .map(|bytes| Component {
                id: bytes[0],
                sampling: bytes[1],
                quantisation: bytes[2],
            })
            .collect();
        let frame = Frame {
            height: u16::from_be_bytes([h1, h0]),
            width: u16::from_be_bytes([w1, w0]),
            components,
        };
        let bad_component = frame.components.iter().any(|component| {
            !(1..=4).contains(&(component.sampling >> 4))
                || !(1..=4).contains(&(component.sampling & 15))
                || component.quantisation > 3
        });
        if frame.width == 0 || frame.height == 0 || !(1..=4).contains(&count) || bad_component {
            return Err(Malformed::BadValue(marker));
        }
        if marker != SOF0 || precision != 8 {
            self.misfit(Misfit::Process);
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// B.2.4.1: tables of precision and number, then 64 values of 8 or 16 bits.
    fn quantisation(&mut self, mut segment: &'a [u8]) -> Result<(), Malformed> {
        while let Some((&head, rest)) = segment.split_first() {
            let size = match head >> 4 {
                0 => 64,
                1 => 128,
                _ => return Err(Malformed::BadValue(DQT)),
            };
            let table;
            (table, segment) = rest
                .split_at_checked(size)
                .ok_or(Malformed::BadLength(DQT))?;
            *self
                .tables
                .get_mut(usize::from(head & 15))
                .ok_or(Malformed::BadValue(DQT))? = Some(table);
        }
        Ok(())
    }

    /// B.2.4.2: tables of class and number, then 16 counts and as many symbols.
    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), Malformed> {
        while let Some((&head, rest)) = segment.split_first() {
            let counts = rest.get(..16).ok_or(Malformed::BadLength(DHT))?;
            let symbols: usize = counts.iter().map(|count| usize::from(*count)).sum();
            if head >> 4 > 1 || head & 15 > 3 || symbols > 256 {
                return Err(Malformed::BadValue(DHT));
            }
            let table;
            (table, segment) = rest
                .split_at_checked(16 + symbols)
                .ok_or(Malformed::BadLength(DHT))?;
            if !huffman::is_typical(head >> 4, head & 15, table) {
                self.recode = true;
            }
        }
        Ok(())
    }

    /// B.2.3: components of id and Huffman tables, then three bytes about the scan.
    fn scan(mut self, segment: &[u8]) -> Result<Picture, Malformed> {
        let frame = self.frame.take().ok_or(Malformed::FrameHeader)?;
        let (&count, rest) = segment.split_first().ok_or(Malformed::BadLength(SOS))?;
        if rest.len() != 2 * usize::from(count) + 3 {
            return Err(Malformed::BadLength(SOS));
        }
        let selectors: Vec<_> = rest[..2 * usize::from(count)]
            .chunks_exact(2)
            .map(|bytes| (bytes[0], bytes[1]))
            .collect();
        let known = |id| frame.components.iter().any(|component| component.id == id);
        if !(1..=4).contains(&count) || !selectors.iter().all(|(id, _)| known(*id)) {
            return Err(Malformed::BadValue(SOS));
        }
        Ok(Picture {
            width: frame.width,
            height: frame.height,
            misfit: self.misfit.or_else(|| self.rtp(&frame, &selectors)),
        })
    }

    /// What keeps a baseline picture from RFC 2435.
    fn rtp(&self, frame: &Frame, selectors: &[(u8, u8)]) -> Option<Misfit> {
        let &[y, cb, cr] = frame.components.as_slice() else {
            return Some(Misfit::Components);
        };
        let ids = [y.id, cb.id, cr.id];
        if !ids.is_sorted_by(|one, next| one < next) || !selectors.iter().map(|(id, _)| *id).eq(ids)
        {
            return Some(Misfit::Components);
        }
        if !matches!(y.sampling, 0x21 | 0x22) || cb.sampling != 0x11 || cr.sampling != 0x11 {
            return Some(Misfit::Sampling);
        }
        if frame.width > MAX_RTP_SIZE || frame.height > MAX_RTP_SIZE {
            return Some(Misfit::Size);
        }
        if !frame.width.is_multiple_of(8) || !frame.height.is_multiple_of(8) {
            return Some(Misfit::Padding);
        }
        let table = |component: Component| self.tables[usize::from(component.quantisation)];
        let tables = [table(y), table(cb), table(cr)];
        if tables
            .iter()
            .any(|table| table.is_none_or(|table| table.len() != 64))
            || tables[1] != tables[2]
        {
            return Some(Misfit::Quantisation);
        }
        let usual = selectors
            .iter()
            .map(|(_, tables)| *tables)
            .eq([0, 0x11, 0x11]);
        (self.recode || !usual).then_some(Misfit::Huffman)
    }
}
