//! All that clients do, and what it takes to see what becomes of it. None of it is told by how
//! long something takes, but for what is a matter of time itself.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::picture::{CAMERA, CUT, DAMAGED, FAILING, FILM, FULL, SILENT};
use super::{Scenario, Server};
use super::{crowd, foretold, media, requests, sessions, waiting};
use crate::many::rtsp::{Player, Way};

/// A viewer that sees nothing for so long sees nothing more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first picture may take.
pub(super) const FIRST: Duration = Duration::from_secs(20);
/// More frames than can be on their way to a viewer.
pub(super) const MANY: usize = 90;
/// Of the five that it has else, many who come at once are put off for seconds.
const BACKLOG: Option<i32> = Some(1024);

/// All of them.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "OPTIONS, PAUSE, TEARDOWN with another's session id",
        sessions::others,
    ),
    Scenario {
        users: true,
        ..Scenario::new(
            "the same without a login, where others log in",
            sessions::others,
        )
    },
    Scenario {
        users: true,
        ..Scenario::new(
            "foretells the next session id from nonces or ids before it",
            foretold::next_session,
        )
    },
    Scenario::new("a header of 16 MiB", requests::long_header),
    Scenario {
        users: true,
        ..Scenario::new("a body of 16 MiB, without a login", requests::long_body)
    },
    Scenario::new("connects and says nothing", waiting::silence),
    Scenario {
        backlog: BACKLOG,
        ..Scenario::new("300 of them", crowd::strangers)
    },
    Scenario {
        backlog: BACKLOG,
        ..Scenario::new(
            "5,000 connections from 5 addresses, all in use",
            crowd::many,
        )
    },
    Scenario::new(
        "200 connect while the server has no processor",
        crowd::at_once,
    ),
    Scenario::new("GET for the HTTP tunnel", requests::tunnel),
    Scenario {
        cameras: &[CAMERA, SILENT],
        ..Scenario::new(
            "DESCRIBE of a camera without pictures, and of another",
            media::no_pictures,
        )
    },
    Scenario::new(
        "waits 4 s between SETUP and PLAY: pictures in 3 s",
        waiting::before_play,
    ),
    Scenario::new("takes nothing for 5 s: the next 3 s", waiting::stall),
    Scenario::new("takes nothing for 14 s", waiting::long_stall),
    Scenario::new("plays over UDP, then says nothing", waiting::vanished),
    Scenario::new("UDP ports of eight who watch in turn", sessions::ports),
    Scenario {
        cameras: &[DAMAGED],
        ..Scenario::new("every other picture is damaged", media::damaged)
    },
    Scenario {
        cameras: &[CUT],
        ..Scenario::new("one picture a second is cut short", media::cut)
    },
    Scenario {
        cameras: &[FULL],
        ..Scenario::new("pictures are 4:4:4", media::full)
    },
    Scenario {
        cameras: &[FAILING],
        ..Scenario::new("the camera fails while it is watched", media::failing)
    },
    Scenario {
        bare_falls: false,
        ..Scenario::new(
            "1,000 in a row, each coming while the last one leaves",
            media::row,
        )
    },
    Scenario {
        bare_falls: false,
        ..Scenario::new("PAUSE of one of two viewers, live", sessions::pause)
    },
    Scenario {
        bare_falls: false,
        ..Scenario::new(
            "PLAY with odd Scale, Speed or Range, live",
            requests::odd_play,
        )
    },
    Scenario {
        cameras: &[FILM],
        ..Scenario::new("the same, of a film", requests::odd_play_of_film)
    },
    Scenario {
        cameras: &[FILM],
        ..Scenario::new(
            "PLAY from the end of a film that another watches",
            requests::other_place,
        )
    },
];

pub(super) fn url(server: &Server, camera: &str) -> String {
    format!("rtsp://127.0.0.1:{}/{camera}", server.port)
}

/// Somebody who may see that camera, and does not play it yet. Waits for the camera.
pub(super) fn set_up(server: &Server, camera: &str, way: Way) -> anyhow::Result<Player> {
    let deadline = Instant::now() + FIRST;
    Player::set_up_as(server.login, server.port, camera, deadline, way)
}

/// Somebody who sees that camera.
pub(super) fn viewer(server: &Server, camera: &str, way: Way) -> anyhow::Result<Player> {
    let mut viewer = set_up(server, camera, way)?;
    match viewer.ask("PLAY", "")? {
        200 => {}
        status => bail!("PLAY gives {status}"),
    }
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
pub(super) fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    str::from_utf8(&line).ok()?.split(' ').nth(1)?.parse().ok()
}
