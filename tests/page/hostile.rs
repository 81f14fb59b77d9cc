//! What other sites' pages can do, and cameras with names of their choice.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::Launcher;
use crate::{H264, JPEG, Relay};

/// A server of another site; every page of it is empty.
fn evil() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        // Browsers open connections before they have anything to ask.
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(|| answer(stream));
        }
    });
    port
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        line.clear();
    }
    let page = "<!doctype html><title>evil</title>";
    let _ = write!(
        reader.into_inner(),
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    );
}

#[test]
fn a_hostile_page_reads_and_changes_nothing() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let door = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && tile('gate').dataset.state === 'live'");

    // A session that a hostile page in another tab may want to end.
    let session = browser.until(
        "(async () => {
             if (window.session) return window.video.currentTime > 0.2 && window.session;
             const peer = new RTCPeerConnection();
             peer.addTransceiver('video', { direction: 'recvonly' });
             window.video = document.createElement('video');
             peer.ontrack = ({ track }) => {
                 window.video.muted = true;
                 window.video.srcObject = new MediaStream([track]);
                 window.video.play();
             };
             await peer.setLocalDescription(await peer.createOffer());
             const offer = peer.localDescription.sdp;
             const response = await fetch('/cameras/gate/whep', {
                 method: 'POST',
                 headers: { 'Content-Type': 'application/sdp' },
                 body: offer,
             });
             await peer.setRemoteDescription({ type: 'answer', sdp: await response.text() });
             window.session = [response.headers.get('Location'), offer];
         })()",
    );
    let tab = browser.open_tab();
    let location = session[0].as_str().expect("a location");
    let offer = &session[1];

    // The relay's own pages, from a site that took over a name of its address.
    let port = relay.page.rsplit(':').next().expect("a port");
    browser.open(&format!("http://evil.test:{port}/"));
    let text = browser.run("return document.body.textContent");
    let text = text.as_str().expect("text");
    assert!(text.contains("not called evil.test"), "{text}");
    for path in [
        "/api/v1/cameras",
        "/cameras/door/snapshot.jpg",
        "/page/page.js",
    ] {
        let read = browser.until(&format!(
            "fetch('{path}').then(answer => String(answer.status))"
        ));
        assert_eq!(read, "421", "{path}");
    }

    let evil = evil();
    for site in ["evil.test", "127.0.0.1"] {
        browser.open(&format!("http://{site}:{evil}/"));
        let page = &relay.page;
        for (what, attempt) in [
            ("reads", format!("fetch('{page}/api/v1/cameras')")),
            (
                "reads a picture",
                format!("fetch('{page}/cameras/door/snapshot.jpg')"),
            ),
            (
                "loads a picture",
                format!("fetch('{page}/cameras/door/snapshot.jpg', {{ mode: 'no-cors' }})"),
            ),
            (
                "shows a picture",
                format!(
                    "new Promise((good, bad) => {{ const image = new Image();
                     image.onload = good; image.onerror = bad;
                     image.src = '{page}/cameras/door/stream.mjpeg'; }})"
                ),
            ),
            (
                "shows a snapshot",
                format!(
                    "new Promise((good, bad) => {{ const image = new Image();
                     image.onload = good; image.onerror = bad;
                     image.src = '{page}/cameras/door/snapshot.jpg'; }})"
                ),
            ),
            (
                "takes its style",
                format!(
                    "new Promise((good, bad) => {{ const link = document.createElement('link');
                     link.rel = 'stylesheet'; link.onload = good; link.onerror = bad;
                     link.href = '{page}/page/page.css'; document.head.append(link); }})"
                ),
            ),
            (
                "runs a script of the page",
                format!("import('{page}/page/text.js')"),
            ),
            (
                "watches the wall",
                format!(
                    "new Promise((good, bad) => {{
                     const socket = new WebSocket('{}/api/v1/wall');
                     socket.onopen = good; socket.onerror = bad; }})",
                    page.replace("http", "ws")
                ),
            ),
            (
                "starts a session",
                format!(
                    "fetch('{page}/cameras/gate/whep', {{ method: 'POST',
                     headers: {{ 'Content-Type': 'application/sdp' }}, body: {offer} }})"
                ),
            ),
            (
                "starts a session unasked",
                format!(
                    "fetch('{page}/cameras/gate/whep', {{ method: 'POST', mode: 'no-cors',
                     body: {offer} }})"
                ),
            ),
            (
                "ends a session",
                format!("fetch('{page}{location}', {{ method: 'DELETE' }})"),
            ),
        ] {
            let script = format!("{attempt}.then(() => 'done', () => 'refused')");
            assert_eq!(browser.until(&script), "refused", "{site} {what}");
        }
        // Neither does a form, which needs no leave to be sent.
        browser.run(&format!(
            "document.body.innerHTML = `<iframe name=there></iframe>
                 <form target=there method=post enctype=text/plain
                     action='{page}/cameras/gate/whep'><input name=v></form>`;
             document.querySelector('input').value = {offer};
             document.querySelector('iframe').onload = () => {{ window.sent = true; }};
             document.querySelector('form').submit();"
        ));
        browser.until("window.sent");
        let framed = browser.framed(page);
        assert!(framed.starts_with("chrome-error:"), "{site}: {framed}");
        let embedded = browser.framed(&format!("{page}/embed/door"));
        assert_eq!(
            embedded,
            format!("{page}/embed/door"),
            "that is what it is for"
        );
        browser.go_to_frame(Some(0));
        browser.until(
            "document.getElementById('tile').dataset.state === 'live'
             && (window.seen ??= new Set()).add(
                 document.getElementById('canvas').toDataURL('image/webp', 0.1)).size > 2",
        );
        browser.go_to_frame(None);
        let reads = "return document.querySelector('iframe').contentDocument === null";
        assert_eq!(browser.run(reads), true);
    }

    // The session was there all the time, and with the page's own tile nothing else is.
    browser.go_to_tab(&tab);
    browser.until("window.video.currentTime > 0.2");
    browser.until(
        "fetch('/api/v1/cameras/gate').then(answer => answer.json())
             .then(camera => camera.viewers.webrtc === 2
                 && !tile('gate').querySelector('video').hidden)",
    );
    let ended = format!(
        "fetch('{location}', {{ method: 'DELETE' }}).then(answer => String(answer.status))"
    );
    assert_eq!(browser.until(&ended), "200");
    for launcher in [gate, door, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_camera_has_no_name_that_a_page_could_mistake() {
    let relay = Relay::start();
    let name = "<script>document.title='evil'</script>";
    let said = Launcher::start("camera", &relay.deployment(&[name], JPEG, (320, 240))).fails(78);
    assert!(said.contains("name"), "{said}");

    // Nor does the relay take it from somebody who asks by other means.
    gst::init().expect("GStreamer starts");
    gstcamrelay::plugin_register_static().expect("the elements load");
    let (host, port) = relay.cameras.split_once(':').expect("an address");
    let pipeline = format!(
        "videotestsrc is-live=true ! video/x-raw,width=64,height=64 ! jpegenc \
         ! camrelaysink host={host} port={port} camera=\"{name}\""
    );
    use gst::prelude::*;
    let refused = match gst::parse::launch(&pipeline) {
        Err(_) => true,
        Ok(pipeline) => {
            let bus = pipeline.bus().expect("a pipeline has one");
            let started = pipeline.set_state(gst::State::Playing);
            let ends = [gst::MessageType::Error];
            let error = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &ends);
            pipeline.set_state(gst::State::Null).expect("it stops");
            started.is_err() || error.is_some()
        }
    };
    assert!(refused);
    let door = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && document.querySelectorAll('.tile').length === 2");
    assert_eq!(browser.run("return document.title"), "camrelay");
    door.stop();
    relay.launcher.stop();
}
