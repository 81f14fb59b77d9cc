//! The API, its description, the metrics and the wall.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::api::OPENAPI;
use super::super::router::routes;
use super::client::Parts;
use super::*;

fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Checks that a value is as a schema says, and has nothing that it does not say.
fn conform(value: &Value, schema: &Value, document: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(&reference[1..]).expect("it is defined");
        return conform(value, schema, document, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        if !value.is_null() {
            conform(value, &any[0], document, at);
        }
        return;
    }
    if let Some(names) = schema["enum"].as_array() {
        assert!(names.contains(value), "{at} is {value}");
        return;
    }
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: no type {other}"),
    };
    match &schema["type"] {
        Value::String(name) => assert!(is(name), "{at} is {value}"),
        Value::Array(names) => {
            let fits = names.iter().filter_map(Value::as_str).any(is);
            assert!(fits, "{at} is {value}");
        }
        _ => panic!("{at} has no type"),
    }
    if let Some(list) = value.as_array() {
        for item in list {
            conform(item, &schema["items"], document, at);
        }
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        let required = schema["required"].as_array().expect("it is there");
        let required: BTreeSet<_> = required.iter().filter_map(Value::as_str).collect();
        let fields_there: BTreeSet<_> = fields.keys().map(String::as_str).collect();
        let described: BTreeSet<_> = properties.keys().map(String::as_str).collect();
        assert_eq!(fields_there, required, "{at}");
        assert_eq!(fields_there, described, "{at}");
        for (name, field) in fields {
            conform(field, &properties[name], document, &format!("{at}.{name}"));
        }
    }
}

#[test]
fn the_description_is_of_these_routes_and_answers() {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let described = document["paths"].as_object().expect("paths");
    let described: BTreeSet<_> = described
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            let methods = methods.filter(|key| *key != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let table = routes();
    let routes: BTreeSet<_> = table
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(described, routes);

    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&jpeg(64, 48));
    let remote = ([192, 0, 2, 1], 1).into();
    relay.feeds.refuse("thief", remote, "no key");
    let cameras = json(&relay.get("/api/v1/cameras", &[]));
    assert_eq!(cameras.as_array().map(Vec::len), Some(2));
    let schema = "/paths/~1api~1v1~1cameras/get/responses/200/content/application~1json/schema";
    let schema = document.pointer(schema).expect("it is described");
    conform(&cameras, schema, &document, "cameras");
    let camera = json(&relay.get("/api/v1/cameras/door", &[]));
    conform(&camera, &schema["items"], &document, "camera");
    let own = json(&relay.get("/api/v1/openapi.json", &[]));
    assert_eq!(own, document);
}

#[test]
fn tells_how_cameras_are_doing() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&jpeg(64, 48));
    let _gate = relay.camera("gate", "image/jpeg");
    let cameras = json(&relay.get("/api/v1/cameras", &["Host: cams.example.org"]));
    let [door_now, gate_now] = &cameras.as_array().expect("a list")[..] else {
        panic!("{cameras}");
    };
    assert_eq!(door_now["name"], "door");
    assert_eq!(door_now["state"]["name"], "live");
    assert!(door_now["age_ms"].is_u64());
    assert_eq!(door_now["streams"][0]["codec"], "JPEG");
    assert_eq!(door_now["streams"][0]["width"], 64);
    assert_eq!(door_now["streams"][0]["frames"], 1);
    assert_eq!(door_now["served"]["rtsp"], "JPEG, as it comes");
    assert!(gate_now["served"]["rtsp"].is_null());
    let mjpeg = "http://cams.example.org/cameras/door/stream.mjpeg";
    assert_eq!(door_now["urls"]["mjpeg"], mjpeg);
    assert_eq!(gate_now["state"]["name"], "waiting");
    assert!(gate_now["age_ms"].is_null());

    let mut client = Client::connect(relay.address());
    client.ask("GET", "/cameras/door/stream.mjpeg", &[]);
    let answer = client.answer();
    let mut viewer = Parts::of(client, &answer);
    viewer.next().expect("a picture");
    let camera = json(&relay.get("/api/v1/cameras/door", &[]));
    assert_eq!(camera["viewers"]["http"], 1);
    relay.feeds.get("door").expect("it is known").left();
    let camera = json(&relay.get("/api/v1/cameras/door", &[]));
    assert_eq!(camera["state"]["name"], "gone");
    assert_eq!(relay.get("/api/v1/cameras/none", &[]).status, 404);
}

