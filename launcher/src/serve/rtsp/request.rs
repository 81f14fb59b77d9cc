//! Requests as viewers write them (RFC 2326, section 6), and nothing longer than need be.

use std::io;

use data_encoding::BASE64;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The most that the first line and the headers of a request may take, in bytes.
pub const MAX_HEADERS: usize = 16 << 10;
/// The longest body of a request, in bytes. None is of use here: they are passed over.
pub const MAX_BODY: u64 = 64 << 10;

/// What comes from a viewer.
#[derive(Debug)]
pub enum Incoming {
    /// A request, its body read and passed over.
    Request(Request),
    /// An interleaved packet (section 10.12): RTCP, which says that somebody is there.
    Packet,
}

/// Why no more can be read from a viewer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It is gone.
    #[error("the connection ended")]
    Ended(#[from] io::Error),
    /// What comes is no RTSP.
    #[error("it is no RTSP request")]
    Malformed,
    /// Its headers are longer than [`MAX_HEADERS`], or its body than [`MAX_BODY`].
    #[error("its request is too long")]
    TooLong,
    /// A request that began was not whole in time.
    #[error("its request takes too long")]
    TooSlow,
}

/// One request.
#[derive(Debug, Default)]
pub struct Request {
    /// `DESCRIBE` and the like, as it was written.
    pub method: String,
    /// What it is about, `rtsp://HOST/NAME/stream=0` or `*`.
    pub url: String,
    /// `RTSP/1.0`.
    pub version: String,
    /// Whether it has a body.
    pub has_body: bool,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, whose name is compared without regard to case; the first
    /// where there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// What it is about, as parts of a path, unescaped; none for `*`.
    pub fn path(&self) -> Option<Vec<String>> {
        let (_, rest) = self.url.split_once("://")?;
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(unescape).collect()
    }

    /// Name and password of the `Basic` scheme (RFC 7617).
    pub fn login(&self) -> Option<(String, String)> {
        let (scheme, value) = self.header("Authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let text = String::from_utf8(BASE64.decode(value.trim().as_bytes()).ok()?).ok()?;
        let (name, password) = text.split_once(':')?;
        Some((name.to_owned(), password.to_owned()))
    }

    /// The request that these lines are.
    fn parse(head: &[u8]) -> Result<Self, Broken> {
        let text = str::from_utf8(head).map_err(|_| Broken::Malformed)?;
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (Some(method), Some(url), Some(version)) = (word(), word(), word()) else {
            return Err(Broken::Malformed);
        };
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':'))
            .map(|pair| pair.map(|(name, value)| (name.trim().into(), value.trim().into())));
        Ok(Self {
            method: method.into(),
            url: url.into(),
            version: version.into(),
            has_body: false,
            headers: headers.collect::<Option<_>>().ok_or(Broken::Malformed)?,
        })
    }
}

fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Waits for the first byte of what comes next, for as long as that takes.
pub async fn wait(from: &mut (impl AsyncBufRead + Unpin)) -> Result<(), Broken> {
    match from.fill_buf().await?.is_empty() {
        true => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        false => Ok(()),
    }
}

