//! WebRTC for browsers, asked for by WHEP (draft-ietf-wish-whep): an offer comes in
//! over HTTP and is answered; H.264 goes out as the camera sent it, and JPEGs as the H.264
//! that is encoded of them once for all viewers.
//!
//! One UDP port serves every viewer, and a small task each. This is str0m rather than
//! GStreamer's `webrtcsink`, which wants to encode by itself, or its `webrtcbin`, which
//! takes a pipeline, some twenty threads and a port for each viewer.

mod sender;
mod socket;
#[cfg(test)]
mod tests;
mod viewer;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use str0m::Candidate;
use str0m::change::SdpOffer;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::ice::StunMessage;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::socket::{Datagram, Socket};
use self::viewer::Viewer;
use crate::relay::address;
use crate::relay::feed::Feed;
use crate::relay::frame::Codec;
use crate::relay::stream::Stream;
use crate::relay::viewers::{Viewing, Way};

/// Viewers at a time, of all cameras.
pub const MAX_VIEWERS: usize = 64;
/// Bytes of an offer; those of browsers are some 5,000.
pub const MAX_OFFER: usize = 64 << 10;
/// Datagrams that may wait for a viewer's task.
const INPUT: usize = 256;
/// Addresses that one viewer may be heard from.
const MAX_ADDRESSES: usize = 8;

/// Why an offer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what WHEP asks for.
    #[error("the offer is of no use: {0}")]
    Offer(String),
    /// No picture that a viewer can start at is here yet.
    #[error("the camera has sent no picture yet")]
    NotYet,
    /// The camera is refused.
    #[error("the camera is refused: {0}")]
    Refused(String),
    /// Browsers know no such stream.
    #[error("browsers cannot be given {0} over WebRTC")]
    Codec(Codec),
    /// There are [`MAX_VIEWERS`].
    #[error("{MAX_VIEWERS} viewers watch over WebRTC already, the most there can be")]
    Full,
}

/// What an offer is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Names the session, for who has to end it; nobody guesses it.
    pub id: String,
    /// The answer itself.
    pub sdp: String,
}

/// All WebRTC viewers; they are let go when it is dropped.
pub struct Whep {
    socket: Arc<Socket>,
    table: Arc<Table>,
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    receiving: AbortHandle,
}

#[derive(Default)]
struct Table(Mutex<Vec<Entry>>);

/// One viewer, as the socket knows it.
struct Entry {
    id: String,
    camera: Arc<str>,
    /// Our name in its STUN messages.
    ufrag: String,
    /// Where it was heard from.
    addresses: Vec<SocketAddr>,
    input: mpsc::Sender<Datagram>,
    task: Option<AbortHandle>,
}

impl Whep {
    /// Listens on UDP at `listen`, or on another port where that one is taken. Has to be
    /// called inside a Tokio runtime.
    pub fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let any_port = SocketAddr::new(listen.ip(), 0);
        let socket = Socket::bind(listen)
            .or_else(|_| Socket::bind(any_port))
            .with_context(|| format!("cannot use UDP at {listen} for WebRTC"))?;
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = crypto
            .dtls_provider
            .generate_certificate()
            .context("cannot make a certificate for WebRTC")?;
        let socket = Arc::new(socket);
        let table = Arc::new(Table::default());
        let receiving = tokio::spawn(receive(socket.clone(), table.clone())).abort_handle();
        Ok(Self {
            socket,
            table,
            crypto,
            certificate,
            receiving,
        })
    }

    /// The UDP address that viewers' browsers talk to, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.socket.local()
    }

    /// Lets a viewer who comes from `remote` watch the camera.
    pub fn offer(&self, feed: &Arc<Feed>, remote: IpAddr, offer: &str) -> Result<Answer, Refusal> {
        let stream = playable(feed)?;
        if offer.len() > MAX_OFFER {
            return Err(Refusal::Offer(format!("it is over {MAX_OFFER} bytes")));
        }
        let offer =
            SdpOffer::from_sdp_string(offer).map_err(|error| Refusal::Offer(error.to_string()))?;
        let (crypto, certificate) = (self.crypto.clone(), self.certificate.clone());
        let mut rtc = sender::config(crypto, certificate, stream.rate().bits).build(Instant::now());
        for candidate in self.candidates(remote) {
            rtc.add_local_candidate(candidate);
        }
        let answer = rtc
            .sdp_api()
            .accept_offer(offer)
            .map_err(|error| Refusal::Offer(error.to_string()))?
            .to_sdp_string();
        if !answer.contains("H264/90000") {
            return Err(Refusal::Offer("it asks for no H.264 video".into()));
        }
        if let Some(derived) = feed.derived()
            && Arc::ptr_eq(derived.stream(), &stream)
        {
            // It takes its time, as connecting does.
            derived.want();
        }
        let ufrag = rtc.direct_api().local_ice_credentials().ufrag;

        let id = random_id()?;
        let (input, datagrams) = mpsc::channel(INPUT);
        let camera: Arc<str> = feed.name().into();
        self.table.add(Entry {
            id: id.clone(),
            camera: camera.clone(),
            ufrag,
            addresses: Vec::new(),
            input,
            task: None,
        })?;
        let place = Place {
            table: self.table.clone(),
            id: id.clone(),
            _viewing: feed.viewers().watch(Way::WebRtc),
        };
        let viewer = Viewer::new(rtc, feed.clone(), stream, self.socket.clone(), datagrams);
        let task = tokio::spawn(async move {
            let why = viewer.run().await;
            tracing::debug!("camera {camera}: a WebRTC viewer left: {why}");
            drop(place);
        });
        self.table.set_task(&id, task.abort_handle());
        Ok(Answer { id, sdp: answer })
    }

    /// Ends the session of that name on that camera; `false` where there is none.
    pub fn end(&self, camera: &str, id: &str) -> bool {
        let entries = self.table.lock();
        let entry = entries
            .iter()
            .find(|entry| entry.id == id && *entry.camera == *camera);
        let task = entry.and_then(|entry| entry.task.clone());
        drop(entries);
        task.inspect(AbortHandle::abort).is_some()
    }

    /// Where a viewer from `remote` reaches us: where packets to it leave from, and this
    /// machine's address in its network, as browsers may not send from 127.0.0.1.
    fn candidates(&self, remote: IpAddr) -> impl Iterator<Item = Candidate> {
        let local = self.socket.local();
        let mut hosts = if local.ip().is_unspecified() {
            vec![towards(remote), address::in_network()]
        } else {
            vec![Some(local.ip())]
        };
        hosts.dedup();
        hosts.into_iter().flatten().filter_map(move |host| {
            Candidate::host(SocketAddr::new(host, local.port()), "udp").ok()
        })
    }
}

