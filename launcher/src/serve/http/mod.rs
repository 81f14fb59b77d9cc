//! Pictures, the state of the relay and the page, over HTTP.
//!
//! One table of routes (`router`) says who may do what. In front of it stand the
//! limits of a connection (`listener`, `wire`) and the checks of a request (`guard`).
//! Every handler reaches the relay through a [`Site`].

mod answer;
pub mod api;
mod guard;
mod listener;
mod metrics;
mod pace;
mod page;
mod picture;
mod router;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod wall;
mod whep;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use self::answer::Refusal;
use crate::config::{Http, secrets};
use crate::relay::feed::Feed;
use crate::relay::feeds::Feeds;
use crate::relay::scaler::{Desk, Scaler};
use crate::relay::snapshots::Snapshots;
use crate::serve::rtsp;
use crate::serve::whep::Whep;
use crate::users::Users;

/// Threads that answer requests; none of them waits for anything.
const THREADS: usize = 2;
/// How long connections may take to end once the server stops.
const PATIENCE: Duration = Duration::from_secs(1);

/// The HTTP server; ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    runtime: Option<Runtime>,
    serving: Option<tokio::task::JoinHandle<()>>,
    /// Ends when nobody has the [`Site`] any more.
    left: mpsc::Receiver<()>,
    _scaler: Scaler,
}

/// What every handler can reach.
pub struct Site {
    /// The cameras.
    pub feeds: Arc<Feeds>,
    /// Who may watch.
    pub users: Arc<Users>,
    /// Where players connect to; `None` without `[rtsp]`.
    pub rtsp: Option<rtsp::Address>,
    /// Names under which the relay may be asked for, in lower case.
    pub hosts: Vec<String>,
    /// How the relay proves itself to who connects over TLS.
    pub tls: Option<TlsAcceptor>,
    /// Who watches over WebRTC.
    pub whep: Whep,
    /// Where pictures are made smaller.
    pub desk: Arc<Desk>,
    /// Where JPEGs are made of cameras that send none.
    pub snapshots: Snapshots,
    closing: watch::Receiver<bool>,
    /// Dropped with the last who has the site: WebSockets outlive the connection that
    /// they began on.
    _here: mpsc::Sender<()>,
}

impl Site {
    /// The camera of this name.
    ///
    /// # Errors
    /// A refusal (404) that names the camera where there is none.
    pub fn feed(&self, name: &str) -> Result<Arc<Feed>, Refusal> {
        self.feeds.get(name).ok_or_else(|| Refusal::no_camera(name))
    }

    /// Whether the server stops: answers without an end then end.
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the server stops.
    pub async fn closed(&self) {
        // An error would mean that the server is gone altogether.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }
}

impl Server {
    /// Listens as `http` says; with port 0 the system picks one.
    /// Players are told to connect to `rtsp`.
    pub fn start(
        http: &Http,
        feeds: Arc<Feeds>,
        users: Arc<Users>,
        rtsp: Option<rtsp::Address>,
    ) -> anyhow::Result<Self> {
        let tls = http.tls.as_ref();
        let tls = tls
            .map(|tls| secrets::tls(&tls.certificate, &tls.private_key).map_err(anyhow::Error::msg))
            .transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .context("no threads for the HTTP server")?;
        let listen = http.listen;
        let listener = runtime
            .block_on(TcpListener::bind(listen))
            .with_context(|| no_listening(listen))?;
        let address = listener
            .local_addr()
            .with_context(|| no_listening(listen))?;
        let whep = {
            let _inside = runtime.enter();
            Whep::start(address)?
        };
        tracing::debug!("WebRTC goes over UDP, from {}", whep.address());
        let scaler = Scaler::start()?;
        let (closing, closed) = watch::channel(false);
        let (here, left) = mpsc::channel(1);
        let site = Arc::new(Site {
            feeds,
            users,
            rtsp,
            hosts: http.hosts.clone(),
            tls: tls.map(TlsAcceptor::from),
            whep,
            desk: scaler.desk(),
            snapshots: Snapshots::start()?,
            closing: closed,
            _here: here,
        });
        let serving = runtime.spawn(listener::serve(listener, site));
        Ok(Self {
            address,
            closing,
            runtime: Some(runtime),
            serving: Some(serving),
            left,
            _scaler: scaler,
        })
    }

    /// The address that it listens on, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) {
            // Who does not end in time is cut off.
            let ended = async {
                let _ = serving.await;
                self.left.recv().await
            };
            let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, ended).await });
            runtime.shutdown_background();
        }
    }
}

/// Where the page is: the address that the server listens on, or where that is every
/// address, the one that this machine has in its network.
pub fn url(address: SocketAddr, secure: bool) -> String {
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}/", crate::relay::address::reachable(address))
}

/// What to do when the address cannot be listened on.
fn no_listening(listen: SocketAddr) -> String {
    format!(
        "cannot listen for browsers on {listen}: is another relay running? \
         Stop it, or choose another port as listen of [http]"
    )
}
