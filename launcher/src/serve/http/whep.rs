//! WHEP: `POST /cameras/{name}/whep` with an SDP offer starts a WebRTC session, `DELETE`
//! of what its answer calls its location ends it.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Site;
use super::answer::Refusal;
use super::guard::Remote;
use crate::serve::whep;

const SDP: &str = "application/sdp";
/// How long an offer may take to come, from the end of its head.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

impl From<whep::Refusal> for Refusal {
    fn from(refusal: whep::Refusal) -> Self {
        let status = match refusal {
            whep::Refusal::Offer(_) => StatusCode::BAD_REQUEST,
            whep::Refusal::Codec(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            whep::Refusal::NotYet | whep::Refusal::Refused(_) | whep::Refusal::Full => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, refusal.to_string())
    }
}

/// `POST /cameras/{name}/whep`.
pub async fn offer(
    State(site): State<Arc<Site>>,
    Extension(remote): Extension<Remote>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    if !is_sdp(request.headers()) {
        let why = "expected an SDP offer, Content-Type: application/sdp";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let feed = site.feed(&name)?;
    let offer = body(request, tokio::time::sleep(BODY_DEADLINE)).await?;
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

/// Whether the body is SDP, whatever parameters its type has (RFC 9110, section 8.3.1).
fn is_sdp(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(SDP))
}

/// The body of a request as text, where it is whole before `deadline`.
async fn body(request: Request, deadline: impl Future<Output = ()>) -> Result<String, Refusal> {
    tokio::select! {
        biased;
        text = String::from_request(request, &()) => {
            text.map_err(|refused| Refusal::new(refused.status(), refused.body_text()))
        }
        () = deadline => {
            let why = "the offer takes too long to come";
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, why))
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::convert::Infallible;
    use std::future::{pending, ready};

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    /// A POST whose body begins with these pieces and goes on, or not.
    fn post(pieces: Vec<&'static [u8]>, ends: bool) -> Request {
        let pieces = pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
        let pieces = stream::iter(pieces);
        let body = match ends {
            true => Body::from_stream(pieces),
            false => Body::from_stream(pieces.chain(stream::pending())),
        };
        Request::new(body)
    }

    #[tokio::test]
    async fn an_offer_has_to_be_whole_in_time() {
        let whole = body(post(vec![b"v=", b"0"], true), ready(())).await;
        assert_eq!(whole.expect("it is here"), "v=0");
        let late = body(post(vec![b"v="], false), ready(())).await;
        let status = late.expect_err("it never ends").into_response().status();
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        let odd = body(post(vec![b"\xff"], true), pending()).await;
        let status = odd.expect_err("it is no text").into_response().status();
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn sdp_may_have_parameters() {
        let is = |kind: &str| {
            let kind = kind.parse().expect("a header");
            is_sdp(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]))
        };
        for kind in [
            "application/sdp",
            "application/sdp; charset=utf-8",
            "Application/SDP;charset=UTF-8",
        ] {
            assert!(is(kind), "{kind}");
        }
        for kind in [
            "",
            "text/plain",
            "application/sdpx",
            "text/plain; application/sdp",
        ] {
            assert!(!is(kind), "{kind}");
        }
        assert!(!is_sdp(&HeaderMap::new()));
    }
}
