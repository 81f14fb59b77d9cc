//! All cameras at once.

use std::process::Command;
use std::time::Instant;

use crate::{JPEG, Relay};

#[test]
fn twelve_cameras_move_on_one_page_and_say_when_they_do_not() {
    let relay = Relay::start();
    let names: Vec<_> = (1..12).map(|number| format!("camera{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let others = relay.cameras(&names, JPEG);
    let door = relay.cameras(&["door"], JPEG);
    let browser = relay.page();
    browser.until(
        "document.querySelectorAll('.tile').length === 12
         && ['door', ...Array.from({length: 11}, (_, at) => `camera${at + 1}`)]
             .map(moves).every(moved => moved)",
    );
    let rate = "tile('camera3').querySelector('.rate').textContent";
    browser.until(&format!(
        "{rate}.includes('fps') && {rate}.includes('bit/s')"
    ));
    browser.until("document.getElementById('summary').textContent === '12 of 12 live'");

    let killed = Instant::now();
    door.kill();
    browser.until(
        "tile('door').dataset.state !== 'live'
         && tile('door').querySelector('.age').hasAttribute('data-late')",
    );
    println!(
        "stale on the page {:?} after it was killed",
        killed.elapsed()
    );
    browser.until("document.getElementById('summary').textContent === '11 of 12 live'");
    browser.until("seen.clear(), moves('camera1') || true");

    let back = relay.cameras(&["door"], JPEG);
    browser.until("moves('door')");
    browser.until("!tile('door').querySelector('.age').hasAttribute('data-late')");
    for launcher in [others, back, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_tile_gets_pictures_of_its_size_while_somebody_watches() {
    let relay = Relay::start();
    let door = relay.cameras_of(&["door"], JPEG, (1280, 720));
    let browser = relay.page();
    // A page that shows nothing.
    browser.open(&format!("{}/healthz", relay.page));
    browser.until("fetch('/api/v1/cameras/door').then(answer => answer.ok)");
    assert_eq!(relay.launcher.workers(), [0_u32; 0], "nobody watches");

    browser.run(
        "window.wall = new WebSocket(`ws://${location.host}/api/v1/wall`);
         wall.binaryType = 'arraybuffer';
         wall.onmessage = async ({ data }) => {
             if (typeof data === 'string') return;
             const head = new DataView(data);
             const image = await createImageBitmap(new Blob([data.slice(24)]));
             const sequence = Number(head.getBigUint64(16));
             window.seen.push({ width: image.width, age: head.getUint32(12), sequence });
             wall.send(JSON.stringify({ seen: head.getUint16(1) }));
         };
         window.ask = width => {
             window.seen = [];
             wall.send(JSON.stringify({ show: [{ camera: 'door', fps: 10, width }] }));
         };
         // Some of that width, one after the other, the last one fresh.
         window.got = width => {
             const got = seen.filter(one => one.width === width);
             return got.length > 4 && got.at(-1).age < 1000
                 && got.every((one, at) => at === 0 || one.sequence > got[at - 1].sequence);
         };",
    );
    browser.until("wall.readyState === 1");
    browser.run("ask()");
    browser.until("got(1280)");
    assert_eq!(
        relay.launcher.workers(),
        [0_u32; 0],
        "nobody wants it smaller"
    );
    for (asked, width) in [(320, 320), (321, 640), (1200, 1280), (20, 320)] {
        browser.run(&format!("ask({asked})"));
        browser.until(&format!("got({width})"));
    }

    // Without a worker whole ones come; until there is another one.
    let workers = relay.launcher.workers();
    assert!(!workers.is_empty());
    for worker in workers {
        let killed = Command::new("kill")
            .args(["-9", &worker.to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
    }
    browser.run("window.seen = []");
    browser.until("got(1280)");
    browser.until("got(320)");

    browser.run("wall.close()");
    let closed = Instant::now();
    while !relay.launcher.workers().is_empty() {
        assert!(closed.elapsed().as_secs() < 60, "the worker stays");
        browser.run("return 0");
    }

    browser.resize(600, 900);
    browser.open(&relay.page);
    browser.until("document.querySelector('.tile canvas')?.width === 640");
    for launcher in [door, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn the_page_is_the_same_over_https() {
    let relay = Relay::secure();
    assert!(relay.page.starts_with("https://"), "{}", relay.page);
    let names = ["door", "gate"];
    let cameras = relay.cameras(&names, JPEG);
    let browser = relay.page();
    browser.until("moves('door') && moves('gate')");
    assert_eq!(browser.run("return isSecureContext"), true);
    browser.run("location.hash = 'door'");
    browser.until("!video.hidden && video.currentTime > 0.5 && video.videoWidth === 320");
    browser.until(
        "document.getElementById('addresses').textContent
             .includes(`https://${location.host}/cameras/door/stream.mjpeg`)",
    );
    for launcher in [cameras, relay.launcher] {
        launcher.stop();
    }
}
