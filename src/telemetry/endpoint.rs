//! The HTTP server on `telemetry.listen`. It has a thread and a runtime of its own: what hangs in the worker must not keep it from saying so.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::exposition::{self, Format};
use super::health::{self, About};
use super::{Stats, escape};
use crate::{Error, Result};

/// Connections at the same time; others wait to be accepted.
const CONNECTIONS: usize = 32;
/// Bytes of one request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Headers of one request.
const HEADERS: usize = 64;
/// Time for the head of a request to come, the first or the next.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Time for which one connection may live; readers of metrics open another.
const LIFE: Duration = Duration::from_secs(600);

/// The running server; dropping it ends it.
pub struct Endpoint {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Endpoint {
    /// Serves `stats` on `listen`, which is `host:port`; port 0 takes any that is free.
    ///
    /// # Errors
    /// [`Error::Failed`] if the address cannot be had, or no thread.
    pub fn start(listen: &str, stats: Arc<Stats>, about: About) -> Result<Self> {
        let shown = escape(listen);
        let cannot = |error: std::io::Error| {
            Error::failed(format!(
                "cannot listen on telemetry.listen = {shown}: {error}; is another worker there already? Name another address"
            ))
        };
        let listener = TcpListener::bind(listen).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = ended.cancelled() => {}
                    result = accept(listener, Arc::new((stats, about))) => {
                        if let Err(error) = result {
                            tracing::error!("metrics and health are served no longer: {error}");
                        }
                    }
                }
            });
        };
        std::thread::Builder::new().name("telemetry".into()).spawn(serve).map_err(cannot)?;
        tracing::info!("metrics and health on http://{address}");
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

type Shown = Arc<(Arc<Stats>, About)>;

async fn accept(listener: TcpListener, shown: Shown) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, say: that passes, and must not make this thread spin.
                tracing::debug!("a connection to the telemetry endpoint was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let shown = shown.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // A reader that takes nothing ends here too.
            let _ = tokio::time::timeout(LIFE, converse(stream, shown)).await;
        });
    }
}

async fn converse(stream: TcpStream, shown: Shown) {
    let service = service_fn(move |request| {
        let shown = shown.clone();
        async move { Ok::<_, Infallible>(answer(&request, &shown.0, &shown.1)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a connection to the telemetry endpoint broke off: {error}");
    }
}

/// Bodies of requests are never read.
fn answer(request: &Request<Incoming>, stats: &Arc<Stats>, about: &About) -> Response<Full<Bytes>> {
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
    };
    let health = |reasons: Vec<health::Reason>| {
        let (status, said) = if reasons.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
        respond(status, "application/json", format!("{}\n", json!({ "status": said, "reasons": reasons })))
    };
    let mut answer = match request.uri().path() {
        "/livez" => health(health::sick(stats, about)),
        "/readyz" => health(health::unready(stats)),
        "/status" => respond(StatusCode::OK, "application/json", format!("{:#}\n", health::status(stats, about))),
        "/metrics" => {
            let accept: Vec<&str> = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
            let format = Format::of(&accept.join(","));
            match exposition::encode(stats, format) {
                Ok(text) => respond(StatusCode::OK, format.content_type(), text),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written; this is a bug\n"),
            }
        }
        "/" => plain(StatusCode::OK, "lakelens: /metrics /status /readyz /livez\n"),
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics, /status, /readyz and /livez\n"),
    };
    if head {
        let length = hyper::body::Body::size_hint(answer.body()).exact().unwrap_or_default();
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        *answer.body_mut() = Full::default();
    }
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
