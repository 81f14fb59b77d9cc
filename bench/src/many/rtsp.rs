//! As much of an RTSP client (RFC 2326) as it takes to count frames.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::serve::{Throttle, Throttled};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How often the session is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long to wait before asking again for a camera that is not there.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest body of an answer that is read, in bytes.
const MAX_BODY: usize = 1 << 16;

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Within the connection.
    Tcp,
    /// To a socket of their own.
    Udp,
}

/// One viewer of one camera.
pub(crate) struct Player {
    connection: Connection,
    /// Where packets come over UDP; the second is only there for reports.
    sockets: Option<(UdpSocket, UdpSocket)>,
    url: String,
    session: String,
    transport: String,
    frames: Frames,
    kept_alive: Instant,
}

/// A frame that came.
pub(crate) struct Frame {
    /// When it was captured, on the clock of its packets.
    pub(crate) time: u32,
    /// Its packets, in bytes.
    pub(crate) bytes: usize,
    /// Whether none of them was missing.
    pub(crate) whole: bool,
}

impl Player {
    /// Plays `rtsp://127.0.0.1:port/camera`. Asks again until `deadline` where there is no such
    /// camera yet.
    pub(crate) fn play(
        port: u16,
        camera: &str,
        deadline: Instant,
        way: Way,
    ) -> anyhow::Result<Self> {
        let mut player = Self::set_up(port, camera, deadline, way)?;
        match player.ask("PLAY", "")? {
            200 => Ok(player),
            status => bail!("PLAY gives {status}"),
        }
    }

    /// The same, but for PLAY.
    pub(crate) fn set_up(
        port: u16,
        camera: &str,
        deadline: Instant,
        way: Way,
    ) -> anyhow::Result<Self> {
        Self::set_up_as("", port, camera, deadline, way)
    }

    /// The same, with that header of who it is as a line.
    pub(crate) fn set_up_as(
        login: &'static str,
        port: u16,
        camera: &str,
        deadline: Instant,
        way: Way,
    ) -> anyhow::Result<Self> {
        let url = format!("rtsp://127.0.0.1:{port}/{camera}");
        let (mut connection, description) = loop {
            let mut connection = Connection::open(port)?;
            connection.login = login;
            let answer = connection.ask("DESCRIBE", &url, "Accept: application/sdp\r\n")?;
            match answer.status {
                200 => break (connection, answer),
                status if Instant::now() > deadline => bail!("its description gives {status}"),
                _ => std::thread::sleep(AGAIN),
            }
        };
        let control = description
            .media_control(&url)
            .context("no video in its description")?;
        let sockets = match way {
            Way::Tcp => None,
            Way::Udp => Some((socket()?, socket()?)),
        };
        let transport = match &sockets {
            None => "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned(),
            Some((rtp, rtcp)) => format!(
                "RTP/AVP;unicast;client_port={}-{}",
                rtp.local_addr()?.port(),
                rtcp.local_addr()?.port()
            ),
        };
        let transport = format!("Transport: {transport}\r\n");
        let set_up = connection.ask("SETUP", &control, &transport)?.ok("SETUP")?;
        let session = set_up.header("session").context("it gives no session")?;
        let session = session.split(';').next().unwrap_or_default();
        let session = format!("Session: {session}\r\n");
        let transport = set_up.header("transport").unwrap_or_default().to_owned();
        Ok(Self {
            connection,
            sockets,
            url,
            session,
            transport,
            frames: Frames::default(),
            kept_alive: Instant::now(),
        })
    }

    /// Asks for something in its session, with these headers as well; the status of the answer.
    pub(crate) fn ask(&mut self, method: &str, headers: &str) -> anyhow::Result<u16> {
        let headers = format!("{}{headers}", self.session);
        Ok(self.connection.ask(method, &self.url, &headers)?.status)
    }

    /// The header that names its session, as a line.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// How the server says that its packets come.
    pub(crate) fn transport(&self) -> &str {
        &self.transport
    }

