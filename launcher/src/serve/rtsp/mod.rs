//! Every camera at `rtsp://HOST:PORT/NAME` (RFC 2326), over UDP and TCP.
//!
//! gst-rtsp-server 1.22 queues seconds of video for a viewer that does not keep up, shares
//! sessions between connections, and takes requests of any length from anybody; so this
//! is a server of our own, of the few methods that players use. A viewer is a consumer of
//! the camera's streams like any other: its frames are cut into packets when it has sent
//! what it had, so that it is always the newest that it gets next.

mod connection;
mod limits;
mod mount;
pub mod payload;
pub mod request;
mod response;
mod rtcp;
mod sdp;
mod session;
#[cfg(test)]
mod tests;
mod track;
pub mod transport;
mod udp;
mod writer;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::limits::{Limits, Place};
use self::mount::{Mount, Refusal};
use self::session::Connection;
use self::udp::Udp;
use crate::config::{Rtsp, secrets};
use crate::relay::feed::Feed;
use crate::relay::feeds::Event;
use crate::relay::stream::Stream;
use crate::users::Users;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Passwords that may be checked, or wait for it, besides the threads that serve.
const BLOCKING_THREADS: usize = 16;
/// How often it is looked whether a camera can be watched that could not.
const ROUND: Duration = Duration::from_secs(2);
/// The longest wait of the end for what the viewers are being sent.
const END: Duration = Duration::from_secs(1);
/// What the kernel may hold of a viewer's packets that are not on their way yet, in
/// bytes: little, as what is in there is no longer the newest.
const NOT_SENT: u32 = 64 << 10;
/// Whoever acknowledges nothing for so long is gone.
const GONE: Duration = Duration::from_secs(10);
/// What a connection over TLS begins with (RFC 8446, section 5.1), and RTSP never does.
const TLS_HANDSHAKE: u8 = 22;
/// Rest after an accept that failed, mostly for lack of descriptors.
const REST: Duration = Duration::from_millis(100);

/// The RTSP server; ends when it is dropped.
pub struct Server {
    runtime: Option<Runtime>,
    address: Address,
    shared: Arc<Shared>,
}

/// Where players connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address that the server listens on, with its real port.
    pub socket: SocketAddr,
    /// Whether it speaks TLS there as well: players are sent to `rtsps://` then.
    pub secure: bool,
}

impl Address {
    /// The scheme of the addresses that are shown.
    pub fn scheme(self) -> &'static str {
        if self.secure { "rtsps" } else { "rtsp" }
    }

    /// Where a camera is watched: the address that the server listens on, or where
    /// that is every address, the one that this machine has in its network.
    pub fn url(self, name: &str) -> String {
        let socket = crate::relay::address::reachable(self.socket);
        format!("{}://{socket}/{name}", self.scheme())
    }
}

/// What all connections share.
struct Shared {
    users: Arc<Users>,
    urls: Urls,
    udp: Option<Arc<Udp>>,
    limits: Arc<Limits>,
    /// How long a viewer may be silent, in seconds.
    timeout: u64,
    /// Answers those who connect with `rtsps://`, on the same port.
    tls: Option<TlsAcceptor>,
    /// Whether it was said that a password came in plain text.
    warned: AtomicBool,
}

/// The cameras that can be asked for.
struct Urls {
    /// Where the server listens.
    address: Address,
    mounts: Mutex<HashMap<String, Arc<Mount>>>,
}

impl Server {
    /// Listens as the deployment says; with port 0 the system picks one.
    pub fn start(rtsp: &Rtsp, users: Arc<Users>) -> anyhow::Result<Self> {
        Self::start_with(rtsp, users, session::TIMEOUT)
    }

    /// As [`Self::start`]; viewers may be silent for so many seconds.
    fn start_with(rtsp: &Rtsp, users: Arc<Users>, timeout: u64) -> anyhow::Result<Self> {
        let threads = available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("rtsp")
            .enable_all()
            .build()
            .context("no threads for the RTSP server")?;
        let entered = runtime.enter();
        let listen = rtsp.listen;
        let listener = listener(listen).with_context(|| no_listening(listen))?;
        let address = listener.local_addr()?;
        let udp = Arc::new(udp(rtsp, address)?);
        let tls = rtsp.tls.as_ref();
        let tls = tls.map(|tls| secrets::tls(&tls.certificate, &tls.private_key));
        let tls = tls.transpose().map_err(anyhow::Error::msg)?;
        let address = Address {
            socket: address,
            secure: tls.is_some(),
        };
        let (first, last) = udp.ports();
        tracing::debug!("sending to viewers over UDP from ports {first} and {last}");
        let shared = Arc::new(Shared {
            users,
            urls: Urls {
                address,
                mounts: Mutex::default(),
            },
            udp: Some(udp.clone()),
            limits: Arc::default(),
            timeout,
            tls: tls.map(TlsAcceptor::from),
            warned: AtomicBool::new(false),
        });
        runtime.spawn(accept(listener, shared.clone()));
        runtime.spawn(async move { udp.listen().await });
        let rounds = shared.clone();
        runtime.spawn(async move {
            let mut tick = tokio::time::interval(ROUND);
            loop {
                tick.tick().await;
                for mount in rounds.urls.all() {
                    rounds.urls.announce(&mount);
                }
            }
        });
        drop(entered);
        Ok(Self {
            runtime: Some(runtime),
            address,
            shared,
        })
    }

