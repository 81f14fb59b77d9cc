//! What the page says: addresses, what is lost, who watches; and any JPEG.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use gst::prelude::*;
use path_emulator::{Conditions, Proxy, Route};
use serde_json::json;

use crate::support::Launcher;
use crate::{ENTER, JPEG, Relay};

#[test]
fn an_address_is_copied_as_it_is_or_selected() {
    let relay = Relay::start();
    let cameras = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    let page = &relay.page;
    let permissions = json!({ "permissions": ["clipboardReadWrite"], "origin": page });
    browser.devtools("Browser.grantPermissions", &permissions);
    browser.devtools(
        "Emulation.setFocusEmulationEnabled",
        &json!({ "enabled": true }),
    );
    browser.until("moves('door')");
    browser.run("location.hash = 'door'");
    let wanted = [
        "cameras/door/stream.mjpeg",
        "cameras/door/snapshot.jpg",
        "cameras/door/whep",
        "embed/door",
        "#door",
    ];
    browser.until("document.querySelectorAll('.addresses .copy').length === 5");
    let toast = "document.getElementById('toast').textContent";
    let clipboard = "navigator.clipboard.readText()";
    let refusing = "navigator.clipboard.writeText = () => Promise.reject(new Error('no'))";
    for (how, last) in [
        ("", false),
        (refusing, false),
        ("document.execCommand = () => false", true),
    ] {
        browser.run(&format!("{how}; {toast} = ''"));
        browser.until("navigator.clipboard.write([new ClipboardItem({ 'text/plain': 'x' })]).then(() => true)");
        for (at, end) in wanted.iter().enumerate() {
            browser.run(&format!(
                "document.querySelectorAll('.addresses .copy')[{at}].focus()"
            ));
            browser.press(ENTER);
            let address = format!("'{page}/{end}'");
            if last {
                browser.until(&format!("getSelection().toString() === {address}"));
                browser.until(&format!("{toast}.startsWith('Not copied')"));
            } else {
                browser.until(&format!("{clipboard}.then(text => text === {address})"));
                browser.until(&format!("{toast} === 'Copied'"));
            }
        }
    }
    for launcher in [cameras, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_tile_says_how_much_is_lost_and_how_many_watch() {
    let relay = Relay::start();
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let clean = Conditions::clean(Duration::from_millis(5));
    let lossy = Conditions { loss: 0.1, ..clean };
    let route = Route {
        listen: local(0),
        to: relay.cameras.parse().expect("an address"),
    };
    let path = Proxy::start(&[route], lossy, clean, 1).expect("a path");
    let file = relay.deployment(&["door"], JPEG, (320, 240));
    let text = fs::read_to_string(&file).expect("a file");
    let entry = path.addresses()[0].to_string();
    fs::write(&file, text.replace(&relay.cameras, &entry)).expect("a file");
    let door = Launcher::start("camera", &file);
    let others = relay.cameras(&["yard", "gate"], JPEG);
    let browser = relay.page();
    browser.until("moves('yard') && moves('door')");
    browser.until(
        "/^[0-9.]+ % lost$/.test(tile('door').querySelector('.loss').textContent)
         && tile('door').querySelector('.loss').hasAttribute('data-bad')
         && tile('yard').querySelector('.loss').textContent === ''
         && tile('yard').querySelector('.format').textContent === '320 × 240 JPEG'",
    );
    let viewers = |count: &str, title: &str| {
        browser.until(&format!(
            "tile('yard').querySelector('.viewers').textContent.trim() === '{count}'
             && tile('yard').querySelector('.viewers').title === '{title}'"
        ));
    };
    viewers("1", "1 viewer");
    browser.run("window.more = new AbortController();
                 fetch('/cameras/yard/stream.mjpeg', { signal: more.signal }).then(answer => window.more.answer = answer)");
    viewers("2", "2 viewers");
    browser.run("more.abort()");
    viewers("1", "1 viewer");
    for launcher in [door, others, relay.launcher] {
        launcher.stop();
    }
}

/// `picture` with luminance of another strength: its first quantization table is another one.
fn altered(picture: &[u8], by: u8) -> Vec<u8> {
    let mut altered = picture.to_vec();
    let table = picture.windows(2).position(|two| two == [0xff, 0xdb]);
    // After the marker come two bytes of length and one that says which table it is.
    let first = &mut altered[table.expect("it has one") + 5];
    *first = first.saturating_add(by);
    altered
}

#[test]
fn jpegs_of_every_kind_move_on_the_page() {
    let relay = Relay::start();
    let mut cameras = Vec::new();
    for (name, format, encode) in [
        ("grey", "GRAY8", JPEG),
        ("444", "Y444", JPEG),
        ("422", "Y42B", JPEG),
        ("optimised", "I420", "avenc_mjpeg"),
    ] {
        let file = relay.deployment(&[name], encode, (320, 240));
        let text = fs::read_to_string(file).expect("a file");
        let file = relay.folder.path().join(format!("{name}.toml"));
        fs::write(
            &file,
            text.replace("format=I420", &format!("format={format}")),
        )
        .expect("a file");
        cameras.push(Launcher::start("camera", &file));
    }

    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/jpegs/progressive.jpg");
    let progressive = fs::read(stored).expect("it is there");
    for number in 0..6_u8 {
        let file = relay.folder.path().join(format!("{number}.jpg"));
        fs::write(file, altered(&progressive, number * 4)).expect("a file");
    }
    gst::init().expect("GStreamer starts");
    gstcamrelay::plugin_register_static().expect("the elements load");
    let (host, port) = relay.cameras.split_once(':').expect("an address");
    let pipeline = gst::parse::launch(&format!(
        "multifilesrc location={}/%d.jpg loop=true stop-index=5 caps=image/jpeg,framerate=10/1 \
         ! identity sync=true ! camrelaysink host={host} port={port} camera=progressive",
        relay.folder.path().display()
    ));
    let pipeline = pipeline.expect("good text");
    pipeline.set_state(gst::State::Playing).expect("it starts");

    let browser = relay.page();
    for name in ["grey", "444", "422", "optimised", "progressive"] {
        browser.until(&format!("moves('{name}')"));
    }
    pipeline.set_state(gst::State::Null).expect("it stops");
    for launcher in cameras.into_iter().chain([relay.launcher]) {
        launcher.stop();
    }
}
