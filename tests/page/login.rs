//! The page of a relay whose users log in.

use crate::browser::Browser;
use crate::support::password_line;
use crate::{H264, JPEG, Relay};

#[test]
fn who_logged_in_watches_what_they_may_see() {
    let folder = tempfile::tempdir().expect("a folder");
    let hash = password_line("secret");
    let user = format!(
        "[[user]]\nname = \"ann\"\n{hash}\nrights = [\"view\"]\ncameras = [\"door\", \"gate\"]\n"
    );
    let relay = Relay::with(folder, &user);
    let doors = relay.cameras(&["door", "yard"], JPEG);
    let gate = relay.cameras(&["gate"], H264);
    let browser = Browser::start("");
    // As if its dialogue had been filled in: a page with a login in its address may fetch nothing.
    let page = relay.page.replace("://", "://ann:secret@");
    browser.open(&format!("{page}/api/v1/cameras"));
    browser.open(&relay.page);
    browser.run("window.tileOf = name => document.querySelector(`.tile a[href='#${name}']`)?.closest('.tile')");
    // Over the WebSocket, and over WebRTC.
    browser.until("tileOf('door')?.querySelector('canvas').width === 320");
    browser.until("tileOf('gate')?.querySelector('video').currentTime > 0.5");
    assert_eq!(
        browser.run("return document.querySelectorAll('.tile').length"),
        2
    );
    for launcher in [doors, gate, relay.launcher] {
        launcher.stop();
    }
}
