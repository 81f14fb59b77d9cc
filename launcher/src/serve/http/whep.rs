//! WHEP: `POST /cameras/{name}/whep` with an SDP offer starts a WebRTC session, `DELETE`
//! of what its answer calls its location ends it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Site;
use super::answer::Refusal;
use super::guard::Remote;
use crate::serve::whep;

const SDP: &str = "application/sdp";

impl From<whep::Refusal> for Refusal {
    fn from(refusal: whep::Refusal) -> Self {
        let status = match refusal {
            whep::Refusal::Offer(_) => StatusCode::BAD_REQUEST,
            whep::Refusal::Codec(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            whep::Refusal::NotYet | whep::Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.to_string())
    }
}

/// `POST /cameras/{name}/whep`.
pub async fn offer(
    State(site): State<Arc<Site>>,
    Extension(remote): Extension<Remote>,
    Path(name): Path<String>,
    headers: HeaderMap,
    offer: String,
) -> Result<Response, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind.as_bytes() != SDP.as_bytes()) {
        let why = "expected an SDP offer, Content-Type: application/sdp";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let feed = site.feed(&name)?;
    let answer = site
        .whep
        .offer(&feed, remote.address.ip().to_canonical(), &offer)?;
    let location = format!("/cameras/{}/whep/{}", feed.name(), answer.id);
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location),
    ];
    Ok((StatusCode::CREATED, headers, answer.sdp).into_response())
}

/// `DELETE /cameras/{name}/whep/{id}`.
pub async fn end(
    State(site): State<Arc<Site>>,
    Path((name, id)): Path<(String, String)>,
) -> Result<(), Refusal> {
    match site.whep.end(&name, &id) {
        true => Ok(()),
        false => {
            let why = "there is no such session; it may have ended by itself";
            Err(Refusal::new(StatusCode::NOT_FOUND, why))
        }
    }
}
