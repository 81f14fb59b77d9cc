//! Requests that are too long, or ask for what is not there.

use std::io::Write;
use std::net::TcpStream;

use super::picture::{CAMERA, FILM, LENGTH};
use super::scenarios::{MANY, raw, sees, set_up, status, viewer};
use super::{Seen, Server};
use crate::many::rtsp::Way;

/// Bytes of a header, or of a body.
const LONG: usize = 16 << 20;
/// What may be asked for with PLAY.
const ODD: [&str; 8] = [
    "Range: npt=10-\r\n",
    "Range: npt=5-1\r\nScale: -2\r\n",
    "Scale: 0.000001\r\nSpeed: 1e300\r\n",
    "Scale: nan\r\n",
    "Range: clock=99999999T999999Z-\r\n",
    "Range: smpte=0:0:0-\r\nSpeed: -0\r\n",
    "Range: npt=0-inf\r\nScale: 1e-300\r\n",
    "Range: npt=now-0\r\n",
];

pub(super) fn long_header(server: &Server) -> anyhow::Result<Seen> {
    let mut stream = raw(server)?;
    stream.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ")?;
    Ok(long(stream, b"\r\n\r\n"))
}

pub(super) fn long_body(server: &Server) -> anyhow::Result<Seen> {
    let mut stream = raw(server)?;
    write!(
        stream,
        "DESCRIBE rtsp://127.0.0.1/{CAMERA} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {LONG}\r\n\r\n"
    )?;
    Ok(long(stream, b""))
}

/// Goes on for [`LONG`], until that end.
fn long(mut stream: TcpStream, end: &[u8]) -> Seen {
    let piece = [b'x'; 1 << 16];
    let mut taken = 0;
    while taken < LONG && stream.write_all(&piece).is_ok() {
        taken += piece.len();
    }
    let status = match stream.write_all(end) {
        Ok(()) if taken >= LONG => status(&mut stream),
        _ => None,
    };
    match status {
        Some(status) => Seen {
            held: false,
            said: format!("all taken, {status}"),
        },
        None => Seen {
            held: taken < LONG,
            said: format!("ended, {} KiB on their way", taken >> 10),
        },
    }
}

pub(super) fn tunnel(server: &Server) -> anyhow::Result<Seen> {
    let mut stream = raw(server)?;
    write!(
        stream,
        "GET /{CAMERA} HTTP/1.0\r\nx-sessioncookie: a\r\n\
         Accept: application/x-rtsp-tunnelled\r\n\r\n"
    )?;
    let status = status(&mut stream);
    Ok(Seen {
        held: status != Some(200),
        said: status.map_or_else(|| "ended".into(), |status| status.to_string()),
    })
}

pub(super) fn odd_play(server: &Server) -> anyhow::Result<Seen> {
    odd(server, CAMERA)
}

pub(super) fn odd_play_of_film(server: &Server) -> anyhow::Result<Seen> {
    odd(server, FILM)
}

fn odd(server: &Server, camera: &str) -> anyhow::Result<Seen> {
    let (mut statuses, mut held) = (Vec::new(), true);
    for headers in ODD {
        let mut other = set_up(server, camera, Way::Tcp)?;
        statuses.push(other.ask("PLAY", headers)?.to_string());
        drop(other);
        held &= sees(&mut viewer(server, camera, Way::Tcp)?, 1);
    }
    statuses.sort();
    statuses.dedup();
    let then = if held { "goes on serving" } else { "no more" };
    Ok(Seen {
        held,
        said: format!("{}; {then}", statuses.join(", ")),
    })
}

pub(super) fn other_place(server: &Server) -> anyhow::Result<Seen> {
    let mut first = viewer(server, FILM, Way::Tcp)?;
    let mut second = set_up(server, FILM, Way::Tcp)?;
    let status = second.ask("PLAY", &format!("Range: npt={}-\r\n", LENGTH - 1))?;
    let held = sees(&mut first, MANY);
    let then = if held { "goes on" } else { "sees no more" };
    Ok(Seen {
        held,
        said: format!("{status}, the other {then}"),
    })
}
