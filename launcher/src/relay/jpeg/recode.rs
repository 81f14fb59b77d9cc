//! Puts the typical Huffman tables into a picture that has others, without loss.
//!
//! Only the codes of the symbols change: no coefficient is decoded, and every block,
//! restart marker and quantisation table stays as it is. RFC 2435 receivers put the
//! typical tables into every picture, so that this is what RTP can carry.

use super::huffman::{self, Code, Decoder};
use super::{DHT, DQT, DRI, EOI, SOF0, SOI, SOS};

/// Why a picture cannot be re-coded; it is damaged, or not of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not a baseline picture in one scan.
    #[error("it is not a baseline JPEG in one scan")]
    Kind,
    /// The scan names a table that is not there, or that is impossible.
    #[error("a Huffman table is missing or impossible")]
    Table,
    /// The coded data end early, or hold a code that no table has.
    #[error("its coded data are damaged")]
    Data,
}

/// Bytes that the headers of the result take at most, beside what is copied.
const HEADERS: usize = 1024;
/// How much larger than before the coded data may become. The typical tables cost
/// a few per cent; what costs more than this is no picture.
const GROWTH: usize = 4;

/// Tables by class (0: DC, 1: AC) and number (0: luminance, 1: chrominance), each 16
/// code counts and then the symbols.
type Tables<'a> = [[&'a [u8]; 2]; 2];

/// The picture with typical tables. `data` must have passed [`super::check`].
pub fn recode(data: &[u8]) -> Result<Vec<u8>, Unfit> {
    recode_to(
        data,
        &[0, 1].map(|class| [0, 1].map(|number| huffman::typical(class, number))),
    )
}

/// The picture with these tables.
fn recode_to(data: &[u8], tables: &Tables) -> Result<Vec<u8>, Unfit> {
    let mut headers = Headers::default();
    let mut out = Vec::with_capacity(data.len() + data.len() / 8 + HEADERS);
    out.extend([0xff, SOI]);
    let mut rest = data.get(2..).ok_or(Unfit::Kind)?;
    loop {
        let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
        let (&marker, after) = rest
            .get(fill..)
            .and_then(<[u8]>::split_first)
            .filter(|_| fill > 0)
            .ok_or(Unfit::Kind)?;
        let length = after
            .first_chunk()
            .map(|length| usize::from(u16::from_be_bytes(*length)));
        let length = length.filter(|length| *length >= 2).ok_or(Unfit::Kind)?;
        let segment = after.get(2..length).ok_or(Unfit::Kind)?;
        rest = &after[length..];
        match marker {
            DHT => headers.tables(segment)?,
            DQT | SOF0 | DRI => {
                match marker {
                    SOF0 => headers.frame(segment)?,
                    DRI => headers.restart_interval(segment)?,
                    _ => {}
                }
                put(&mut out, marker, segment);
            }
            SOS => {
                break headers
                    .scan(segment, tables, &mut out)?
                    .run(rest, &mut out)?;
            }
            // Comments and the like are of no use to a receiver.
            0xe0..=0xef | 0xfe => {}
            _ => return Err(Unfit::Kind),
        }
    }
    out.extend([0xff, EOI]);
    Ok(out)
}

/// Writes a header: marker, length and what it holds.
fn put(out: &mut Vec<u8>, marker: u8, segment: &[u8]) {
    out.extend([0xff, marker]);
    out.extend((segment.len() as u16 + 2).to_be_bytes());
    out.extend(segment);
}

#[derive(Default)]
struct Headers {
    /// By class and number: 16 counts and the symbols.
    tables: [[Option<Vec<u8>>; 4]; 2],
    frame: Option<Frame>,
    /// MCUs between restart markers; 0: there are none.
    restart_interval: usize,
}

struct Frame {
    width: usize,
    height: usize,
    /// Each component's id and sampling.
    components: Vec<(u8, u8)>,
}

