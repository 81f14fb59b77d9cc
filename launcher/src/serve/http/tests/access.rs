//! Who may do what, and under which name.

use std::io::{Read, Write};
use std::net::TcpStream;

use data_encoding::BASE64;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use super::*;
use crate::users::{Right, password};

/// A user whose password is their name.
pub fn user(name: &str, rights: &[Right], cameras: &[&str]) -> User {
    User {
        name: name.into(),
        password: password::hash(name).expect("a hash"),
        rights: rights.to_vec(),
        cameras: cameras.iter().map(|camera| (*camera).to_owned()).collect(),
    }
}

/// The header line by which somebody logs in.
pub fn login(name: &str, password: &str) -> String {
    let login = BASE64.encode(format!("{name}:{password}").as_bytes());
    format!("Authorization: Basic {login}")
}

#[test]
fn what_is_not_there_is_not_told_to_strangers() {
    let relay = Relay::with(&[user("ann", &[Right::View], &["door"])]);
    for path in [
        "/nothing",
        "/cameras/door/snapshot.jpg",
        "/cameras/none/snapshot.jpg",
    ] {
        let answer = relay.get(path, &[]);
        assert_eq!(answer.status, 401, "{path}");
        assert!(
            answer
                .header("www-authenticate")
                .starts_with("Basic realm=")
        );
    }
    let login = login("ann", "ann");
    assert_eq!(relay.get("/nothing", &[&login]).status, 404);
    let answer = relay.get("/cameras/gate/snapshot.jpg", &[&login]);
    assert_eq!(answer.status, 403);
    assert_eq!(answer.text(), "user ann may not see camera gate\n");
}

#[test]
fn answers_only_to_its_own_names() {
    let relay = Relay::start();
    let status = |host: &str| relay.get("/healthz", &[&format!("Host: {host}")]).status;
    for host in ["127.0.0.1", "localhost:1", "[::1]:8080", "cams.example.org"] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8080", "org"] {
        assert_eq!(status(host), 421, "{host}");
    }
    for host in ["", "a b", "user@127.0.0.1", "127.0.0.1:x"] {
        assert_eq!(status(host), 400, "{host}");
    }
    let twice = ["Host: 127.0.0.1", "Host: 127.0.0.1"];
    assert_eq!(relay.get("/healthz", &twice).status, 400);
    let evil = relay.get("http://evil.example/healthz", &["Host: 127.0.0.1"]);
    assert_eq!(evil.status, 400);
    let mut client = Client::connect(relay.address());
    client.send(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 400, "no name at all");
}

#[test]
fn other_sites_may_not_act() {
    let relay = Relay::start();
    let evil = "Origin: http://evil.example";
    let own = format!("Origin: http://{}", relay.address());
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
    for method in ["POST", "DELETE", "PUT", "OPTIONS"] {
        assert_eq!(
            relay
                .ask(method, "/healthz", &[evil, "Content-Length: 0"])
                .status,
            403
        );
        assert_eq!(
            relay
                .ask(method, "/healthz", &["Origin: null", "Content-Length: 0"])
                .status,
            403
        );
        assert_eq!(
            relay
                .ask(method, "/healthz", &[&own, "Content-Length: 0"])
                .status,
            405
        );
    }
    assert_eq!(
        relay
            .get("/healthz", &[evil, upgrade[0], upgrade[1]])
            .status,
        403
    );
    assert_eq!(
        relay
            .get("/healthz", &[&own, upgrade[0], upgrade[1]])
            .status,
        200
    );
}

#[test]
fn every_answer_keeps_other_sites_out() {
    let relay = Relay::with(&[user("ann", &[Right::View], &["door"])]);
    for (path, headers, status) in [
        ("/healthz", vec![], 200),
        ("/nothing", vec![], 401),
        ("/nothing", vec![login("ann", "ann")], 404),
        ("/healthz", vec!["Host: evil.example".to_owned()], 421),
    ] {
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let answer = relay.get(path, &headers);
        assert_eq!(answer.status, status);
        for (name, part) in [
            ("content-security-policy", "default-src 'none'"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert!(answer.header(name).contains(part), "{name} of {path}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let relay = Relay::start();
    let large = format!("X: {}", "x".repeat(20 << 10));
    assert_eq!(relay.get("/healthz", &[&large]).status, 431);
    let mut client = Client::connect(relay.address());
    client.send(b"no HTTP at all\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    assert!(client.rest().is_empty(), "and the connection is closed");
}

#[test]
fn tls_and_plain_share_the_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, private_key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
    crate::keys::make_certificate(&certificate, &private_key, &[]).expect("they are made");
    let trusted = CertificateDer::from_pem_file(&certificate).expect("a certificate");
    let relay = Relay::of(
        &[],
        Some(Tls {
            certificate,
            private_key,
        }),
    );
    let _camera = relay.camera("door", "image/jpeg");
    let address = relay.address();

    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("good settings");
    let mut socket = TcpStream::connect(address).expect("it connects");
    let mut stream = Stream::new(&mut connection, &mut socket);
    let ask =
        format!("GET /api/v1/cameras HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("it sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an end");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let url = |scheme| format!("{scheme}://{address}/cameras/door/snapshot.jpg");
    assert!(answer.contains(&url("https")), "{answer}");

    let plain = relay.get("/api/v1/cameras", &[]).text();
    assert!(plain.contains(&url("http")), "{plain}");
}
