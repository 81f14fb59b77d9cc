//! H.264 (RFC 6184) and H.265 (RFC 7798) in RTP: a NAL unit per packet, or part of one.

use std::ops::Range;

use data_encoding::{BASE64, HEXLOWER};

use super::cut::{Cut, MAX_BODY};
use crate::relay::annexb;

/// Types of H.264 units.
mod h264 {
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const DELIMITER: u8 = 9;
    pub const FILLER: u8 = 12;
    /// Part of a unit (RFC 6184, section 5.8).
    pub const FU_A: u8 = 28;

    pub fn kind(unit: &[u8]) -> u8 {
        unit[0] & 0x1f
    }
}

/// Types of H.265 units.
mod h265 {
    pub const VPS: u8 = 32;
    pub const SPS: u8 = 33;
    pub const PPS: u8 = 34;
    pub const DELIMITER: u8 = 35;
    pub const FILLER: u8 = 38;
    /// Part of a unit (RFC 7798, section 4.4.3).
    pub const FU: u8 = 49;

    pub fn kind(unit: &[u8]) -> u8 {
        unit[0] >> 1 & 0x3f
    }
}

const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// Cuts an H.264 access unit in byte-stream format.
pub fn cut_h264(data: &[u8]) -> Cut {
    let mut cut = Cut::default();
    for unit in annexb::units(data) {
        let bytes = &data[unit.clone()];
        let kind = h264::kind(bytes);
        if kind == h264::DELIMITER || kind == h264::FILLER {
            continue;
        }
        let indicator = bytes[0] & 0xe0 | h264::FU_A;
        add(&mut cut, unit, 1, |flags| ([indicator, flags | kind, 0], 2));
    }
    cut
}

/// Cuts an H.265 access unit in byte-stream format.
pub fn cut_h265(data: &[u8]) -> Cut {
    let mut cut = Cut::default();
    for unit in annexb::units(data) {
        let bytes = &data[unit.clone()];
        let kind = h265::kind(bytes);
        let Some(&layer) = bytes.get(1) else {
            continue;
        };
        if kind == h265::DELIMITER || kind == h265::FILLER {
            continue;
        }
        let first = bytes[0] & 0x81 | h265::FU << 1;
        add(&mut cut, unit, 2, |flags| ([first, layer, flags | kind], 3));
    }
    cut
}

/// Adds a unit as it is, or in parts: without its own header of that size, each with
/// the one that `head` makes of the flags for start and end.
fn add(cut: &mut Cut, unit: Range<usize>, header: usize, head: impl Fn(u8) -> ([u8; 3], usize)) {
    if unit.len() <= MAX_BODY {
        return cut.add(&[], unit);
    }
    let mut at = unit.start + header;
    let mut flags = FU_START;
    while at < unit.end {
        let end = unit.end.min(at + MAX_BODY - head(0).1);
        if end == unit.end {
            flags |= FU_END;
        }
        let (bytes, length) = head(flags);
        cut.add(&bytes[..length], at..end);
        (at, flags) = (end, 0);
    }
}

/// RFC 6184, section 8.1: parameter sets of a key frame, in base64.
pub fn h264_parameters(data: &[u8]) -> String {
    let sets = |kind| units_of(data, kind, h264::kind);
    let (sps, pps) = (sets(h264::SPS), sets(h264::PPS));
    let mut text = "packetization-mode=1".to_owned();
    if let (Some(first), false) = (sps.first(), pps.is_empty()) {
        if let Some(profile) = first.get(1..4) {
            text += &format!(";profile-level-id={}", HEXLOWER.encode(profile));
        }
        let both: Vec<_> = sps
            .iter()
            .chain(&pps)
            .map(|set| BASE64.encode(set))
            .collect();
        text += &format!(";sprop-parameter-sets={}", both.join(","));
    }
    text
}