    /// Tells of every frame that came, until the server ends it.
    pub(crate) fn watch(&mut self, mut came: impl FnMut(&Frame)) -> anyhow::Result<()> {
        loop {
            came(&self.frame()?);
        }
    }

    /// How reading from its connection is slowed down.
    pub(crate) fn throttle(&self) -> Throttle {
        self.connection.stream.get_ref().throttle()
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = self.frame_within(ANSWER)? {
                return Ok(frame);
            }
        }
    }

    /// The next frame; `None` where none has come for so long, or for [`ANSWER`].
    pub(crate) fn frame_within(&mut self, patience: Duration) -> anyhow::Result<Option<Frame>> {
        let deadline = Instant::now() + patience;
        self.connection.be_patient(patience)?;
        let mut bytes = 0;
        while Instant::now() < deadline {
            if self.kept_alive.elapsed() > KEEP_ALIVE {
                self.kept_alive = Instant::now();
                self.connection
                    .send("GET_PARAMETER", &self.url, &self.session)?;
            }
            let Some(packet) = self.packet()? else {
                continue;
            };
            bytes += packet.len();
            if let Some(whole) = self.frames.take(&packet) {
                let time = packet.get(4..8).and_then(|time| time.first_chunk());
                return Ok(Some(Frame {
                    time: time.map_or(0, |time| u32::from_be_bytes(*time)),
                    bytes,
                    whole,
                }));
            }
        }
        Ok(None)
    }

    /// The next RTP packet; `None` where something else came, or nothing for long.
    fn packet(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        if let Some((rtp, _)) = &self.sockets {
            let mut packet = vec![0; 2048];
            return match rtp.recv(&mut packet) {
                Ok(length) => {
                    packet.truncate(length);
                    Ok(Some(packet))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        match self.connection.next()? {
            Next::Packet { channel: 0, data } => Ok(Some(data)),
            Next::Packet { .. } | Next::Answer(_) | Next::Nothing => Ok(None),
            Next::End => bail!("the server closed the connection"),
        }
    }
}

/// A socket that holds what comes until it is read, as far as the system allows.
fn socket() -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let size: libc::c_int = 4 << 20;
    // SAFETY: it reads `size` alone. What the system does not grant is no fault.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
    Ok(socket)
}

/// Counts frames by the marker of their last RTP packet (RFC 3550, section 5.1).
#[derive(Default)]
struct Frames {
    sequence: Option<u16>,
    torn: bool,
}

impl Frames {
    /// Takes an RTP packet; where it ends a frame, whether that is whole.
    fn take(&mut self, packet: &[u8]) -> Option<bool> {
        let header = packet.first_chunk::<4>()?;
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let expected = self.sequence.map(|last| last.wrapping_add(1));
        self.torn |= expected.is_some_and(|expected| sequence != expected);
        self.sequence = Some(sequence);
        let last = header[1] & 0x80 != 0;
        last.then(|| !std::mem::take(&mut self.torn))
    }
}

/// A connection with a server.
pub(crate) struct Connection {
    stream: BufReader<Throttled>,
    /// The header of who it is, as a line.
    login: &'static str,
    sequence: u32,
    patience: Duration,
}

enum Next {
    Packet { channel: u8, data: Vec<u8> },
    Answer(Answer),
    Nothing,
    End,
}

/// What a server answers.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Connection {
    /// Connects with 127.0.0.1:`port`.
    pub(crate) fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(Self {
            stream: BufReader::with_capacity(1 << 16, Throttled::new(stream)),
            login: "",
            sequence: 0,
            patience: ANSWER,
        })
    }

    /// Waits no longer than that for anything.
    pub(crate) fn be_patient(&mut self, patience: Duration) -> anyhow::Result<()> {
        if self.patience != patience {
            self.patience = patience;
            self.stream.get_ref().set_read_timeout(patience)?;
        }
        Ok(())
    }

    /// Sends a request; its answer is still to be read.
    pub(crate) fn send(&mut self, method: &str, url: &str, headers: &str) -> anyhow::Result<()> {
        self.sequence += 1;
        let request = format!(
            "{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{}{headers}\r\n",
            self.sequence, self.login
        );
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// Asks for something, with these headers as lines.
    pub(crate) fn ask(&mut self, method: &str, url: &str, headers: &str) -> anyhow::Result<Answer> {
        self.send(method, url, headers)?;
        self.answered(method)
    }

    /// The answer to what was sent.
    pub(crate) fn answered(&mut self, method: &str) -> anyhow::Result<Answer> {
        loop {
            match self.next()? {
                Next::Answer(answer) => return Ok(answer),
                Next::Packet { .. } => {}
                Next::Nothing => bail!("{method} has no answer"),
                Next::End => bail!("the server closed the connection after {method}"),
            }
        }
    }

    /// The next packet or answer; nothing, where none comes for long.
    fn next(&mut self) -> anyhow::Result<Next> {
        let first = match self.stream.fill_buf() {
            Ok(buffer) => buffer.first().copied(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Nothing),
            Err(error) => return Err(error.into()),
        };
        match first {
            None => Ok(Next::End),
            Some(b'$') => {
                let mut header = [0; 4];
                self.stream.read_exact(&mut header)?;
                let mut data = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
                self.stream.read_exact(&mut data)?;
                let channel = header[1];
                Ok(Next::Packet { channel, data })
            }
            Some(_) => self.answer().map(Next::Answer),
        }
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut line = || {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            anyhow::Ok(line.trim_end().to_string())
        };
        let first = line()?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("'{first}' is no answer"))?;
        let mut headers = Vec::new();
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_lowercase(), value.trim().to_string()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse()?;
            if length > MAX_BODY {
                bail!("an answer of {length} bytes");
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            answer.body = String::from_utf8_lossy(&body).into_owned();
        }
        Ok(answer)
    }
}

