//! Sessions: who comes first, who comes back, who is refused.

mod common;

use std::str::FromStr;

use camrelay_protocol::{Accept, Access, CameraToken, Code, KnownCamera, PrivateKey};
use common::*;
use gst::prelude::*;
use gstcamrelay::port::{Port, PortError, PortEvent, PortSettings};

const JPEG: &str = "image/jpeg";

fn listen(
    port: u32,
    identity: Option<PrivateKey>,
    access: Access,
) -> Result<std::sync::Arc<Port>, PortError> {
    init();
    Port::listen(PortSettings {
        address: ([127, 0, 0, 1], port as u16).into(),
        identity,
        access,
    })
}

fn anyone() -> Access {
    Access {
        accept: Accept::Anyone,
        known: Vec::new(),
    }
}

#[test]
fn a_sink_may_come_before_its_source() {
    let port = free_port();
    let mut sink = sink(port, "camera=door", JPEG);
    sink.push(buffer(10, 0)).unwrap();
    let mut source = source(&format!("camera=door port={port}"));
    first_frame(&mut sink, &mut source);
}

#[test]
fn a_sink_that_hears_nothing_warns_once_and_goes_on() {
    let port = free_port();
    let mut sink = sink(port, "camera=door", JPEG);
    let (_, text) = complaint(&sink, gst::MessageType::Warning);
    assert!(text.contains("camera 'door'"), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    let mut source = source(&format!("camera=door port={port}"));
    first_frame(&mut sink, &mut source);
    let bus = sink.element().unwrap().bus().unwrap();
    assert!(bus.pop_filtered(&[gst::MessageType::Warning]).is_none());
}

#[test]
fn a_sink_finds_its_relay_again() {
    let relay = listen(0, None, anyone()).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let at = format!("camera=door port={port}");
    let mut before = source(&at);
    let mut sink = sink(port, "camera=door", JPEG);
    first_frame(&mut sink, &mut before);
    stop(&before);
    drop(relay);

    let relay = listen(port, None, anyone()).unwrap();
    let mut after = source(&at);
    first_frame(&mut sink, &mut after);
    drop(relay);
}

#[test]
fn a_host_name_is_looked_up() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door host=localhost", JPEG);
    first_frame(&mut sink, &mut source);
}

#[test]
fn a_host_name_that_is_none_is_a_warning() {
    let sink = sink(9, "camera=door host=nowhere.invalid", JPEG);
    let (_, text) = complaint(&sink, gst::MessageType::Warning);
    assert!(text.contains("nowhere.invalid"), "{text}");
}

fn delta() -> gst::Buffer {
    let mut delta = buffer(10, 0);
    delta.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
    delta
}

#[test]
fn a_caller_gets_a_feed_through_a_listener() {
    let relay = listen(0, None, anyone()).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let at = format!("mode=caller port={port} camera=door");
    // It asks before there is a camera.
    let mut early = source(&at);
    let (_, text) = complaint(&early, gst::MessageType::Warning);
    assert!(text.contains("'door'"), "{text}");

    let mut camera = sink(port, "camera=door", "video/x-h264");
    first_frame(&mut camera, &mut early);
    let caps = early.sinkpad().unwrap().current_caps().unwrap();
    assert_eq!(caps.to_string(), "video/x-h264");

    // One that comes later begins with a key frame, which the relay asks the camera for. By
    // another name of the relay it has a session of its own.
    camera.push(delta()).unwrap();
    assert_eq!(early.pull().unwrap().size(), 10);
    let mut late = source(&format!("{at} host=localhost"));
    until("a key frame is asked for", || {
        camera.push(delta()).unwrap();
        let event = camera.try_pull_upstream_event();
        event.is_some_and(|event| gst_video::ForceKeyUnitEvent::is(&event))
    });
    camera.push(buffer(7_777, 3)).unwrap();
    let first = late.pull().unwrap();
    assert_eq!(bytes(&first), bytes(&buffer(7_777, 3)));
    camera.push(delta()).unwrap();
    assert_eq!(late.pull().unwrap().size(), 10);
}

