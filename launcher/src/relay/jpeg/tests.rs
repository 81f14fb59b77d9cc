use super::*;

use crate::relay::mutation::Mutation;

/// A JPEG in pieces: each a marker and what follows its length.
struct Pieces {
    headers: Vec<(u8, Vec<u8>)>,
    rest: Vec<u8>,
}

impl Pieces {
    /// A 4:2:0 picture of 64x48 as webcams send it, without Huffman tables.
    fn webcam() -> Self {
        let quantisation = (0..2).flat_map(|number| [vec![number], vec![16; 64]].concat());
        Self {
            headers: vec![
                (0xe0, b"AVI1\0\0".to_vec()),
                (DQT, quantisation.collect()),
                (
                    SOF0,
                    vec![8, 0, 48, 0, 64, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1],
                ),
                (SOS, vec![3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]),
            ],
            rest: [&[0x5a; 40][..], &[0xff, 0, 1, 0xff, EOI]].concat(),
        }
    }

    fn header(&mut self, marker: u8) -> &mut Vec<u8> {
        let found = self.headers.iter_mut().find(|(known, _)| *known == marker);
        &mut found.expect("it has that header").1
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Vec<u8> {
        change(&mut self);
        let mut bytes = vec![0xff, SOI];
        for (marker, payload) in self.headers {
            bytes.extend([0xff, marker]);
            bytes.extend((payload.len() as u16 + 2).to_be_bytes());
            bytes.extend(payload);
        }
        bytes.extend(self.rest);
        bytes
    }
}

fn misfit(change: impl FnOnce(&mut Pieces)) -> Option<Misfit> {
    check(&Pieces::webcam().with(change))
        .expect("it is well-formed")
        .misfit
}

fn malformed(change: impl FnOnce(&mut Pieces)) -> Malformed {
    check(&Pieces::webcam().with(change)).expect_err("it is malformed")
}

#[test]
fn takes_what_webcams_send() {
    let picture = Picture {
        width: 64,
        height: 48,
        misfit: None,
    };
    assert_eq!(check(&Pieces::webcam().with(|_| {})), Ok(picture));
    assert_eq!(misfit(|jpeg| jpeg.header(SOF0)[7] = 0x21), None, "4:2:2");
    assert_eq!(misfit(|jpeg| jpeg.rest.extend([0; 500])), None, "padded");
    assert_eq!(
        misfit(|jpeg| jpeg.headers.insert(0, (DRI, vec![0, 4]))),
        None,
        "restart markers"
    );
}

#[test]
fn says_what_rtp_cannot_carry() {
    type Change = Box<dyn FnOnce(&mut Pieces)>;
    let mut cases: Vec<(Misfit, Change)> = vec![
        (
            Misfit::Sampling,
            Box::new(|jpeg| jpeg.header(SOF0)[7] = 0x11),
        ),
        (
            Misfit::Sampling,
            Box::new(|jpeg| jpeg.header(SOF0)[10] = 0x12),
        ),
        (Misfit::Process, Box::new(|jpeg| jpeg.headers[2].0 = 0xc2)),
        (Misfit::Process, Box::new(|jpeg| jpeg.header(SOF0)[0] = 12)),
        (
            Misfit::Quantisation,
            Box::new(|jpeg| jpeg.header(DQT).truncate(65)),
        ),
        (
            Misfit::Quantisation,
            Box::new(|jpeg| {
                jpeg.header(DQT).extend([&[2][..], &[9; 64]].concat());
                jpeg.header(SOF0)[14] = 2;
            }),
        ),
        (
            Misfit::Components,
            Box::new(|jpeg| {
                *jpeg.header(SOF0) = vec![8, 0, 48, 0, 64, 1, 1, 0x11, 0];
                *jpeg.header(SOS) = vec![1, 1, 0, 0, 63, 0];
            }),
        ),
        (Misfit::Huffman, Box::new(|jpeg| jpeg.header(SOS)[4] = 0)),
        (
            Misfit::Huffman,
            Box::new(|jpeg| {
                let table = [&[0x10, 1][..], &[0; 15], &[7]].concat();
                jpeg.headers.insert(0, (DHT, table));
            }),
        ),
        (
            Misfit::Headers,
            Box::new(|jpeg| jpeg.headers.insert(0, (DAC, vec![0, 0]))),
        ),
    ];
    for side in [1, 3] {
        cases.push((
            Misfit::Padding,
            Box::new(move |jpeg| jpeg.header(SOF0)[side + 1] += 1),
        ));
        cases.push((
            Misfit::Size,
            Box::new(move |jpeg| {
                jpeg.header(SOF0)[side..side + 2].copy_from_slice(&2041_u16.to_be_bytes());
            }),
        ));
    }
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        assert_eq!(misfit(change), Some(expected), "case {number}");
    }
    let largest = 2040_u16.to_be_bytes();
    assert_eq!(
        misfit(|jpeg| jpeg.header(SOF0)[1..3].copy_from_slice(&largest)),
        None
    );
}

