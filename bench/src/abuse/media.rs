//! Cameras that have no pictures, damaged ones, or fail, and viewers that come and go.

use anyhow::Context;

use super::picture::{CAMERA, CUT, DAMAGED, FAILING, FAILS, FULL, SILENT};
use super::scenarios::{MANY, PATIENCE, sees, set_up, url, viewer};
use super::{Seen, Server};
use crate::many::rtsp::{Answer, Connection, Player, Way};

/// Viewers in a row.
const ROW: usize = 1000;

pub(super) fn no_pictures(server: &Server) -> anyhow::Result<Seen> {
    // A relay is asked once the cameras have come.
    drop(viewer(server, CAMERA, Way::Tcp)?);
    let mut first = Connection::open(server.port)?;
    let mut second = Connection::open(server.port)?;
    for connection in [&mut first, &mut second] {
        connection.be_patient(PATIENCE)?;
    }
    first.send("DESCRIBE", &url(server, SILENT), "")?;
    let other = second.ask("DESCRIBE", &url(server, CAMERA), "");
    let own = first.answered("DESCRIBE");
    let words = |answer: &anyhow::Result<_>| match answer {
        Ok(Answer { status, .. }) => status.to_string(),
        Err(_) => format!("nothing for {} s", PATIENCE.as_secs()),
    };
    Ok(Seen {
        held: own.is_ok() && other.as_ref().is_ok_and(|other| other.status == 200),
        said: format!("{}; {}", words(&own), words(&other)),
    })
}

pub(super) fn damaged(server: &Server) -> anyhow::Result<Seen> {
    passed_over(server, DAMAGED)
}

pub(super) fn cut(server: &Server) -> anyhow::Result<Seen> {
    passed_over(server, CUT)
}

fn passed_over(server: &Server, camera: &str) -> anyhow::Result<Seen> {
    let held = viewer(server, camera, Way::Tcp).is_ok_and(|mut viewer| sees(&mut viewer, MANY));
    let said = match held {
        true => "the others are seen",
        false => "nothing is seen any more",
    };
    Ok(Seen {
        held,
        said: said.into(),
    })
}

pub(super) fn full(server: &Server) -> anyhow::Result<Seen> {
    let held = viewer(server, FULL, Way::Tcp).is_ok_and(|mut viewer| sees(&mut viewer, 1));
    Ok(Seen {
        held,
        said: match held {
            true => "are seen, as H.264".into(),
            false => "nothing is seen".into(),
        },
    })
}

/// The first viewer stays, as players do.
pub(super) fn failing(server: &Server) -> anyhow::Result<Seen> {
    let mut first = viewer(server, FAILING, Way::Tcp)?;
    let goes_on = sees(&mut first, FAILS + MANY);
    let next = viewer(server, FAILING, Way::Tcp);
    let words = |sees| if sees { "sees on" } else { "sees no more" };
    Ok(Seen {
        held: goes_on && next.is_ok(),
        said: format!(
            "the viewer {}; the next: {}",
            words(goes_on),
            match &next {
                Ok(_) => "sees it".to_owned(),
                Err(error) => error.to_string(),
            }
        ),
    })
}

pub(super) fn row(server: &Server) -> anyhow::Result<Seen> {
    let mut last = viewer(server, CAMERA, Way::Tcp)?;
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
    let mut next = set_up(server, CAMERA, Way::Tcp)?;
    if tears_down {
        last.ask("TEARDOWN", "")?;
    }
    drop(last);
    let status = next.ask("PLAY", "")?;
    next.frame_within(PATIENCE)?
        .with_context(|| format!("PLAY gives {status}"))?;
    Ok(next)
}
