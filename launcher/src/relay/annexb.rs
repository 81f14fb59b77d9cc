//! A look at every H.264 and H.265 access unit before a payloader sees it.
//!
//! GStreamer 1.22's `rtph264pay` and `rtph265pay` assert that no NAL unit is
//! empty, and take the process down where one is; bytes before the first start
//! code they keep for ever. Pictures are not looked into.

use std::ops::Range;

/// What is wrong with an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with a start code.
    #[error("it does not begin with a start code")]
    NoStart,
    /// Nothing but zeros between two start codes, or after the last.
    #[error("a part of it is empty")]
    Empty,
    /// The bit is set that has to be zero.
    #[error("a part of it is of a forbidden kind")]
    Forbidden,
}

/// Reads the NAL units of an access unit in byte-stream format (annex B of ITU-T
/// H.264 and of H.265), as far as the two agree.
pub fn check(data: &[u8]) -> Result<(), Malformed> {
    let zeros = data.iter().take_while(|byte| **byte == 0).count();
    if zeros < 2 || data.get(zeros) != Some(&1) {
        return Err(Malformed::NoStart);
    }
    let mut rest = &data[zeros + 1..];
    loop {
        let end = start_code(rest);
        let unit = &rest[..end.unwrap_or(rest.len())];
        // Zeros at the end belong to the next start code, or to nothing.
        match unit.first() {
            _ if unit.iter().all(|byte| *byte == 0) => return Err(Malformed::Empty),
            Some(header) if header & 0x80 != 0 => return Err(Malformed::Forbidden),
            _ => {}
        }
        match end {
            Some(end) => rest = &rest[end + 3..],
            None => return Ok(()),
        }
    }
}

/// Where the NAL units of an access unit in byte-stream format are: without start codes
/// and the zeros at their ends, and none of them empty.
pub fn units(data: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut next = start_code(data).map(|at| at + 3);
    std::iter::from_fn(move || {
        let start = next?;
        let code = start_code(&data[start..]).map(|at| start + at);
        next = code.map(|at| at + 3);
        let unit = &data[start..code.unwrap_or(data.len())];
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        Some(start..start + unit.len() - zeros)
    })
    .filter(|unit| !unit.is_empty())
}

/// Where the next 00 00 01 is.
fn start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&[first, second, third]) = data.get(at..at + 3) {
        match (first, second, third) {
            (0, 0, 1) => return Some(at),
            // No start code has such a byte in it.
            (_, _, 2..) => at += 3,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    use gst::prelude::*;

    use crate::relay::mutation::Mutation;

    #[test]
    fn takes_whole_access_units() {
        let unit = [
            0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88, 0, 0, 3, 1, 0, 0, 0,
        ];
        assert_eq!(check(&unit), Ok(()));
        assert_eq!(check(&[0, 0, 1, 10]), Ok(()));
    }

    #[test]
    fn refuses_what_stops_a_payloader() {
        let cases: [(&[u8], Malformed); 10] = [
            (&[], Malformed::NoStart),
            (&[0, 1, 9], Malformed::NoStart),
            (&[9, 0, 0, 1, 9], Malformed::NoStart),
            (&[0, 0, 2, 9], Malformed::NoStart),
            (&[0, 0, 0], Malformed::NoStart),
            (&[0, 0, 1], Malformed::Empty),
            (&[0, 0, 1, 0, 0], Malformed::Empty),
            (&[0, 0, 1, 0, 0, 1, 9], Malformed::Empty),
            (&[0, 0, 1, 9, 0, 0, 1], Malformed::Empty),
            (&[0, 0, 1, 9, 0, 0, 1, 0x89], Malformed::Forbidden),
        ];
        for (unit, expected) in cases {
            assert_eq!(check(unit), Err(expected), "{unit:?}");
        }
    }

    #[test]
    fn units_are_found_without_their_padding() {
        let unit = [
            0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88, 0, 0, 3, 1, 0, 0, 0,
        ];
        let found: Vec<_> = units(&unit).collect();
        assert_eq!(found, [4..6, 9..15]);
        for broken in [&[][..], &[0, 0, 1], &[0, 0, 1, 0, 0, 1], &[9, 9]] {
            assert_eq!(units(broken).count(), 0, "{broken:?}");
        }
    }

    #[test]
    fn finds_every_start_code() {
        for filling in [0, 1, 2, 0xff] {
            for before in 0..8 {
                let mut data = vec![filling; before];
                data.extend([0, 0, 1, 5]);
                let first = data.windows(3).position(|three| three == [0, 0, 1]);
                assert_eq!(start_code(&data), first, "{data:?}");
            }
        }
        assert_eq!(start_code(&[0, 0]), None);
        assert_eq!(start_code(&[0, 1, 0, 0, 2, 0, 0]), None);
    }

    /// Access units of a few pictures.
    fn encoded(encode: &str, caps: &str) -> Vec<Vec<u8>> {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=10 ! video/x-raw,format=I420,width=160,height=128 \
             ! {encode} ! {caps},stream-format=byte-stream,alignment=au ! appsink name=sink"
        ))
        .expect("good text")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
        let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>();
        let sink = sink.expect("a sink");
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let units = std::iter::from_fn(|| sink.pull_sample().ok())
            .map(|sample| {
                let map = sample.buffer().expect("a buffer").map_readable();
                map.expect("readable").to_vec()
            })
            .collect();
        pipeline.set_state(gst::State::Null).expect("it stops");
        units
    }

    #[test]
    fn payloaders_survive_every_mutation_that_passes() {
        gst::init().expect("GStreamer starts");
        for (encode, caps, payload) in [
            ("openh264enc ! h264parse", "video/x-h264", "rtph264pay"),
            (
                "x265enc tune=zerolatency ! h265parse",
                "video/x-h265",
                "rtph265pay",
            ),
        ] {
            let units = encoded(encode, caps);
            let start = || {
                let text = format!("{payload} aggregate-mode=zero-latency");
                let mut payloader = gst_check::Harness::new_parse(&text);
                payloader
                    .set_src_caps_str(&format!("{caps},stream-format=byte-stream,alignment=au"));
                payloader
            };
            let mut payloader = start();
            let mut mutation = Mutation::new();
            let (mut passed, mut refused) = (0, 0);
            for number in 0..20_000 {
                let mut bytes = units[number % units.len()].clone();
                mutation.apply(&mut bytes);
                if check(&bytes).is_err() {
                    refused += 1;
                    continue;
                }
                passed += 1;
                let mut buffer = gst::Buffer::from_mut_slice(bytes);
                buffer.make_mut().set_pts(gst::ClockTime::ZERO);
                // An error ends this media, not the process.
                if payloader.push(buffer).is_err() {
                    payloader = start();
                }
                while payloader.try_pull().is_some() {}
            }
            assert!(
                passed > 1000 && refused > 100,
                "{passed} passed, {refused} refused"
            );
        }
    }
}