#[test]
fn refuses_what_contradicts_itself() {
    assert_eq!(
        malformed(|jpeg| {
            jpeg.header(SOS).pop();
        }),
        Malformed::BadLength(SOS)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(SOS)[0] = 200),
        Malformed::BadLength(SOS)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(SOS)[1] = 9),
        Malformed::BadValue(SOS)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(SOF0)[5] = 4),
        Malformed::BadLength(SOF0)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(SOF0)[3..5].fill(0)),
        Malformed::BadValue(SOF0)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(SOF0)[8] = 4),
        Malformed::BadValue(SOF0)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(SOF0)[7] = 0x02),
        Malformed::BadValue(SOF0)
    );
    assert_eq!(
        malformed(|jpeg| {
            jpeg.header(DQT).pop();
        }),
        Malformed::BadLength(DQT)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(DQT)[0] = 4),
        Malformed::BadValue(DQT)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.header(DQT)[0] = 0x20),
        Malformed::BadValue(DQT)
    );
    let dht = |table: Vec<u8>| malformed(|jpeg| jpeg.headers.insert(0, (DHT, table)));
    assert_eq!(dht(vec![0; 16]), Malformed::BadLength(DHT));
    assert_eq!(
        dht([&[0][..], &[16; 16]].concat()),
        Malformed::BadLength(DHT)
    );
    assert_eq!(
        dht([&[0][..], &[17; 16], &[0; 272]].concat()),
        Malformed::BadValue(DHT)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.headers.insert(0, (DRI, vec![1]))),
        Malformed::BadLength(DRI)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.headers[0].0 = 0xd0),
        Malformed::BadMarker(0xd0)
    );
    assert_eq!(
        malformed(|jpeg| jpeg.headers.swap(2, 3)),
        Malformed::FrameHeader
    );
    assert_eq!(
        malformed(|jpeg| jpeg.headers.insert(2, jpeg.headers[2].clone())),
        Malformed::FrameHeader
    );
    assert_eq!(malformed(|jpeg| jpeg.rest.truncate(44)), Malformed::NoEnd);
    assert_eq!(malformed(|jpeg| jpeg.rest.clear()), Malformed::NoEnd);
    assert_eq!(check(b""), Err(Malformed::NoStart));
    assert_eq!(check(b"\x89PNG\r\n"), Err(Malformed::NoStart));
}

#[test]
fn every_truncation_is_refused() {
    let whole = Pieces::webcam().with(|_| {});
    for length in 0..whole.len() {
        assert!(check(&whole[..length]).is_err(), "cut to {length} bytes");
    }
}

/// Whatever passes the check goes through the payloader: no mutation of a picture
/// may take the process down or stop the pads.
#[test]
fn the_payloader_survives_every_mutation_that_passes() {
    gst::init().expect("GStreamer starts");
    let mut payloader = gst_check::Harness::new("rtpjpegpay");
    payloader.set_src_caps_str("image/jpeg,width=64,height=48");
    let mut mutation = Mutation::new();
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..50_000 {
        let mut bytes = Pieces::webcam().with(|_| {});
        mutation.apply(&mut bytes);
        match check(&bytes) {
            Err(_) => refused += 1,
            Ok(picture) if picture.misfit.is_some() => refused += 1,
            Ok(_) => {
                passed += 1;
                let mut buffer = gst::Buffer::from_mut_slice(bytes);
                buffer.make_mut().set_pts(gst::ClockTime::ZERO);
                assert_eq!(payloader.push(buffer), Ok(gst::FlowSuccess::Ok));
                assert!(
                    payloader.try_pull().is_some(),
                    "the payloader reads it as we do"
                );
                while payloader.try_pull().is_some() {}
            }
        }
    }
    assert!(
        passed > 1000 && refused > 1000,
        "{passed} passed, {refused} refused"
    );
}
