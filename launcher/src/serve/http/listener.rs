//! Accepts connections, within limits, and serves HTTP/1.1 on each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::guard::Remote;
use super::pace::Pace;
use super::wire::{self, Wire};
use super::{Site, router};

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 2048;
/// Most connections from one address. This machine itself may have all of them: a
/// proxy in front of the relay comes from here.
const MAX_PER_ADDRESS: usize = 64;
/// How long the head of a request may take, from the end of the answer before it.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// How long is waited after accepting failed: mostly there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// What somebody hears for whom there is no room.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n";

/// Serves until the site closes, and then until all connections ended.
pub async fn serve(listener: TcpListener, site: Arc<Site>) {
    let router = router::router(site.clone());
    let places = Places::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = site.closed() => break,
        };
        match accepted {
            Ok((socket, remote)) => match places.take(remote.ip()) {
                Some(place) => {
                    let (router, site) = (router.clone(), site.clone());
                    connections.spawn(async move {
                        connection(socket, remote, router, &site).await;
                        drop(place);
                    });
                }
                None => {
                    tracing::debug!("http: no room for another connection of {remote}");
                    let _ = socket.try_write(NO_ROOM);
                }
            },
            Err(error) => {
                tracing::debug!("http: a connection is not accepted: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(socket: TcpStream, remote: SocketAddr, router: Router, site: &Site) {
    if let Err(error) = wire::prepare(&socket) {
        tracing::debug!("http: {remote}: {error}");
        return;
    }
    let Some(tls) = &site.tls else {
        return talk(socket, Remote::plain(remote), router, site).await;
    };
    let mut first = [0];
    let begun = async {
        socket.peek(&mut first).await?;
        if first != [TLS_HANDSHAKE] {
            return Ok(Err(socket));
        }
        tls.accept(socket).await.map(Ok)
    };
    match timeout(HEAD_DEADLINE, begun).await {
        Ok(Ok(Ok(stream))) => talk(stream, Remote::secure(remote), router, site).await,
        Ok(Ok(Err(socket))) => talk(socket, Remote::plain(remote), router, site).await,
        Ok(Err(error)) => tracing::debug!("http: {remote}: {error}"),
        Err(_) => tracing::debug!("http: {remote}: it says nothing"),
    }
}

/// Answers the requests of a connection.
async fn talk<S>(stream: S, remote: Remote, router: Router, site: &Site)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pace = Pace::default();
    let wire = Wire::new(stream, pace.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let extensions = request.extensions_mut();
        extensions.insert(remote);
        extensions.insert(pace.clone());
        TowerToHyperService::new(router.clone()).call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = site.closed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("http: {}: {error}", remote.address);
    }
}

/// How many connections there are, in all and by address.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place; free again when it is dropped.
struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        let all: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or_default();
        if all >= MAX_CONNECTIONS || (own >= MAX_PER_ADDRESS && !address.is_loopback()) {
            return None;
        }
        taken.insert(address, own + 1);
        drop(taken);
        Some(Place {
            places: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_address_and_in_all() {
        let places = Places::default();
        let one = IpAddr::from([192, 0, 2, 1]);
        let mapped = "::ffff:192.0.2.1".parse().expect("an address");
        let mut held: Vec<_> = (0..MAX_PER_ADDRESS)
            .map(|_| places.take(one).expect("there is room"))
            .collect();
        assert!(places.take(one).is_none());
        assert!(places.take(mapped).is_none(), "the same address");
        held.pop();
        assert!(places.take(mapped).is_some());

        let local = IpAddr::from([127, 0, 0, 1]);
        while let Some(place) = places.take(local) {
            held.push(place);
        }
        assert_eq!(held.len(), MAX_CONNECTIONS);
        assert!(places.take([192, 0, 2, 2].into()).is_none());
        drop(held);
        assert!(places.lock().is_empty());
    }
}
