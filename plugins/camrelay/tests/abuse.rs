//! A real port among strangers.

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use camrelay_protocol::{
    Accept, Access, Config, Connect, Endpoint, Event, Frame, FrameFlags, PeerId, Random, Role, Time,
};
use common::{buffer, connected, first_frame, port, sink, source, source_on, stat, until};
use gst::prelude::*;
use gstcamrelay::port::{Port, PortSettings};

const JPEG: &str = "image/jpeg,width=320,height=240,framerate=30/1";

struct Counting(u64);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The first message of a caller that never goes on.
fn init(number: u64) -> Vec<u8> {
    let mut caller = Endpoint::new(Config::default(), Box::new(Counting(number << 32)));
    let camera = "ghost".into();
    let connect = Connect {
        remote: ([127, 0, 0, 1], 8000).into(),
        token: None,
        role: Role::Publish { camera },
        latency: Duration::from_millis(120),
        late_policy: Default::default(),
        mtu: 0,
    };
    let now = Time::from_nanos(1);
    caller.connect(now, connect).unwrap();
    caller.handle_timeout(now);
    let mut datagram = Vec::new();
    caller
        .poll_transmit(now, 1, &mut datagram)
        .expect("it calls");
    datagram
}

#[test]
fn a_flood_from_many_addresses_costs_no_frame_and_keeps_nobody_out() {
    common::init();
    let settings = PortSettings {
        address: ([127, 0, 0, 1], 0).into(),
        identity: None,
        access: Access {
            accept: Accept::Lan,
            known: Vec::new(),
        },
    };
    let relay = Port::listen(settings).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let mut door = source_on(port, "camera=door");
    let mut gate = source_on(port, "camera=gate");
    let mut camera = sink(port, "camera=door", JPEG);
    first_frame(&mut camera, &mut door);

    let inits: Vec<_> = (1..=50).map(init).collect();
    let strangers: Vec<_> = (0..200u8)
        .map(|host| UdpSocket::bind((Ipv4Addr::new(127, 9, host, 1), 0)).unwrap())
        .collect();
    let mut newcomer = None;
    for round in 0..100 {
        for (stranger, init) in strangers.iter().zip(inits.iter().cycle()) {
            stranger.send_to(init, relay.local_addr()).unwrap();
        }
        let size = 5000 + round;
        camera.push(buffer(size, 1)).unwrap();
        while door.pull().unwrap().size() != size {}
        if round == 50 {
            newcomer = Some(sink(port, "camera=gate", JPEG));
        }
    }
    let mut newcomer = newcomer.expect("it came in the middle");
    connected(&newcomer);
    first_frame(&mut newcomer, &mut gate);
    assert_eq!(stat::<u64>(&door, "frames-lost"), 0);

    let admissions = relay.admissions();
    println!("{admissions:?}");
    assert!(admissions.cookies > 0);
    assert!(admissions.unproved <= 512 && admissions.sessions <= 514);
    // Nobody is told more than he asked: a stranger's answers are fewer, and shorter.
    for stranger in &strangers {
        stranger.set_nonblocking(true).unwrap();
        let mut answer = [0; 2000];
        let mut answers = 0;
        while let Ok(len) = stranger.recv(&mut answer) {
            assert!(len < inits[0].len(), "{len} bytes");
            answers += 1;
        }
        assert!(answers <= 100, "{answers} answers");
    }
}

#[test]
fn a_small_receive_buffer_is_warned_of_once() {
    let first = source("camera=door");
    let second = source("camera=gate");
    let warnings = |source: &gst_check::Harness| {
        let bus = source.element().unwrap().bus().unwrap();
        let mut count = 0;
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Warning]) {
            let gst::MessageView::Warning(warning) = message.view() else {
                unreachable!("only warnings were asked for");
            };
            let words = warning.error().message().to_owned();
            assert!(
                words.contains("sysctl -w net.core.rmem_max=8388608"),
                "{words}"
            );
            count += 1;
        }
        count
    };
    // What this machine grants decides whether there is anything to say; Linux tells of twice that.
    let asked = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let asked = socket2::SockRef::from(&asked);
    asked.set_recv_buffer_size(8 << 20).unwrap();
    let advised = asked.recv_buffer_size().unwrap() / 2 < 8 << 20;
    println!("to be warned of: {advised}");
    assert_eq!(warnings(&first) + warnings(&second), usize::from(advised));
    assert_eq!(stat::<u64>(&first, "packets-dropped-by-kernel"), 0);
}

/// A camera that is no element, and says what it likes.
struct Camera {
    endpoint: Endpoint,
    peer: PeerId,
    socket: UdpSocket,
}

impl Camera {
    fn new(port: u32) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let patience = Some(Duration::from_millis(1));
        socket.set_read_timeout(patience).unwrap();
        let mut endpoint = Endpoint::new(Config::default(), Box::new(Counting(1)));
        let connect = Connect {
            remote: ([127, 0, 0, 1], port as u16).into(),
            token: None,
            role: Role::Publish {
                camera: "door".into(),
            },
            latency: Duration::from_millis(120),
            late_policy: Default::default(),
            mtu: 0,
        };
        let peer = endpoint.connect(now(), connect).unwrap();
        endpoint
            .set_caps(now(), peer, 0, "image/jpeg")
            .expect("good caps");
        Self {
            endpoint,
            peer,
            socket,
        }
    }

    /// Sends what is due, and takes what comes; returns what happened.
    fn go_on(&mut self) -> Vec<Event> {
        let mut datagrams = Vec::new();
        self.endpoint.handle_timeout(now());
        while let Some(batch) = self.endpoint.poll_transmit(now(), 16, &mut datagrams) {
            for datagram in datagrams.chunks(batch.segment_size) {
                self.socket.send_to(datagram, batch.remote).unwrap();
            }
        }
        let mut datagram = [0; 2000];
        while let Ok((len, from)) = self.socket.recv_from(&mut datagram) {
            self.endpoint
                .handle_datagram(now(), now(), from, &mut datagram[..len]);
        }
        std::iter::from_fn(|| self.endpoint.poll_event())
            .map(|(_, event)| event)
            .collect()
    }
}

fn now() -> Time {
    static BEGUN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    Time::from_nanos(1_000_000_000 + BEGUN.elapsed().as_nanos() as u64)
}

#[test]
fn times_that_no_clock_shows_break_nothing() {
    let mut source = source("camera=door");
    let mut camera = Camera::new(port(&source));
    until("the camera is there", || {
        camera
            .go_on()
            .iter()
            .any(|event| matches!(event, Event::Connected))
    });
    let far = [0, 1, u64::MAX / 1000, u64::MAX / 1000 + 1, u64::MAX - 1];
    for (size, far) in (1000..).zip(far) {
        let frame = Frame {
            data: vec![7; size].into(),
            capture: now(),
            dts_offset: -(far as i64),
            duration: Some(Duration::from_micros(far)),
            wall: Some(far),
            flags: FrameFlags {
                key: true,
                ..FrameFlags::default()
            },
        };
        camera
            .endpoint
            .send_frame(now(), camera.peer, 0, frame)
            .unwrap();
        let mut received = None;
        until("the frame came", || {
            camera.go_on();
            received = source.try_pull();
            received.is_some()
        });
        let received = received.unwrap();
        assert_eq!(received.size(), size);
        let wall = received.meta::<gst::ReferenceTimestampMeta>();
        let told = wall.map(|meta| meta.timestamp().useconds());
        let fits = (1..=u64::MAX / 1000).contains(&far);
        assert_eq!(told, fits.then_some(far));
    }
}