#[test]
fn a_caller_that_does_not_keep_listening_ends_with_the_camera() {
    let relay = listen(0, None, anyone()).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let mut viewer = source(&format!(
        "mode=caller port={port} camera=door keep-listening=false"
    ));
    let mut camera = sink(port, "camera=door", JPEG);
    first_frame(&mut camera, &mut viewer);
    camera.push_event(gst::event::Eos::new());
    event(&mut viewer, gst::EventType::Eos);
}

#[test]
fn at_the_end_of_its_stream_a_sink_waits_until_the_relay_knows() {
    let relay = listen(0, None, anyone()).unwrap();
    let events = relay.events();
    let mut camera = sink(relay.local_addr().port().into(), "camera=door", JPEG);
    connected(&camera);
    for seed in 0..20 {
        camera.push(buffer(50_000, seed)).unwrap();
    }
    assert!(camera.push_event(gst::event::Eos::new()));
    let left = |event| matches!(event, PortEvent::CameraRemoved { .. });
    assert!(events.try_iter().any(left));
}

struct Keys {
    relay: PrivateKey,
    token: CameraToken,
    known: KnownCamera,
}

fn keys(seed: u8) -> Keys {
    let relay = PrivateKey::from_random([9; 32]);
    let token = CameraToken::new(relay.public(), [seed; 32]);
    let known = token.known_camera(vec!["door".into()]);
    Keys {
        relay,
        token,
        known,
    }
}

#[test]
fn a_key_lets_its_camera_in_and_no_other() {
    let Keys {
        relay,
        token,
        known,
    } = keys(1);
    let stranger = keys(2).token;
    let known = Access {
        accept: Accept::Known,
        known: vec![known],
    };
    let relay = listen(0, Some(relay), known).unwrap();
    let port: u32 = relay.local_addr().port().into();

    let mut source = source(&format!("camera=door port={port}"));
    let door = format!("camera=door key={}", token.to_text());
    let mut camera = sink(port, &door, JPEG);
    first_frame(&mut camera, &mut source);

    for (what, properties) in [
        (
            "a key that is not known",
            format!("camera=door key={}", stranger.to_text()),
        ),
        (
            "a name that is not its own",
            format!("camera=yard key={}", token.to_text()),
        ),
    ] {
        let mut refused = sink(port, &properties, JPEG);
        let (error, text) = complaint(&refused, gst::MessageType::Error);
        assert!(
            error.matches(gst::ResourceError::NotAuthorized),
            "{what}: {text}"
        );
        assert!(text.contains("127.0.0.1"), "{what}: {text}");
        until("frames fail", || {
            refused.push(buffer(1, 0)) == Err(gst::FlowError::Error)
        });
        let bus = refused.element().unwrap().bus().unwrap();
        assert!(
            bus.pop_filtered(&[gst::MessageType::Error]).is_none(),
            "{what}: twice"
        );
    }
    // Whoever has no key cannot tell the relay's word from anybody's, and goes on asking.
    let mut refused = sink(port, "camera=hall", JPEG);
    let (_, text) = complaint(&refused, gst::MessageType::Warning);
    assert!(text.contains("give the camera a token"), "{text}");
    refused.push(buffer(1, 0)).unwrap();
    first_frame(&mut camera, &mut source);
}

#[test]
fn frames_fail_only_once_the_refusal_is_told() {
    let Keys { relay, known, .. } = keys(1);
    let stranger = keys(2).token.to_text();
    let port = free_port();
    let refused = sink(port, &format!("camera=door key={stranger}"), JPEG);
    let pad = refused.srcpad().unwrap();
    let (sender, pushed) = std::sync::mpsc::channel();
    let bus = refused.element().unwrap().bus().unwrap();
    bus.set_sync_handler({
        let pad = pad.clone();
        move |_, message| {
            if message.type_() == gst::MessageType::Error {
                sender.send(pad.push(buffer(1, 0))).unwrap();
            }
            gst::BusSyncReply::Pass
        }
    });
    let access = Access {
        accept: Accept::Known,
        known: vec![known],
    };
    let relay = listen(port, Some(relay), access).unwrap();
    let (_, text) = complaint(&refused, gst::MessageType::Error);
    assert!(text.contains("Refused"), "{text}");
    assert_eq!(pushed.recv().unwrap(), Ok(gst::FlowSuccess::Ok));
    until("frames fail", || {
        pad.push(buffer(1, 0)) == Err(gst::FlowError::Error)
    });
    bus.unset_sync_handler();
    drop(relay);
}

