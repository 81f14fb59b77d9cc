//! An RTSP client that does exactly what a test says, over one TCP connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// What any single answer or packet may take; only ever reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Client {
    connection: BufReader<TcpStream>,
    url: String,
    requests: u32,
    session: Option<String>,
}

pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

/// One RTP packet of the first interleaved channel.
pub struct Packet(Vec<u8>);

impl Packet {
    /// Whether it ends a frame.
    pub fn marker(&self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// The moment of its frame, in ticks.
    pub fn time(&self) -> u32 {
        u32::from_be_bytes(*self.0[4..].first_chunk().expect("an RTP header"))
    }

    pub fn payload(&self) -> &[u8] {
        &self.0[12..]
    }
}

impl Client {
    pub fn connect(address: SocketAddr, camera: &str) -> Self {
        Self::over(
            TcpStream::connect(address).expect("the server accepts"),
            camera,
        )
    }

    /// A client whose system holds little that it has not read yet.
    pub fn narrow(address: SocketAddr, camera: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .set_recv_buffer_size(64 << 10)
            .expect("it can be set");
        socket.connect(&address.into()).expect("the server accepts");
        Self::over(socket.into(), camera)
    }

    fn over(connection: TcpStream, camera: &str) -> Self {
        let address = connection.peer_addr().expect("it is connected");
        connection
            .set_read_timeout(Some(DEADLINE))
            .expect("a deadline can be set");
        Self {
            connection: BufReader::new(connection),
            url: format!("rtsp://{address}/{camera}"),
            requests: 0,
            session: None,
        }
    }

    /// What it gives as its session.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A client that plays the first stream.
    pub fn playing(address: SocketAddr, camera: &str) -> Self {
        let mut client = Self::connect(address, camera);
        client.setup(0);
        assert_eq!(client.request("PLAY", "", "").status, 200);
        client
    }

    pub fn setup(&mut self, stream: u32) {
        assert_eq!(self.request("DESCRIBE", "", "").status, 200);
        let transport = format!(
            "Transport: RTP/AVP/TCP;unicast;interleaved={}-{}\r\n",
            2 * stream,
            2 * stream + 1
        );
        let response = self.request("SETUP", &format!("/stream={stream}"), &transport);
        assert_eq!(response.status, 200, "{}", response.headers);
    }

    /// Sends a request and reads its answer; media in between is passed over.
    pub fn request(&mut self, method: &str, path: &str, headers: &str) -> Response {
        self.requests += 1;
        let session = match &self.session {
            _ if headers.starts_with("Session:") => String::new(),
            Some(session) => format!("Session: {session}\r\n"),
            None => String::new(),
        };
        let request = format!(
            "{method} {}{path} RTSP/1.0\r\nCSeq: {}\r\n{session}{headers}\r\n",
            self.url, self.requests
        );
        self.connection
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the server reads");
        loop {
            let next = self.connection.fill_buf().expect("the server answers");
            match next.first() {
                Some(b'$') => drop(self.interleaved().expect("a whole packet")),
                Some(_) => return self.response(),
                None => panic!("the server closed instead of answering {method}"),
            }
        }
    }

    /// The next RTP packet; `None` once the server closed the connection.
    pub fn packet(&mut self) -> Option<Packet> {
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < DEADLINE, "no packet came");
            match self.connection.fill_buf() {
                Ok([]) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Ok(_) => {}
                Err(error) => panic!("no packet came: {error}"),
            }
            let (channel, data) = self.interleaved()?;
            if channel == 0 {
                return Some(Packet(data));
            }
        }
    }

    /// Reads on until `count` frames have ended; false once the server closed.
    pub fn frames(&mut self, count: usize) -> bool {
        let mut seen = 0;
        while seen < count {
            match self.packet() {
                Some(packet) => seen += usize::from(packet.marker()),
                None => return false,
            }
        }
        true
    }

    fn interleaved(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 4];
        self.connection.read_exact(&mut head).ok()?;
        assert_eq!(head[0], b'$', "media, not an answer");
        let mut data = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
        self.connection.read_exact(&mut data).ok()?;
        Some((head[1], data))
    }

    fn response(&mut self) -> Response {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            let read = self.connection.read_line(&mut headers).expect("a header");
            assert_ne!(read, 0, "the server closed within {headers:?}");
        }
        let value = |name: &str| {
            headers
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let length = value("Content-Length").map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).expect("the body");
        if let Some(session) = value("Session") {
            self.session = session.split(';').next().map(str::to_owned);
        }
        let status = headers.split(' ').nth(1).expect("a status");
        Response {
            status: status.parse().expect("a number"),
            body: String::from_utf8_lossy(&body).into_owned(),
            headers,
        }
    }
}