impl Headers {
    fn tables(&mut self, mut segment: &[u8]) -> Result<(), Unfit> {
        while let Some((&head, rest)) = segment.split_first() {
            let counts = rest.get(..16).ok_or(Unfit::Table)?;
            let symbols: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let table = rest.get(..16 + symbols).ok_or(Unfit::Table)?;
            *self
                .tables
                .get_mut(usize::from(head >> 4))
                .and_then(|class| class.get_mut(usize::from(head & 15)))
                .ok_or(Unfit::Table)? = Some(table.to_vec());
            segment = &rest[16 + symbols..];
        }
        Ok(())
    }

    fn frame(&mut self, segment: &[u8]) -> Result<(), Unfit> {
        let (&[_, h1, h0, w1, w0, count], rest) = segment.split_first_chunk().ok_or(Unfit::Kind)?;
        if rest.len() != 3 * usize::from(count) || self.frame.is_some() {
            return Err(Unfit::Kind);
        }
        self.frame = Some(Frame {
            width: usize::from(u16::from_be_bytes([w1, w0])),
            height: usize::from(u16::from_be_bytes([h1, h0])),
            components: rest.chunks_exact(3).map(|one| (one[0], one[1])).collect(),
        });
        Ok(())
    }

    fn restart_interval(&mut self, segment: &[u8]) -> Result<(), Unfit> {
        let interval = segment.try_into().map_err(|_| Unfit::Kind)?;
        self.restart_interval = usize::from(u16::from_be_bytes(interval));
        Ok(())
    }

    /// Writes the tables and the scan header; what then has to be done with the data.
    fn scan(&self, segment: &[u8], tables: &Tables, out: &mut Vec<u8>) -> Result<Scan, Unfit> {
        let frame = self.frame.as_ref().ok_or(Unfit::Kind)?;
        let (&count, rest) = segment.split_first().ok_or(Unfit::Kind)?;
        let count = usize::from(count);
        if count != 3 || frame.components.len() != 3 || rest.len() != 2 * count + 3 {
            return Err(Unfit::Kind);
        }
        for (class, tables) in (0_u8..).zip(tables) {
            for (number, table) in (0_u8..).zip(tables) {
                put(out, DHT, &[&[class << 4 | number], *table].concat());
            }
        }
        let mut header = vec![count as u8];
        let (mut units, mut mcu) = (Vec::new(), (0, 0));
        for (number, selector) in rest[..2 * count].chunks_exact(2).enumerate() {
            let (id, sampling) = frame.components[number];
            let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if selector[0] != id || !(1..=4).contains(&across) || !(1..=4).contains(&down) {
                return Err(Unfit::Kind);
            }
            mcu = (mcu.0.max(across), mcu.1.max(down));
            let typical = u8::from(number > 0);
            header.extend([id, typical << 4 | typical]);
            let coder = |class: u8, from: u8| {
                let table = self.tables[usize::from(class)]
                    .get(usize::from(from))
                    .ok_or(Unfit::Table)?
                    .as_deref()
                    .or((from < 2).then(|| huffman::typical(class, from)))
                    .ok_or(Unfit::Table)?;
                Ok(Coder {
                    decoder: Decoder::new(table).ok_or(Unfit::Table)?,
                    codes: huffman::codes(tables[usize::from(class)][usize::from(typical)]),
                })
            };
            units.push(Unit {
                blocks: across * down,
                dc: coder(0, selector[1] >> 4)?,
                ac: coder(1, selector[1] & 15)?,
            });
        }
        header.extend(&rest[2 * count..]);
        put(out, SOS, &header);
        let mcus = frame.width.div_ceil(8 * mcu.0) * frame.height.div_ceil(8 * mcu.1);
        Ok(Scan {
            units,
            mcus,
            restart_interval: self.restart_interval,
        })
    }
}

struct Scan {
    /// In the order in which each MCU has them.
    units: Vec<Unit>,
    mcus: usize,
    restart_interval: usize,
}

/// The blocks of one component in an MCU.
struct Unit {
    blocks: usize,
    dc: Coder,
    ac: Coder,
}

/// From the codes of the picture's own table to those of a typical one.
struct Coder {
    decoder: Decoder,
    codes: [Code; 256],
}