impl Answer {
    fn ok(self, method: &str) -> anyhow::Result<Self> {
        match self.status {
            200 => Ok(self),
            status => bail!("{method} gives {status}"),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of each header of this name, which is in small letters.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self
            .headers
            .iter()
            .filter(move |(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Where the first video of a description (SDP) is controlled.
    fn media_control(&self, url: &str) -> Option<String> {
        let (_, video) = self.body.split_once("m=video")?;
        let control = video
            .lines()
            .find_map(|line| line.strip_prefix("a=control:"))?;
        if control.starts_with("rtsp://") {
            return Some(control.to_string());
        }
        let base = self.header("content-base").unwrap_or(url);
        Some(format!("{}/{control}", base.trim_end_matches('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_when_no_packet_is_missing() {
        let mut frames = Frames::default();
        let mut take = |sequence: u16, last: bool| {
            let [high, low] = sequence.to_be_bytes();
            frames.take(&[0x80, if last { 0x9a } else { 0x1a }, high, low])
        };
        assert_eq!(take(65534, false), None);
        assert_eq!(take(65535, true), Some(true));
        assert_eq!(take(0, true), Some(true));
        assert_eq!(take(2, true), Some(false), "1 is missing");
        assert_eq!(take(3, true), Some(true));
    }

    #[test]
    fn the_control_of_a_video_is_found() {
        let answer = |base: Option<&str>, control: &str| Answer {
            status: 200,
            headers: base
                .map(|base| ("content-base".into(), base.into()))
                .into_iter()
                .collect(),
            body: format!("v=0\r\na=control:*\r\nm=video 0 RTP/AVP 26\r\na=control:{control}\r\n"),
        };
        let url = "rtsp://h:1/x";
        let found = |base, control| answer(base, control).media_control(url).unwrap();
        assert_eq!(found(None, "stream=0"), "rtsp://h:1/x/stream=0");
        assert_eq!(
            found(Some("rtsp://h:2/y/"), "stream=0"),
            "rtsp://h:2/y/stream=0"
        );
        assert_eq!(found(None, "rtsp://h:3/z"), "rtsp://h:3/z");
    }
}
