//! Properties, URIs and what gst-inspect shows.

mod common;

use common::*;
use gst::glib;
use gst::prelude::*;

fn make(name: &str) -> gst::Element {
    init();
    gst::ElementFactory::make(name).build().unwrap()
}

fn uri_of(element: &gst::Element) -> String {
    let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    handler.uri().unwrap().into()
}

fn set_uri(element: &gst::Element, uri: &str) -> Result<(), glib::Error> {
    let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    handler.set_uri(uri)
}

#[test]
fn a_sink_has_the_defaults_that_it_says() {
    let sink = make("camrelaysink");
    assert_eq!(sink.property::<String>("host"), "127.0.0.1");
    assert_eq!(sink.property::<u32>("port"), 8000);
    assert_eq!(sink.property::<Option<String>>("camera"), None);
    assert_eq!(sink.property::<u32>("latency"), 120);
    assert_eq!(sink.property::<u32>("mtu"), 0);
    assert_eq!(sink.property::<u32>("stream"), 0);
    assert!(sink.property::<bool>("sync"));
    let stats = sink.property::<gst::Structure>("stats");
    assert!(!stats.get::<bool>("connected").unwrap());
}

#[test]
fn a_source_has_the_defaults_that_it_says() {
    let source = make("camrelaysrc");
    let nick = |name| {
        let value = source.property_value(name);
        let (_, value) = glib::EnumValue::from_value(&value).unwrap();
        value.nick().to_string()
    };
    assert_eq!(nick("mode"), "listener");
    assert_eq!(nick("accept"), "lan");
    assert_eq!(source.property::<String>("address"), "0.0.0.0");
    assert_eq!(source.property::<String>("host"), "127.0.0.1");
    assert_eq!(source.property::<u32>("port"), 8000);
    assert_eq!(source.property::<Option<String>>("camera"), None);
    assert_eq!(source.property::<Option<String>>("cameras"), None);
    assert_eq!(source.property::<u32>("latency"), 120);
    assert_eq!(source.property::<u32>("stream"), 0);
    assert!(source.property::<bool>("keep-listening"));
    assert!(!source.property::<bool>("do-timestamp"));
}

#[test]
fn properties_take_what_they_are_given() {
    let sink = make("camrelaysink");
    for (name, value) in [("port", 1234_u32), ("latency", 50), ("stream", 15)] {
        sink.set_property(name, value);
        assert_eq!(sink.property::<u32>(name), value);
    }
    sink.set_property("host", "relay.local");
    sink.set_property("camera", "door");
    assert_eq!(sink.property::<String>("host"), "relay.local");
    assert_eq!(sink.property::<String>("camera"), "door");
    // Every path carries 1200 bytes; less is not worth having.
    for (asked, used) in [(100_u32, 1200_u32), (1200, 1200), (1452, 1452), (0, 0)] {
        sink.set_property("mtu", asked);
        assert_eq!(sink.property::<u32>("mtu"), used);
    }
    let readable = sink.find_property("key").unwrap().flags();
    assert!(!readable.contains(glib::ParamFlags::READABLE));
}

#[test]
fn uris_of_a_sink_come_back_as_they_were() {
    for uri in [
        "camrelay://relay.local:9000/door?key=door.key&latency=50&mtu=1452&stream=3",
        "camrelay://[fd00::1]:8000/cam-2?latency=120&mtu=0&stream=0",
    ] {
        let sink = make("camrelaysink");
        set_uri(&sink, uri).unwrap();
        assert_eq!(uri_of(&sink), uri);
    }
    let sink = make("camrelaysink");
    set_uri(&sink, "camrelay://relay.local/door").unwrap();
    assert_eq!(sink.property::<String>("host"), "relay.local");
    assert_eq!(sink.property::<u32>("port"), 8000);
    assert_eq!(sink.property::<String>("camera"), "door");
}

#[test]
fn uris_of_a_source_come_back_as_they_were() {
    for uri in [
        "camrelay://relay.local:9000/door?mode=caller&key=door.key&latency=50&stream=3&keep-listening=false",
        "camrelay://0.0.0.0:8000/door?mode=listener&cameras=cameras.txt&accept=known&latency=120&stream=0&keep-listening=true",
    ] {
        let source = make("camrelaysrc");
        set_uri(&source, uri).unwrap();
        assert_eq!(uri_of(&source), uri);
    }
}

