//! A camera with everything worked out: its source, and where it sends to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;

use super::OwnRelay;
use crate::config::{Camera, Deployment, Errors, Source};

/// What is needed to run one camera.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Where its pictures come from.
    pub source: Source,
    /// gst-launch text of the encoder, if the deployment has one.
    pub encode: Option<String>,
    /// The relay's name or address.
    pub host: String,
    /// The relay's UDP port.
    pub port: u16,
    /// A token, or the path of the file that has one.
    pub key: Option<String>,
    /// How long past its travel time a frame may take to arrive.
    pub latency: Duration,
}

/// The plan of every camera of the deployment.
pub fn plans(deployment: &Deployment, own: Option<&OwnRelay>) -> anyhow::Result<Vec<Plan>> {
    deployment
        .cameras
        .iter()
        .map(|camera| plan(deployment, camera, own))
        .collect()
}

fn plan(deployment: &Deployment, camera: &Camera, own: Option<&OwnRelay>) -> anyhow::Result<Plan> {
    let folder = deployment.path.parent().unwrap_or(Path::new(""));
    let source = Source::parse(&camera.source, folder)
        .map_err(|expected| anyhow!("camera {}: {}", camera.name, expected.but_found("that")))?;
    let mut key = camera
        .key
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    let (host, port) = match &camera.relay {
        Some(relay) => host_port(relay)
            .ok_or_else(|| anyhow!("camera {}: '{relay}' is no relay", camera.name))?,
        None => {
            let listen = match (own, &deployment.relay) {
                (Some(own), _) => {
                    key = key.or_else(|| own.key.clone());
                    own.listen
                }
                (None, Some(relay)) if relay.listen.port() != 0 => relay.listen,
                _ => {
                    let message = format!(
                        "camera '{}' needs a relay, such as relay = \"127.0.0.1:8000\", as the \
                         port of this file's [relay] is chosen when that runs",
                        camera.name
                    );
                    return Err(Errors::of_file(&deployment.path, message).into());
                }
            };
            (reachable(listen.ip()).to_string(), listen.port())
        }
    };
    Ok(Plan {
        name: camera.name.clone(),
        source,
        encode: camera.encode.clone(),
        host,
        port,
        key,
        latency: camera.latency,
    })
}

/// Where this machine reaches a socket that listens on `address`.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// The parts of `host:port`, `1.2.3.4:port` or `[1::2]:port`.
fn host_port(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn deployment(listen: &str, relay: Option<&str>) -> Deployment {
        let listen = listen.parse().unwrap();
        Deployment {
            path: PathBuf::from("f.toml"),
            relay: Some(crate::config::Relay {
                listen,
                accept: camrelay_protocol::Accept::Lan,
                access: None,
                latency: Duration::from_millis(120),
                key: None,
                cameras: None,
            }),
            rtsp: None,
            http: None,
            users: Vec::new(),
            cameras: vec![Camera {
                name: "door".into(),
                source: "videotestsrc".into(),
                encode: None,
                relay: relay.map(str::to_owned),
                key: None,
                latency: Duration::from_millis(120),
            }],
        }
    }

    #[test]
    fn finds_the_relay() {
        for (listen, relay, host, port) in [
            ("0.0.0.0:8000", None, "127.0.0.1", 8000),
            ("[::]:8000", None, "::1", 8000),
            ("10.0.0.1:9000", None, "10.0.0.1", 9000),
            ("0.0.0.0:0", Some("there.local:9000"), "there.local", 9000),
            ("0.0.0.0:0", Some("[fd00::1]:9000"), "fd00::1", 9000),
        ] {
            let plans = plans(&deployment(listen, relay), None).unwrap();
            assert_eq!((plans[0].host.as_str(), plans[0].port), (host, port));
        }
    }

    #[test]
    fn prefers_the_relay_of_this_process() {
        let own = OwnRelay {
            listen: "0.0.0.0:41234".parse().unwrap(),
            key: Some("camrelay1.x".into()),
        };
        let own_plan = plans(&deployment("0.0.0.0:0", None), Some(&own)).unwrap();
        assert_eq!(own_plan[0].port, 41234);
        assert_eq!(own_plan[0].key, own.key);
        let other = plans(&deployment("0.0.0.0:0", Some("there:9000")), Some(&own)).unwrap();
        assert_eq!(other[0].port, 9000);
        assert_eq!(other[0].key, None);
    }

    #[test]
    fn says_that_a_chosen_port_is_not_known() {
        let error = plans(&deployment("0.0.0.0:0", None), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.toml: camera 'door' needs a relay, such as relay = \"127.0.0.1:8000\", as the port \
             of this file's [relay] is chosen when that runs"
        );
    }
}
