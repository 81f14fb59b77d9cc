//! What a user sees who may see some cameras only.

use serde_json::{Value, json};

use super::access::{login, user};
use super::wall::Wall;
use super::*;
use crate::users::Right;

/// Cameras by the name of whoever may see them, and one refused name of each.
struct Site {
    relay: Relay,
    _cameras: [Camera; 3],
}

impl Site {
    fn new() -> Self {
        let relay = Relay::with(&[
            user("ann", &[Right::View], &["door*"]),
            user("eve", &[Right::Admin], &["*"]),
        ]);
        let cameras = ["door", "door2", "gate"].map(|name| {
            let mut camera = relay.camera(name, "image/jpeg");
            camera.send(&jpeg(64, 48));
            camera
        });
        for name in ["door3", "thief"] {
            relay
                .feeds
                .refuse(name, ([192, 0, 2, 1], 1).into(), "no key");
        }
        Self {
            relay,
            _cameras: cameras,
        }
    }

    fn get(&self, path: &str, who: &str) -> Answer {
        self.relay.get(path, &[&login(who, who)])
    }
}

/// The names of cameras in a list of them.
fn names(cameras: &Value) -> Vec<&str> {
    let cameras = cameras.as_array().expect("a list");
    let name = |camera: &Value| camera["name"].as_str().map(str::len);
    assert!(cameras.iter().all(|camera| name(camera).is_some()));
    let names = cameras.iter().filter_map(|camera| camera["name"].as_str());
    names.collect()
}

#[test]
fn lists_have_what_one_may_see_and_nothing_else() {
    let site = Site::new();
    let list = |who: &str| -> Value {
        serde_json::from_slice(&site.get("/api/v1/cameras", who).body).expect("JSON")
    };
    assert_eq!(names(&list("ann")), ["door", "door2", "door3"]);
    let all = list("eve");
    let mut all = names(&all);
    all.sort_unstable();
    assert_eq!(all, ["door", "door2", "door3", "gate", "thief"]);
}

#[test]
fn figures_are_of_what_one_may_see() {
    let site = Site::new();
    let about = |who: &str, camera: &str| {
        let text = site.get("/metrics", who).text();
        text.contains(&format!("{{camera=\"{camera}\""))
    };
    for camera in ["door", "door2", "door3"] {
        assert!(about("ann", camera), "{camera}");
    }
    for camera in ["gate", "thief"] {
        assert!(!about("ann", camera), "{camera}");
        assert!(about("eve", camera), "{camera}");
    }
}

#[test]
fn the_wall_shows_what_one_may_see_whatever_is_asked_for() {
    let site = Site::new();
    let mut wall = Wall::connect_with(&site.relay, &[&login("ann", "ann")]);
    assert_eq!(names(&wall.text("cameras")), ["door", "door2", "door3"]);
    let show = ["gate", "door2", "thief", "*", "door*"].map(|name| json!({ "camera": name }));
    wall.say(&json!({ "show": show }).to_string());
    let numbers = wall.text("shown");
    let shown: Vec<_> = numbers.as_object().expect("numbers").keys().collect();
    assert_eq!(shown, ["door*", "door2"]);
    let (number, ..) = wall.picture();
    assert_eq!(numbers["door2"], number);
    // Nor when the state of another camera changes.
    let gate = site.relay.feeds.get("gate").expect("it is known");
    gate.left();
    let door = site.relay.feeds.get("door").expect("it is known");
    door.left();
    loop {
        let cameras = wall.text("cameras");
        assert_eq!(names(&cameras), ["door", "door2", "door3"]);
        if cameras[0]["state"]["name"] == "gone" {
            break;
        }
    }
}

#[test]
fn single_cameras_are_for_who_may_see_them() {
    let site = Site::new();
    for path in [
        "/cameras/NAME/snapshot.jpg",
        "/api/v1/cameras/NAME",
        "/embed/NAME",
    ] {
        let status = |camera: &str, who| site.get(&path.replace("NAME", camera), who).status;
        assert_eq!(status("door2", "ann"), 200, "{path}");
        assert_eq!(status("gate", "ann"), 403, "{path}");
        assert_eq!(
            status("nothing", "ann"),
            403,
            "{path}: whether it is there is not told"
        );
        assert_eq!(status("gate", "eve"), 200, "{path}");
    }
    let stream = |camera: &str, who: &str| {
        let mut client = Client::connect(site.relay.address());
        let path = format!("/cameras/{camera}/stream.mjpeg");
        client.ask("GET", &path, &[&login(who, who)]);
        client.status()
    };
    assert_eq!(stream("door2", "ann"), 200);
    assert_eq!(stream("gate", "ann"), 403);
    let offer = |camera: &str| {
        let headers = [
            &*login("ann", "ann"),
            "Content-Type: application/sdp",
            "Content-Length: 1",
        ];
        let mut client = Client::connect(site.relay.address());
        client.ask("POST", &format!("/cameras/{camera}/whep"), &headers);
        client.send(b"x");
        client.status()
    };
    assert_eq!(offer("door2"), 400, "she is let in, but it is no offer");
    assert_eq!(offer("gate"), 403);
}
