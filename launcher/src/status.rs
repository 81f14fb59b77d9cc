//! `launcher status`: how the cameras of a running relay are doing.

mod ask;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use self::ask::Relay;
use crate::config::Deployment;
use crate::serve::http::api::model::Camera;

/// Where a relay is when nothing is said.
const HERE: &str = "http://127.0.0.1:8080";

/// Which relay is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Its deployment.
    pub config: Option<PathBuf>,
    /// Where it is, instead.
    pub url: Option<String>,
    /// The file of the certificate that it has to show there.
    pub certificate: Option<PathBuf>,
}

/// Asks a relay, and prints a table, or what it answered.
pub fn run(which: &Which, json: bool) -> anyhow::Result<()> {
    let (url, certificate) = match (&which.config, &which.url) {
        (_, Some(url)) => (url.clone(), which.certificate.clone()),
        (Some(config), None) => place_of(config)?,
        (None, None) => (HERE.to_owned(), None),
    };
    let text = Relay::at(&url, certificate.as_deref())?.ask("/api/v1/cameras")?;
    if json {
        println!("{text}");
        return Ok(());
    }
    let cameras: Vec<Camera> = serde_json::from_str(&text).with_context(|| {
        format!("{url} answers, but not as a relay of this version: is it one?")
    })?;
    print!("{}", table(&cameras));
    Ok(())
}

/// Where the relay of a deployment is asked, on this machine, and the certificate that it
/// shows.
fn place_of(config: &Path) -> anyhow::Result<(String, Option<PathBuf>)> {
    let deployment = Deployment::load(config)?;
    let http = deployment.http.with_context(|| {
        format!(
            "{} has no [http], so its relay cannot be asked; add one: [http]",
            config.display()
        )
    })?;
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    if http.listen.port() == 0 {
        bail!(
            "{} lets the system pick the port; take the address that the relay printed: \
             launcher status --url {scheme}://127.0.0.1:PORT",
            config.display()
        );
    }
    let ip = match http.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, http.listen.port());
    let certificate = http.tls.map(|tls| tls.certificate);
    Ok((format!("{scheme}://{address}"), certificate))
}

