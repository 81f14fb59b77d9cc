//! A relay with moving test pictures and the webcams of this machine.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use camrelay_protocol::{Accept, DEFAULT_PORT};
use gst::prelude::*;

use crate::config::{Camera, Deployment, Http, Relay, Rtsp};
use crate::relay::{self, Addresses, address};
use crate::stop::Stop;

/// The TCP port of RTSP where nothing else is said and port 554 is for the system.
const RTSP_PORT: u16 = 8554;
/// The TCP port of HTTP where nothing else is said and port 80 is for the system.
const HTTP_PORT: u16 = 8080;
/// As deployments have it.
const LATENCY: Duration = Duration::from_millis(120);
/// Patterns that move and cost little: two of them are a quarter of one core.
const PATTERNS: [&str; 2] = ["ball", "smpte horizontal-speed=4"];

/// Runs the demo until `stop`.
pub fn run(stop: Stop) -> anyhow::Result<()> {
    let deployment = deployment(webcams());
    let names: Vec<_> = deployment
        .cameras
        .iter()
        .map(|camera| camera.name.as_str())
        .collect();
    // Invites only where the demo lets in.
    let network = address::in_network().filter(|ip| Accept::Lan.allows(*ip));
    relay::run_and_tell(&deployment, &stop, |addresses| {
        println!("{}", invitation(&names, addresses, network));
    })
}

/// Two test cameras and these webcams, by device.
fn deployment(webcams: Vec<String>) -> Deployment {
    let tests = PATTERNS.iter().enumerate().map(|(number, pattern)| {
        let clock = match gst::ElementFactory::find("clockoverlay") {
            Some(_) => " ! clockoverlay time-format=\"%H:%M:%S\" font-desc=\"Sans 24\"",
            None => "",
        };
        let source = format!(
            "videotestsrc is-live=true pattern={pattern} \
             ! video/x-raw,format=I420,width=1280,height=720,framerate=30/1{clock}"
        );
        camera(format!("test{}", number + 1), source)
    });
    let webcams = webcams.into_iter().enumerate();
    let webcams = webcams.map(|(number, device)| camera(format!("webcam{}", number + 1), device));
    Deployment {
        path: PathBuf::from("the demo"),
        relay: Some(Relay {
            listen: free_udp(DEFAULT_PORT),
            accept: Accept::Lan,
            access: None,
            latency: LATENCY,
            key: None,
            cameras: None,
        }),
        rtsp: Some(Rtsp {
            listen: free_tcp(RTSP_PORT),
            ports: None,
            tls: None,
        }),
        http: Some(Http {
            listen: free_tcp(HTTP_PORT),
            hosts: Vec::new(),
            tls: None,
        }),
        users: Vec::new(),
        cameras: tests.chain(webcams).collect(),
    }
}

fn camera(name: String, source: String) -> Camera {
    Camera {
        name,
        source,
        encode: None,
        relay: None,
        key: None,
        latency: LATENCY,
    }
}

/// The devices of the webcams that the system lists.
fn webcams() -> Vec<String> {
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Video/Source"), None);
    if let Err(error) = monitor.start() {
        tracing::warn!("webcams are not looked for: {error}");
        return Vec::new();
    }
    let mut devices: Vec<_> = monitor
        .devices()
        .iter()
        .filter_map(|device| {
            let properties = device.properties()?;
            ["device.path", "api.v4l2.path"]
                .iter()
                .find_map(|name| properties.get::<String>(*name).ok())
        })
        .collect();
    monitor.stop();
    devices.sort_unstable();
    devices.dedup();
    devices
}

/// Every address with this port, or with one that the system picks where it is taken.
fn free_udp(port: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    or_any(address, UdpSocket::bind(address).is_ok())
}

/// See [`free_udp`].
fn free_tcp(port: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    or_any(address, TcpListener::bind(address).is_ok())
}

fn or_any(mut address: SocketAddr, is_free: bool) -> SocketAddr {
    if !is_free {
        tracing::warn!("port {} is taken, so another one is used", address.port());
        address.set_port(0);
    }
    address
}

/// What to open, for a person.
fn invitation(names: &[&str], addresses: &Addresses, network: Option<IpAddr>) -> String {
    let hosts = [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), network];
    let port = addresses.http.map_or(HTTP_PORT, |address| address.port());
    let pages = hosts
        .iter()
        .flatten()
        .map(|host| format!("http://{}/", SocketAddr::new(*host, port)));
    let pages: Vec<_> = pages.collect();
    let mut text = format!(
        "\nWatch in a browser:\n  {}\nor in ffplay, mpv or any RTSP player:\n",
        pages.join("   ")
    );
    let url = |host: IpAddr, name: &str| {
        let port = addresses.rtsp.map_or(RTSP_PORT, |address| address.port());
        format!("rtsp://{}/{name}", SocketAddr::new(host, port))
    };
    for name in names {
        let urls: Vec<_> = hosts
            .iter()
            .flatten()
            .map(|host| url(*host, name))
            .collect();
        let _ = writeln!(text, "  {}", urls.join("   "));
    }
    if network.is_some() {
        text += "The second address is for other machines of this network.\n";
    }
    let host = network.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let port = addresses.cameras.port();
    let _ = write!(
        text,
        "Add a camera of your own:\n  \
         gst-launch-1.0 videotestsrc is-live=true ! jpegenc ! camrelaysink host={host} port={port} camera=mine\n\
         Ctrl-C stops the demo.\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invites_to_every_camera_here_and_in_the_network() {
        let addresses = Addresses {
            cameras: ([0, 0, 0, 0], 8000).into(),
            rtsp: Some(([0, 0, 0, 0], 8554).into()),
            http: Some(([0, 0, 0, 0], 8080).into()),
        };
        let network = Some([192, 0, 2, 7].into());
        let text = invitation(&["test1", "webcam1"], &addresses, network);
        for name in ["test1", "webcam1"] {
            for host in ["127.0.0.1", "192.0.2.7"] {
                let address = format!("rtsp://{host}:8554/{name}");
                assert!(text.contains(&address), "{text}");
                assert!(text.contains(&format!("http://{host}:8080/")), "{text}");
            }
        }
        let alone = invitation(&["test1"], &addresses, None);
        assert!(!alone.contains("other machines"), "{alone}");
    }

    #[test]
    fn has_two_test_cameras_and_the_webcams() {
        gst::init().expect("GStreamer starts");
        let deployment = deployment(vec!["/dev/video0".into()]);
        let names: Vec<_> = deployment
            .cameras
            .iter()
            .map(|camera| &*camera.name)
            .collect();
        assert_eq!(names, ["test1", "test2", "webcam1"]);
        assert_eq!(deployment.cameras[2].source, "/dev/video0");
        for camera in &deployment.cameras[..2] {
            gst::parse::launch(&format!("{} ! fakesink", camera.source)).expect("good text");
        }
    }

    #[test]
    fn finds_another_port_where_its_own_is_taken() {
        let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = taken.local_addr().expect("it has an address").port();
        assert_eq!(free_udp(port).port(), 0);
        let free = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        assert_eq!(or_any(free, true), free);
    }
}
