//! What one viewer has set up, and the answers to its requests.
//!
//! A session belongs to the connection that it was set up on, and ends with it.

use std::net::SocketAddr;
use std::sync::Arc;

use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use super::connection::PATIENCE;
use super::limits::Place;
use super::mount::{Mount, Shown};
use super::payload::format;
use super::request::Request;
use super::response::Response;
use super::sdp;
use super::track::{Setup, Track};
use super::transport::{self, Transport};
use crate::relay::viewers::{Viewing, Way};
use crate::users::{Denied, Login, Right};

/// How long a viewer may be silent, in seconds, unless it takes what it is sent.
pub const TIMEOUT: u64 = 60;
/// How much later than it was told a viewer may be heard: some wait until the last moment.
const GRACE: Duration = Duration::from_secs(5);
/// Requests of a connection before anybody is let in on it.
const MAX_STRANGE_REQUESTS: u32 = 8;
/// What can be asked for.
const METHODS: &str =
    "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";

/// One connection, as far as requests matter to it.
pub struct Connection {
    shared: Arc<Shared>,
    place: Place,
    viewer: SocketAddr,
    local: SocketAddr,
    /// Whether nobody on the way can read along.
    secure: bool,
    strange_requests: u32,
    /// Told of every frame that waits.
    pub wake: Arc<Notify>,
    /// What is set up.
    pub session: Option<Session>,
}

/// What is set up.
pub struct Session {
    id: String,
    timeout: u64,
    mount: Arc<Mount>,
    _viewing: Viewing,
    /// What its viewer was shown; changes when the camera sends something else.
    pub shown: Shown,
    /// By their places in the description.
    pub tracks: Vec<Track>,
    /// Whether it plays.
    pub playing: bool,
}

/// What to do about a request.
pub struct Answer {
    /// What to send.
    pub response: Response,
    /// Whether that is the last of this connection.
    pub closes: bool,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self {
            response,
            closes: false,
        }
    }
}

impl Connection {
    /// A connection from `viewer` to `local`.
    pub fn new(
        shared: Arc<Shared>,
        place: Place,
        (viewer, local): (SocketAddr, SocketAddr),
        secure: bool,
    ) -> Self {
        Self {
            shared,
            place,
            viewer,
            local,
            secure,
            strange_requests: 0,
            wake: Arc::default(),
            session: None,
        }
    }

    /// Where it comes from.
    pub fn viewer(&self) -> SocketAddr {
        self.viewer
    }

    /// The address that it was made to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// How long it may be silent.
    pub fn patience(&self) -> Duration {
        match self.place.is_strangers() {
            // A request that began has its own deadline, and is told so.
            true => PATIENCE + Duration::from_secs(1),
            false => Duration::from_secs(self.shared.timeout) + GRACE,
        }
    }

    /// What a request is answered.
    pub async fn answer(&mut self, request: &Request) -> Answer {
        if self.place.is_strangers() {
            self.strange_requests += 1;
            if self.strange_requests > MAX_STRANGE_REQUESTS {
                return closing(Response::new(403).because("too many requests without a login"));
            }
        }
        if !request.version.starts_with("RTSP/1.") {
            // Also those who try RTSP within HTTP.
            return closing(Response::new(505));
        }
        let is_number = |text: &&str| text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
        if request.header("CSeq").filter(is_number).is_none() {
            return closing(Response::new(400).because("it has no CSeq"));
        }
        let exposed = !self.secure && !self.viewer.ip().to_canonical().is_loopback();
        if exposed && self.shared.urls.address.secure && self.shared.users.ask_for_login() {
            return self.over_tls(request).into();
        }
        match self.let_in(request, exposed).await {
            Ok(()) => {}
            Err(response) => return response.into(),
        }
        self.place.admitted();
        if matches!(request.method.as_str(), "DESCRIBE" | "SETUP") {
            self.prepare(request).await;
        }
        self.respond(request)
            .unwrap_or_else(|refusal| refusal)
            .into()
    }

