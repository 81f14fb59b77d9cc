//! JPEG in RTP (RFC 2435).

use std::ops::Range;

use super::cut::{Cut, MAX_BODY};

const SOF0: u8 = 0xc0;
const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
/// Tables follow in the first packet of every picture (section 3.1.4 and 3.1.8).
const TABLES_FOLLOW: u8 = 255;
/// Added to the type where there are restart markers (section 3.1.3).
const WITH_RESTARTS: u8 = 64;
/// The whole scan is one run of restart intervals (section 3.1.7).
const WHOLE_SCAN: u16 = 0xffff;
/// The offset of a packet within the scan has 24 bits.
const MAX_SCAN: usize = 1 << 24;

/// What the packets say about a picture.
#[derive(Default)]
struct Headers {
    kind: u8,
    /// Width and height in units of 8 pixels.
    size: [u8; 2],
    restart_interval: u16,
    /// Where the quantisation tables of brightness and colour are.
    tables: [Option<Range<usize>>; 4],
    chosen: [usize; 2],
}

/// Cuts a picture that passed the check of `relay::jpeg`; `None` where it does not fit
/// RFC 2435.
pub fn cut(data: &[u8]) -> Option<Cut> {
    let (headers, scan) = read(data)?;
    let table = |number: usize| data.get(headers.tables[number].clone()?);
    let tables = [table(headers.chosen[0])?, table(headers.chosen[1])?];
    let mut head = Vec::with_capacity(256);
    let mut cut = Cut::default();
    let mut at = scan.start;
    loop {
        let offset = u32::try_from(at - scan.start).ok()?;
        head.clear();
        head.extend_from_slice(&offset.to_be_bytes());
        head.extend_from_slice(&[headers.kind, TABLES_FOLLOW]);
        head.extend_from_slice(&headers.size);
        if headers.restart_interval > 0 {
            head.extend_from_slice(&headers.restart_interval.to_be_bytes());
            head.extend_from_slice(&WHOLE_SCAN.to_be_bytes());
        }
        if offset == 0 {
            let length = (tables[0].len() + tables[1].len()) as u16;
            head.extend_from_slice(&[0, 0]);
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(tables[0]);
            head.extend_from_slice(tables[1]);
        }
        let end = scan.end.min(at + MAX_BODY - head.len());
        cut.add(&head, at..end);
        at = end;
        if at == scan.end {
            return Some(cut);
        }
    }
}

/// The headers, and where the scan is.
fn read(data: &[u8]) -> Option<(Headers, Range<usize>)> {
    let mut headers = Headers::default();
    let mut at = 2;
    loop {
        let &[0xff, marker, high, low] = data.get(at..)?.first_chunk()? else {
            return None;
        };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let segment = at + 4..end;
        let bytes = data.get(segment.clone())?;
        match marker {
            SOF0 => headers.frame(bytes)?,
            DQT => headers.tables(bytes, segment.start)?,
            DRI => headers.restart_interval = u16::from_be_bytes(*bytes.first_chunk()?),
            SOS => {
                let length = data[end..]
                    .windows(2)
                    .rposition(|pair| pair == [0xff, EOI])?;
                if headers.restart_interval > 0 {
                    headers.kind += WITH_RESTARTS;
                }
                return (length < MAX_SCAN).then_some((headers, end..end + length));
            }
            _ => {}
        }
        at = end;
    }
}

impl Headers {
    fn frame(&mut self, bytes: &[u8]) -> Option<()> {
        let &[_, h1, h0, w1, w0, 3, _, sampling, y, _, _, colour, ..] = bytes else {
            return None;
        };
        self.kind = match sampling {
            0x21 => 0,
            0x22 => 1,
            _ => return None,
        };
        let eighths = |side: [u8; 2]| u8::try_from(u16::from_be_bytes(side).div_ceil(8)).ok();
        self.size = [eighths([w1, w0])?, eighths([h1, h0])?];
        self.chosen = [usize::from(y), usize::from(colour)];
        self.chosen.iter().all(|table| *table < 4).then_some(())
    }

    fn tables(&mut self, bytes: &[u8], start: usize) -> Option<()> {
        for (index, table) in bytes.chunks(65).enumerate() {
            let values = start + index * 65 + 1;
            let number = usize::from(table[0]);
            if table.len() == 65 {
                *self.tables.get_mut(number)? = Some(values..values + 64);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 16x8 with tables of ones and twos, and this scan.
    fn picture(sampling: u8, restart: Option<u8>, scan: &[u8]) -> Vec<u8> {
        let mut data = vec![0xff, 0xd8, 0xff, DQT, 0, 132, 0];
        data.extend([1; 64]);
        data.push(1);
        data.extend([2; 64]);
        if let Some(interval) = restart {
            data.extend([0xff, DRI, 0, 4, 0, interval]);
        }
        data.extend([0xff, SOF0, 0, 17, 8, 0, 8, 0, 16, 3]);
        data.extend([1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1]);
        data.extend([0xff, SOS, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
        data.extend(scan);
        data.extend([0xff, EOI]);
        data
    }

    #[test]
    fn every_packet_says_where_it_belongs() {
        let scan: Vec<u8> = (0..5000u32).map(|byte| (byte % 251) as u8).collect();
        for (sampling, restart, kind) in [(0x21, None, 0), (0x22, None, 1), (0x22, Some(5), 65)] {
            let data = picture(sampling, restart, &scan);
            let cut = cut(&data).expect("it fits");
            let mut found = Vec::new();
            for (index, (head, body)) in cut.pieces.iter().enumerate() {
                let head = &cut.heads[head.clone()];
                assert!(head.len() + body.len() <= MAX_BODY);
                assert_eq!(head[..4], (found.len() as u32).to_be_bytes());
                assert_eq!(head[4..8], [kind, TABLES_FOLLOW, 2, 1]);
                let mut rest = &head[8..];
                if restart.is_some() {
                    assert_eq!(rest[..4], [0, 5, 0xff, 0xff]);
                    rest = &rest[4..];
                }
                if index == 0 {
                    assert_eq!(rest[..4], [0, 0, 0, 128]);
                    assert_eq!((rest[4], rest[131]), (1, 2));
                } else {
                    assert!(rest.is_empty());
                }
                found.extend_from_slice(&data[body.clone()]);
            }
            assert_eq!(found, scan);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_wherever_it_ends() {
        let whole = picture(0x22, Some(5), &[1, 2, 3]);
        assert!(cut(&whole).is_some());
        for length in 0..whole.len() - 2 {
            assert!(cut(&whole[..length]).is_none(), "{length}");
        }
        assert!(cut(&picture(0x11, None, &[1])).is_none());
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut data = whole.clone();
                data[at] = byte;
                cut(&data);
            }
        }
    }
}