/// RFC 7798, section 7.1: the same.
pub fn h265_parameters(data: &[u8]) -> String {
    let kinds = [
        ("sprop-vps", h265::VPS),
        ("sprop-sps", h265::SPS),
        ("sprop-pps", h265::PPS),
    ];
    let sets = kinds.iter().filter_map(|(name, kind)| {
        let sets = units_of(data, *kind, h265::kind);
        let sets: Vec<_> = sets.iter().map(|set| BASE64.encode(set)).collect();
        (!sets.is_empty()).then(|| format!("{name}={}", sets.join(",")))
    });
    sets.collect::<Vec<_>>().join(";")
}

fn units_of(data: &[u8], wanted: u8, kind: fn(&[u8]) -> u8) -> Vec<&[u8]> {
    annexb::units(data)
        .map(|unit| &data[unit])
        .filter(|unit| kind(unit) == wanted)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An access unit of these units, each behind a start code.
    fn stream(units: &[Vec<u8>]) -> Vec<u8> {
        let with_code = |unit: &Vec<u8>| [&[0, 0, 0, 1], unit.as_slice()].concat();
        units.iter().flat_map(with_code).collect()
    }

    fn long(header: &[u8], length: usize) -> Vec<u8> {
        let body = (0..length).map(|byte| (byte % 253) as u8 + 2);
        header.iter().copied().chain(body).collect()
    }

    #[test]
    fn units_come_out_as_they_went_in() {
        let slices = [MAX_BODY - 1, MAX_BODY, 3 * MAX_BODY].map(|length| long(&[0x65], length));
        let units = [&[vec![0x67, 66, 0xc0, 13], vec![0x68, 1]], &slices[..]].concat();
        let data = stream(&[&[vec![9, 0xf0]], &units[..]].concat());
        let cut = cut_h264(&data);
        let mut found: Vec<Vec<u8>> = Vec::new();
        for (head, body) in &cut.pieces {
            let (head, body) = (&cut.heads[head.clone()], &data[body.clone()]);
            assert!(head.len() + body.len() <= MAX_BODY);
            match head {
                [] => found.push(body.to_vec()),
                [indicator, header] => {
                    assert_eq!(indicator & 0x1f, h264::FU_A);
                    if header & FU_START != 0 {
                        found.push(vec![indicator & 0xe0 | header & 0x1f]);
                    }
                    found.last_mut().expect("a start first").extend(body);
                }
                _ => panic!("{head:?}"),
            }
        }
        assert_eq!(found, units);
        let ends = cut.pieces.iter().filter(|(head, _)| {
            let head = &cut.heads[head.clone()];
            head.len() == 2 && head[1] & FU_END != 0
        });
        assert_eq!(ends.count(), 2);
        let text = h264_parameters(&data);
        assert_eq!(
            text,
            "packetization-mode=1;profile-level-id=42c00d;sprop-parameter-sets=Z0LADQ==,aAE="
        );
    }

    #[test]
    fn h265_keeps_both_bytes_of_its_header() {
        let units = [
            vec![h265::VPS << 1, 1, 7],
            vec![h265::SPS << 1, 1, 8],
            vec![h265::PPS << 1, 1, 9],
            long(&[19 << 1, 1], 2 * MAX_BODY),
        ];
        let data = stream(&[&[vec![h265::DELIMITER << 1, 1, 0x50]], &units[..]].concat());
        let cut = cut_h265(&data);
        let heads: Vec<_> = (cut.pieces.iter())
            .map(|(head, _)| cut.heads[head.clone()].to_vec())
            .collect();
        let part = |flags: u8| vec![h265::FU << 1, 1, flags | 19];
        let expected = [
            vec![],
            vec![],
            vec![],
            part(FU_START),
            part(0),
            part(FU_END),
        ];
        assert_eq!(heads, expected);
        assert_eq!(
            h265_parameters(&data),
            "sprop-vps=QAEH;sprop-sps=QgEI;sprop-pps=RAEJ"
        );
        assert!(
            cut_h265(&stream(&[vec![2]])).pieces.is_empty(),
            "half a header"
        );
    }
}