impl Scan {
    /// Re-codes the data of the scan.
    fn run(&self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        let most = out.len() + GROWTH * data.len() + HEADERS;
        let mut reader = Reader::new(data);
        let mut writer = Writer::new(out);
        for mcu in 0..self.mcus {
            if self.restart_interval > 0 && mcu > 0 && mcu % self.restart_interval == 0 {
                let number = (mcu / self.restart_interval - 1) % 8;
                reader.restart(number as u8)?;
                writer.restart(number as u8);
            }
            for unit in &self.units {
                for _ in 0..unit.blocks {
                    block(unit, &mut reader, &mut writer)?;
                }
            }
            if writer.out.len() > most {
                return Err(Unfit::Data);
            }
        }
        writer.align();
        Ok(())
    }
}

/// One block (T.81 F.1.2): a DC difference, then runs of AC coefficients.
fn block(unit: &Unit, reader: &mut Reader, writer: &mut Writer) -> Result<(), Unfit> {
    let size = copy(&unit.dc, reader, writer)?;
    if size > 11 {
        return Err(Unfit::Data);
    }
    extra(size, reader, writer)?;
    let mut position = 1;
    while position < 64 {
        let symbol = copy(&unit.ac, reader, writer)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        match (run, size) {
            (0, 0) => break,
            (15, 0) => position += 16,
            (_, 1..=10) => {
                position += usize::from(run) + 1;
                extra(size, reader, writer)?;
            }
            _ => return Err(Unfit::Data),
        }
    }
    if position > 64 {
        return Err(Unfit::Data);
    }
    Ok(())
}

fn copy(coder: &Coder, reader: &mut Reader, writer: &mut Writer) -> Result<u8, Unfit> {
    let (symbol, length) = coder.decoder.next(reader.peek()).ok_or(Unfit::Data)?;
    reader.skip(length)?;
    let code = coder.codes[usize::from(symbol)];
    if code.length == 0 {
        return Err(Unfit::Data);
    }
    writer.put(code.bits, code.length);
    Ok(symbol)
}

fn extra(bits: u8, reader: &mut Reader, writer: &mut Writer) -> Result<(), Unfit> {
    if bits > 0 {
        writer.put(reader.peek() >> (16 - bits), bits);
        reader.skip(bits)?;
    }
    Ok(())
}