    /// Whether this user may ask that of this camera. Everybody who may view a camera
    /// may do with their own session what they like.
    async fn let_in(&self, request: &Request, exposed: bool) -> Result<(), Response> {
        let users = self.shared.users.clone();
        let address = self.viewer.ip();
        let login = request.login();
        if login.is_some() && exposed {
            self.shared.warn_of_plain_passwords(self.viewer);
        }
        let admit = move || {
            let login = login.as_ref();
            let login = login.map(|(name, password)| Login { name, password });
            users.admit(address, login)
        };
        let admitted = tokio::task::spawn_blocking(admit).await;
        let visitor = admitted.map_err(|_| Response::new(500))?;
        let visitor = visitor.map_err(|denied| match denied {
            Denied::Unknown => {
                let scheme = "Basic realm=\"camrelay\", charset=\"UTF-8\"";
                Response::new(401).with("WWW-Authenticate", scheme)
            }
            Denied::Address | Denied::Lan => Response::new(403).because(denied),
            Denied::Busy => Response::new(429).because(denied).with("Retry-After", "60"),
        })?;
        let may = match self.path(request)?.first() {
            Some(camera) => visitor.may(Right::View, camera),
            None => visitor.may_any(Right::View),
        };
        let ours = |session: &Session| visitor.may(Right::View, session.mount.feed().name());
        if may && self.session.as_ref().is_none_or(ours) {
            Ok(())
        } else {
            Err(Response::new(403).because("this user may not view that camera"))
        }
    }

    /// Has the camera encoded where it has to be, so that there is something to describe.
    async fn prepare(&self, request: &Request) {
        let mount = self.path(request).and_then(|path| self.mount(&path));
        if let Ok(mount) = mount {
            mount.prepare().await;
        }
    }

    /// Sends a viewer there where nobody reads its password; it has not been asked for one.
    fn over_tls(&self, request: &Request) -> Response {
        let rest = match request.url.split_once("://") {
            Some((_, rest)) => rest.to_owned(),
            None => format!("{}/", self.local),
        };
        // What stands before the host may be a password.
        let host_at = rest.find('/').unwrap_or(rest.len());
        let host_at = rest[..host_at].rfind('@').map_or(0, |at| at + 1);
        Response::new(301)
            .because("users log in over rtsps:// here")
            .with("Location", format!("rtsps://{}", &rest[host_at..]))
    }

    fn path(&self, request: &Request) -> Result<Vec<String>, Response> {
        match request.url.as_str() {
            "*" => Ok(Vec::new()),
            _ => request
                .path()
                .ok_or_else(|| Response::new(400).because("it has no address")),
        }
    }

    fn respond(&mut self, request: &Request) -> Result<Response, Response> {
        if let Some(option) = request.header("Require") {
            return Err(Response::new(551).with("Unsupported", option));
        }
        if let Some(id) = request.header("Session") {
            let id = id.split(';').next().unwrap_or_default().trim();
            if self.session.as_ref().is_none_or(|session| session.id != id) {
                return Err(Response::new(454));
            }
        }
        let path = self.path(request)?;
        match request.method.as_str() {
            "OPTIONS" => Ok(Response::new(200).with("Public", METHODS)),
            "DESCRIBE" => self.describe(request, &path),
            "SETUP" => self.set_up(request, &path),
            "PLAY" => self.play(request, &path),
            "PAUSE" => self.session(request, &path).map(|session| {
                session.playing = false;
                session.tracks.iter_mut().for_each(Track::pause);
                session.ok()
            }),
            "TEARDOWN" => {
                self.session(request, &path)?;
                self.session = None;
                Ok(Response::new(200))
            }
            "GET_PARAMETER" | "SET_PARAMETER" if request.has_body => Err(Response::new(451)),
            // Players ask for nothing with it to say that they are there.
            "GET_PARAMETER" | "SET_PARAMETER" => {
                Ok((self.session.as_ref()).map_or_else(|| Response::new(200), Session::ok))
            }
            "ANNOUNCE" | "RECORD" | "REDIRECT" => Err(Response::new(405).with("Allow", METHODS)),
            _ => Err(Response::new(501).with("Public", METHODS)),
        }
    }

    fn mount(&self, path: &[String]) -> Result<Arc<Mount>, Response> {
        let mount = path
            .first()
            .and_then(|camera| self.shared.urls.mount(camera));
        mount.ok_or_else(|| Response::new(404).because("there is no such camera"))
    }

    fn describe(&self, request: &Request, path: &[String]) -> Result<Response, Response> {
        let mount = self.mount(path)?;
        let fits = |accept: &str| accept.contains("application/sdp") || accept.contains("*/*");
        if !request.header("Accept").is_none_or(fits) {
            return Err(Response::new(406));
        }
        let layout = layout(&mount)?;
        let camera = mount.feed().name();
        let text = sdp::describe(camera, &layout, self.local.ip().to_canonical());
        Ok(Response::new(200)
            .with("Content-Base", format!("{}/", base(request, camera)))
            .body("application/sdp", text))
    }

