//! The bodies of the fuzz targets of what the launcher reads: each takes any bytes and panics where a
//! promise is broken. `fuzz/` runs them under libFuzzer; a test here replays the corpus.

use std::net::IpAddr;
use std::task::{Context, Poll, Waker};

use crate::relay::jpeg::{Misfit, Picture};
use crate::relay::{annexb, jpeg};
use crate::serve::rtsp::payload::{cut, units};
use crate::serve::rtsp::{payload, request, transport};
use crate::worker::wire;

/// Frames of a camera: what passes the checks is cut into packets that fit, and a picture whose tables
/// RTP does not carry becomes one that it does.
pub fn pictures(data: &[u8]) {
    if let Ok(picture) = jpeg::check(data) {
        let _ = jpeg::raw_format(data);
        let recoded = jpeg::recode(data);
        if let (Some(Misfit::Huffman), Ok(recoded)) = (picture.misfit, &recoded) {
            let misfit = None;
            assert_eq!(jpeg::check(recoded), Ok(Picture { misfit, ..picture }));
            packets(payload::jpeg::cut(recoded), recoded);
        }
        if picture.misfit.is_none() {
            packets(payload::jpeg::cut(data), data);
        }
    }
    let mut end = 0;
    for unit in annexb::units(data) {
        assert!(end <= unit.start && !unit.is_empty());
        end = unit.end;
    }
    assert!(end <= data.len());
    if annexb::check(data).is_ok() {
        assert!(end > 0, "it has units");
        packets(Some(units::cut_h264(data)), data);
        packets(Some(units::cut_h265(data)), data);
        let _ = (units::h264_parameters(data), units::h265_parameters(data));
    }
}

fn packets(cut: Option<cut::Cut>, frame: &[u8]) {
    let mut sum = 0;
    for (head, body) in cut.iter().flat_map(|cut| cut.iter(frame)) {
        assert!(head.len() + body.len() <= cut::MAX_BODY);
        sum += body.len();
    }
    assert!(sum <= frame.len());
}

/// What viewers write over RTSP: as much is read as there is, and packets go to the viewer alone.
pub fn requests(data: &[u8]) {
    let viewer: IpAddr = [192, 0, 2, 1].into();
    let mut rest = data;
    let mut count = 0;
    loop {
        let before = rest.len();
        let Ok(incoming) = at_once(request::read(&mut rest)) else {
            break;
        };
        assert!(rest.len() < before);
        count += 1;
        let request::Incoming::Request(request) = incoming else {
            continue;
        };
        let _ = (request.path(), request.login());
        let header = request.header("Transport").unwrap_or_default();
        for udp in [false, true] {
            match transport::choose(header, viewer, udp, 2) {
                Some(transport::Transport::Udp { rtp, rtcp }) => {
                    assert!(udp && rtp.ip() == viewer && rtcp.ip() == viewer);
                    assert!(rtp.port() >= 1024 && rtcp.port() >= 1024);
                }
                Some(transport::Transport::Tcp { rtp, rtcp }) => assert_ne!(rtp, rtcp),
                None => {}
            }
        }
    }
    assert!(count <= data.len());
}

/// What comes of something that waits for nothing.
fn at_once<T>(done: impl Future<Output = T>) -> T {
    match std::pin::pin!(done).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("all of it is there"),
    }
}

/// What goes through the worker's pipes: what is read is written as it was.
pub fn worker(data: &[u8]) {
    messages::<wire::Reply>(data);
    messages::<wire::Request>(data);
}

fn messages<M>(mut rest: &[u8])
where
    M: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    while let Ok(Some((message, body))) = wire::read::<M>(&mut rest) {
        let mut pipe = Vec::new();
        // It may be written at greater length than it was read.
        if wire::write(&mut pipe, &message, &body).is_ok() {
            let again = wire::read::<M>(&mut pipe.as_slice());
            assert_eq!(again.ok(), Some(Some((message, body))));
        }
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_the_fuzzer_found_still_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let targets: [super::replay::Target; 3] = [
            ("pictures", super::pictures),
            ("requests", super::requests),
            ("worker", super::worker),
        ];
        super::replay::replay(&corpus, &targets);
    }
}
