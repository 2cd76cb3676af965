//! The endpoint that a Prometheus server asks.
//!
//! Owns `GET /metrics` and `GET /healthz` and the bounds on whoever asks: connections at one time, bytes of a request's
//! head, time for all of it. One request a connection: whoever asks every few seconds loses nothing by that, and no idle
//! peer holds a place. There is no authentication, which is why the default is the loopback address.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
};

use super::text::{self, Format};
use crate::{kernel::clock, metrics::Metrics};

/// Largest head of a request, bytes; hyper takes no less.
const MAX_HEAD: usize = 8 << 10;
/// How long to wait when a connection cannot be accepted, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why the endpoint cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("export.prometheus: cannot listen on {listen}")]
pub struct StartError {
    /// The address.
    pub listen: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A running endpoint. Ends when it is dropped.
#[derive(Debug)]
pub struct PrometheusServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// What one peer may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections at one time; others wait in the kernel's queue. Each may hold a whole exposition in memory.
    connections: usize,
    /// Time for a request's head.
    head: Duration,
    /// Time for everything on a connection. Prometheus gives up after 10 s unless told otherwise.
    whole: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 4, head: Duration::from_secs(5), whole: Duration::from_secs(10) }
    }
}

struct Shared {
    metrics: Arc<Metrics>,
    resource: Vec<(String, String)>,
}

impl PrometheusServer {
    /// Listens on `listen` and answers on the current runtime. `resource` are the attributes of `target_info`.
    pub async fn start(
        listen: SocketAddr,
        metrics: Arc<Metrics>,
        resource: Vec<(String, String)>,
    ) -> Result<Self, StartError> {
        Self::start_within(listen, metrics, resource, Bounds::default()).await
    }

    async fn start_within(
        listen: SocketAddr,
        metrics: Arc<Metrics>,
        resource: Vec<(String, String)>,
        bounds: Bounds,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "everybody who reaches this address can read the metrics");
        }
        let router = Router::new()
            .route("/metrics", get(exposition))
            .route("/healthz", get(|| async { "ok\n" }))
            .with_state(Arc::new(Shared { metrics, resource }));
        Ok(Self { address, task: tokio::spawn(serve(listener, router, bounds)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PrometheusServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn exposition(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> impl IntoResponse {
    // A client may send the header in several lines; Prometheus sends one.
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let snapshot = shared.metrics.snapshot(clock::now());
    ([(header::CONTENT_TYPE, format.content_type())], text::write(&snapshot, &shared.resource, format))
}

async fn serve(listener: TcpListener, router: Router, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    // Ends with this task, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(answer(stream, router.clone(), bounds, place));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the metrics' endpoint was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, router: Router, bounds: Bounds, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(bounds.whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape failed"),
        Err(_) => tracing::debug!("a scrape took too long"),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
