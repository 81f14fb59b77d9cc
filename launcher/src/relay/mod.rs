//! The relay: cameras come in, viewers watch.
//!
//! Each camera is a [`feed::Feed`] in the table of [`feeds::Feeds`]; the ways in
//! (`ingest`) fill it, the ways out (`serve`) attach to it.

mod access;
pub mod address;
pub mod annexb;
mod begin;
pub mod consumer;
pub mod derived;
pub mod feed;
pub mod feeds;
mod files;
mod flaws;
pub mod frame;
mod intake;
pub mod jpeg;
mod keeper;
#[cfg(test)]
pub mod mutation;
mod placeholder;
pub mod scaler;
mod served;
pub mod snapshots;
pub mod state;
pub mod stream;
pub mod viewers;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use gstcamrelay::port::Port;

use self::access::Gate;
use self::feeds::{Event, Feeds, Listeners};
use self::keeper::Keeper;
use self::state::State;
use crate::camera::{self, OwnRelay};
use crate::config::Deployment;
use crate::ingest::camrelay::Ingest;
use crate::serve::{http, rtsp};
use crate::stop::Stop;
use crate::users::Users;

/// How often the list of known cameras is looked at.
const ROUND: Duration = Duration::from_secs(1);

/// Where a relay listens, with real ports.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For cameras, UDP.
    pub cameras: SocketAddr,
    /// For RTSP viewers, TCP; `None` without `[rtsp]`.
    pub rtsp: Option<SocketAddr>,
    /// For browsers, TCP; `None` without `[http]`.
    pub http: Option<SocketAddr>,
}

/// Runs the relay and the cameras of the deployment until `stop`.
pub fn run(deployment: &Deployment, stop: Stop) -> anyhow::Result<()> {
    run_and_tell(deployment, &stop, |_| {})
}

/// As [`run`]; `listening` is called once viewers and cameras can connect.
pub fn run_and_tell(
    deployment: &Deployment,
    stop: &Stop,
    listening: impl FnOnce(&Addresses),
) -> anyhow::Result<()> {
    let relay = deployment.relay.as_ref().with_context(|| {
        format!(
            "{} has no [relay]: add one, or run its cameras with: launcher camera --config {0}",
            deployment.path.display()
        )
    })?;
    files::raise_limit();
    let mut gate = Gate::open(deployment)?;
    let users = Arc::new(Users::new(relay.access, &deployment.users)?);
    let rtsp = deployment
        .rtsp
        .as_ref()
        .map(|rtsp| rtsp::Server::start(rtsp, users.clone()))
        .transpose()?;
    let mut listeners = Listeners::default();
    if let Some(rtsp) = &rtsp {
        listeners.add(rtsp.listener());
    }
    listeners.add(|event| {
        if let Event::StateChanged(feed) = event
            && let State::Stale { .. } = feed.state()
        {
            tracing::warn!(
                "camera {}: it is connected but sends no pictures; viewers see the last one, dimmed",
                feed.name()
            );
        }
    });
    let feeds = Arc::new(Feeds::new(listeners));
    let port = Port::listen(gate.settings(relay.listen))?;
    port.set_viewers(users.strangers());
    if let Some(advice) = port.advice() {
        tracing::warn!("{advice}");
    }
    feeds.declare(declared(deployment, &gate));
    let _keeper = Keeper::start(feeds.clone())?;
    let _ingest = Ingest::start(&port, relay.latency, feeds.clone())?;
    let http = deployment
        .http
        .as_ref()
        .map(|http| {
            let rtsp = rtsp.as_ref().map(rtsp::Server::address);
            http::Server::start(http, feeds.clone(), users, rtsp)
        })
        .transpose()?;

    let addresses = Addresses {
        cameras: port.local_addr(),
        rtsp: rtsp.as_ref().map(|rtsp| rtsp.address().socket),
        http: http.as_ref().map(http::Server::address),
    };
    tracing::info!("listening for cameras on {}", addresses.cameras);
    if let Some(rtsp) = &rtsp {
        tracing::info!("listening for viewers on {}", rtsp.address().url("NAME"));
    }
    if let Some(address) = addresses.http {
        let tls = deployment.http.as_ref().and_then(|http| http.tls.as_ref());
        let url = http::url(address, tls.is_some());
        tracing::info!("listening for browsers on {url}");
        if tls.is_none() && !deployment.users.is_empty() && !address.ip().is_loopback() {
            tracing::warn!(
                "passwords come to {address} as they are typed: where others can listen on the \
                 network, give [http] a certificate"
            );
        }
    }
    listening(&addresses);

    let own = OwnRelay {
        listen: addresses.cameras,
        key: gate.token(),
    };
    thread::scope(|scope| {
        let cameras = thread::Builder::new()
            .name("own cameras".into())
            .spawn_scoped(scope, || {
                camera::run(deployment, Some(&own), stop).inspect_err(|_| stop.raise())
            })
            .context("no thread for the cameras of this machine")?;
        while !stop.wait_timeout(ROUND) {
            if follow_list(&mut gate, &port) {
                feeds.declare(declared(deployment, &gate));
            }
        }
        // A panic of the thread is in the log already.
        cameras.join().unwrap_or(Ok(()))
    })
}

/// The cameras that the deployment or its list names.
fn declared(deployment: &Deployment, gate: &Gate) -> HashSet<String> {
    let own = deployment.cameras.iter();
    let own = own.filter(|camera| camera.relay.is_none());
    let access = gate.access();
    let known = access.known.iter().flat_map(|known| known.names());
    let names = own.map(|camera| &camera.name).chain(known);
    names.cloned().collect()
}

/// Lets in who is on the list of known cameras, and out who is no more; whether it changed.
fn follow_list(gate: &mut Gate, port: &Port) -> bool {
    match gate.reread() {
        Ok(true) => {
            port.set_access(gate.access());
            tracing::info!("the list of known cameras changed, and is followed");
            return true;
        }
        Ok(false) => {}
        Err(error) => tracing::error!("the cameras known before stay known: {error}"),
    }
    false
}
