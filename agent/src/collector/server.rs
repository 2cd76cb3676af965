//! The collector as a whole: its store, its listeners, their services, and its end.
//!
//! Owns the order of starting and stopping. Starting fails for what an operator has to mend (an address that is taken, a store
//! that cannot be opened, files that cannot be used) and says which. Stopping takes no more, commits what has come, and ends.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use inferscope_proto::{otlp::collector_trace::trace_service_server::TraceServiceServer, v1::ship_server::ShipServer};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, codec::CompressionEncoding, service::interceptor::InterceptedService, transport::Server};

use super::{
    api,
    auth::{self, Tokens},
    fresh::Fresh,
    http,
    listen::{Connection, Listener},
    otlp::{self, OtlpService},
    settings::CollectorSettings,
    ship::{MAX_MESSAGE, QUEUE_BYTES, ShipService, denied},
    store::{self, Keep, Store},
    tls::{self, Protocol, ServerFiles},
};
use crate::kernel::raise_file_limit;

/// OTLP requests are at most so large, inflated: what gRPC receivers take unless told otherwise, and senders keep to.
const MAX_OTLP: usize = 4 << 20;

/// OTLP requests that are read at one time: a message takes many times its size when it is made of nothing but empty parts.
const MAX_REQUESTS: usize = 16;

/// Streams and calls of one connection at a time.
const MAX_CALLS: u32 = 64;

/// How often a connection is asked whether it is alive, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));

/// A running collector.
pub struct Collector {
    store: Store,
    listen: SocketAddr,
    ui: SocketAddr,
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
    pages: JoinHandle<()>,
    stop: watch::Sender<bool>,
    /// Held for as long as they listen.
    _listeners: [Listener; 2],
    tokens: Option<PathBuf>,
    certificate: Option<PathBuf>,
}

impl Collector {
    /// Opens the store and listens.
    pub async fn start(settings: &CollectorSettings) -> anyhow::Result<Self> {
        let keep = Keep {
            spans: settings.keep,
            contents: settings.keep_content.min(settings.keep),
            max_bytes: Some(settings.max_bytes),
            ..Keep::default()
        };
        raise_file_limit();
        let options = store::Options { keep, queue_bytes: QUEUE_BYTES, ..store::Options::default() };
        let data_dir = settings.data_dir.clone();
        // A large store that was not closed well takes a while; signals are listened to meanwhile.
        let opened = tokio::task::spawn_blocking(move || Store::open(&data_dir, options)).await;
        let (store, report) = opened.context("the store failed at its start")??;
        if (1..report.schema).contains(&report.found_schema) {
            tracing::info!(from = report.found_schema, to = report.schema, "the store has been brought up to date");
        }
        let is_near = |address: SocketAddr| address.ip().is_loopback();
        let is_local = is_near(settings.listen) && is_near(settings.ui) && !settings.plaintext;
        let tokens_file = tokens_file(settings, is_local)?;
        let tokens = Arc::new(match &tokens_file {
            None => Fresh::fixed(Tokens::default()),
            Some(path) => {
                let path = path.clone();
                Fresh::new(vec![path.clone()], move || Ok(Tokens::load(&path)?))?
            }
        });
        let files = tls_files(settings, is_local)?;
        // Files that were drawn are for those who come from elsewhere; files that were given are for everybody.
        let encrypts = |address| settings.tls.is_some() || !is_near(address);
        let of = |address, protocol| {
            files.as_ref().filter(|_| encrypts(address)).map(|files| tls::config(files, protocol)).transpose()
        };
        let grpc_tls = of(settings.listen, Protocol::Http2)?;
        let (listener, connections) = Listener::bind(settings.listen, grpc_tls, settings.plaintext)
            .await
            .with_context(|| format!("--listen: cannot listen on {}", settings.listen))?;
        let ui_tls = of(settings.ui, Protocol::Http1)?;
        let (ui, ui_connections) = Listener::bind(settings.ui, ui_tls, settings.plaintext)
            .await
            .with_context(|| format!("--ui: cannot listen on {}", settings.ui))?;
        let (stop, stopping) = watch::channel(false);
        let shared = api::Shared { reader: store.reader(), ingest: store.handle(), tokens: Arc::clone(&tokens) };
        let pages = tokio::spawn(http::serve(api::router(Arc::new(shared)), ui_connections, stopping.clone()));
        let grpc = tokio::spawn(serve(store.handle(), tokens, connections, stopping));
        Ok(Self {
            store,
            listen: listener.address(),
            ui: ui.address(),
            grpc,
            pages,
            stop,
            _listeners: [listener, ui],
            tokens: tokens_file,
            certificate: files.map(|files| files.certificate),
        })
    }