#[test]
fn a_uri_leaves_what_it_does_not_name_as_it_was() {
    for name in ["camrelaysink", "camrelaysrc"] {
        let element = make(name);
        element.set_property("key", "door.key");
        element.set_property("latency", 300u32);
        set_uri(&element, "camrelay://relay.local/door?stream=2").unwrap();
        assert_eq!(element.property::<u32>("latency"), 300);
        assert!(uri_of(&element).contains("key=door.key"), "{name}");
        set_uri(&element, "camrelay://relay.local/door?latency=50").unwrap();
        assert_eq!(element.property::<u32>("latency"), 50);
    }
}

#[test]
fn the_uri_is_a_property_too() {
    for name in ["camrelaysink", "camrelaysrc"] {
        let element = make(name);
        element.set_property("uri", "camrelay://relay.local:9000/door?latency=50");
        assert_eq!(element.property::<String>("host"), "relay.local");
        assert_eq!(element.property::<u32>("latency"), 50);
        let uri = element.property::<String>("uri");
        assert!(
            uri.starts_with("camrelay://relay.local:9000/door?"),
            "{uri}"
        );
        assert_eq!(uri, uri_of(&element));
    }
}

#[test]
fn a_uri_with_a_host_calls_it_and_one_without_listens() {
    let mode = |uri| {
        let source = make("camrelaysrc");
        set_uri(&source, uri).unwrap();
        uri_of(&source)
    };
    assert!(mode("camrelay://relay.local/door").contains("relay.local:8000/door?mode=caller"));
    assert!(mode("camrelay://:9000/door").contains("0.0.0.0:9000/door?mode=listener"));
}

#[test]
fn a_secret_does_not_show_in_a_uri() {
    let relay = camrelay_protocol::PrivateKey::from_random([1; 32]);
    let token = camrelay_protocol::CameraToken::new(relay.public(), [2; 32]).to_text();
    let sink = make("camrelaysink");
    set_uri(&sink, &format!("camrelay://relay.local/door?key={token}")).unwrap();
    assert!(!uri_of(&sink).contains("key"));
}

#[test]
fn a_wrong_uri_says_what_is_wrong() {
    for (uri, hint) in [
        ("camrelay://relay.local/door?latncy=5", "latency"),
        ("camrelay://relay.local/door?stream=16", "stream=16"),
        ("camrelay://relay.local/door?latency=soon", "latency=soon"),
        ("camrelay://relay.local:99999/door", "99999"),
    ] {
        for name in ["camrelaysink", "camrelaysrc"] {
            let error = set_uri(&make(name), uri).unwrap_err();
            assert!(error.message().contains(hint), "{uri}: {error}");
        }
    }
    let error = set_uri(&make("camrelaysrc"), "camrelay://h/door?accept=all").unwrap_err();
    assert!(error.message().contains("lan, known, anyone"), "{error}");
}

#[test]
fn elements_are_found_by_their_uri() {
    init();
    for (kind, name) in [
        (gst::URIType::Sink, "camrelaysink"),
        (gst::URIType::Src, "camrelaysrc"),
    ] {
        let made = gst::Element::make_from_uri(kind, "camrelay://relay.local/door", None).unwrap();
        assert_eq!(made.factory().unwrap().name(), name);
    }
}

#[test]
fn the_pipelines_in_the_documentation_can_be_built() {
    init();
    let mut seen = 0;
    for text in [
        include_str!("../src/camrelaysink/imp.rs"),
        include_str!("../src/camrelaysrc/imp.rs"),
    ] {
        for line in text.lines() {
            if let Some(pipeline) = line.strip_prefix(" * gst-launch-1.0 ") {
                gst::parse::launch(pipeline).unwrap_or_else(|error| panic!("{pipeline}: {error}"));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn settings_that_cannot_work_are_errors_that_say_why() {
    for (launch, hint) in [
        ("camrelaysink port=9", "camera=NAME"),
        ("camrelaysink port=9 camera=\"front door\"", "'front door'"),
        ("camrelaysink port=9 camera=door key=/no/such/file", "key"),
        ("camrelaysrc mode=caller port=9", "camera=NAME"),
        ("camrelaysrc port=0 address=relay.local", "0.0.0.0"),
        ("camrelaysink uri=camrelay://h/door?latncy=5", "latncy"),
        ("camrelaysrc uri=camrelay://h/door?latncy=5", "latncy"),
        ("camrelaysrc port=0 cameras=/no/such/file", "/no/such/file"),
    ] {
        init();
        let element = gst::parse::launch(launch).unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert!(element.set_state(gst::State::Paused).is_err(), "{launch}");
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        let text = error.error().message().to_string();
        assert!(text.contains(hint), "{launch}: {text}");
        element.set_state(gst::State::Null).unwrap();
    }
}