impl Drop for Whep {
    fn drop(&mut self) {
        self.receiving.abort();
        let tasks: Vec<_> = self
            .table
            .lock()
            .iter()
            .filter_map(|entry| entry.task.clone())
            .collect();
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Table {
    fn add(&self, entry: Entry) -> Result<(), Refusal> {
        let mut entries = self.lock();
        if entries.len() >= MAX_VIEWERS {
            return Err(Refusal::Full);
        }
        entries.push(entry);
        Ok(())
    }

    fn set_task(&self, id: &str, task: AbortHandle) {
        let mut entries = self.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.id == id) {
            entry.task = Some(task);
        }
    }

    /// Who a datagram is for: by the name in a STUN request, else by where it comes from.
    fn input(&self, datagram: &Datagram) -> Option<mpsc::Sender<Datagram>> {
        let named = StunMessage::parse(&datagram.bytes).ok();
        let named = named.as_ref().and_then(|message| message.split_username());
        let mut entries = self.lock();
        if let Some((ufrag, _)) = named {
            let at = entries.iter().position(|entry| entry.ufrag == ufrag)?;
            if !entries[at].addresses.contains(&datagram.from) {
                for entry in entries.iter_mut() {
                    entry.addresses.retain(|address| *address != datagram.from);
                }
                let addresses = &mut entries[at].addresses;
                addresses.truncate(MAX_ADDRESSES - 1);
                addresses.insert(0, datagram.from);
            }
            return Some(entries[at].input.clone());
        }
        let entry = entries
            .iter()
            .find(|entry| entry.addresses.contains(&datagram.from))?;
        Some(entry.input.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A viewer's place in the table; it is free again when this is dropped.
struct Place {
    table: Arc<Table>,
    id: String,
    _viewing: Viewing,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().retain(|entry| entry.id != self.id);
    }
}

/// Hands every datagram to the viewer's task that it is for. What a task does not keep
/// up with is lost, as on the way.
async fn receive(socket: Arc<Socket>, table: Arc<Table>) {
    loop {
        let received = socket.receive(|datagram| {
            if let Some(input) = table.input(&datagram) {
                let _ = input.try_send(datagram);
            }
        });
        if let Err(error) = received.await {
            // Such as a port that is not there any more, told by the one before.
            tracing::debug!("WebRTC: receiving: {error}");
        }
    }
}

/// The stream of a camera that browsers can be given: its own H.264, or what is encoded
/// of its JPEGs while somebody watches.
fn playable(feed: &Feed) -> Result<Arc<Stream>, Refusal> {
    if let Some(why) = feed.why_no_picture() {
        return Err(Refusal::Refused(why));
    }
    if let Some(stream) = feed.h264() {
        return Ok(stream);
    }
    let codecs = feed.streams().into_iter();
    let mut codecs = codecs.filter_map(|(_, stream)| Some(stream.codec()?.0));
    let other = codecs.find(|codec| !codec.is_audio());
    Err(other.map_or(Refusal::NotYet, Refusal::Codec))
}

/// The address that packets to `remote` leave from.
fn towards(remote: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Sends nothing.
    socket.connect((remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn random_id() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::Full)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