#[test]
fn a_camera_that_sends_nothing_good_is_refused_until_it_does() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    let picture = jpeg(64, 48);
    let camera = || json(&relay.get("/api/v1/cameras/door", &[]));
    let snapshot = || relay.get("/cameras/door/snapshot.jpg", &[]);
    door.send(&picture[..picture.len() / 2]);
    assert_eq!(camera()["state"]["name"], "waiting", "many begin with one");
    door.send(&picture[..picture.len() / 2]);
    door.send(&[0; 10]);
    let now = camera();
    assert_eq!(now["state"]["name"], "refused");
    assert!(now["state"]["since"].is_string());
    let why = "what it sends is no good JPEG (it does not start as a JPEG does); \
        give camrelaysink one whole JPEG a buffer, as jpegparse before it does";
    assert_eq!(now["state"]["why"], why);
    for path in ["snapshot.jpg", "stream.mjpeg"] {
        let answer = relay.get(&format!("/cameras/door/{path}"), &[]);
        assert_eq!(answer.status, 503);
        assert_eq!(answer.text(), format!("camera door is refused: {why}\n"));
    }
    let mut client = Client::connect(relay.address());
    let headers = [
        "Content-Type: application/sdp; charset=utf-8",
        "Content-Length: 1",
    ];
    client.ask("POST", "/cameras/door/whep", &headers);
    client.send(b"x");
    let answer = client.answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.text(), format!("the camera is refused: {why}\n"));

    door.send(&picture);
    let now = camera();
    assert_eq!(now["state"]["name"], "live");
    assert!(now["state"]["why"].is_null());
    assert_eq!(snapshot().status, 200);
    // What was wrong stays beside the count.
    door.send(&picture[..picture.len() / 2]);
    let now = camera();
    assert_eq!(now["state"]["name"], "live");
    assert_eq!(now["streams"][0]["malformed"], 4);
    assert_eq!(now["streams"][0]["malformed_why"], "its end is missing");
}

#[test]
fn a_name_that_was_refused_has_no_addresses() {
    let relay = Relay::start();
    relay
        .feeds
        .refuse("thief", ([192, 0, 2, 1], 1).into(), "no key");
    let cameras = json(&relay.get("/api/v1/cameras", &[]));
    assert_eq!(cameras[0]["name"], "thief");
    assert_eq!(cameras[0]["state"]["why"], "no key");
    let urls = cameras[0]["urls"].as_object().expect("they are described");
    assert!(urls.values().all(Value::is_null), "{urls:?}");
}

#[test]
fn metrics_are_open_metrics() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&jpeg(64, 48));
    let answer = relay.get("/metrics", &[]);
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = answer.text();
    for line in [
        "camrelay_camera_state{camera=\"door\",state=\"live\"} 1",
        "camrelay_camera_state{camera=\"door\",state=\"stale\"} 0",
        "camrelay_stream_frames_total{camera=\"door\",stream=\"0\"} 1",
        "camrelay_stream_frames_dropped_total{camera=\"door\",stream=\"0\"} 0",
        "camrelay_camera_viewers{camera=\"door\",way=\"http\"} 0",
        "# TYPE camrelay_camera_frame_age_seconds gauge",
        "# UNIT camrelay_camera_frame_age_seconds seconds",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|there| there == line),
            "no {line} in:\n{text}"
        );
    }
}