    fn set_up(&mut self, request: &Request, path: &[String]) -> Result<Response, Response> {
        let mount = self.mount(path)?;
        let layout = layout(&mount)?;
        let place = match path.get(1) {
            Some(part) => part
                .strip_prefix("stream=")
                .and_then(|place| place.parse().ok()),
            None => Some(0),
        };
        let found = place.and_then(|place: usize| Some((place, layout.get(place)?)));
        let Some((place, (number, stream, start))) = found else {
            return Err(Response::new(404).because("the camera has no such stream"));
        };
        let Some(format) = format(&start.codec) else {
            return Err(Response::new(415));
        };
        if let Some(session) = &self.session {
            if !Arc::ptr_eq(&session.mount, &mount) {
                return Err(Response::new(455).because("another camera is set up already"));
            }
            if session.playing {
                return Err(Response::new(455).because("it plays already"));
            }
        }
        let others = || self.session.iter().flat_map(|session| &session.tracks);
        let used = others().filter(|track| track.place() != place);
        let used: Vec<_> = used.map(Track::transport).collect();
        let free = (place * 2).try_into().unwrap_or(u8::MAX);
        let udp = self.shared.udp.as_ref().filter(|_| !self.secure);
        let viewer = self.viewer.ip();
        let transport = request
            .header("Transport")
            .and_then(|header| transport::choose(header, viewer, udp.is_some(), free))
            .filter(|transport| !used.iter().any(|other| transport.collides(other)))
            .ok_or_else(|| Response::new(461))?;
        let registration = match (transport, udp) {
            (Transport::Udp { rtcp, .. }, Some(udp)) => Some(udp.register(rtcp)),
            _ => None,
        };
        let setup = Setup {
            place,
            stream: stream.clone(),
            codec: start.codec.clone(),
            format,
            payload_type: sdp::payload_type(format.payload_type, place),
            cutter: mount.cutter(*number),
            transport,
            registration,
        };
        let track = Track::new(setup, random()?);
        let ports = udp.map(|udp| udp.ports());
        let chosen =
            transport.to_text(ports) + &format!(";ssrc={:08X};mode=\"PLAY\"", track.ssrc());
        if self.session.is_none() {
            let id: [u8; 16] = random()?;
            self.session = Some(Session {
                id: data_encoding::HEXLOWER.encode(&id),
                shown: mount.joined(&layout),
                _viewing: mount.feed().viewers().watch(Way::Rtsp),
                mount,
                tracks: Vec::new(),
                playing: false,
                timeout: self.shared.timeout,
            });
        }
        let session = self.session.as_mut().ok_or_else(|| Response::new(500))?;
        session.tracks.retain(|other| other.place() != place);
        session.tracks.push(track);
        Ok(session.ok().with("Transport", chosen))
    }

    fn play(&mut self, request: &Request, path: &[String]) -> Result<Response, Response> {
        let wake = self.wake.clone();
        let session = self.session(request, path)?;
        if !session.playing {
            session.playing = true;
            session
                .tracks
                .iter_mut()
                .for_each(|track| track.play(&wake));
        }
        let base = base(request, session.mount.feed().name());
        let from = |track: &Track| {
            let (place, sequence) = (track.place(), track.sequence());
            format!("url={base}/stream={place};seq={sequence}")
        };
        let info: Vec<_> = session.tracks.iter().map(from).collect();
        // Whatever place in time or speed was asked for: it is live.
        Ok(session
            .ok()
            .with("Range", "npt=now-")
            .with("RTP-Info", info.join(",")))
    }

    /// The session that a request names, for the camera that it names.
    fn session(&mut self, request: &Request, path: &[String]) -> Result<&mut Session, Response> {
        let named = request.header("Session").is_some();
        let fits = |session: &&mut Session| {
            let camera = session.mount.feed().name();
            named && path.first().is_none_or(|asked| asked == camera)
        };
        let session = self.session.as_mut().filter(fits);
        session.ok_or_else(|| Response::new(454))
    }
}

impl Session {
    /// The camera.
    pub fn camera(&self) -> &str {
        self.mount.feed().name()
    }

    fn ok(&self) -> Response {
        Response::new(200).with("Session", format!("{};timeout={}", self.id, self.timeout))
    }
}

fn closing(response: Response) -> Answer {
    Answer {
        response,
        closes: true,
    }
}

fn layout(mount: &Mount) -> Result<super::mount::Layout, Response> {
    mount.layout().map_err(|why| {
        let camera = mount.feed().name();
        tracing::debug!("camera {camera}: a viewer is refused: {why}");
        let response = Response::new(why.status()).because(&why);
        match why.status() {
            503 => response.with("Retry-After", "1"),
            _ => response,
        }
    })
}

/// The address of the camera, as the viewer knows it.
fn base(request: &Request, camera: &str) -> String {
    let (scheme, rest) = request.url.split_once("://").unwrap_or(("rtsp", ""));
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}/{camera}")
}

fn random<const N: usize>() -> Result<[u8; N], Response> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Response::new(500))?;
    Ok(bytes)
}
