//! One camera, large.

use std::fs;

use crate::{ENTER, ESCAPE, H264, JPEG, LEFT, RIGHT, Relay, TAB};

#[test]
fn one_camera_plays_over_webrtc_and_keys_do_the_rest() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let others = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("document.querySelectorAll('.tile').length === 3 && moves('door')");

    browser.until("tile('gate').dataset.state === 'live'");
    browser.run("tile('gate').querySelector('a').id = 'there'");
    browser.click("#there");
    let plays = "!video.hidden && video.currentTime > 0.5 && video.videoWidth === 320";
    browser.until(plays);
    browser.until("document.getElementById('via').textContent === 'WebRTC'");
    assert_eq!(browser.run("return location.hash"), "#gate");
    browser.until(&format!("window.before = video.currentTime, {plays}"));
    browser.until("video.currentTime > window.before + 0.5");

    browser.press(" ");
    browser.until("video.paused && document.getElementById('pause').ariaPressed === 'true'");
    browser.press(" ");
    browser.until("!video.paused");

    browser.press("s");
    let file = browser.downloaded("gate ");
    let picture = fs::read(file).expect("a file");
    assert!(picture.starts_with(&[0xff, 0xd8]) && picture.len() > 1000);

    browser.press("f");
    browser.until("document.fullscreenElement?.id === 'stage'");
    browser.press("f");
    browser.until("document.fullscreenElement === null");

    browser.press(RIGHT);
    browser.until(
        "location.hash === '#yard' && document.getElementById('large-name').textContent === 'yard'",
    );
    browser.press(LEFT);
    browser.until(plays);

    browser.press(ESCAPE);
    browser.until("!document.getElementById('large').open && location.hash === ''");
    browser.until("document.activeElement === tile('gate').querySelector('a')");
    browser.press(LEFT);
    browser.until("document.activeElement === tile('door').querySelector('a')");
    browser.press(ENTER);
    browser.until("document.getElementById('large').open && location.hash === '#door'");
    // JPEGs come picture by picture where WebRTC has nothing for them.
    browser.until(
        "!video.hidden || (canvas => (seen.get('large') ?? seen.set('large', new Set()).get('large'))
             .add(look(canvas)).size > 3)(document.getElementById('large-canvas'))",
    );
    browser.press("s");
    browser.downloaded("door ");
    browser.until(
        "document.getElementById('addresses').textContent.includes('/cameras/door/snapshot.jpg')",
    );
    for launcher in [gate, others, relay.launcher] {
        launcher.stop();
    }
}

/// Whether the large picture that comes one by one changes.
const CANVAS_MOVES: &str = "video.hidden && (canvas => {
         const seen = window.seen.get('large') ?? new Set();
         window.seen.set('large', seen);
         seen.add(look(canvas));
         return seen.size > 3;
     })(document.getElementById('large-canvas'))";

