//! Host names to addresses, on a thread of its own: a resolver may take its time.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The address that `host` writes out, where it is none that must be looked up.
pub(super) fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(host).parse().ok()?;
    Some((ip, port).into())
}

/// Looks `host` up and calls `done` with its addresses, IPv4 first, or the system's words.
pub(super) fn look_up(
    host: String,
    port: u16,
    done: impl FnOnce(Result<Vec<SocketAddr>, String>) + Send + 'static,
) {
    let work = move || {
        let found = (host.as_str(), port).to_socket_addrs();
        done(found.map_err(|error| error.to_string()).and_then(|found| {
            let mut found: Vec<_> = found.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            if found.is_empty() {
                return Err("it has no address".into());
            }
            Ok(found)
        }));
    };
    let thread = std::thread::Builder::new().name("camrelay-dns".into());
    if let Err(error) = thread.spawn(work) {
        gst::error!(super::CAT, "cannot start a thread: {error}");
    }
}
