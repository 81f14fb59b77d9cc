//! `GET /metrics`: what Prometheus collects, for each camera that the visitor may see.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Site;
use super::answer::Refusal;
use super::api::{model::Camera, visible};
use super::guard::Asked;
use crate::users::Visitor;

/// What OpenMetrics calls its text.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Figure = Gauge<f64, AtomicU64>;

/// Answers with the figures as they are now.
pub async fn metrics(
    State(site): State<Arc<Site>>,
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
    registry.register(
        "camera_state",
        "1 for the state that a camera is in",
        state.clone(),
    );
    let help = "Since the capture of the newest picture";
    registry.register_with_unit("frame_age", help, Unit::Seconds, age.clone());
    registry.register(
        "viewers",
        "How many watch, by the way of it",
        viewers.clone(),
    );
    for camera in cameras {
        let labels_of_state = labels_with(camera, "state", &camera.state.name);
        state.get_or_create(&labels_of_state).set(1);
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
    let mut family = |name: &str, help: &str| {
        let family = Family::<Labels, Counter>::default();
        registry.register(name, help, family.clone());
        family
    };
    let frames = family("frames", "Frames passed on to viewers, by stream");
    let bytes = family("frame_bytes", "Their bytes");
    let dropped = family(
        "frames_dropped",
        "Frames dropped for viewers that did not keep up",
    );
    let malformed = family("frames_malformed", "Frames passed over as malformed");
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
    let mut counter = |name: &str, help: &str| {
        let family = Family::<Labels, Counter>::default();
        registry.register(name, help, family.clone());
        family
    };
    let delivered = counter(
        "hop_frames_delivered",
        "Frames that came whole from the camera",
    );
    let lost = counter("hop_frames_lost", "Frames that never came whole");
    let late = counter("hop_frames_late", "Frames whole only after their deadline");
    let repaired = counter("hop_repaired", "Fragments that were lost and repaired");
    let bytes = counter("hop_received_bytes", "Bytes received from the camera");
    let mut figure = |name: &str, help: &str, unit: Unit| {
        let family = Family::<Labels, Figure>::default();
        registry.register_with_unit(name, help, unit, family.clone());
        family
    };
    let loss = figure("hop_loss", "Datagrams that the network loses", Unit::Ratios);
    let rtt = figure("hop_round_trip", "To the camera and back", Unit::Seconds);
    let delay = figure("hop_delay", "From capture to arrival", Unit::Seconds);
    for (camera, hop) in cameras
        .iter()
        .filter_map(|camera| Some((camera, camera.hop.as_ref()?)))
    {
        let labels = labels(camera);
        delivered.get_or_create(&labels).inc_by(hop.delivered);
        lost.get_or_create(&labels).inc_by(hop.lost);
        late.get_or_create(&labels).inc_by(hop.late);
        repaired.get_or_create(&labels).inc_by(hop.repaired);
        bytes.get_or_create(&labels).inc_by(hop.bytes);
        loss.get_or_create(&labels).set(hop.loss);
        rtt.get_or_create(&labels).set(hop.rtt_ms / 1e3);
        if let Some(millis) = hop.delay_ms {
            delay.get_or_create(&labels).set(millis / 1e3);
        }
    }
}

fn labels(camera: &Camera) -> Labels {
    vec![("camera", camera.name.clone())]
}

fn labels_with(camera: &Camera, key: &'static str, value: impl ToString) -> Labels {
    vec![("camera", camera.name.clone()), (key, value.to_string())]
}
