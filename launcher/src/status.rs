//! `launcher status`: how the cameras of a running relay are doing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use data_encoding::BASE64;

use crate::config::Deployment;
use crate::serve::http::api::model::Camera;

/// What an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Where a relay is when nothing is said.
const HERE: &str = "http://127.0.0.1:8080";
/// The largest answer that is read, in bytes: 1024 cameras and more.
const MAX_ANSWER: u64 = 16 << 20;

/// Asks the relay of that deployment, or the one at that URL, and prints a table, or
/// what the relay answered.
pub fn run(config: Option<&Path>, url: Option<&str>, json: bool) -> anyhow::Result<()> {
    let url = match (config, url) {
        (_, Some(url)) => url.to_owned(),
        (Some(config), None) => url_of(config)?,
        (None, None) => HERE.to_owned(),
    };
    let text = ask(&url)?;
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

/// Where the relay of a deployment is asked, on this machine.
fn url_of(config: &Path) -> anyhow::Result<String> {
    let deployment = Deployment::load(config)?;
    let http = deployment.http.with_context(|| {
        format!(
            "{} has no [http], so its relay cannot be asked; add one: [http]",
            config.display()
        )
    })?;
    if http.listen.port() == 0 {
        bail!(
            "{} lets the system pick the port; take the address that the relay printed: \
             launcher status --url http://127.0.0.1:PORT",
            config.display()
        );
    }
    let ip = match http.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!(
        "http://{}",
        SocketAddr::new(ip, http.listen.port())
    ))
}

/// What the relay says of its cameras.
fn ask(url: &str) -> anyhow::Result<String> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("expected an address such as {HERE}, found {url}"))?;
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    let host = host.split('/').next().unwrap_or_default();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(DEADLINE))
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into();
    let mut request = agent.get(format!("http://{host}/api/v1/cameras"));
    if let Some(login) = login {
        let code = BASE64.encode(login.as_bytes());
        request = request.header("Authorization", format!("Basic {code}"));
    }
    let mut answer = request.call().map_err(|error| {
        anyhow!("no relay answers at http://{host} ({error}): does it run, and has it an [http]?")
    })?;
    let text = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_string()
        .with_context(|| format!("the answer of http://{host} breaks off"))?;
    match answer.status().as_u16() {
        200 => Ok(text),
        401 => bail!(
            "the relay at {host} wants a login: launcher status --url http://NAME:PASSWORD@{host}"
        ),
        404 => bail!("http://{host} answers, but is no relay"),
        status => bail!("the relay at {host} answers {status}: {}", text.trim()),
    }
}

fn table(cameras: &[Camera]) -> String {
    if cameras.is_empty() {
        return "The relay runs, and has no camera yet.\n".to_owned();
    }
    let head = [
        "CAMERA", "STATE", "AGE", "SENDS", "RATE", "LOSS", "LOST", "VIEWERS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(cameras.iter().map(row));
    let widths: Vec<_> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |row: &[String; 8]| {
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
    }
    text
}

fn row(camera: &Camera) -> [String; 8] {
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
        rate,
        hop.map_or_else(nothing, |hop| format!("{:.1} %", hop.loss * 100.0)),
        hop.map_or_else(nothing, |hop| hop.lost.to_string()),
        (viewers.rtsp + viewers.http + viewers.webrtc).to_string(),
    ]
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
            viewers: Viewers {
                rtsp: 0,
                http: 0,
                webrtc: 0,
            },
            urls: Urls {
                snapshot: String::new(),
                mjpeg: String::new(),
                rtsp: None,
            },
        }
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
            malformed: 0,
        });
        door.hop = Some(Hop {
            delivered: 1,
            lost: 7,
            late: 0,
            repaired: 0,
            loss: 0.0123,
            rtt_ms: 1.0,
            delay_ms: None,
            bytes: 1,
        });
        door.viewers.http = 2;
        door.viewers.rtsp = 1;
        let mut thief = camera("thief", "refused");
        thief.state.why = Some("its key is not known".into());
        let mut gate = camera("gate", "gone");
        gate.age_ms = Some(303_000);
        assert_eq!(
            table(&[door, gate, thief]),
            "\
CAMERA  STATE    AGE    SENDS          RATE              LOSS   LOST  VIEWERS
door    live     35 ms  JPEG 1280x720  30/s 27.8 Mbit/s  1.2 %  7     3
gate    gone     5m 3s                 -                 -      -     0
thief   refused  -                     -                 -      -     0
thief: its key is not known
"
        );
    }
}
