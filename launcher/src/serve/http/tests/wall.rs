//! The WebSocket with the pictures of many cameras.

use serde_json::{Value, json};

use super::super::socket::MAX_MESSAGE;
use super::super::wall::MAX_SHOWN;
use super::*;

/// A client of the wall (RFC 6455, section 5).
pub struct Wall(Client);

#[derive(Debug)]
enum Said {
    Text(Value),
    Picture(Vec<u8>),
    Close(u16),
}

impl Wall {
    fn connect(relay: &Relay) -> Self {
        Self::connect_with(relay, &[])
    }

    /// With these header lines as well.
    pub fn connect_with(relay: &Relay, more: &[&str]) -> Self {
        let mut client = Client::connect(relay.address());
        let headers = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        client.ask("GET", "/api/v1/wall", &[&headers, more].concat());
        let answer = client.answer();
        assert_eq!(answer.status, 101, "{}", answer.text());
        Self(client)
    }

    pub fn say(&mut self, message: &str) {
        let length = u16::try_from(message.len()).expect("a short message");
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        // A mask of zeros changes nothing.
        frame.extend([0; 4]);
        frame.extend(message.as_bytes());
        self.0.send(&frame);
    }

    fn hear(&mut self) -> Said {
        let head = self.0.exactly(2);
        let length = match head[1] {
            126 => u16::from_be_bytes(self.0.exactly(2).try_into().expect("two")).into(),
            127 => u64::from_be_bytes(self.0.exactly(8).try_into().expect("eight")),
            short => short.into(),
        };
        let bytes = self.0.exactly(usize::try_from(length).expect("it fits"));
        match head[0] {
            0x81 => Said::Text(serde_json::from_slice(&bytes).expect("JSON")),
            0x82 => Said::Picture(bytes),
            0x88 => Said::Close(u16::from_be_bytes([bytes[0], bytes[1]])),
            other => panic!("no such frame: {other:#x}"),
        }
    }

    /// The next text with that in it.
    pub fn text(&mut self, key: &str) -> Value {
        loop {
            if let Said::Text(mut text) = self.hear()
                && !text[key].is_null()
            {
                return text[key].take();
            }
        }
    }

    /// The code that it ends with.
    fn close(&mut self) -> u16 {
        loop {
            if let Said::Close(code) = self.hear() {
                return code;
            }
        }
    }

    /// The next picture: number, flags, sequence and JPEG.
    pub fn picture(&mut self) -> (u16, u8, u64, Vec<u8>) {
        loop {
            if let Said::Picture(bytes) = self.hear() {
                assert_eq!(bytes[0], 1, "the version");
                let number = u16::from_be_bytes([bytes[1], bytes[2]]);
                let sequence = u64::from_be_bytes(bytes[16..24].try_into().expect("eight"));
                return (number, bytes[3], sequence, bytes[24..].to_vec());
            }
        }
    }
}

#[test]
fn shows_what_is_asked_for_one_at_a_time() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    let mut gate = relay.camera("gate", "image/jpeg");
    let pictures = [jpeg(64, 48), jpeg(80, 48)];
    door.send(&pictures[0]);
    gate.send(&pictures[0]);
    let mut wall = Wall::connect(&relay);
    let cameras = wall.text("cameras");
    assert_eq!(cameras[0]["name"], "door");
    assert_eq!(cameras[1]["state"]["name"], "live");

    wall.say(r#"{"show":[{"camera":"door","fps":60,"width":320}]}"#);
    let numbers = wall.text("shown");
    let number = numbers["door"].as_u64().expect("a number") as u16;
    let (shown, flags, sequence, bytes) = wall.picture();
    assert_eq!((shown, flags, sequence), (number, 0, 0));
    assert!(bytes == pictures[0]);

    // Not seen yet, so that of these only the last one comes, and only then.
    for _ in 0..20 {
        door.send(&pictures[0]);
    }
    door.send(&pictures[1]);
    wall.text("cameras");
    wall.text("cameras");
    wall.say(&json!({ "seen": number }).to_string());
    let (_, _, sequence, bytes) = wall.picture();
    assert_eq!(sequence, 21);
    assert!(bytes == pictures[1]);

    // A camera keeps its number, and what it is waited for, beside another one.
    wall.say(r#"{"show":[{"camera":"gate"},{"camera":"door"}]}"#);
    let numbers = wall.text("shown");
    assert_eq!(numbers["door"], number);
    let (shown, ..) = wall.picture();
    assert_eq!(numbers["gate"], shown);
    let cameras = wall.text("cameras");
    assert_eq!(cameras[0]["viewers"]["http"], 1);
}

#[test]
fn tells_at_once_that_a_camera_left() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&jpeg(64, 48));
    let mut wall = Wall::connect(&relay);
    wall.text("cameras");
    relay.feeds.get("door").expect("it is known").left();
    while wall.text("cameras")[0]["state"]["name"] != "gone" {}
}

#[test]
fn ends_with_a_reason() {
    let relay = Relay::start();
    let ends_with = |message: &str| {
        let mut wall = Wall::connect(&relay);
        wall.say(message);
        wall.close()
    };
    assert_eq!(ends_with("x"), 1007);
    assert_eq!(ends_with(r#"{"run":"it"}"#), 1007);
    let many = |count: usize| {
        let show: Vec<_> = (0..count)
            .map(|number| json!({ "camera": format!("c{number}") }))
            .collect();
        json!({ "show": show }).to_string()
    };
    assert_eq!(ends_with(&many(MAX_SHOWN + 1)), 1008);

    let mut wall = Wall::connect(&relay);
    let length = MAX_MESSAGE as u64 + 1;
    wall.0
        .send(&[&[0x81, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat());
    assert_eq!(wall.close(), 1009, "however little of it has come");

    let mut wall = Wall::connect(&relay);
    wall.say(&many(MAX_SHOWN));
    assert_eq!(
        wall.text("shown").as_object().map(serde_json::Map::len),
        Some(MAX_SHOWN)
    );
    drop(relay);
    assert_eq!(wall.close(), 1001);
}
