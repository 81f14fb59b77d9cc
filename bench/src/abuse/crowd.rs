//! Many at once.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use socket2::{Domain, Socket, Type};

use super::scenarios::{PATIENCE, is_closed, raw, status};
use super::{Seen, Server};

/// Connections of one address that say nothing.
const STRANGERS: usize = 300;
/// Connections that are in use: from so many addresses, so many of each.
const ADDRESSES: u8 = 5;
const OF_EACH: usize = 1000;
/// Connections while the server stands still.
const AT_ONCE: usize = 200;
/// Less than it takes until the system tries again to connect.
const ONE_TRY: Duration = Duration::from_millis(800);

pub(super) fn strangers(server: &Server) -> anyhow::Result<Seen> {
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

pub(super) fn many(server: &Server) -> anyhow::Result<Seen> {
    let mut served = Vec::new();
    for address in 0..ADDRESSES {
        for _ in 0..OF_EACH {
            let mut stream = from(address + 1, server)?;
            // One that is refused may be closed before it is written to.
            let asked = stream.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
            if asked.is_ok() && status(&mut stream) == Some(200) {
                served.push(stream);
            }
        }
    }
    let all = usize::from(ADDRESSES) * OF_EACH;
    Ok(Seen {
        held: !served.is_empty() && served.len() < all,
        said: format!("{} stay", served.len()),
    })
}

/// A connection from 127.0.0.`address`.
fn from(address: u8, server: &Server) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, address], 0)).into())?;
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], server.port)).into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Of those who are not taken in at the first try, each waits a second at least.
pub(super) fn at_once(server: &Server) -> anyhow::Result<Seen> {
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    server.signal(libc::SIGSTOP)?;
    let taken: Vec<_> = thread::scope(|scope| {
        let connect = || TcpStream::connect_timeout(&address, ONE_TRY).ok();
        let coming: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(connect)).collect();
        let taken = coming.into_iter().filter_map(|one| one.join().ok()?);
        taken.collect()
    });
    server.signal(libc::SIGCONT)?;
    Ok(Seen {
        held: taken.len() == AT_ONCE,
        said: match taken.len() {
            AT_ONCE => "all are taken in".into(),
            count => format!("{count} are taken in, the others wait for a second or more"),
        },
    })
}
