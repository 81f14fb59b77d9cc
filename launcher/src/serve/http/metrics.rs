//! `GET /metrics`: what Prometheus collects, for each camera that the visitor may see.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::{self, Extension};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Site;
use super::answer::Refusal;
use super::api::model::{Camera, Hop};
use super::api::visible;
use super::guard::Asked;
use crate::relay::state::State;
use crate::users::Visitor;

/// What OpenMetrics calls its text.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Figure = Gauge<f64, AtomicU64>;

/// Answers with the figures as they are now.
pub async fn metrics(
    extract::State(site): extract::State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
    Extension(asked): Extension<Asked>,
) -> Result<impl IntoResponse, Refusal> {
    let text = text(&visible(&site, &visitor, &asked)).map_err(|_| {
        let why = "the figures cannot be written down";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn text(cameras: &[Camera]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("camrelay");
    cameras_as_such(&mut registry, cameras);
    streams(&mut registry, cameras);
    hops(&mut registry, cameras);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn cameras_as_such(registry: &mut Registry, cameras: &[Camera]) {
    let state = Family::<Labels, Gauge>::default();
    let age = Family::<Labels, Figure>::default();
    let viewers = Family::<Labels, Gauge>::default();
    let help = "1 for the state that a camera is in, 0 for the others";
    registry.register("camera_state", help, state.clone());
    let help = "Since the capture of the newest picture";
    registry.register_with_unit("camera_frame_age", help, Unit::Seconds, age.clone());
    let help = "How many watch, by the way of it";
    registry.register("camera_viewers", help, viewers.clone());
    for camera in cameras {
        for name in State::NAMES {
            let is_it = camera.state.name == name;
            let labels = labels_with(camera, "state", name);
            state.get_or_create(&labels).set(is_it.into());
        }
        if let Some(millis) = camera.age_ms {
            age.get_or_create(&labels(camera)).set(millis as f64 / 1e3);
        }
        for (way, count) in [
            ("rtsp", camera.viewers.rtsp),
            ("http", camera.viewers.http),
            ("webrtc", camera.viewers.webrtc),
        ] {
            viewers
                .get_or_create(&labels_with(camera, "way", way))
                .set(count as i64);
        }
    }
}

fn streams(registry: &mut Registry, cameras: &[Camera]) {
    let frames = counter(registry, "stream_frames", "Frames that came to the relay");
    let bytes = counter(registry, "stream_bytes", "Their bytes");
    let dropped = counter(
        registry,
        "stream_frames_dropped",
        "Frames dropped for viewers that did not keep up, each viewer's counted",
    );
    let malformed = counter(
        registry,
        "stream_frames_malformed",
        "Frames passed over as malformed, besides",
    );
    for camera in cameras {
        for stream in &camera.streams {
            let labels = labels_with(camera, "stream", stream.number);
            frames.get_or_create(&labels).inc_by(stream.frames);
            bytes.get_or_create(&labels).inc_by(stream.bytes);
            dropped.get_or_create(&labels).inc_by(stream.dropped);
            malformed.get_or_create(&labels).inc_by(stream.malformed);
        }
    }
}

fn hops(registry: &mut Registry, cameras: &[Camera]) {
    type Count = fn(&Hop) -> u64;
    let counts: [(&str, &str, Count); 9] = [
        (
            "hop_frames_captured",
            "Frames that the camera captured since it connected",
            |hop| hop.captured,
        ),
        ("hop_frames_sent", "Frames that it sent", |hop| hop.sent),
        (
            "hop_frames_delivered",
            "Frames that came whole and in time",
            |hop| hop.delivered,
        ),
        ("hop_frames_lost", "Frames that never came whole", |hop| {
            hop.lost
        }),
        (
            "hop_frames_late",
            "Frames still arriving when their time was over",
            |hop| hop.late,
        ),
        (
            "hop_frames_undecodable",
            "Whole frames of no use, as a lost one is needed to decode them",
            |hop| hop.undecodable,
        ),
        (
            "hop_frames_repaired",
            "Frames that lacked something on arrival and were made whole",
            |hop| hop.repaired,
        ),
        (
            "hop_received_bytes",
            "Bytes received from the camera",
            |hop| hop.bytes,
        ),
        (
            "hop_overflow_datagrams",
            "Datagrams to the relay's port, of whatever camera, that came faster than it read",
            |hop| hop.overflow,
        ),
    ];
    let hops = || (cameras.iter()).filter_map(|camera| Some((camera, camera.hop.as_ref()?)));
    for (name, help, count) in counts {
        let family = counter(registry, name, help);
        for (camera, hop) in hops() {
            family.get_or_create(&labels(camera)).inc_by(count(hop));
        }
    }
    let (loss, rtt, delay) = (
        Family::<Labels, Figure>::default(),
        Family::<Labels, Figure>::default(),
        Family::<Labels, Figure>::default(),
    );
    let help = "Share of datagrams that the network loses, 0 to 1";
    registry.register("hop_loss_ratio", help, loss.clone());
    let help = "To the camera and back";
    registry.register_with_unit("hop_round_trip", help, Unit::Seconds, rtt.clone());
    let help = "From the capture of the newest frame to its arrival";
    registry.register_with_unit("hop_delay", help, Unit::Seconds, delay.clone());
    for (camera, hop) in hops() {
        let labels = labels(camera);
        loss.get_or_create(&labels).set(hop.loss);
        rtt.get_or_create(&labels).set(hop.rtt_ms / 1e3);
        if let Some(millis) = hop.delay_ms {
            delay.get_or_create(&labels).set(millis / 1e3);
        }
    }
}

/// A new counter, to whose name `_total` is added.
fn counter(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Counter> {
    let family = Family::<Labels, Counter>::default();
    registry.register(name, help, family.clone());
    family
}

fn labels(camera: &Camera) -> Labels {
    vec![("camera", camera.name.clone())]
}

fn labels_with(camera: &Camera, key: &'static str, value: impl ToString) -> Labels {
    vec![("camera", camera.name.clone()), (key, value.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::serve::http::api::model::{self, Served, State, Urls, Viewers};

    #[test]
    fn every_figure_of_a_hop_is_under_its_own_name() {
        gst::init().expect("GStreamer starts");
        let door = Camera {
            name: "door".into(),
            state: State {
                name: "live".into(),
                since: None,
                why: None,
            },
            age_ms: Some(1500),
            streams: Vec::new(),
            hop: Some(model::tests::hop()),
            served: Served::default(),
            viewers: Viewers {
                rtsp: 1,
                http: 2,
                webrtc: 3,
            },
            urls: Urls::default(),
        };
        let text = text(&[door]).expect("it can be written");
        let found: Vec<_> = text
            .lines()
            .filter(|line| line.contains("_hop_") && !line.starts_with('#'))
            .collect();
        let expected = [
            ("frames_captured_total", "101"),
            ("frames_sent_total", "102"),
            ("frames_delivered_total", "103"),
            ("frames_lost_total", "104"),
            ("frames_late_total", "105"),
            ("frames_undecodable_total", "107"),
            ("frames_repaired_total", "1106"),
            ("received_bytes_total", "108"),
            ("overflow_datagrams_total", "109"),
            ("loss_ratio", "0.25"),
            ("round_trip_seconds", "0.0125"),
            ("delay_seconds", "0.0345"),
        ];
        let expected =
            expected.map(|(name, value)| format!("camrelay_hop_{name}{{camera=\"door\"}} {value}"));
        assert_eq!(found, expected);
        for line in [
            "camrelay_camera_frame_age_seconds{camera=\"door\"} 1.5",
            "camrelay_camera_viewers{camera=\"door\",way=\"rtsp\"} 1",
            "camrelay_camera_viewers{camera=\"door\",way=\"http\"} 2",
            "camrelay_camera_viewers{camera=\"door\",way=\"webrtc\"} 3",
        ] {
            assert!(
                text.lines().any(|there| there == line),
                "no {line} in:\n{text}"
            );
        }
    }
}
