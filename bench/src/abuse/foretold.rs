//! Whether what must not be guessed can be computed from what anybody is told.
//!
//! gst-rtsp-server takes the nonces of the Digest scheme (RFC 7616) and the ids of sessions from
//! the same generator of its process: GLib's, a Mersenne Twister, whose state is 624 numbers of
//! 32 bits. A nonce is two of these as they are, so that 312 of them tell all that follow.

use anyhow::Context;
use rand_mt::Mt;

use super::picture::CAMERA;
use super::scenarios::{set_up, url};
use super::{Seen, Server};
use crate::many::rtsp::{Connection, Way};

/// Numbers in the state of the generator.
const STATE: usize = 624;
/// How many of the numbers that follow are looked at.
const AHEAD: usize = 1000;
/// What a session's id is of, there.
const LETTERS: &[u8; 66] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+";

pub(super) fn next_session(server: &Server) -> anyhow::Result<Seen> {
    let (given, what) = match nonces(server)? {
        Some(nonces) => (nonces, "nonces"),
        // Where strangers are told nothing, somebody with a login may look at their own.
        None => (ids(server)?, "ids"),
    };
    let id = session(server)?;
    let place = foretell(&given)?.iter().find_map(|text| text.find(&id));
    let (count, length) = (given.len(), id.len());
    Ok(Seen {
        held: place.is_none(),
        said: match place {
            Some(_) => format!("computed from {count} {what}"),
            None => format!("not from {count} {what}, of {length} characters"),
        },
    })
}

/// Those that somebody without a login is given; `None` where there are none.
fn nonces(server: &Server) -> anyhow::Result<Option<Vec<String>>> {
    let mut stranger = Connection::open(server.port)?;
    let mut nonces = Vec::new();
    while nonces.len() < STATE / 2 {
        let answer = stranger.ask("DESCRIBE", &url(server, CAMERA), "")?;
        let found = answer.all("www-authenticate").find_map(|scheme| {
            let (_, nonce) = scheme.split_once("nonce=\"")?;
            Some(nonce.split('"').next()?.to_owned())
        });
        match found {
            Some(nonce) => nonces.push(nonce),
            None => return Ok(None),
        }
    }
    Ok(Some(nonces))
}

/// Of one session after the other, as many as hold the state.
fn ids(server: &Server) -> anyhow::Result<Vec<String>> {
    (0..STATE / 4).map(|_| session(server)).collect()
}

/// The id of a new session.
fn session(server: &Server) -> anyhow::Result<String> {
    let viewer = set_up(server, CAMERA, Way::Tcp)?;
    let id = viewer.session().trim().strip_prefix("Session: ");
    Ok(id.context("it has no id")?.replace("%2B", "+"))
}

/// What follows numbers in hexadecimal, as ids may be made of it. A compiler may have the last
/// number of a text made first.
fn foretell(given: &[String]) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for backwards in [false, true] {
        let mut numbers = Vec::new();
        for text in given {
            let digits = text.as_bytes().chunks(8).map(str::from_utf8);
            let mut part = digits
                .map(|digits| Ok(u32::from_str_radix(digits?, 16)?))
                .collect::<anyhow::Result<Vec<_>>>()
                .with_context(|| format!("'{text}' is no number"))?;
            if backwards {
                part.reverse();
            }
            numbers.extend(part);
        }
        let (state, _) = numbers.split_at_checked(STATE).context("too few numbers")?;
        let mut generator = Mt::recover(state.iter().copied()).context("no state")?;
        let next: Vec<u32> = (0..AHEAD).map(|_| generator.next_u32()).collect();
        let letter = |number: &u32| char::from(LETTERS[*number as usize % LETTERS.len()]);
        texts.push(next.iter().map(letter).collect());
        texts.push(next.iter().map(|number| format!("{number:08x}")).collect());
    }
    Ok(texts)
}
