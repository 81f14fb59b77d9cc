//! What the large picture does when WebRTC fails, and what it says of its age.

use std::fs;
use std::time::Duration;

use path_emulator::{Conditions, Direction};

use crate::support::Launcher;
use crate::{ESCAPE, H264, JPEG, Relay};

const PLAYS: &str = "!video.hidden && video.currentTime > 0.5
     && document.getElementById('via').textContent === 'WebRTC'";
const PICTURES: &str = "video.hidden
     && document.getElementById('via').textContent === 'Picture by picture'";

#[test]
fn the_large_picture_tries_webrtc_again_after_it_failed() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let others = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && tile('gate')?.dataset.state === 'live'");
    browser.run(
        "window.real = fetch; window.sessions = [];
         window.fetch = async (...of) => {
             if (of[1]?.method !== 'POST') return real(...of);
             if (window.blocked) throw new Error('blocked');
             const answer = await real(...of);
             sessions.push(answer.headers.get('Location'));
             return answer;
         };",
    );
    for name in ["gate", "door"] {
        browser.run(&format!(
            "window.blocked = true; location.hash = '{name}'; seen.clear()"
        ));
        browser.until(PICTURES);
        browser.run("window.blocked = false");
        browser.until(PLAYS);
        assert_eq!(
            browser.run("return document.getElementById('via').title"),
            ""
        );

        // The relay ends it, as it does when nothing is heard of the viewer for a while.
        browser.run("window.blocked = true; real(sessions.at(-1), { method: 'DELETE' })");
        browser.until(PICTURES);
        browser.until("document.getElementById('notice').textContent === ''");
        browser.run("window.blocked = false");
        browser.until(PLAYS);
        browser.press(ESCAPE);
        browser.until("location.hash === ''");
    }
    for launcher in [gate, others, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn what_was_shown_last_stays_while_nothing_comes_and_plays_on_when_it_does() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let browser = relay.page();
    browser.until("tile('gate')?.dataset.state === 'live'");
    let clean = Conditions::clean(Duration::from_millis(10));
    let path = relay.path(clean);
    relay.through(&browser, &path);
    browser.run("location.hash = 'gate'");
    browser.until(PLAYS);
    // As after a sleep, or without a network for a while: the relay lets go of the viewer.
    let down = Conditions {
        down: true,
        ..clean
    };
    path.set(Direction::There, down);
    path.set(Direction::Back, down);
    browser.until("video.hidden && look(document.getElementById('large-canvas')).includes('255')");
    path.set(Direction::There, clean);
    path.set(Direction::Back, clean);
    browser.until(PLAYS);
    for launcher in [gate, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn the_age_is_that_of_the_picture_that_is_seen() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate", "door"], H264);
    let browser = relay.page();
    browser.until("tile('gate')?.dataset.state === 'live'");
    let clean = Conditions::clean(Duration::from_millis(10));
    let path = relay.path(clean);
    relay.through(&browser, &path);
    browser.run("location.hash = 'gate'");
    browser.until(PLAYS);
    let late = "document.getElementById('large-age').hasAttribute('data-late')";
    let fact = "[...document.querySelectorAll('#facts dt')]
         .find(name => name.textContent === 'Age').nextElementSibling.textContent";
    browser.until(&format!("!{late} && /^[0-9]+ ms$/.test({fact})"));

    // What comes late is old, however new what the relay has is.
    path.set(Direction::Back, Conditions::clean(Duration::from_secs(2)));
    browser.until(&format!(
        "!video.hidden && {late} && /^[2-9][.][0-9] s$/.test({fact})"
    ));
    let relays = "fetch('/api/v1/cameras/gate').then(answer => answer.json())
         .then(camera => camera.age_ms < 1000)";
    browser.until(relays);
    path.set(Direction::Back, clean);
    browser.until(&format!("!{late} && /^[0-9]+ ms$/.test({fact})"));

    // So is what is held.
    browser.press(" ");
    browser.until("video.paused");
    browser.until(&format!("{late} && /^[2-9][.][0-9] s$/.test({fact})"));
    assert_eq!(
        browser.run("return document.getElementById('large').hasAttribute('data-paused')"),
        true
    );
    browser.press(" ");
    browser.until(&format!("!{late}"));
    for launcher in [gate, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_hidden_page_watches_nothing() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let browser = relay.page();
    browser.until("tile('gate')?.dataset.state === 'live'");
    browser.run("location.hash = 'gate'");
    browser.until(PLAYS);
    let page = browser.open_tab();
    browser.open(&format!("{}/healthz", relay.page));
    let watched = "fetch('/api/v1/cameras/gate').then(answer => answer.json())
         .then(camera => camera.viewers.webrtc";
    browser.until(&format!("{watched} === 0)"));
    browser.go_to_tab(&page);
    browser.until(PLAYS);
    browser.until(&format!("{watched} === 1)"));
    for launcher in [gate, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_camera_without_jpegs_that_stopped_before_shows_its_last_picture() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let yard = relay.cameras(&["yard", "door"], H264);
    let browser = relay.page();
    browser.open(&format!("{}/healthz", relay.page));
    let state = |name: &str, state: &str| {
        browser.until(&format!(
            "fetch('/api/v1/cameras/{name}').then(answer => answer.json())
                 .then(camera => camera.state.name === '{state}')"
        ));
    };
    state("gate", "live");
    state("yard", "live");
    gate.kill();
    yard.stop();
    state("gate", "stale");
    state("yard", "gone");

    browser.open(&relay.page);
    browser.until(
        "['gate', 'yard'].every(name => {
             const tile = [...document.querySelectorAll('.tile')]
                 .find(tile => tile.querySelector('.name').textContent === name);
             const small = new OffscreenCanvas(16, 12).getContext('2d');
             small.drawImage(tile.querySelector('canvas'), 0, 0, 16, 12);
             return tile.dataset.state !== 'live' && tile.querySelector('.why').textContent === ''
                 && tile.querySelector('.age').hasAttribute('data-late')
                 && small.getImageData(0, 0, 16, 12).data.some(value => value > 200 && value < 255);
         })",
    );
    relay.launcher.stop();
}

#[test]
fn a_narrow_path_shows_a_smaller_picture_and_then_all_again() {
    let relay = Relay::start();
    let file = relay.folder.path().join("dense.toml");
    let text = format!(
        "[[camera]]\nname = \"dense\"\nrelay = \"{}\"\n\
         encode = \"openh264enc bitrate=2000000 rate-control=bitrate complexity=low gop-size=300\"\n\
         source = \"videotestsrc is-live=true pattern=zone-plate kx2=20 ky2=20 kt=10 \
         ! video/x-raw,format=I420,width=960,height=540,framerate=15/1\"\n",
        relay.cameras
    );
    fs::write(&file, text).expect("a file");
    let camera = Launcher::start("camera", &file);
    let clean = Conditions::clean(Duration::from_millis(10));
    let path = relay.path(clean);
    let browser = relay.page();
    browser.until("tile('dense')?.dataset.state === 'live'");
    relay.through(&browser, &path);
    browser.run("location.hash = 'dense'");
    browser.until("!video.hidden && video.currentTime > 4 && video.videoWidth === 960");
    let narrow = Conditions {
        rate: 800_000,
        queue: Duration::from_millis(100),
        ..clean
    };
    path.set(Direction::Back, narrow);
    browser.until("video.videoWidth < 960");
    browser.until("window.before = video.getVideoPlaybackQuality().totalVideoFrames, true");
    // It goes on there, in more than a picture now and then.
    browser.until("video.getVideoPlaybackQuality().totalVideoFrames > window.before + 30");
    assert_eq!(browser.run("return video.videoWidth < 960"), true);
    path.set(Direction::Back, clean);
    browser.until("video.videoWidth === 960");
    for launcher in [camera, relay.launcher] {
        launcher.stop();
    }
}
