//! HTTP and HTTPS around [`Plan`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Either, Full, Limited, channel::Channel};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{
    NOTE,
    plan::{Api, Plan},
};
use crate::{client::MODEL, pki::Pki};

/// Largest request body that is read.
const MAX_BODY: usize = 16 << 20;

type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

/// How fast to answer.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// Content chunks of an uncut answer.
    pub chunks: u64,
    /// Between two of them.
    pub interval: Duration,
    /// Before the first of them.
    pub first_token: Duration,
}

/// Accepts connections for ever and answers each; with `tls` inside TLS.
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, tempo: Tempo) {
    loop {
        // Accepting fails when descriptors run out or a peer has gone already; neither ends the server.
        let Ok((socket, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let tls = tls.clone();
        tokio::spawn(async move {
            // Each chunk must leave at once, or the pace on the wire is the kernel's and not ours.
            let _unsupported = socket.set_nodelay(true);
            match tls {
                None => connection(socket, tempo).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(socket) => connection(socket, tempo).await,
                    Err(error) => eprintln!("inferscope-model-server: TLS handshake: {error}"),
                },
            }
        });
    }
}

/// A TLS acceptor for HTTP/1.1 with the certificate of `pki`.
pub fn acceptor(pki: &Pki) -> Result<TlsAcceptor> {
    let cert = CertificateDer::from_pem_file(&pki.cert).context("cannot read the certificate")?;
    let key = PrivateKeyDer::from_pem_file(&pki.key).context("cannot read the key")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, tempo: Tempo) {
    let service = service_fn(move |request| respond(request, tempo));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await {
        eprintln!("inferscope-model-server: connection: {error}");
    }
}

async fn respond(request: Request<Incoming>, tempo: Tempo) -> Result<Response<Body>, Infallible> {
    let route = (request.method().clone(), request.uri().path().to_owned());
    Ok(match (&route.0, route.1.as_str()) {
        (&Method::POST, "/v1/chat/completions") => answer(Api::Chat, request, tempo).await,
        (&Method::POST, "/v1/completions") => answer(Api::Completions, request, tempo).await,
        (&Method::GET, "/v1/models") => {
            let model = json!({"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "inferscope"});
            whole(StatusCode::OK, &json!({"object": "list", "data": [model]}))
        }
        (&Method::GET, "/health") => whole(StatusCode::OK, &json!({"status": "ok", "note": NOTE})),
        (&Method::GET, "/") => {
            let page = format!("inferscope-model-server: {NOTE}\n");
            with_type("text/plain", Either::Left(page.into()))
        }
        _ => whole(StatusCode::NOT_FOUND, &json!({"error": {"message": "no such page", "type": "not_found"}})),
    })
}

async fn answer(api: Api, request: Request<Incoming>, tempo: Tempo) -> Response<Body> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body: Value = match body.map(|body| serde_json::from_slice(&body.to_bytes())) {
        Ok(Ok(body)) => body,
        Ok(Err(_)) | Err(_) => {
            let message = "We could not parse the JSON body of your request.";
            let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
            return whole(StatusCode::BAD_REQUEST, &json!({ "error": error }));
        }
    };
    let plan = match Plan::new(api, &body, tempo.chunks) {
        Ok(plan) => plan,
        Err(refused) => {
            return whole(StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST), &refused.body);
        }
    };
    if !plan.stream {
        let gaps = u32::try_from(plan.n_chunks().saturating_sub(1)).unwrap_or(u32::MAX);
        sleep(tempo.first_token + tempo.interval.saturating_mul(gaps)).await;
        return whole(StatusCode::OK, &plan.whole());
    }
    // One slot: a client that reads slowly holds the pace back, as with a real server.
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let mut send = async |events: Vec<String>| {
            for event in events {
                sender.send_data(Bytes::from(event)).await?;
            }
            Ok::<_, http_body_util::channel::SendError>(())
        };
        send(plan.opening()).await?;
        sleep(tempo.first_token).await;
        for at in 0..plan.n_chunks() {
            if at > 0 {
                sleep(tempo.interval).await;
            }
            // An error says that the client has gone: there is nobody to answer.
            send(plan.chunk(at)).await?;
        }
        send(plan.closing()).await
    });
    with_type("text/event-stream", Either::Right(body))
}

fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = with_type("application/json", Either::Left(Full::from(body.to_string())));
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// Listens on a port of 127.0.0.1; 0 lets the kernel choose.
pub async fn bind(port: u16) -> Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("cannot listen on 127.0.0.1:{port}"))
}
