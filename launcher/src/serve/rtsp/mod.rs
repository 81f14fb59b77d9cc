//! Every camera at `rtsp://HOST:PORT/NAME`, over UDP and TCP, through gst-rtsp-server.
//!
//! All viewers of a camera share one media (`appsrc ! payloader`), which exists
//! only while somebody watches, and a few seconds more. One thread runs the
//! server's main context; up to [`CLIENT_THREADS`] answer requests.

mod factory;
mod media;
mod mount;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use gst_rtsp_server::gst_rtsp::RTSPStatusCode;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPClient, RTSPContext, RTSPMountPoints, RTSPServer, RTSPThreadPool, gio};

use self::factory::Factory;
use self::mount::{Mount, Refusal};
use crate::relay::feed::Feed;
use crate::relay::feeds::Event;
use crate::relay::stream::Stream;

/// Threads that answer viewers' requests.
const CLIENT_THREADS: i32 = 8;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Largest body of a request, in bytes.
const CONTENT_LIMIT: u32 = 64 << 10;
/// How often sessions that timed out and medias that nobody watches are let go.
const ROUND: Duration = Duration::from_secs(2);

/// The RTSP server; ends when it is dropped.
pub struct Server {
    server: RTSPServer,
    address: SocketAddr,
    urls: Arc<Urls>,
    main_loop: glib::MainLoop,
    /// Ends the thread of the rounds when it is dropped.
    stop_rounds: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// The cameras that can be asked for.
struct Urls {
    points: RTSPMountPoints,
    context: glib::MainContext,
    /// Where the server listens.
    address: SocketAddr,
    mounts: Mutex<HashMap<String, Arc<Mount>>>,
}

impl Server {
    /// Listens on `listen`; with port 0 the system picks one.
    pub fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let context = glib::MainContext::new();
        let server = RTSPServer::new();
        server.set_address(&listen.ip().to_string());
        server.set_service(&listen.port().to_string());
        server.set_backlog(BACKLOG);
        server.set_content_length_limit(CONTENT_LIMIT);
        let threads = RTSPThreadPool::new();
        threads.set_max_threads(CLIENT_THREADS);
        server.set_thread_pool(Some(&threads));
        let points = RTSPMountPoints::new();
        server.set_mount_points(Some(&points));

        let accepting = server
            .create_source(gio::Cancellable::NONE)
            .with_context(|| no_listening(listen))?;
        let port = u16::try_from(server.bound_port()).unwrap_or_default();
        let address = SocketAddr::new(listen.ip(), port);
        let urls = Arc::new(Urls {
            points,
            context: context.clone(),
            address,
            mounts: Mutex::default(),
        });
        let hooks = urls.clone();
        server.connect_client_connected(move |_, client| hooks.watch(client));
        accepting.attach(Some(&context));
        let sessions = server
            .session_pool()
            .context("the RTSP server has no sessions")?;
        let (stop_rounds, stopped) = channel();
        let mounts = urls.clone();
        let rounds = thread::Builder::new()
            .name("rtsp rounds".into())
            .spawn(move || {
                while stopped.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
                    sessions.cleanup();
                    for mount in mounts.all() {
                        mount.round();
                        mounts.announce(&mount);
                    }
                }
            })
            .context("no thread for the RTSP server")?;

        let main_loop = glib::MainLoop::new(Some(&context), false);
        let running = main_loop.clone();
        let thread = thread::Builder::new()
            .name("rtsp".into())
            .spawn(move || running.run())
            .context("no thread for the RTSP server")?;
        Ok(Self {
            server,
            address,
            urls,
            main_loop,
            stop_rounds: Some(stop_rounds),
            threads: vec![rounds, thread],
        })
    }

    /// The address that it listens on, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has to be told about feeds.
    pub fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let urls = self.urls.clone();
        move |event| match event {
            Event::Opened(feed) => urls.open(feed),
            Event::Ready(feed, stream) => urls.ready(feed, stream),
            Event::StateChanged(_) => {}
            Event::Forgotten(feed) => urls.forget(feed),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server
            .client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
        let main_loop = self.main_loop.clone();
        self.urls.context.invoke(move || main_loop.quit());
        drop(self.stop_rounds.take());
        for thread in self.threads.drain(..) {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
        // Most of it is waiting for threads to end, so it is done side by side.
        let mounts = self.urls.all();
        let share = mounts.len().div_ceil(CLIENT_THREADS as usize).max(1);
        thread::scope(|scope| {
            for mounts in mounts.chunks(share) {
                scope.spawn(|| mounts.iter().for_each(|mount| mount.close()));
            }
        });
    }
}

impl Urls {
    fn open(&self, feed: &Arc<Feed>) {
        let mount = Arc::new(Mount::new(feed.clone(), self.context.clone()));
        self.lock().insert(feed.name().to_owned(), mount.clone());
        self.points
            .add_factory(&format!("/{}", feed.name()), Factory::new(mount));
    }

    fn ready(&self, feed: &Arc<Feed>, stream: &Arc<Stream>) {
        let Some(mount) = self.mount(feed.name()) else {
            return;
        };
        mount.check();
        let starts = stream.start().is_some_and(|frame| !frame.codec.is_audio());
        if starts
            && let Err(why) = mount.layout()
            && why != Refusal::NotYet
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
                url(self.address, name)
            );
        }
    }

    fn forget(&self, feed: &Arc<Feed>) {
        self.points.remove_factory(&format!("/{}", feed.name()));
        let mount = self.lock().remove(feed.name());
        if let Some(mount) = mount {
            mount.close();
        }
    }

    /// Hooks into the requests of a viewer that connects.
    fn watch(self: &Arc<Self>, client: &RTSPClient) {
        let urls = self.clone();
        client.connect_pre_describe_request(move |_, request| match urls.asked(request) {
            None => RTSPStatusCode::NotFound,
            Some(mount) => match mount.layout() {
                Ok(_) => RTSPStatusCode::Ok,
                Err(why) => {
                    tracing::debug!("camera {}: a viewer is refused: {why}", mount.feed().name());
                    why.status()
                }
            },
        });
        let urls = self.clone();
        client.connect_setup_request(move |client, request| {
            if let Some(mount) = urls.asked(request) {
                mount.joined(client);
            }
        });
        let urls = self.clone();
        client.connect_teardown_request(move |client, request| {
            if let Some(mount) = urls.asked(request) {
                mount.left(client);
            }
        });
        let urls = self.clone();
        client.connect_play_request(move |_, request| {
            if let Some(mount) = urls.asked(request) {
                mount.plays();
            }
        });
    }

    /// The camera that a request is about.
    fn asked(&self, request: &RTSPContext) -> Option<Arc<Mount>> {
        let path = request.uri()?.decode_path_components();
        self.mount(path.iter().find(|part| !part.is_empty())?)
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

/// Where a camera is watched: the address that the server listens on, or where
/// that is every address, the one that this machine has in its network.
pub fn url(address: SocketAddr, name: &str) -> String {
    let address = crate::relay::address::reachable(address);
    format!("rtsp://{address}/{name}")
}

/// What to do when the address cannot be listened on.
fn no_listening(listen: SocketAddr) -> String {
    format!(
        "cannot listen for viewers on {listen}: is another relay running? \
         Stop it, or choose another port as listen of [rtsp]"
    )
}
