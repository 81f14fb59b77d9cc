//! What one viewer may do to another's session, and where packets come from.

use std::collections::BTreeSet;

use anyhow::Context;

use super::picture::CAMERA;
use super::scenarios::{MANY, sees, set_up, url, viewer};
use super::{Seen, Server};
use crate::many::rtsp::{Connection, Way};

/// Viewers one after the other.
const VIEWERS: usize = 8;

/// The other knows the session's id, and never logs in.
pub(super) fn others(server: &Server) -> anyhow::Result<Seen> {
    let (mut held, mut said) = (true, Vec::new());
    for method in ["OPTIONS", "PAUSE", "TEARDOWN"] {
        let mut viewer = viewer(server, CAMERA, Way::Tcp)?;
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

pub(super) fn pause(server: &Server) -> anyhow::Result<Seen> {
    let mut first = viewer(server, CAMERA, Way::Tcp)?;
    let mut second = viewer(server, CAMERA, Way::Tcp)?;
    let paused = second.ask("PAUSE", "")?;
    let goes_on = sees(&mut first, MANY);
    // What was on its way to the second comes yet.
    let stops = !sees(&mut second, MANY);
    let plays = second.ask("PLAY", "")? == 200 && sees(&mut second, 1);
    let words = |is, yes: &'static str, no: &'static str| if is { yes } else { no };
    Ok(Seen {
        held: goes_on && stops && plays,
        said: format!(
            "{paused}, {}; the other {}",
            match (stops, plays) {
                (true, true) => "stops and plays again",
                (true, false) => "stops for good",
                (false, _) => "does not stop",
            },
            words(goes_on, "goes on", "sees no more")
        ),
    })
}

/// One pair can be let through a firewall.
pub(super) fn ports(server: &Server) -> anyhow::Result<Seen> {
    let mut pairs = BTreeSet::new();
    for _ in 0..VIEWERS {
        let mut viewer = set_up(server, CAMERA, Way::Udp)?;
        let mut parts = viewer.transport().split(';');
        let pair = parts.find_map(|part| part.strip_prefix("server_port="));
        pairs.insert(pair.context("it says no ports")?.to_owned());
        viewer.ask("TEARDOWN", "")?;
    }
    Ok(Seen {
        held: pairs.len() == 1,
        said: match pairs.len() {
            1 => "the same two".into(),
            count => format!("{count} pairs"),
        },
    })
}
