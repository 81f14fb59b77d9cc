//! What a camera has to show, as a description (RFC 4566).

use std::fmt::Write as _;
use std::net::IpAddr;

use super::mount::Layout;
use super::payload::{format, parameters};

/// The first payload type of the dynamic range (RFC 3551, section 6).
const DYNAMIC: u8 = 96;

/// The payload type of the stream at that place of a description.
pub fn payload_type(fixed: Option<u8>, place: usize) -> u8 {
    fixed.unwrap_or(DYNAMIC + place as u8)
}

/// The description of these streams of a camera; `server` is where it was asked for.
pub fn describe(camera: &str, layout: &Layout, server: IpAddr) -> String {
    let family = if server.is_ipv4() { "IP4" } else { "IP6" };
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut text = format!(
        "v=0\r\no=- 1 1 IN {family} {server}\r\ns={camera}\r\nc=IN {family} {any}\r\nt=0 0\r\n\
         a=control:*\r\na=range:npt=now-\r\n"
    );
    for (place, (_, _, start)) in layout.iter().enumerate() {
        let Some(format) = format(&start.codec) else {
            continue;
        };
        let number = payload_type(format.payload_type, place);
        let _ = write!(
            text,
            "m={} 0 RTP/AVP {number}\r\na=rtpmap:{number} {}\r\n",
            format.media, format.encoding
        );
        if let Some(parameters) = parameters(start).filter(|text| !text.is_empty()) {
            let _ = write!(text, "a=fmtp:{number} {parameters}\r\n");
        }
        let _ = write!(text, "a=sendonly\r\na=control:stream={place}\r\n");
    }
    text
}
