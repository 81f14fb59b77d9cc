//! Cameras that are gone, and that are forgotten.

use super::access::{login, user};
use super::client::Parts;
use super::wall::Wall;
use super::*;
use crate::users::Right;

fn site() -> Relay {
    Relay::with(&[
        user("ann", &[Right::View], &["*"]),
        user("eve", &[Right::Admin], &["door"]),
    ])
}

fn delete(relay: &Relay, name: &str, headers: &[&str]) -> Answer {
    relay.ask("DELETE", &format!("/api/v1/cameras/{name}"), headers)
}

#[test]
fn an_admin_has_a_camera_forgotten_once_it_is_gone() {
    let relay = site();
    let (ann, eve) = (login("ann", "ann"), login("eve", "eve"));
    let _door = relay.camera("door", "image/jpeg");
    let _gate = relay.camera("gate", "image/jpeg");
    let answer = delete(&relay, "door", &[&eve]);
    assert_eq!(answer.status, 409);
    let why = "camera door is here; only one that is gone can be forgotten\n";
    assert_eq!(answer.text(), why);

    for name in ["door", "gate"] {
        relay.feeds.get(name).expect("it is known").left();
    }
    for (name, headers, why) in [
        ("door", vec![&*ann], "user ann may not change camera door\n"),
        ("gate", vec![&eve], "user eve may not change camera gate\n"),
        (
            "door",
            vec![&eve, "Origin: http://evil.example"],
            "another site's page may not do this\n",
        ),
    ] {
        let answer = delete(&relay, name, &headers);
        assert_eq!((answer.status, answer.text()), (403, why.to_owned()));
    }
    assert_eq!(relay.feeds.all().len(), 2);

    let own = format!("Origin: http://{}", relay.address());
    let answer = delete(&relay, "door", &[&eve, &own]);
    assert_eq!((answer.status, answer.text()), (204, String::new()));
    assert_eq!(relay.get("/api/v1/cameras/door", &[&ann]).status, 404);
    assert_eq!(delete(&relay, "door", &[&eve]).status, 404);
    let list = relay.get("/api/v1/cameras", &[&ann]).text();
    assert!(!list.contains("door") && list.contains("gate"), "{list}");
}

#[test]
fn nobody_has_cameras_forgotten_where_nobody_logs_in() {
    let relay = Relay::start();
    let _door = relay.camera("door", "image/jpeg");
    relay.feeds.get("door").expect("it is known").left();
    let answer = delete(&relay, "door", &[]);
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.text(),
        "only users of this relay may change camera door\n"
    );
}

#[test]
fn who_watches_a_camera_that_is_forgotten_does_not_wait_for_ever() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    let pictures = [jpeg(64, 48), jpeg(80, 48)];
    door.send(&pictures[0]);
    let mut client = Client::connect(relay.address());
    client.ask("GET", "/cameras/door/stream.mjpeg", &[]);
    let answer = client.answer();
    let mut viewer = Parts::of(client, &answer);
    viewer.next().expect("a picture");
    let mut wall = Wall::connect_with(&relay, &[]);
    wall.say(r#"{"show":[{"camera":"door"}]}"#);
    let number = wall.text("shown")["door"].clone();
    assert_eq!(wall.picture().3, pictures[0]);
    wall.say(&serde_json::json!({ "seen": number }).to_string());

    relay.feeds.get("door").expect("it is known").left();
    assert_eq!(relay.feeds.forget("door"), Ok(()));
    assert!(viewer.next().is_none(), "the stream ends in good order");
    while wall.text("cameras").as_array().map(Vec::len) != Some(0) {}
    // By the same name there may be another one, which is shown.
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&pictures[1]);
    assert_eq!(wall.picture().3, pictures[1]);
}
