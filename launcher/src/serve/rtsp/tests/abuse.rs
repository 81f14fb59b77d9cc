//! What somebody who means harm, or is only broken, can do: nothing to anybody else.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use super::super::limits::MAX_STRANGERS;
use super::super::request::{MAX_BODY, MAX_HEADERS};
use super::*;

/// A connection for whatever bytes a test writes.
fn raw(relay: &Relay) -> TcpStream {
    let stream = TcpStream::connect(relay.server.address().socket).expect("the server accepts");
    let deadline = Some(Duration::from_secs(20));
    stream.set_read_timeout(deadline).expect("it can be set");
    stream
}

/// All that the server says before it closes.
fn rest(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            panic!("it is not closed: {error}")
        }
        _ => String::from_utf8_lossy(&said).into_owned(),
    }
}

#[test]
fn long_slow_and_odd_requests_end_their_connection() {
    let relay = Relay::start();
    let mut slow = raw(&relay);
    slow.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: ")
        .expect("it reads");
    let silent = raw(&relay);
    let line = |length: usize| format!("OPTIONS * RTSP/1.0\r\nX: {}", "x".repeat(length));
    let body = format!(
        "SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n",
        MAX_BODY + 1
    );
    for (text, status) in [
        (line(MAX_HEADERS), "413"),
        ("x".repeat(MAX_HEADERS + 1), "413"),
        (body, "413"),
        ("\x16\x03\x01\x02\x00\r\n\r\n".into(), "400"),
        ("OPTIONS * RTSP/1.0\r\n\r\n".into(), "400"),
        ("OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n".into(), "505"),
        // RTSP within HTTP.
        (
            "GET /door HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n".into(),
            "505",
        ),
        (
            "POST /door HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n".into(),
            "505",
        ),
    ] {
        let mut stream = raw(&relay);
        stream.write_all(text.as_bytes()).expect("it reads");
        let said = rest(stream);
        let expected = format!("RTSP/1.0 {status} ");
        assert!(said.starts_with(&expected), "{text:.30}: {said}");
    }
    assert!(rest(slow).starts_with("RTSP/1.0 408 "));
    assert_eq!(rest(silent), "");
}

#[test]
fn connections_that_say_nothing_are_bounded() {
    let relay = Relay::start();
    let silent: Vec<_> = (0..MAX_STRANGERS).map(|_| raw(&relay)).collect();
    let refused = rest(raw(&relay));
    assert_eq!(refused, "");
    drop(silent);
    until("room", || {
        let mut stream = raw(&relay);
        let asked = stream.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        let mut first = [0; 12];
        asked.is_ok() && stream.read_exact(&mut first).is_ok() && first == *b"RTSP/1.0 200"
    });
}

#[test]
fn a_session_is_of_its_connection_only() {
    let relay = Relay::start();
    let _camera = relay.camera("door", JPEG);
    let mut viewer = relay.play("door");
    assert!(viewer.frames(2));
    let id = viewer.session().expect("it has one").to_owned();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    for method in [
        "OPTIONS",
        "PLAY",
        "PAUSE",
        "GET_PARAMETER",
        "SETUP",
        "TEARDOWN",
    ] {
        let mut other = relay.connect("door");
        let response = other.request(method, "", &format!("Session: {id}\r\n"));
        assert_eq!(response.status, 454, "{method}");
        drop(other);
        assert!(viewer.frames(2), "{method}");
    }
    let mut other = relay.play("door");
    assert_ne!(other.session(), Some(&*id));
    for method in ["OPTIONS", "PAUSE", "TEARDOWN"] {
        let response = other.request(method, "", &format!("Session: {id}\r\n"));
        assert_eq!(response.status, 454, "{method}");
    }
    assert!(other.frames(2) && viewer.frames(2));
}

#[test]
fn joins_at_the_edge_of_the_last_viewer_leaving_all_see_pictures() {
    let relay = Relay::start();
    let _camera = relay.camera("door", JPEG);
    let mut last = relay.play("door");
    for number in 0..1000 {
        let mut next = relay.connect("door");
        next.setup(0);
        if number % 2 == 0 {
            assert_eq!(last.request("TEARDOWN", "", "").status, 200);
        }
        drop(last);
        assert_eq!(next.request("PLAY", "", "").status, 200);
        assert!(next.frames(1), "{number}");
        last = next;
    }
}

#[test]
fn a_viewer_that_stalled_goes_on_with_the_newest_picture() {
    const TICKS: u32 = 90_000 / 30;
    let relay = Relay::start();
    let text = JPEG.replace("pattern=ball", "pattern=snow");
    let text = text.replace("width=320,height=240", "width=640,height=480");
    let _camera = relay.camera("door", &text);
    let mut stalled = Client::narrow(relay.server.address().socket, "door");
    stalled.setup(0);
    assert_eq!(stalled.request("PLAY", "", "").status, 200);
    assert!(stalled.frames(3));
    let mut viewer = relay.play("door");
    assert!(viewer.frames(90), "others see on");
    // What was on its way, then what is new.
    let mut times = Vec::new();
    while times.len() < 12 {
        let packet = stalled.packet().expect("it is not closed");
        if packet.marker() {
            times.push(packet.time());
        }
    }
    let gaps: Vec<_> = times
        .windows(2)
        .map(|two| two[1].wrapping_sub(two[0]) / TICKS)
        .collect();
    let jump = gaps.iter().position(|gap| *gap > 60);
    assert!(
        jump.is_some_and(|old| old < 8),
        "pictures left out: {gaps:?}"
    );
}