#[test]
fn a_token_of_another_relay_is_named_where_nothing_answers() {
    let Keys { relay, known, .. } = keys(1);
    let access = Access {
        accept: Accept::Known,
        known: vec![known],
    };
    let relay = listen(0, Some(relay), access).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let other = PrivateKey::from_random([8; 32]).public();
    let token = CameraToken::new(other, [1; 32]).to_text();
    let sink = sink(port, &format!("camera=door key={token}"), JPEG);
    let (_, text) = complaint(&sink, gst::MessageType::Warning);
    assert!(text.contains("is the token this relay's?"), "{text}");
}

#[test]
fn a_refusal_is_told_although_silence_was_before() {
    let port = free_port();
    let sink = sink(port, "camera=door", JPEG);
    let (_, text) = complaint(&sink, gst::MessageType::Warning);
    assert!(text.contains("nothing answers"), "{text}");
    let none = Access {
        accept: Accept::Known,
        known: Vec::new(),
    };
    let relay = listen(port, None, none).unwrap();
    let (_, text) = complaint(&sink, gst::MessageType::Warning);
    assert!(text.contains("give the camera a token"), "{text}");
    drop(relay);
}

#[test]
fn a_key_that_is_taken_off_the_list_ends_its_session() {
    let Keys {
        relay,
        token,
        known,
    } = keys(1);
    let access = |known| Access {
        accept: Accept::Known,
        known,
    };
    let relay = listen(0, Some(relay), access(vec![known])).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let camera = sink(port, &format!("camera=door key={}", token.to_text()), JPEG);
    connected(&camera);
    relay.set_access(access(Vec::new()));
    let (error, text) = complaint(&camera, gst::MessageType::Error);
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{text}");
}

#[test]
fn keys_come_from_files_too() {
    let Keys {
        relay,
        token,
        known,
    } = keys(1);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let key = file("relay.key", format!("# the relay's\n{}\n", relay.to_text()));
    let list = file("cameras.txt", format!("{}\n", known.to_text()));
    let token = file("door.key", token.to_text());
    let settings = format!("camera=door accept=known key={key} cameras={list}");
    let mut source = source(&settings);
    let mut camera = sink(port(&source), &format!("camera=door key={token}"), JPEG);
    first_frame(&mut camera, &mut source);
}

#[test]
fn a_port_tells_what_happens_on_it() {
    let relay = listen(0, None, anyone()).unwrap();
    let port: u32 = relay.local_addr().port().into();
    let events = relay.events();
    let camera = sink(port, "camera=door", JPEG);
    let expect = |events: &std::sync::mpsc::Receiver<PortEvent>| {
        match events.recv_timeout(DEADLINE).unwrap() {
            PortEvent::CameraAdded { camera, remote } => {
                assert!(remote.ip().is_loopback());
                assert_eq!(camera, "door");
            }
            other => panic!("{other:?}"),
        }
        match events.recv_timeout(DEADLINE).unwrap() {
            PortEvent::Caps {
                camera,
                stream,
                caps,
            } => {
                assert_eq!((camera.as_str(), stream), ("door", 0));
                assert_eq!(caps, gst::Caps::from_str(JPEG).unwrap());
            }
            other => panic!("{other:?}"),
        }
    };
    expect(&events);
    // Who asks later hears the same.
    expect(&relay.events());
    stop(&camera);
    match events.recv_timeout(DEADLINE).unwrap() {
        PortEvent::CameraRemoved { camera, reason } => {
            assert_eq!(camera, "door");
            assert_eq!(reason.code, Code::Done);
        }
        other => panic!("{other:?}"),
    }
    drop(relay);
    assert!(events.recv_timeout(DEADLINE).is_err(), "ends with the port");
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_so() {
    let relay = listen(0, None, anyone()).unwrap();
    let again = listen(relay.local_addr().port().into(), None, anyone());
    let text = again.err().unwrap().to_string();
    assert!(text.contains(&relay.local_addr().to_string()), "{text}");
    assert!(text.contains("another port"), "{text}");
}
