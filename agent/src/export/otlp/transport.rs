//! The connection to an OTLP/gRPC receiver: one unary call for each signal.
//!
//! Owns the channel's options and the call. A connection is made when the first call needs it and again after it
//! broke; nothing here retries. A request's spans are encoded already, so calls are made with a codec of our
//! own in place of the generated clients.

use std::{io, marker::PhantomData, path::PathBuf, time::Duration};

use bytes::Buf as _;
use inferscope_proto::{
    Message,
    encoded::EncodedRequest,
    otlp::{
        collector_metrics::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
        collector_trace::ExportTraceServiceResponse,
    },
};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::settings::{OtlpSettings, TlsFiles};
use crate::{call::OWN_AGENT, config::Compression};

/// The one method of OTLP's trace service.
const EXPORT_TRACES: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");

/// The one method of OTLP's metrics service.
const EXPORT_METRICS: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");

/// Servers answer pings below 30 s apart with GOAWAY too_many_pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// A ping that was not answered for so long means that the connection is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Why an exporter cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A certificate or key cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The endpoint or the certificates make no connection.
    #[error("the endpoint or its certificates cannot be used")]
    Endpoint(#[source] tonic::transport::Error),
}

/// The connection.
pub(super) struct Transport {
    grpc: Grpc<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
}

impl Transport {
    /// Reads the certificates; connects to nothing yet. To be called inside a tokio runtime.
    pub(super) fn open(settings: &OtlpSettings) -> Result<Self, TransportError> {
        let mut endpoint = Endpoint::from_shared(settings.endpoint.clone())
            .and_then(|endpoint| endpoint.user_agent(format!("{OWN_AGENT}{}", env!("CARGO_PKG_VERSION"))))
            .map_err(TransportError::Endpoint)?
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .tcp_keepalive(Some(PING_INTERVAL));
        if let Some(files) = &settings.tls {
            endpoint = endpoint.tls_config(tls(files)?).map_err(TransportError::Endpoint)?;
        }
        let mut grpc = Grpc::new(endpoint.connect_lazy());
        if settings.compression == Compression::Gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let mut metadata = MetadataMap::new();
        for (name, value) in &settings.headers.0 {
            let name = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
            // The settings have checked both.
            if let (Ok(name), Ok(mut value)) = (name, AsciiMetadataValue::try_from(value.as_str())) {
                // Out of `Debug` and out of the header compression's table.
                value.set_sensitive(true);
                metadata.insert(name, value);
            }
        }
        Ok(Self { grpc, metadata, timeout: settings.timeout })
    }

    /// Sends spans and waits for the answer until the deadline.
    pub(super) async fn export(&mut self, request: EncodedRequest) -> Result<ExportTraceServiceResponse, Status> {
        self.call(request, EXPORT_TRACES).await
    }

    /// Sends metrics and waits for the answer until the deadline.
    pub(super) async fn export_metrics(
        &mut self,
        request: ExportMetricsServiceRequest,
    ) -> Result<ExportMetricsServiceResponse, Status> {
        self.call(request, EXPORT_METRICS).await
    }

    async fn call<Q, A>(&mut self, request: Q, method: PathAndQuery) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::from_parts(self.metadata.clone(), Default::default(), request);
        request.set_timeout(self.timeout);
        let call = async {
            self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            self.grpc.unary(request, method, ExportCodec::<Q, A>(PhantomData)).await
        };
        // The header tells the server; this one also ends the wait for a connection.
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer within the deadline")),
        }
    }
}

fn tls(files: &TlsFiles) -> Result<ClientTlsConfig, TransportError> {
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|source| TransportError::Read { path: path.clone(), source });
    let mut config = ClientTlsConfig::new();
    config = match &files.ca {
        Some(ca) => config.ca_certificate(Certificate::from_pem(read(ca)?)),
        None => config.with_native_roots(),
    };
    if let Some((certificate, key)) = &files.client {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(config)
}

/// Requests `Q` and answers `A`, of which every part is optional.
struct ExportCodec<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q: Message + 'static, A: Message + Default + 'static> Codec for ExportCodec<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<Q: Message, A> Encoder for ExportCodec<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, request: Q, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, A: Message + Default> Decoder for ExportCodec<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        // The receiver took the request and its answer is beyond us: as the answer is optional in every part,
        // sending everything again would only make duplicates.
        let answer = A::decode(&mut *buffer).unwrap_or_default();
        buffer.advance(buffer.remaining());
        Ok(Some(answer))
    }
}
