//! `/api/v1/…`: the cameras and how they are doing, as JSON; docs/http.md explains it.

pub mod model;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::Site;
use super::answer::Refusal;
use super::guard::Asked;
use crate::relay::feed::Feed;
use crate::relay::feeds::Kept;
use crate::serve::rtsp;
use crate::users::{Right, Visitor};
use model::{Camera, Urls};

/// What there is, as an OpenAPI document.
pub const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/v1/openapi.json`.
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// `GET /api/v1/cameras`: those that the visitor may see, by name.
pub async fn cameras(
    State(site): State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
    Extension(asked): Extension<Asked>,
) -> Json<Vec<Camera>> {
    Json(visible(&site, &visitor, &asked))
}

/// `GET /api/v1/cameras/{name}`.
pub async fn camera(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Extension(asked): Extension<Asked>,
) -> Result<Json<Camera>, Refusal> {
    let feed = site.feed(&name)?;
    Ok(Json(Camera::of(&feed, urls(&site, &asked, &name))))
}

/// `DELETE /api/v1/cameras/{name}`: forgets a camera that is gone, or a name that was refused.
pub async fn forget(
    State(site): State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    match site.feeds.forget(&name) {
        Ok(()) => {
            let who = visitor.name().unwrap_or("somebody");
            tracing::info!("camera {name}: forgotten, as {who} asked");
            Ok(StatusCode::NO_CONTENT)
        }
        Err(Kept::Unknown) => Err(Refusal::no_camera(&name)),
        Err(Kept::Here) => {
            let why = format!("camera {name} is here; only one that is gone can be forgotten");
            Err(Refusal::new(StatusCode::CONFLICT, why))
        }
    }
}

/// The cameras that a visitor may see, and the names that were refused of late.
pub fn visible(site: &Site, visitor: &Visitor, asked: &Asked) -> Vec<Camera> {
    let may_see = |name: &str| visitor.may(Right::View, name);
    let mut cameras: Vec<_> = feeds(site, visitor)
        .map(|feed| Camera::of(&feed, urls(site, asked, feed.name())))
        .collect();
    let refusals = site.feeds.refusals().into_iter();
    let refusals = refusals.filter(|refused| may_see(&refused.name));
    cameras.extend(refusals.map(Camera::refused));
    cameras
}

/// The feeds that a visitor may see, by name.
pub fn feeds(site: &Site, visitor: &Visitor) -> impl Iterator<Item = Arc<Feed>> {
    let feeds = site.feeds.all().into_iter();
    feeds.filter(|feed| visitor.may(Right::View, feed.name()))
}

/// Where a camera is watched, under the name that the relay was asked for by.
fn urls(site: &Site, Asked { host, scheme }: &Asked, name: &str) -> Urls {
    let camera = format!("{scheme}://{host}/cameras/{name}");
    let rtsp = |address: rtsp::Address| {
        let (scheme, port) = (address.scheme(), address.socket.port());
        format!("{scheme}://{}:{port}/{name}", host.host())
    };
    Urls {
        snapshot: Some(format!("{camera}/snapshot.jpg")),
        mjpeg: Some(format!("{camera}/stream.mjpeg")),
        rtsp: site.rtsp.map(rtsp),
    }
}
