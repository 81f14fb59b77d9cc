//! What clients do, and what is seen of it. None of it is told by how long something takes,
//! but for what is a matter of time itself.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::picture::{CAMERA, DAMAGED, SILENT};
use super::waiting;
use super::{Scenario, Seen, Server};
use crate::many::rtsp::{Connection, Player, Way};

/// A viewer that sees nothing for so long sees nothing more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first picture may take.
pub(super) const FIRST: Duration = Duration::from_secs(20);
/// More frames than can be on their way to a viewer.
const MANY: usize = 90;
/// Bytes of a header.
const LONG: usize = 16 << 20;
/// Connections of one address that say nothing.
const STRANGERS: usize = 300;
/// Viewers in a row.
const ROW: usize = 200;

/// All of them.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "OPTIONS, PAUSE, TEARDOWN with another's session id",
        others_session,
    ),
    Scenario::new("a header of 16 MiB", long_header),
    Scenario::new("connects and says nothing", waiting::silence),
    Scenario::new("300 of them", strangers),
    Scenario::new("GET for the HTTP tunnel", tunnel),
    Scenario {
        cameras: &[CAMERA, SILENT],
        ..Scenario::new(
            "DESCRIBE of a camera without pictures, and of another",
            no_pictures,
        )
    },
    Scenario::new(
        "waits 4 s between SETUP and PLAY: pictures in 3 s",
        waiting::before_play,
    ),
    Scenario::new("takes nothing for 5 s: the next 3 s", waiting::stall),
    Scenario::new("takes nothing for 14 s", waiting::long_stall),
    Scenario {
        cameras: &[DAMAGED],
        ..Scenario::new("every other picture is damaged", damaged)
    },
    Scenario {
        bare_falls: false,
        ..Scenario::new("200 in a row, each coming while the last one leaves", row)
    },
    Scenario {
        bare_falls: false,
        ..Scenario::new("PLAY with odd Scale, Speed or Range, live", odd_play)
    },
];

pub(super) fn url(server: &Server, camera: &str) -> String {
    format!("rtsp://127.0.0.1:{}/{camera}", server.port)
}

/// Somebody who sees the camera.
pub(super) fn viewer(server: &Server, way: Way) -> anyhow::Result<Player> {
    let mut viewer = Player::play(server.port, CAMERA, Instant::now() + FIRST, way)?;
    viewer.frame_within(FIRST)?.context("it shows nothing")?;
    Ok(viewer)
}

/// Whether so many frames more come.
pub(super) fn sees(viewer: &mut Player, frames: usize) -> bool {
    (0..frames).all(|_| matches!(viewer.frame_within(PATIENCE), Ok(Some(_))))
}

/// A connection for whatever bytes a scenario writes.
pub(super) fn raw(server: &Server) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the server ends this within its read timeout.
pub(super) fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(
        stream.read(&mut [0; 1]),
        Err(error) if error.kind() == ErrorKind::WouldBlock
    )
}

/// The status of the next answer; `None` where there is none.
fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    str::from_utf8(&line).ok()?.split(' ').nth(1)?.parse().ok()
}

fn others_session(server: &Server) -> anyhow::Result<Seen> {
    let (mut held, mut said) = (true, Vec::new());
    for method in ["OPTIONS", "PAUSE", "TEARDOWN"] {
        let mut viewer = viewer(server, Way::Tcp)?;
        let mut other = Connection::open(server.port)?;
        let answer = other.ask(method, &url(server, CAMERA), viewer.session())?;
        drop(other);
        let goes_on = sees(&mut viewer, MANY);
        held &= goes_on;
        let then = if goes_on { "goes on" } else { "sees no more" };
        said.push(format!("{}, {then}", answer.status));
    }
    Ok(Seen {
        held,
        said: said.join("; "),
    })
}

fn long_header(server: &Server) -> anyhow::Result<Seen> {
    let mut stream = raw(server)?;
    stream.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ")?;
    let piece = [b'x'; 1 << 16];
    let mut taken = 0;
    while taken < LONG && stream.write_all(&piece).is_ok() {
        taken += piece.len();
    }
    let status = match stream.write_all(b"\r\n\r\n") {
        Ok(()) if taken >= LONG => status(&mut stream),
        _ => None,
    };
    Ok(match status {
        Some(status) => Seen {
            held: false,
            said: format!("all taken, {status}"),
        },
        None => Seen {
            held: taken < LONG,
            said: format!("ended, {} KiB on their way", taken >> 10),
        },
    })
}

