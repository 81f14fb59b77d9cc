//! What viewers are answered (RFC 2326, section 7).

use std::fmt::Write as _;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    /// Said behind the status, for a person.
    why: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    /// An answer with that status.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            why: reason(status).to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// With a reason of its own, for the person who reads what a player prints.
    pub fn because(mut self, why: impl std::fmt::Display) -> Self {
        self.why += &format!(" ({why})");
        self
    }

    /// With another header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body of that type.
    pub fn body(mut self, kind: &'static str, body: String) -> Self {
        self.body = body;
        self.with("Content-Type", kind)
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The bytes for the connection, as the answer to request `sequence`.
    pub fn to_bytes(&self, sequence: Option<&str>) -> Vec<u8> {
        let mut text = format!("RTSP/1.0 {} {}\r\n", self.status, self.why);
        if let Some(sequence) = sequence {
            let _ = write!(text, "CSeq: {sequence}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        text += &self.body;
        text.into_bytes()
    }
}

/// RFC 2326, section 7.1.1, and RFC 6585 for 429.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        451 => "Parameter Not Understood",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        461 => "Unsupported Transport",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "RTSP Version Not Supported",
        551 => "Option Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_with_the_length_of_its_body() {
        let response = Response::new(503)
            .because("no picture yet")
            .with("Retry-After", "1")
            .body("text/plain", "no\n".into());
        let text = String::from_utf8(response.to_bytes(Some("7"))).expect("text");
        assert_eq!(
            text,
            "RTSP/1.0 503 Service Unavailable (no picture yet)\r\nCSeq: 7\r\nRetry-After: 1\r\n\
             Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nno\n"
        );
        let text = Response::new(200).to_bytes(None);
        assert_eq!(text, b"RTSP/1.0 200 OK\r\n\r\n");
    }
}