    /// Where agents are listened for.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where pages and queries are answered.
    pub fn ui(&self) -> SocketAddr {
        self.ui
    }

    /// The file of tokens, if there is one.
    pub fn tokens(&self) -> Option<&PathBuf> {
        self.tokens.as_ref()
    }

    /// The certificate that agents have to trust, if connections are encrypted.
    pub fn certificate(&self) -> Option<&PathBuf> {
        self.certificate.as_ref()
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes no more, waits for calls that are under way but no longer than `within`, and closes the store.
    pub async fn shutdown(self, within: Duration) -> anyhow::Result<()> {
        let Self { store, mut grpc, pages, stop, _listeners, .. } = self;
        stop.send_replace(true);
        pages.abort();
        if tokio::time::timeout(within, &mut grpc).await.is_err() {
            grpc.abort();
        }
        tokio::task::spawn_blocking(move || store.close()).await.context("the store failed at its end")?;
        Ok(())
    }
}

async fn serve(
    ingest: store::Ingest,
    tokens: Arc<Fresh<Tokens>>,
    connections: mpsc::Receiver<std::io::Result<Connection>>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let ship = ShipServer::new(ShipService::new(ingest.clone(), Arc::clone(&tokens), stopping.clone()))
        .accept_compressed(CompressionEncoding::Zstd)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_MESSAGE);
    let check = {
        let tokens = Arc::clone(&tokens);
        move |request: Request<()>| {
            auth::may_ship_at_all(&tokens.get(), &request).map_err(denied)?;
            Ok(request)
        }
    };
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let checked_and_placed = {
        let check = check.clone();
        move |request: Request<()>| {
            let mut request = check(request)?;
            let place = Arc::clone(&places).try_acquire_owned().map_err(|_| otlp::busy())?;
            // It goes with the request, and is given back with it.
            request.extensions_mut().insert(Arc::new(place));
            Ok(request)
        }
    };
    let traces = TraceServiceServer::new(OtlpService::new(ingest))
        .accept_compressed(CompressionEncoding::Zstd)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_OTLP);
    Server::builder()
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
        .concurrency_limit_per_connection(MAX_CALLS as usize)
        .max_concurrent_streams(MAX_CALLS)
        .add_service(InterceptedService::new(ship, check))
        .add_service(InterceptedService::new(traces, checked_and_placed))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            // An error is the sender's end, which is the same.
            let _ = stopping.wait_for(|stop| *stop).await;
        })
        .await
}

/// The file of tokens: the one that was named, or one that is drawn where strangers can connect.
fn tokens_file(settings: &CollectorSettings, is_local: bool) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = &settings.tokens {
        return Ok(Some(path.clone()));
    }
    let path = settings.data_dir.join("tokens.toml");
    if !path.exists() {
        if is_local {
            return Ok(None);
        }
        Tokens::draw(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(Some(path))
}

/// Files for TLS: those that were named, or some that are drawn where others can listen.
fn tls_files(settings: &CollectorSettings, is_local: bool) -> anyhow::Result<Option<ServerFiles>> {
    if let Some(files) = &settings.tls {
        return Ok(Some(files.clone()));
    }
    if is_local || settings.plaintext {
        return Ok(None);
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut hosts = vec![name.trim().to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    hosts.extend(
        [settings.listen, settings.ui]
            .map(|address| address.ip())
            .iter()
            .filter(|ip| !ip.is_unspecified())
            .map(ToString::to_string),
    );
    hosts.retain(|host| !host.is_empty());
    hosts.dedup();
    tls::own(&settings.data_dir.join("tls"), &hosts).map(Some)
}