#[test]
fn a_camera_of_jpegs_plays_over_webrtc_and_picture_by_picture_without() {
    let relay = Relay::start();
    let cameras = relay.cameras(&["door", "yard"], JPEG);
    let gate = relay.cameras(&["gate"], H264);
    let browser = relay.page();
    browser.until("moves('door') && moves('yard') && tile('gate')?.dataset.state === 'live'");
    browser.run("location.hash = 'door'");
    let plays = "!video.hidden && video.currentTime > 0.5 && video.videoWidth === 320";
    browser.until(plays);
    let via = "document.getElementById('via')";
    browser.until(&format!("{via}.textContent === 'WebRTC'"));
    browser.press(ESCAPE);

    // The relay cannot be asked, and then the browser has none of it.
    for without in [
        "window.real = fetch; window.fetch = () => Promise.reject(new Error('blocked'))",
        "window.fetch = real; window.RTCPeerConnection = undefined",
    ] {
        browser.run(without);
        browser.run("seen.clear(); location.hash = 'yard'");
        browser.until(CANVAS_MOVES);
        browser.until(&format!("{via}.textContent === 'Picture by picture'"));
        browser.until(&format!("{via}.title.startsWith('No WebRTC: ')"));

        browser.press(" ");
        browser.until("document.getElementById('pause').ariaPressed === 'true'");
        // What was on its way is drawn by the time that the relay says more.
        let news = "document.getElementById('facts').textContent";
        browser.run(&format!("window.news = {news}"));
        browser.until(&format!("{news} !== window.news"));
        browser.run("seen.clear(); window.still = look(document.getElementById('large-canvas'))");
        browser.run(&format!("window.news = {news}"));
        browser.until(&format!("{news} !== window.news"));
        let moved = "return look(document.getElementById('large-canvas')) !== still";
        assert_eq!(browser.run(moved), false, "it is paused");
        browser.press(" ");
        browser.until(CANVAS_MOVES);
        browser.press(ESCAPE);
        browser.until("location.hash === ''");
    }

    // What sends no JPEGs comes as snapshots, on the wall and large.
    let snapshots = |canvas: &str| {
        browser.until(&format!(
            "look({canvas}).split(',').some(one => one !== '0')"
        ));
        browser.run(&format!("window.still = look({canvas})"));
        browser.until(&format!("look({canvas}) !== still"));
    };
    snapshots("tile('gate').querySelector('canvas')");
    browser.until("tile('gate').querySelector('.why').textContent === ''");

    // Of one camera nothing is left when the next one is large, and may be saved.
    browser.run("location.hash = 'door'; seen.clear()");
    browser.until(CANVAS_MOVES);
    let changed = "return new Promise(done => {
        addEventListener('hashchange', () => {
            document.dispatchEvent(new KeyboardEvent('keydown', { key: 's' }));
            const canvas = document.getElementById('large-canvas');
            done([look(canvas), document.getElementById('toast').textContent]);
        }, { once: true });
        location.hash = 'gate';
    })";
    let changed = browser.run(changed);
    let [look, toast] = [0, 1].map(|at| changed[at].as_str().expect("text").to_owned());
    assert!(look.split(',').all(|one| one == "0"), "{look}");
    assert!(toast.starts_with("Saved gate "), "{toast}");
    snapshots("document.getElementById('large-canvas')");
    browser.until(&format!("{via}.textContent === 'Picture by picture'"));
    browser.until("document.getElementById('notice').textContent === ''");
    for launcher in [cameras, gate, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_camera_without_jpegs_plays_where_it_is_embedded() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let browser = relay.page();
    browser.until("tile('gate')?.dataset.state === 'live'");
    browser.open(&format!("{}/embed/gate", relay.page));
    browser.until("!video.hidden && video.currentTime > 0.5 && video.videoWidth === 320");
    browser.until("document.getElementById('badge').hidden && document.title === 'gate'");
    gate.stop();
    browser.until("document.getElementById('badge').textContent === 'Gone'");
    relay.launcher.stop();
}

#[test]
fn everything_is_reached_with_the_keyboard_and_shows_where_it_is() {
    let relay = Relay::start();
    let cameras = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && moves('yard')");
    browser.press(RIGHT);
    browser.press(RIGHT);
    browser.until("document.activeElement === tile('yard').querySelector('a')");
    let outlined = "getComputedStyle(document.activeElement).outlineStyle === 'solid'";
    browser.until(outlined);
    browser.press(ENTER);
    browser.until("document.getElementById('large').open && location.hash === '#yard'");

    let wanted = ["close", "before", "after", "pause", "snapshot", "full"];
    let mut reached = Vec::new();
    for _ in 0..30 {
        browser.press(TAB);
        let at = browser.run(
            "const at = document.activeElement;
             return at.id || at.getAttribute('aria-label') || at.tagName",
        );
        let at = at.as_str().expect("text").to_owned();
        if at == "BODY" {
            continue;
        }
        assert_eq!(browser.run(&format!("return {outlined}")), true, "{at}");
        let seen = "return Number(getComputedStyle(document.activeElement).opacity) > 0.9";
        browser.until(&seen.replace("return ", ""));
        reached.push(at);
    }
    for id in wanted.into_iter().chain(["Copy: One picture"]) {
        assert!(reached.iter().any(|at| at == id), "{id} in {reached:?}");
    }
    browser.run("document.querySelector('.addresses .copy').focus()");
    browser.press(ENTER);
    browser.until("!document.getElementById('toast').hidden");
    browser.press(ESCAPE);
    browser.until("!document.getElementById('large').open");
    browser.until("document.activeElement === tile('yard').querySelector('a')");
    for launcher in [cameras, relay.launcher] {
        launcher.stop();
    }
}