fn strangers(server: &Server) -> anyhow::Result<Seen> {
    let connections = (0..STRANGERS).map(|_| raw(server));
    let mut connections = connections.collect::<anyhow::Result<Vec<_>>>()?;
    let last = connections.last_mut().context("there is none")?;
    // Less than what one of them alone is given.
    last.set_read_timeout(Some(PATIENCE / 2))?;
    let held = is_closed(last);
    Ok(Seen {
        held,
        said: match held {
            true => "the last is closed at once".into(),
            false => "all stay".into(),
        },
    })
}

fn tunnel(server: &Server) -> anyhow::Result<Seen> {
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

fn no_pictures(server: &Server) -> anyhow::Result<Seen> {
    // A relay is asked once the cameras have come.
    drop(viewer(server, Way::Tcp)?);
    let mut first = Connection::open(server.port)?;
    let mut second = Connection::open(server.port)?;
    for connection in [&mut first, &mut second] {
        connection.be_patient(PATIENCE)?;
    }
    first.send("DESCRIBE", &url(server, SILENT), "")?;
    let other = second.ask("DESCRIBE", &url(server, CAMERA), "");
    let own = first.answered("DESCRIBE");
    let words = |answer: &anyhow::Result<_>| match answer {
        Ok(crate::many::rtsp::Answer { status, .. }) => status.to_string(),
        Err(_) => format!("nothing for {} s", PATIENCE.as_secs()),
    };
    Ok(Seen {
        held: own.is_ok() && other.as_ref().is_ok_and(|other| other.status == 200),
        said: format!("{}; {}", words(&own), words(&other)),
    })
}

fn damaged(server: &Server) -> anyhow::Result<Seen> {
    let played = Player::play(server.port, DAMAGED, Instant::now() + FIRST, Way::Tcp);
    let held = played.is_ok_and(|mut viewer| sees(&mut viewer, MANY));
    let said = match held {
        true => "the others are seen",
        false => "nothing is seen any more",
    };
    Ok(Seen {
        held,
        said: said.into(),
    })
}

fn row(server: &Server) -> anyhow::Result<Seen> {
    let mut last = viewer(server, Way::Tcp)?;
    for number in 1..=ROW {
        last = match relieve(server, last, number % 2 == 0) {
            Ok(next) => next,
            Err(error) => {
                return Ok(Seen {
                    held: false,
                    said: format!("number {number} sees nothing: {error:#}"),
                });
            }
        };
    }
    Ok(Seen {
        held: true,
        said: "all see a picture".into(),
    })
}

/// The next viewer, once it sees a picture; the last one leaves before it plays, in one of two ways.
fn relieve(server: &Server, mut last: Player, tears_down: bool) -> anyhow::Result<Player> {
    let mut next = Player::set_up(server.port, CAMERA, Instant::now() + FIRST, Way::Tcp)?;
    if tears_down {
        last.ask("TEARDOWN", "")?;
    }
    drop(last);
    let status = next.ask("PLAY", "")?;
    next.frame_within(PATIENCE)?
        .with_context(|| format!("PLAY gives {status}"))?;
    Ok(next)
}

fn odd_play(server: &Server) -> anyhow::Result<Seen> {
    let (mut statuses, mut held) = (Vec::new(), true);
    for headers in [
        "Range: npt=10-\r\n",
        "Range: npt=5-1\r\nScale: -2\r\n",
        "Scale: 0.000001\r\nSpeed: 1e300\r\n",
        "Scale: nan\r\n",
        "Range: clock=99999999T999999Z-\r\n",
        "Range: smpte=0:0:0-\r\nSpeed: -0\r\n",
    ] {
        let mut other = Player::set_up(server.port, CAMERA, Instant::now() + FIRST, Way::Tcp)?;
        statuses.push(other.ask("PLAY", headers)?.to_string());
        held &= sees(&mut viewer(server, Way::Tcp)?, 1);
    }
    statuses.sort();
    statuses.dedup();
    let then = if held { "goes on serving" } else { "no more" };
    Ok(Seen {
        held,
        said: format!("{}; {then}", statuses.join(", ")),
    })
}