    /// Where players connect to.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What has to be told about feeds.
    pub fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |event| match event {
            Event::Opened(feed) => shared.urls.open(feed),
            Event::Ready(feed, stream) => shared.urls.ready(feed, stream),
            Event::Forgotten(feed) => shared.urls.forget(feed),
            _ => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(END);
        }
    }
}

fn listener(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG as u32)
}

/// The UDP ports of the deployment; where it says none, the even one after that of TCP and
/// its neighbour, or others where those are taken.
fn udp(rtsp: &Rtsp, address: SocketAddr) -> anyhow::Result<Udp> {
    if let Some(first) = rtsp.ports {
        return Udp::bind(address.ip(), Some(first));
    }
    let near = address.port().checked_add(3).map(|port| port & !1);
    match near.filter(|_| rtsp.listen.port() != 0) {
        Some(first) => {
            Udp::bind(address.ip(), Some(first)).or_else(|_| Udp::bind(address.ip(), None))
        }
        None => Udp::bind(address.ip(), None),
    }
}

/// Takes connections in for ever.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, viewer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a viewer could not be accepted: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        match shared.limits.take(viewer.ip()) {
            Some(place) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = connected(stream, viewer, place, shared).await {
                        tracing::debug!("viewer {viewer}: {error}");
                    }
                });
            }
            None => tracing::debug!("viewer {viewer}: too many connections"),
        }
    }
}

async fn connected(
    stream: TcpStream,
    viewer: SocketAddr,
    place: Place,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(GONE))?;
    socket.set_tcp_notsent_lowat(NOT_SENT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(GONE).with_interval(GONE / 2))?;
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let local = stream.local_addr()?;
    let udp = shared.udp.clone();
    // Reports come, and packets go, as the socket's family writes addresses.
    let addresses = if local.is_ipv4() {
        (canonical(viewer), canonical(local))
    } else {
        (viewer, local)
    };
    let tls = shared.tls.clone();
    let connection = move |secure| Connection::new(shared, place, addresses, secure);
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let mut first = [0];
    if let Some(tls) = tls {
        timeout(connection::PATIENCE, stream.peek(&mut first))
            .await
            .map_err(late)??;
        if first == [TLS_HANDSHAKE] {
            let accepted = timeout(connection::PATIENCE, tls.accept(stream)).await;
            let (from, to) = tokio::io::split(accepted.map_err(late)??);
            return connection::serve(connection(true), udp, from, to).await;
        }
    }
    let connection = connection(false);
    let (from, to) = stream.into_split();
    connection::serve(connection, udp, from, to).await
}

impl Shared {
    /// Says once that passwords can be read on the way.
    fn warn_of_plain_passwords(&self, viewer: SocketAddr) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "viewer {viewer}: it sends its password where others on the network can read it; \
                 passwords are safe over rtsps://"
            );
        }
    }
}

impl Urls {
    fn open(&self, feed: &Arc<Feed>) {
        let mount = Arc::new(Mount::new(feed.clone()));
        self.lock().insert(feed.name().to_owned(), mount);
    }

    fn ready(&self, feed: &Arc<Feed>, stream: &Arc<Stream>) {
        let Some(mount) = self.mount(feed.name()) else {
            return;
        };
        mount.check();
        let starts = stream.start().is_some_and(|frame| !frame.codec.is_audio());
        if starts
            && let Err(why) = mount.layout()
            && !matches!(
                why,
                Refusal::NotYet | Refusal::Refused(_) | Refusal::Encoding(_)
            )
        {
            tracing::warn!("camera {}: cannot be watched over RTSP: {why}", feed.name());
        }
        if starts {
            mount.announce_again();
        }
        self.announce(&mount);
    }

    /// Says where a camera is watched, once that works.
    fn announce(&self, mount: &Mount) {
        if let Some(what) = mount.news() {
            let name = mount.feed().name();
            tracing::info!(
                "camera {name}: watch at {} ({what})",
                self.address.url(name)
            );
        }
    }

    /// Ends the sessions of its viewers, too: they hold what its mount tells them by.
    fn forget(&self, feed: &Arc<Feed>) {
        if let Some(mount) = self.lock().remove(feed.name()) {
            mount.close();
        }
    }

    fn all(&self) -> Vec<Arc<Mount>> {
        self.lock().values().cloned().collect()
    }

    fn mount(&self, name: &str) -> Option<Arc<Mount>> {
        self.lock().get(name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Mount>>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do when the address cannot be listened on.
fn no_listening(listen: SocketAddr) -> String {
    format!(
        "cannot listen for viewers on {listen}: is another relay running? \
         Stop it, or choose another port as listen of [rtsp]"
    )
}
