//! The table of routes: each with its method and what somebody needs for it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};
use axum::{Router, middleware::Next};

use super::Site;
use super::answer::Refusal;
use super::{api, guard, metrics, page, picture, stream, wall, whep};
use crate::users::Right;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 64 << 10;

/// What somebody needs for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nobody anything.
    Nothing,
    /// To be let in, with this right for some camera.
    Any(Right),
    /// This right for the camera that `{name}` in the path is.
    Camera(Right),
}

/// A path, a method and what is needed for it.
pub struct Route {
    /// The method; whoever may GET may HEAD.
    #[allow(
        dead_code,
        reason = "for the tests that compare the table with what is served"
    )]
    pub method: Method,
    /// The path as axum writes it, `/cameras/{name}/snapshot.jpg`.
    pub path: &'static str,
    /// What somebody needs.
    pub need: Need,
    service: MethodRouter<Arc<Site>>,
}

impl Route {
    /// Every route there is comes from here, so that none goes without a need.
    fn new<H, T>(method: Method, path: &'static str, need: Need, handler: H) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        let filter = match method {
            Method::POST => MethodFilter::POST,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        Self {
            method,
            path,
            need,
            service: on(filter, handler),
        }
    }

    fn get<H, T>(path: &'static str, need: Need, handler: H) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        Self::new(Method::GET, path, need, handler)
    }
}

/// Every route.
pub fn routes() -> Vec<Route> {
    use Need::{Any, Camera, Nothing};
    use Right::{Admin, View};
    vec![
        Route::get("/", Any(View), page::index),
        Route::get("/page/{file}", Any(View), page::asset),
        Route::get("/embed/{name}", Camera(View), page::embed),
        Route::get("/healthz", Nothing, health),
        Route::get("/metrics", Any(View), metrics::metrics),
        Route::get("/api/v1/openapi.json", Any(View), api::openapi),
        Route::get("/api/v1/cameras", Any(View), api::cameras),
        // Before the other route of this path: the last one says who hears of other methods.
        Route::new(
            Method::DELETE,
            "/api/v1/cameras/{name}",
            Camera(Admin),
            api::forget,
        ),
        Route::get("/api/v1/cameras/{name}", Camera(View), api::camera),
        Route::get("/api/v1/wall", Any(View), wall::wall),
        Route::get(
            "/cameras/{name}/snapshot.jpg",
            Camera(View),
            picture::snapshot,
        ),
        Route::get("/cameras/{name}/stream.mjpeg", Camera(View), stream::mjpeg),
        Route::new(
            Method::POST,
            "/cameras/{name}/whep",
            Camera(View),
            whep::offer,
        ),
        Route::new(
            Method::DELETE,
            "/cameras/{name}/whep/{id}",
            Camera(View),
            whep::end,
        ),
    ]
}

/// The routes with everything in front of them.
pub fn router(site: Arc<Site>) -> Router {
    let guarded = |need, service: MethodRouter<Arc<Site>>| {
        service.layer(from_fn_with_state((site.clone(), need), guard::right))
    };
    let fallback = guarded(Need::Any(Right::View), any(nothing_here));
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, guarded(route.need, route.service))
        })
        .fallback_service(fallback.with_state(site.clone()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(site.clone(), guard::request))
        .layer(from_fn(secure))
        .with_state(site)
}

async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    guard::secure(response.headers_mut());
    response
}

async fn health() -> &'static str {
    "ok\n"
}

async fn nothing_here() -> Refusal {
    let why =
        "there is nothing here; the page is at /, and what else there is at /api/v1/openapi.json";
    Refusal::new(StatusCode::NOT_FOUND, why)
}
