//! Answers that are a sentence: what is wrong, and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::users::Denied;

/// A status and a sentence for a person.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    /// `why` is a sentence without its full stop.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
        }
    }

    /// There is no camera of that name.
    pub fn no_camera(name: &str) -> Self {
        let why = format!("there is no camera {name}; /api/v1/cameras lists those there are");
        Self::new(StatusCode::NOT_FOUND, why)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Unknown => StatusCode::UNAUTHORIZED,
            Denied::Address | Denied::Lan => StatusCode::FORBIDDEN,
            Denied::Busy => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, denied.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.why + "\n").into_response();
        let (name, value) = match self.status {
            StatusCode::UNAUTHORIZED => (
                header::WWW_AUTHENTICATE,
                "Basic realm=\"camrelay\", charset=\"UTF-8\"",
            ),
            StatusCode::TOO_MANY_REQUESTS => (header::RETRY_AFTER, "60"),
            StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "1"),
            _ => return response,
        };
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
        response
    }
}