/// Reads one request, or one packet.
pub async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Incoming, Broken> {
    wait(from).await?;
    if from.fill_buf().await?.first() == Some(&b'$') {
        let mut head = [0; 4];
        from.read_exact(&mut head).await?;
        skip(from, u16::from_be_bytes([head[2], head[3]]).into()).await?;
        return Ok(Incoming::Packet);
    }
    let mut head = Vec::new();
    loop {
        let begin = head.len();
        let left = (MAX_HEADERS + 1 - begin) as u64;
        (&mut *from).take(left).read_until(b'\n', &mut head).await?;
        if head.len() > MAX_HEADERS {
            return Err(Broken::TooLong);
        }
        match &head[begin..] {
            // Empty lines before a request mean nothing.
            b"\r\n" | b"\n" if begin == 0 => head.clear(),
            b"\r\n" | b"\n" => break,
            line if line.ends_with(b"\n") => {}
            _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
        // What is no request line at all is not listened to any further.
        if begin == 0 && !head.is_empty() {
            Request::parse(&head)?;
        }
    }
    let mut request = Request::parse(&head)?;
    if let Some(length) = request.header("Content-Length") {
        let length: u64 = length.parse().map_err(|_| Broken::Malformed)?;
        if length > MAX_BODY {
            return Err(Broken::TooLong);
        }
        request.has_body = length > 0;
        skip(from, length).await?;
    }
    Ok(Incoming::Request(request))
}

/// Passes over so many bytes.
async fn skip(from: &mut (impl AsyncBufRead + Unpin), length: u64) -> io::Result<()> {
    let mut body = from.take(length);
    match tokio::io::copy(&mut body, &mut tokio::io::sink()).await? {
        skipped if skipped == length => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut text: &[u8]) -> Vec<Result<Incoming, Broken>> {
        let mut found = Vec::new();
        loop {
            let next = read(&mut text).await;
            let ended = next.is_err();
            found.push(next);
            if ended {
                return found;
            }
        }
    }

    fn request(text: &str) -> Request {
        Request::parse(text.as_bytes()).expect("a request")
    }

    #[tokio::test]
    async fn requests_and_packets_are_told_apart() {
        let text = b"\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x03abc\
            SET_PARAMETER rtsp://h/a RTSP/1.0\ncseq:2\nContent-Length: 4\n\n\r\n\r\n\
            PLAY rtsp://h/b RTSP/1.0\r\n\r\n";
        let found = all(text).await;
        let [
            Ok(Incoming::Request(first)),
            Ok(Incoming::Packet),
            Ok(Incoming::Request(second)),
            Ok(Incoming::Request(third)),
            Err(Broken::Ended(_)),
        ] = found.as_slice()
        else {
            panic!("{found:?}");
        };
        assert_eq!(
            (first.method.as_str(), first.url.as_str()),
            ("OPTIONS", "*")
        );
        assert_eq!(first.header("cseq"), Some("1"));
        assert_eq!(second.header("CSeq"), Some("2"));
        assert!(second.has_body && !first.has_body);
        assert_eq!(third.method, "PLAY");
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_request_ends_it() {
        let line = |length| format!("OPTIONS * RTSP/1.0\r\nX: {}", "x".repeat(length));
        let fits = line(MAX_HEADERS - 27) + "\r\n\r\n";
        assert_eq!(fits.len(), MAX_HEADERS);
        assert!(matches!(
            all(fits.as_bytes()).await[0],
            Ok(Incoming::Request(_))
        ));
        let body = |length| format!("PLAY * RTSP/1.0\r\nContent-Length: {length}\r\n\r\n");
        for (text, long) in [
            (line(MAX_HEADERS - 26) + "\r\n\r\n", true),
            (line(1 << 20), true),
            ("x".repeat(1 << 20), true),
            (body("65537"), true),
            (body("18446744073709551616"), false),
            (body("-1"), false),
            ("\r\n\x16\x03\x01 \r\n\r\n".into(), false),
            ("hello\r\n".into(), false),
            ("PLAY * RTSP/1.0\r\nnonsense\r\n\r\n".into(), false),
        ] {
            let found = all(text.as_bytes()).await;
            let fits = match found.last() {
                Some(Err(Broken::TooLong)) => long,
                Some(Err(Broken::Malformed)) => !long,
                _ => false,
            };
            assert!(fits && found.len() == 1, "{:.40}: {found:?}", text);
        }
    }

    #[test]
    fn the_path_is_unescaped_part_by_part() {
        let path = |url: &str| request(&format!("PLAY {url} RTSP/1.0")).path();
        let parts = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect());
        assert_eq!(path("*"), None);
        assert_eq!(path("rtsp://h"), parts(&[]));
        assert_eq!(path("rtsp://h:1/door"), parts(&["door"]));
        assert_eq!(
            path("rtsps://[::1]/a%2eb//stream=1/?x/y"),
            parts(&["a.b", "stream=1"])
        );
        assert_eq!(path("rtsp://h/a%2"), None);
        assert_eq!(path("rtsp://h/a%ff"), None);
    }

    #[test]
    fn logins_are_basic_only() {
        let login =
            |value: &str| request(&format!("PLAY * RTSP/1.0\nAuthorization: {value}")).login();
        let found = login("basic YW5uOnJlZDpibHVl");
        assert_eq!(found, Some(("ann".into(), "red:blue".into())));
        for wrong in ["", "Basic", "Basic !", "Basic YW5u", "Digest YW5uOnJlZA=="] {
            assert_eq!(login(wrong), None, "{wrong}");
        }
    }
}