fn table(cameras: &[Camera]) -> String {
    if cameras.is_empty() {
        return "The relay runs, and has no camera yet.\n".to_owned();
    }
    let head = [
        "CAMERA",
        "STATE",
        "AGE",
        "SENDS",
        "PLAYERS GET",
        "RATE",
        "LOSS",
        "LOST",
        "VIEWERS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(cameras.iter().map(row));
    let widths: Vec<_> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text: String = rows.iter().map(line).collect();
    for camera in cameras {
        if let Some(why) = &camera.state.why {
            text += &format!("{}: {why}\n", camera.name);
        }
        for stream in &camera.streams {
            if let Some(why) = &stream.malformed_why {
                let (name, count) = (&camera.name, stream.malformed);
                text += &format!("{name}: {count} frames were malformed, the last one: {why}\n");
            }
        }
    }
    text
}

fn row(camera: &Camera) -> [String; 9] {
    let nothing = || "-".to_owned();
    let streams = camera.streams.iter();
    let sends: Vec<_> = streams
        .map(|stream| {
            let codec = stream.codec.as_deref().unwrap_or("?");
            match stream.width.zip(stream.height) {
                Some((width, height)) => format!("{codec} {width}x{height}"),
                None => codec.to_owned(),
            }
        })
        .collect();
    let rate = camera.streams.first().map_or_else(nothing, |stream| {
        format!("{:.0}/s {:.1} Mbit/s", stream.fps, stream.bitrate / 1e6)
    });
    let hop = camera.hop.as_ref();
    let viewers = &camera.viewers;
    [
        camera.name.clone(),
        camera.state.name.clone(),
        camera.age_ms.map_or_else(nothing, age),
        sends.join(", "),
        (camera.served.rtsp.as_deref()).map_or_else(nothing, |words| coding(words).to_owned()),
        rate,
        hop.map_or_else(nothing, |hop| format!("{:.1} %", hop.loss * 100.0)),
        hop.map_or_else(nothing, |hop| hop.lost.to_string()),
        (viewers.rtsp + viewers.http + viewers.webrtc).to_string(),
    ]
}

/// The coding alone, of the words about as what pictures are sent.
fn coding(words: &str) -> &str {
    words.split([',', ':']).next().unwrap_or_default()
}

/// `35 ms`, `12 s`, `5m 3s`.
fn age(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{} s", millis / 1_000),
        _ => humantime::format_duration(Duration::from_secs(millis / 1_000)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::serve::http::api::model::{Hop, Served, State, Stream, Urls, Viewers};

    fn camera(name: &str, state: &str) -> Camera {
        Camera {
            name: name.into(),
            state: State {
                name: state.into(),
                since: None,
                why: None,
            },
            age_ms: None,
            streams: Vec::new(),
            hop: None,
            served: Served::default(),
            viewers: Viewers::default(),
            urls: Urls::default(),
        }
    }

    #[test]
    fn a_deployment_says_where_its_relay_is_and_what_it_shows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let place = |http: &str| {
            std::fs::write(path("f.toml"), format!("[relay]\n[http]\n{http}")).expect("a file");
            place_of(&path("f.toml")).map_err(|error| format!("{error:#}"))
        };
        let plain = place("listen = \"0.0.0.0:8081\"\n");
        assert_eq!(plain, Ok(("http://127.0.0.1:8081".into(), None)));
        crate::keys::make_certificate(&path("a.crt"), &path("a.key"), &[]).expect("a pair");
        let tls = "certificate = \"a.crt\"\nprivate-key = \"a.key\"\n";
        let secure = place(&format!("listen = \"[::]:8081\"\n{tls}"));
        let expected = ("https://[::1]:8081".into(), Some(path("a.crt")));
        assert_eq!(secure, Ok(expected));
        let any = place(&format!("listen = \"127.0.0.1:0\"\n{tls}"));
        assert!(any.is_err_and(|why| why.contains("--url https://127.0.0.1:PORT")));
    }

    #[test]
    fn is_a_table_that_a_person_reads() {
        assert_eq!(table(&[]), "The relay runs, and has no camera yet.\n");
        let mut door = camera("door", "live");
        door.age_ms = Some(35);
        door.streams.push(Stream {
            number: 0,
            codec: Some("JPEG".into()),
            width: Some(1280),
            height: Some(720),
            fps: 29.97,
            bitrate: 27_840_000.0,
            frames: 1,
            bytes: 1,
            dropped: 0,
            malformed: 12,
            malformed_why: Some("its end is missing".into()),
        });
        door.hop = Some(Hop {
            captured: 1,
            sent: 1,
            delivered: 1,
            lost: 7,
            late: 0,
            repaired: 0,
            undecodable: 0,
            loss: 0.0123,
            rtt_ms: 1.0,
            delay_ms: None,
            bytes: 1,
            overflow: 0,
        });
        let words = "JPEG re-coded, its Huffman tables replaced without loss: RTP has no others";
        door.served.rtsp = Some(words.into());
        door.viewers.http = 2;
        door.viewers.rtsp = 1;
        let mut thief = camera("thief", "refused");
        thief.state.why = Some("its key is not known".into());
        let mut gate = camera("gate", "gone");
        gate.age_ms = Some(303_000);
        assert_eq!(
            table(&[door, gate, thief]),
            "\
CAMERA  STATE    AGE    SENDS          PLAYERS GET    RATE              LOSS   LOST  VIEWERS
door    live     35 ms  JPEG 1280x720  JPEG re-coded  30/s 27.8 Mbit/s  1.2 %  7     3
gate    gone     5m 3s                 -              -                 -      -     0
thief   refused  -                     -              -                 -      -     0
door: 12 frames were malformed, the last one: its end is missing
thief: its key is not known
"
        );
    }
}
