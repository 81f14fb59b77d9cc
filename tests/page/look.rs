//! What the page looks like: on a phone, light and dark, and with the picture alone.

use serde_json::json;

use crate::{ESCAPE, JPEG, Relay};

/// What is wrong with the controls of the large picture: outside of the window, too small for a
/// finger, or under something else.
const UNREACHABLE: &str = "return [...document.querySelectorAll('#large button')]
     .filter(button => button.checkVisibility())
     .filter(button => {
         button.scrollIntoView({ block: 'nearest' });
         const { left, right, top, width, height } = button.getBoundingClientRect();
         const there = document.elementFromPoint(left + width / 2, top + height / 2);
         return left < 0 || right > innerWidth || width < 40 || height < 40 || !button.contains(there);
     })
     .map(button => button.id || button.getAttribute('aria-label'))";

#[test]
fn a_phone_shows_one_column_and_every_control() {
    let relay = Relay::start();
    let cameras = relay.cameras(
        &["door", "yard", "a-name-that-is-as-long-as-a-phone-is-wide"],
        JPEG,
    );
    let browser = relay.page();
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    browser.devtools(
        "Emulation.setTouchEmulationEnabled",
        &json!({ "enabled": true }),
    );
    browser.until("innerWidth === 390 && document.querySelectorAll('.tile').length === 3");
    browser.until(
        "[...document.querySelectorAll('.tile')].every(tile => {
             const { left, width } = tile.getBoundingClientRect();
             return left === 12 && width === 366;
         })",
    );
    let fits = "document.scrollingElement.scrollWidth === 390";
    browser.until(fits);
    browser.run("location.hash = 'door'");
    browser.until("document.querySelectorAll('.addresses .copy').length === 5");
    browser.until("!video.hidden && document.getElementById('large').scrollWidth === 390");
    assert_eq!(browser.run(UNREACHABLE), json!([]));
    assert_eq!(browser.run(&format!("return {fits}")), true);
    for launcher in [cameras, relay.launcher] {
        launcher.stop();
    }
}

/// Texts of what `selectors` find that are hard to read, as the ratio of their brightness to
/// that of what is behind them is less than 4.5 (WCAG 2.2, 1.4.3).
const FAINT: &str = "const pixel = color => {
         const context = new OffscreenCanvas(1, 1).getContext('2d');
         context.fillStyle = color;
         context.fillRect(0, 0, 1, 1);
         return [...context.getImageData(0, 0, 1, 1).data];
     };
     const bright = color => pixel(color).slice(0, 3)
         .map(part => part / 255)
         .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
         .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
     const behind = element => {
         const { backgroundColor } = getComputedStyle(element);
         return pixel(backgroundColor)[3] > 200 ? backgroundColor : behind(element.parentElement);
     };
     const faint = [...document.querySelectorAll(selectors)].filter(element => {
         if (!element.checkVisibility() || element.textContent === '') return false;
         const pair = [getComputedStyle(element).color, behind(element)].map(bright);
         return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05) < 4.5;
     });
     return [bright(getComputedStyle(document.body).backgroundColor), faint.map(one => one.outerHTML)]";

#[test]
fn it_is_light_or_dark_as_the_system_is_and_can_be_read() {
    let relay = Relay::start();
    let cameras = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && moves('yard')");
    for (scheme, brightness) in [("light", 0.8..=1.0), ("dark", 0.0..=0.05)] {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        browser.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
        browser.until(&format!(
            "matchMedia('(prefers-color-scheme: {scheme})').matches"
        ));
        for (hash, selectors) in [
            (
                "",
                ".brand, .summary, .summary b, .keys span, kbd, .name, .rate, .format, .viewers",
            ),
            (
                "door",
                "#large :is(h2, h3, dt, dd, .kind, a, kbd, .keys span, .badge, .via)",
            ),
        ] {
            browser.run(&format!("location.hash = '{hash}'"));
            browser.until(&format!(
                "document.getElementById('large').open === {}",
                !hash.is_empty()
            ));
            let found = browser.run(&format!("const selectors = '{selectors}'; {FAINT}"));
            let ground = found[0].as_f64().expect("a number");
            assert!(brightness.contains(&ground), "{scheme}: {ground}");
            assert_eq!(found[1], json!([]), "{scheme}");
        }
        browser.run("location.hash = ''");
    }
    for launcher in [cameras, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn the_picture_has_all_the_room_without_the_panel_and_where_there_is_no_full_screen() {
    let relay = Relay::start();
    let cameras = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door')");
    browser.run("location.hash = 'door'");
    browser.until("!video.hidden");
    let wide = "document.getElementById('stage').clientWidth === innerWidth";
    let panel = "document.getElementById('panel').checkVisibility()";
    browser.until(&format!("{panel} && !({wide})"));
    browser.press("i");
    browser.until(&format!(
        "!{panel} && {wide} && document.getElementById('more').ariaExpanded === 'false'"
    ));
    browser.press("i");
    browser.until(&format!(
        "{panel} && document.getElementById('more').ariaExpanded === 'true'"
    ));

    // As on an iPhone: full screen is for videos only.
    browser.run(
        "Element.prototype.requestFullscreen = undefined;
         video.webkitEnterFullscreen = () => { window.filled = true; };",
    );
    browser.press("f");
    browser.until("window.filled");
    // And with none at all.
    browser.run("video.webkitEnterFullscreen = undefined");
    browser.press("f");
    browser.until(&format!(
        "{wide} && document.getElementById('stage').clientHeight === innerHeight
         && document.getElementById('full').ariaPressed === 'true'"
    ));
    browser.press(ESCAPE);
    browser.until(&format!("{panel} && document.getElementById('large').open"));
    browser.press(ESCAPE);
    browser.until("!document.getElementById('large').open");
    for launcher in [cameras, relay.launcher] {
        launcher.stop();
    }
}
