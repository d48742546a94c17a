//! What every request passes, whatever its route: its name, the count, the limit of its headers, and the net under a handler
//! that panics. Owns the fallbacks; refuses to look at a body.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderMap, Method, Uri};
use runstone_record::ErrorCode;
use runstone_record::limits::HEADER_BYTES_MAX;
use tracing::Instrument;

use crate::http::compress::compress;
use crate::http::error::{OwnBody, echo, method_not_allowed, not_found};
use crate::http::request_id::X_REQUEST_ID;
use crate::http::{ApiError, RequestIds, cors, etag};
use crate::metrics::{CodeLabels, HttpMetrics, RequestLabels, RouteLabels};

/// The label of a route or method that is not ours: clients must not make series.
const OTHER: &str = "other";

/// What an answer gets at the very end: the name of the exchange, and a failure its body.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Names exchanges.
    pub ids: RequestIds,
    /// Whose failures have another shape.
    pub own_body: OwnBody,
}

/// `router` with the fallbacks and everything that each request passes. To be called last.
pub fn wrap(router: Router, metrics: HttpMetrics, naming: Naming, cors_origins: &[String]) -> Router {
    let router = router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn(compress))
        .layer(middleware::from_fn(guard))
        .layer(middleware::map_response(etag::mark_coding));
    let router = match cors::layer(cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(middleware::from_fn_with_state(metrics, observe))
        .layer(middleware::from_fn_with_state(naming, identify))
}

/// Gives the exchange its name, and a failure its body.
async fn identify(State(naming): State<Naming>, mut request: Request, next: Next) -> Response {
    let id = naming.ids.of(request.headers());
    // For handlers that write down who asked.
    request.extensions_mut().insert(id.clone());
    let own_body = (naming.own_body)(request.uri().path());
    // Of the gravest level, so that no filter takes the name away from a line that it lets through.
    let span = tracing::error_span!("request", id = id.as_str());
    let mut response = next.run(request).instrument(span).await;
    if let Some(error) = response.extensions().get::<ApiError>() {
        let body = match own_body {
            Some(write) => write(error),
            None => error.to_json(id.as_str()),
        };
        *response.body_mut() = Body::from(body);
    }
    response.headers_mut().insert(&X_REQUEST_ID, id.header());
    response
}

async fn observe(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = label(request.method());
    let path = request.uri().path().to_owned();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or(OTHER, MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let elapsed = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    metrics.request_duration.get_or_create(&RouteLabels { route: route.clone() }).observe(elapsed);
    metrics.requests.get_or_create(&RequestLabels { route, method, status }).inc();
    if let Some(error) = response.extensions().get::<ApiError>() {
        metrics.errors.get_or_create(&CodeLabels { code: error.code().as_str() }).inc();
    }
    if response.status().is_server_error() {
        tracing::warn!(method, path = echo(&path), status, elapsed_seconds = elapsed, "answer a request");
    } else {
        tracing::debug!(method, path = echo(&path), status, elapsed_seconds = elapsed, "answer a request");
    }
    response
}

async fn guard(request: Request, next: Next) -> Response {
    let bytes = head_bytes(request.method(), request.uri(), request.headers());
    if bytes > HEADER_BYTES_MAX {
        let message = format!("send smaller headers: at most {HEADER_BYTES_MAX} bytes, got {bytes}");
        return ApiError::new(ErrorCode::HeadersTooLarge, message).into_response();
    }
    // A handler owns what it works on: after a panic nothing half-done is left behind that another request would see.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook of `telemetry` has logged what and where.
        Err(_) => ApiError::new(ErrorCode::Internal, "the server failed; its log says more").into_response(),
    }
}

/// Bytes of the request line and the headers as they travelled, up to optional blanks.
fn head_bytes(method: &Method, uri: &Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = method.as_str().len() + target + "  HTTP/1.1\r\n".len();
    headers.iter().fold(line + "\r\n".len(), |bytes, (name, value)| bytes + name.as_str().len() + value.len() + 4)
}

fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_id::tests::ids;
    use axum::body::to_bytes;
    use axum::routing::get;
    use http::header::ALLOW;
    use runstone_record::wire::ErrorBody;
    use tower::ServiceExt;

    async fn ask(method: &str, path: &str) -> (Response, HttpMetrics) {
        let metrics = HttpMetrics::default();
        let router = Router::new().route("/here", get(async || "yes").delete(async || "gone"));
        let router = router.route(
            "/panic",
            get(async || {
                if true {
                    panic!("by intent")
                }
            }),
        );
        let request = http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = wrap(router, metrics.clone(), naming(), &[]).oneshot(request).await.unwrap();
        (response, metrics)
    }

    fn naming() -> Naming {
        Naming { ids: ids(), own_body: |_| None }
    }

    async fn error_of(response: Response) -> String {
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        serde_json::from_slice::<ErrorBody>(&body).unwrap().error
    }

    #[tokio::test]
    async fn an_unknown_path_and_method_are_answered_in_the_one_shape() {
        let (response, _) = ask("GET", "/there").await;
        assert_eq!((response.status().as_u16(), error_of(response).await.as_str()), (404, "not_found"));
        for method in ["TRACE", "PUT", "MADEUP"] {
            let (response, _) = ask(method, "/here").await;
            assert_eq!(response.status(), 405);
            assert_eq!(response.headers()[ALLOW], "GET,HEAD,DELETE");
            assert_eq!(error_of(response).await, "method_not_allowed");
        }
        let (response, _) = ask("HEAD", "/here").await;
        assert_eq!(response.status(), 200);
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        let (response, metrics) = ask("GET", "/panic").await;
        assert_eq!((response.status().as_u16(), error_of(response).await.as_str()), (500, "internal"));
        assert_eq!(metrics.errors.get_or_create(&CodeLabels { code: "internal" }).get(), 1);
    }

    #[tokio::test]
    async fn requests_are_counted_by_pattern_and_not_by_what_a_client_made_up() {
        let (_, metrics) = ask("MADEUP", "/there/42").await;
        let labels = RequestLabels { route: OTHER.to_owned(), method: OTHER, status: 404 };
        assert_eq!(metrics.requests.get_or_create(&labels).get(), 1);
        let (_, metrics) = ask("GET", "/here?a=b").await;
        let labels = RequestLabels { route: "/here".to_owned(), method: "GET", status: 200 };
        assert_eq!(metrics.requests.get_or_create(&labels).get(), 1);
    }

    #[tokio::test]
    async fn the_whole_head_counts() {
        let bytes = HEADER_BYTES_MAX - "GET / HTTP/1.1\r\n\r\n".len() - "x: \r\n".len();
        for (more, status) in [(0, 200), (1, 431)] {
            let router = Router::new().route("/", get(async || "yes"));
            let request = http::Request::builder().uri("/").header("x", "a".repeat(bytes + more)).body(Body::empty());
            let response = wrap(router, HttpMetrics::default(), naming(), &[]).oneshot(request.unwrap()).await.unwrap();
            assert_eq!(response.status(), status);
        }
    }
}
