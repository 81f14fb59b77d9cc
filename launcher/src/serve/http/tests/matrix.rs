//! Every route, asked for by everybody with every method.

use std::collections::BTreeSet;

use super::super::router::routes;
use super::access::{login, user};
use super::*;
use crate::users::Right;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Who asks: nobody; ann, who may view door; bob, who may view gate; cam, who may publish
/// everything; ada, who is admin of gate; eve, who is admin of everything.
const WHO: [&str; 6] = ["", "ann", "bob", "cam", "ada", "eve"];

/// A path, its methods (`*`: all others), and what each of [`WHO`] is answered. The camera
/// door is here and has sent a picture.
const MATRIX: [(&str, &str, [u16; 6]); 30] = [
    ("/", "GET HEAD", [401, 200, 200, 403, 200, 200]),
    ("/", "*", [401, 405, 405, 403, 405, 405]),
    ("/page/page.js", "GET HEAD", [401, 200, 200, 403, 200, 200]),
    ("/page/page.js", "*", [401, 405, 405, 403, 405, 405]),
    ("/embed/door", "GET HEAD", [401, 200, 403, 403, 403, 200]),
    ("/embed/door", "*", [401, 405, 403, 403, 403, 405]),
    ("/healthz", "GET HEAD", [200; 6]),
    ("/healthz", "*", [405; 6]),
    ("/metrics", "GET HEAD", [401, 200, 200, 403, 200, 200]),
    ("/metrics", "*", [401, 405, 405, 403, 405, 405]),
    (
        "/api/v1/openapi.json",
        "GET HEAD",
        [401, 200, 200, 403, 200, 200],
    ),
    ("/api/v1/openapi.json", "*", [401, 405, 405, 403, 405, 405]),
    (
        "/api/v1/cameras",
        "GET HEAD",
        [401, 200, 200, 403, 200, 200],
    ),
    ("/api/v1/cameras", "*", [401, 405, 405, 403, 405, 405]),
    (
        "/api/v1/cameras/door",
        "GET HEAD",
        [401, 200, 403, 403, 403, 200],
    ),
    // It is here, so that not even who may have it forgotten can.
    (
        "/api/v1/cameras/door",
        "DELETE",
        [401, 403, 403, 403, 403, 409],
    ),
    ("/api/v1/cameras/door", "*", [401, 405, 403, 403, 403, 405]),
    // It is asked for as no WebSocket.
    ("/api/v1/wall", "GET HEAD", [401, 400, 400, 403, 400, 400]),
    ("/api/v1/wall", "*", [401, 405, 405, 403, 405, 405]),
    (
        "/cameras/door/snapshot.jpg",
        "GET HEAD",
        [401, 200, 403, 403, 403, 200],
    ),
    (
        "/cameras/door/snapshot.jpg",
        "*",
        [401, 405, 403, 403, 403, 405],
    ),
    (
        "/cameras/door/stream.mjpeg",
        "GET HEAD",
        [401, 200, 403, 403, 403, 200],
    ),
    (
        "/cameras/door/stream.mjpeg",
        "*",
        [401, 405, 403, 403, 403, 405],
    ),
    // Nothing is offered, and there is no session.
    ("/cameras/door/whep", "POST", [401, 415, 403, 403, 403, 415]),
    ("/cameras/door/whep", "*", [401, 405, 403, 403, 403, 405]),
    (
        "/cameras/door/whep/none",
        "DELETE",
        [401, 404, 403, 403, 403, 404],
    ),
    (
        "/cameras/door/whep/none",
        "*",
        [401, 405, 403, 403, 403, 405],
    ),
    ("/nothing", "GET HEAD", [401, 404, 404, 403, 404, 404]),
    ("/nothing", "*", [401, 404, 404, 403, 404, 404]),
    ("/cameras/door", "*", [401, 404, 404, 403, 404, 404]),
];

/// The lines of the matrix by method, one for each cell of them.
fn lines() -> impl Iterator<Item = (&'static str, &'static str, [u16; 6])> {
    MATRIX.into_iter().flat_map(|(path, methods, expected)| {
        let named = move |method: &str| {
            let mut lines = MATRIX.iter().filter(|(other, ..)| *other == path);
            lines.any(|(_, methods, _)| methods.split(' ').any(|one| one == method))
        };
        let methods = METHODS.into_iter().filter(move |method| match methods {
            "*" => !named(method),
            _ => methods.split(' ').any(|one| one == *method),
        });
        methods.map(move |method| (method, path, expected))
    })
}

#[test]
fn the_matrix_has_every_route_and_no_other() {
    let templates = |path: &str| {
        let path = path.replace("/page/page.js", "/page/{file}");
        path.replace("door", "{name}").replace("none", "{id}")
    };
    let written: BTreeSet<_> = MATRIX
        .iter()
        .filter(|(_, methods, _)| *methods != "*")
        .flat_map(|(path, methods, _)| methods.split(' ').map(move |method| (method, path)))
        .filter(|(method, path)| *method != "HEAD" && **path != "/nothing")
        .map(|(method, path)| format!("{method} {}", templates(path)))
        .collect();
    let table = routes();
    let routes = table.iter();
    let routes = routes.map(|route| format!("{} {}", route.method, route.path));
    assert_eq!(written, routes.collect());
}

#[test]
fn no_cell_of_the_matrix_is_wrong() {
    let relay = Relay::with(&[
        user("ann", &[Right::View], &["door"]),
        user("bob", &[Right::View], &["gate"]),
        user("cam", &[Right::Publish], &["*"]),
        user("ada", &[Right::Admin], &["gate"]),
        user("eve", &[Right::Admin], &["*"]),
    ]);
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&jpeg(64, 48));
    let ask = |method: &str, path: &str, login: Option<String>| {
        let mut client = Client::connect(relay.address());
        let mut headers = vec!["Content-Length: 0", "Connection: close"];
        headers.extend(login.as_deref());
        client.ask(method, path, &headers);
        client.status()
    };
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (method, path, expected) in lines() {
        for (who, expected) in WHO.into_iter().zip(expected) {
            let login = (!who.is_empty()).then(|| login(who, who));
            let found = ask(method, path, login);
            cells += 1;
            if found != expected {
                wrong.push(format!(
                    "{method} {path} by {who:?}: {found}, not {expected}"
                ));
            }
        }
    }
    let paths: BTreeSet<_> = MATRIX.iter().map(|(path, ..)| path).collect();
    assert_eq!(cells, paths.len() * METHODS.len() * WHO.len());
    // A few wrong passwords are enough; more of them would be taken for guessing.
    for (method, path, [nobody, ..]) in lines().step_by(20).take(4) {
        let found = ask(method, path, Some(login("ann", "x")));
        if found != nobody {
            wrong.push(format!("{method} {path} with a wrong password: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