/// Reads bits, most significant first, without the stuffed zeros (T.81 B.1.1.5).
struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    bits: u64,
    count: u8,
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            bits: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(&byte) = self.data.get(self.at) else {
                return;
            };
            if byte == 0xff {
                match self.data.get(self.at + 1) {
                    Some(0) => self.at += 1,
                    // A marker: what is here is all.
                    _ => return,
                }
            }
            self.at += 1;
            self.bits = self.bits << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next 16 bits; ones where there are no more.
    fn peek(&mut self) -> u16 {
        if self.count < 16 {
            self.fill();
        }
        if self.count >= 16 {
            (self.bits >> (self.count - 16)) as u16
        } else {
            let missing = 16 - self.count;
            ((self.bits << missing) | ((1 << missing) - 1)) as u16
        }
    }

    fn skip(&mut self, bits: u8) -> Result<(), Unfit> {
        self.count = self.count.checked_sub(bits).ok_or(Unfit::Data)?;
        Ok(())
    }

    /// Passes over the rest of this byte and the restart marker of that number.
    fn restart(&mut self, number: u8) -> Result<(), Unfit> {
        if self.count >= 8 {
            return Err(Unfit::Data);
        }
        (self.bits, self.count) = (0, 0);
        if self.data.get(self.at..self.at + 2) != Some(&[0xff, 0xd0 + number]) {
            return Err(Unfit::Data);
        }
        self.at += 2;
        Ok(())
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    bits: u64,
    count: u8,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            bits: 0,
            count: 0,
        }
    }

    fn put(&mut self, bits: u16, length: u8) {
        self.bits = self.bits << length | u64::from(bits);
        self.count += length;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.bits >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xff {
                self.out.push(0);
            }
        }
    }

    /// Fills the byte with ones.
    fn align(&mut self) {
        let missing = (8 - self.count) % 8;
        self.put((1 << missing) - 1, missing);
    }

    fn restart(&mut self, number: u8) {
        self.align();
        self.out.extend([0xff, 0xd0 + number]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::jpeg::{Misfit, check};
    use crate::relay::mutation::Mutation;

    /// Tables that no encoder uses: every code as long as the next.
    fn odd_tables() -> [Vec<u8>; 2] {
        let mut dc = vec![0; 16];
        dc[4] = 12;
        dc.extend(0..12);
        let mut ac = vec![0; 16];
        ac[15] = 162;
        ac.extend(
            (0..=255)
                .filter(|symbol| matches!((symbol >> 4, symbol & 15), (0 | 15, 0) | (_, 1..=10))),
        );
        [dc, ac]
    }

    fn with_odd_tables(picture: &[u8]) -> Vec<u8> {
        let [dc, ac] = odd_tables();
        recode_to(picture, &[[&dc, &dc], [&ac, &ac]]).expect("it is baseline")
    }

    /// Pictures with typical tables, from ffmpeg; with restart markers in the second.
    fn pictures() -> [Vec<u8>; 2] {
        ["1", "4"].map(|slices| {
            let output = std::process::Command::new("ffmpeg")
                .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=168x104"])
                .args(["-frames:v", "1", "-pix_fmt", "yuvj420p", "-q:v", "2"])
                .args(["-c:v", "mjpeg", "-huffman", "default", "-slices", slices])
                .args(["-threads", slices, "-f", "image2pipe", "-"])
                .output()
                .expect("ffmpeg runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.stdout.is_empty(), "{said}");
            output.stdout
        })
    }

    #[test]
    fn other_tables_are_replaced_without_loss() {
        for picture in pictures() {
            assert_eq!(check(&picture).map(|picture| picture.misfit), Ok(None));
            let typical = recode(&picture).expect("it is baseline");
            let odd = with_odd_tables(&picture);
            assert_eq!(
                check(&odd).map(|picture| picture.misfit),
                Ok(Some(Misfit::Huffman))
            );
            assert_ne!(odd, typical);
            let again = recode(&odd).expect("it is baseline");
            assert_eq!(check(&again).map(|picture| picture.misfit), Ok(None));
            assert_eq!(again, typical);
            // What is coded is what ffmpeg coded, bit for bit.
            let scan = |picture: &[u8]| {
                let at = picture.windows(2).position(|two| two == [0xff, SOS]);
                picture[at.expect("a scan")..].to_vec()
            };
            assert_eq!(scan(&again), scan(&picture));
        }
        let restarts = pictures().map(|picture| {
            picture
                .windows(2)
                .filter(|two| two[0] == 0xff && (0xd0..0xd8).contains(&two[1]))
                .count()
        });
        assert!(restarts[1] > 0, "{restarts:?}");
    }

    #[test]
    fn damaged_pictures_are_refused_or_stay_pictures() {
        let mut mutation = Mutation::new();
        let odd = pictures().map(|picture| with_odd_tables(&picture));
        let (mut good, mut refused) = (0, 0);
        for number in 0..3000 {
            let mut bytes = odd[number % odd.len()].clone();
            mutation.apply(&mut bytes);
            match recode(&bytes) {
                Ok(result) => {
                    good += 1;
                    assert!(result.len() <= GROWTH * bytes.len() + 3 * HEADERS);
                }
                Err(_) => refused += 1,
            }
        }
        assert!(good > 10 && refused > 10, "{good} good, {refused} refused");
    }

    #[test]
    fn what_is_no_baseline_picture_is_refused() {
        let [picture, _] = pictures();
        let at = |marker| {
            let at = picture.windows(2).position(|two| two == [0xff, marker]);
            at.expect("it has that header")
        };
        let change = |place: usize, value: u8| {
            let mut bytes = picture.clone();
            bytes[place] = value;
            recode(&bytes)
        };
        assert_eq!(change(at(SOF0) + 1, 0xc2), Err(Unfit::Kind));
        assert_eq!(change(at(SOS) + 6, 0x33), Err(Unfit::Table));
        for length in 0..picture.len() {
            // Whatever is missing, nothing panics; of the end only the EOI may be.
            let cut = recode(&picture[..length]);
            assert!(
                cut.is_err() || length + 2 >= picture.len(),
                "cut to {length}"
            );
        }
    }
}