#[test]
fn a_viewer_of_h264_that_stalled_goes_on_at_a_key_frame() {
    const TICKS: u32 = 90_000 / 30;
    const IDR: u8 = 5;
    let relay = Relay::start();
    let text = H264.replace("pattern=ball", "pattern=snow");
    let text = text.replace("width=320,height=240", "width=640,height=480");
    let _camera = relay.camera(
        "door",
        &text.replace("openh264enc", "openh264enc bitrate=8000000"),
    );
    let mut stalled = Client::narrow(relay.server.address().socket, "door");
    stalled.setup(0);
    assert_eq!(stalled.request("PLAY", "", "").status, 200);
    assert!(stalled.frames(3));
    let mut viewer = relay.play("door");
    assert!(viewer.frames(90), "others see on");
    // What was on its way, then what is new: only a key frame can be shown after a gap, and
    // the encoder makes none by itself.
    let mut last = stalled.packet().expect("it is not closed").time();
    loop {
        let packet = stalled.packet().expect("it is not closed");
        let gap = packet.time().wrapping_sub(last) / TICKS;
        last = packet.time();
        if gap > 10 {
            let mut packet = packet;
            while !nal_types(packet.payload()).contains(&IDR) {
                assert!(!packet.marker(), "it goes on at no key frame");
                packet = stalled.packet().expect("it is not closed");
            }
            assert!(gap > 30, "the first key frame after {gap} frames");
            break;
        }
    }
}

#[test]
fn a_viewer_over_udp_that_says_nothing_is_left() {
    let relay = Relay::with(Users::new(None, &[]).expect("randomness"), 1);
    let _camera = relay.camera("door", JPEG);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let port = socket.local_addr().expect("it has one").port();
    let mut viewer = relay.connect("door");
    let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-9\r\n");
    assert_eq!(viewer.request("SETUP", "", &transport).status, 461);
    let transport = format!(
        "Transport: RTP/AVP;unicast;client_port={port}-{}\r\n",
        port ^ 1
    );
    assert_eq!(viewer.request("SETUP", "", &transport).status, 200);
    assert_eq!(viewer.request("PLAY", "", "").status, 200);
    let mut packet = [0; 2048];
    socket.recv(&mut packet).expect("RTP comes");
    assert!(viewer.packet().is_none(), "closed");
}

/// Sockets for RTP and RTCP of a viewer.
fn pair() -> (UdpSocket, UdpSocket) {
    loop {
        let rtp = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
        let port = rtp.local_addr().expect("it has one").port();
        if let Ok(rtcp) = UdpSocket::bind(("127.0.0.1", port ^ 1)) {
            return (rtp, rtcp);
        }
    }
}

#[test]
fn every_sign_of_life_alone_keeps_a_viewer_over_udp() {
    // Longer than one who says nothing is waited for: a second, and the grace of five.
    const LONG: Duration = Duration::from_secs(9);
    const OFTEN: Duration = Duration::from_secs(1);
    let relay = Relay::with(Users::new(None, &[]).expect("randomness"), 1);
    let _camera = relay.camera("door", JPEG);
    let watch = |sign: &str| {
        let (rtp, rtcp) = pair();
        rtp.set_read_timeout(Some(LONG)).expect("it can be set");
        let port = |socket: &UdpSocket| socket.local_addr().expect("it has one").port();
        let mut viewer = relay.connect("door");
        let ports = format!("client_port={}-{}", port(&rtp), port(&rtcp));
        let transport = format!("Transport: RTP/AVP;unicast;{ports}\r\n");
        let answer = viewer.request("SETUP", "", &transport);
        let (_, ports) = answer.headers.split_once("server_port=").expect("it says");
        let ports = ports.split([';', '\r']).next().expect("they end");
        let (_, reports) = ports.split_once('-').expect("two");
        let reports: u16 = reports.parse().expect("a port");
        assert_eq!(viewer.request("PLAY", "", "").status, 200);
        let (begin, mut told) = (Instant::now(), Instant::now());
        while begin.elapsed() < LONG {
            rtp.recv(&mut [0; 2048]).expect("RTP comes");
            if told.elapsed() < OFTEN {
                continue;
            }
            told = Instant::now();
            if sign == "RTCP" {
                let empty = [0x80, 201, 0, 1, 0, 0, 0, 1];
                rtcp.send_to(&empty, ("127.0.0.1", reports)).expect("sent");
            } else {
                assert_eq!(viewer.request(sign, "", "").status, 200, "{sign}");
            }
        }
    };
    std::thread::scope(|scope| {
        for sign in ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "RTCP"] {
            let watch = &watch;
            scope.spawn(move || watch(sign));
        }
    });
}

#[test]
fn players_stay_beyond_the_timeout() {
    let relay = Relay::with(Users::new(None, &[]).expect("randomness"), 4);
    let _camera = relay.camera("door", JPEG);
    let url = relay.server.address().url("door");
    let source = format!("rtspsrc location={url} latency=0");
    std::thread::scope(|scope| {
        for transport in ["tcp", "udp"] {
            let (relay, source) = (&relay, &source);
            scope.spawn(move || ffmpeg(relay, "door", transport, 360));
            scope.spawn(move || {
                let text = format!(
                    "{source} protocols={transport} ! rtpjpegdepay ! fakesink num-buffers=360"
                );
                let output = Command::new("timeout")
                    .args(["--kill-after=1", "60", "gst-launch-1.0"])
                    .args(text.split_whitespace())
                    .output()
                    .expect("gst-launch-1.0 runs");
                // Its status also tells of a PAUSE that it sends after its own TEARDOWN.
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("Got EOS"), "{transport}: {output:?}");
            });
        }
    });
}
