//! HTTP/1.1 on a listener, for pages and queries.
//!
//! Owns the bounds on whoever asks: connections at one time, the bytes and the time of a request's head, idle time. Who is at the
//! other end goes with each request.

use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::listen::Connection;

/// Connections at one time: some pages of some people.
const MAX_CONNECTIONS: usize = 256;

/// Largest head of a request, bytes.
const MAX_HEAD: usize = 16 << 10;

/// Time for a request's head, and so for an idle connection.
const HEAD: Duration = Duration::from_secs(30);

/// Time for a connection as a whole: whoever reads nothing gives its place up. A page opens another.
const WHOLE: Duration = Duration::from_secs(300);

/// Answers on `connections` until it is told to stop.
pub async fn serve(
    router: Router,
    mut connections: mpsc::Receiver<io::Result<Connection>>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // They end with this task.
    let mut answering = JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let connection = tokio::select! {
            connection = connections.recv() => connection,
            // An error is the sender's end, which is the same.
            _ = stopping.wait_for(|stop| *stop) => None,
        };
        let Some(connection) = connection else { return };
        let Ok(connection) = connection else { continue };
        let router = router.clone().layer(Extension(connection.peer().clone()));
        answering.spawn(async move {
            let answering = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
            if let Ok(Err(error)) = tokio::time::timeout(WHOLE, answering).await {
                tracing::debug!(%error, "a connection of the page ended early");
            }
            drop(place);
        });
    }
}
