//! The collector as a whole: its store, its listeners, their services, and its end.
//!
//! Owns the order of starting and stopping. Starting fails for what an operator has to mend (an address that is taken, a store
//! that cannot be opened, files that cannot be used) and says which. Stopping takes no more, commits what has come, and ends.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use inferscope_proto::{otlp::collector_trace::trace_service_server::TraceServiceServer, v1::ship_server::ShipServer};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{codec::CompressionEncoding, transport::Server};

use super::{
    api,
    auth::Tokens,
    fresh::Fresh,
    http,
    listen::{Connection, Listener},
    otlp::OtlpService,
    settings::CollectorSettings,
    ship::{MAX_MESSAGE, ShipService},
    store::{self, Keep, Store},
    tls::{self, Protocol, ServerFiles},
};

/// OTLP requests are at most so large: the specification's default, with room for those that set it by hand.
const MAX_OTLP: usize = 16 << 20;

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
        let options = store::Options { keep, ..store::Options::default() };
        let (store, report) = Store::open(&settings.data_dir, options)?;
        if (1..report.schema).contains(&report.found_schema) {
            tracing::info!(from = report.found_schema, to = report.schema, "the store has been brought up to date");
        }
        let is_local = settings.listen.ip().is_loopback() && settings.ui.ip().is_loopback();
        let tokens_file = tokens_file(settings, is_local)?;
        let tokens = Arc::new(match &tokens_file {
            None => Fresh::fixed(Tokens::default()),
            Some(path) => {
                let path = path.clone();
                Fresh::new(vec![path.clone()], move || Ok(Tokens::load(&path)?))?
            }
        });
        let files = tls_files(settings, is_local)?;
        let grpc_tls = files.as_ref().map(|files| tls::config(files, Protocol::Http2)).transpose()?;
        let (listener, connections) = Listener::bind(settings.listen, grpc_tls)
            .await
            .with_context(|| format!("--listen: cannot listen on {}", settings.listen))?;
        let ui_tls = files.as_ref().map(|files| tls::config(files, Protocol::Http1)).transpose()?;
        let (ui, ui_connections) = Listener::bind(settings.ui, ui_tls)
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
    let traces = TraceServiceServer::new(OtlpService::new(ingest, tokens))
        .accept_compressed(CompressionEncoding::Zstd)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_OTLP);
    Server::builder()
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
        .concurrency_limit_per_connection(MAX_CALLS as usize)
        .max_concurrent_streams(MAX_CALLS)
        .add_service(ship)
        .add_service(traces)
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
