//! An HTTP client that shows what really comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// What an answer may take; only ever reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Empty for an answer without an end.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        let named = |(key, _): &&(String, String)| key == name;
        self.headers
            .iter()
            .find(named)
            .map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// To the server.
    pub fn connect(address: SocketAddr) -> Self {
        Self::with_buffer(address, None)
    }

    /// To the server, with so many bytes of what was not read yet.
    pub fn with_buffer(address: SocketAddr, buffer: Option<usize>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if let Some(size) = buffer {
            socket.set_recv_buffer_size(size).expect("a buffer");
        }
        socket.connect(&address.into()).expect("it connects");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        let stream = BufReader::with_capacity(1024, stream);
        Self { stream, address }
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("it sends");
    }

    /// Asks; a `Host` is added where there is none.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[&str]) {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|line| line.to_lowercase().starts_with("host:"))
        {
            text += &format!("Host: {}\r\n", self.address);
        }
        for line in headers {
            text += line;
            text += "\r\n";
        }
        self.send((text + "\r\n").as_bytes());
    }

    /// The next answer, with its body where that has a length.
    pub fn answer(&mut self) -> Answer {
        let mut answer = Answer {
            status: self.status(),
            headers: self.headers(),
            body: Vec::new(),
        };
        let length = answer.header("content-length").parse().unwrap_or_default();
        answer.body = self.exactly(length);
        answer
    }

    /// The status of the next answer, whatever follows.
    pub fn status(&mut self) -> u16 {
        let line = self.line();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {line:?}"))
    }

    /// Header lines up to an empty one, their names in lower case.
    fn headers(&mut self) -> Vec<(String, String)> {
        let lines = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
        lines
            .map(|line| {
                let (name, value) = line.split_once(": ").expect("a header");
                (name.to_lowercase(), value.to_owned())
            })
            .collect()
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line.trim_end_matches("\r\n").to_owned()
    }

    /// So many bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Whatever comes until the server closes the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("an end");
        bytes
    }

    /// The next chunk of a body (RFC 9112, section 7.1); empty at its end.
    fn chunk(&mut self) -> Vec<u8> {
        let length = usize::from_str_radix(&self.line(), 16).expect("a length");
        let bytes = self.exactly(length);
        assert_eq!(self.line(), "");
        bytes
    }
}

/// The parts of a `multipart` body.
pub struct Parts {
    client: Client,
    boundary: String,
    unread: Vec<u8>,
}

impl Parts {
    /// Of an answer whose headers were read.
    pub fn of(client: Client, answer: &Answer) -> Self {
        let content = answer.header("content-type");
        let boundary = content.split_once("boundary=").expect("a boundary").1;
        Self {
            client,
            boundary: format!("--{boundary}\r\n"),
            unread: Vec::new(),
        }
    }

    /// The next part, with the boundary that ends it; `None` at the end of the body.
    pub fn next(&mut self) -> Option<Answer> {
        let head = loop {
            let end = self
                .unread
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break self.unread.drain(..end + 4).collect::<Vec<_>>(),
                None => self.more()?,
            }
        };
        let head = String::from_utf8(head).expect("text");
        let head = head.strip_prefix(&self.boundary).unwrap_or(&head);
        let headers = head.trim_end().lines().map(|line| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_lowercase(), value.to_owned())
        });
        let mut part = Answer {
            status: 200,
            headers: headers.collect(),
            body: Vec::new(),
        };
        let length: usize = part.header("content-length").parse().expect("a length");
        let end = format!("\r\n{}", self.boundary);
        while self.unread.len() < length + end.len() {
            self.more()?;
        }
        part.body = self.unread.drain(..length).collect();
        let after: Vec<_> = self.unread.drain(..end.len()).collect();
        assert_eq!(String::from_utf8_lossy(&after), end);
        Some(part)
    }

    fn more(&mut self) -> Option<()> {
        let chunk = self.client.chunk();
        self.unread.extend_from_slice(&chunk);
        (!chunk.is_empty()).then_some(())
    }
}
