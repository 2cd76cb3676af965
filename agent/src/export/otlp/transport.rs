//! The connection to an OTLP/gRPC receiver: one unary call for each signal.
//!
//! Owns the channel's options and the call. A connection is made when the first call needs it, again after it broke, and
//! anew when its certificates changed. Nothing here retries, but for one thing: a compression that the receiver does not
//! know is answered with UNIMPLEMENTED, and the request is sent again with the next that it may know. A request's spans are encoded already, so calls are made with a codec of our
//! own in place of the generated clients.

use std::{error::Error, io, iter, marker::PhantomData, path::PathBuf, time::Duration};

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
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};

use super::{certificates::Certificates, settings::OtlpSettings};
use crate::{call::OWN_AGENT, config::Compression};

/// The one method of OTLP's trace service.
const EXPORT_TRACES: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");

/// The one method of OTLP's metrics service.
const EXPORT_METRICS: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");

/// The one method of OTLP's logs service.
const EXPORT_LOGS: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.logs.v1.LogsService/Export");

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
    /// A file of certificates to trust has none that can be read.
    #[error("{path} has no certificate that can be used")]
    Authority {
        /// The file.
        path: PathBuf,
    },
    /// The client's certificate or its key is none, or they do not belong together.
    #[error("the certificate {certificate} and the key {key} cannot be used together")]
    Identity {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The endpoint or the certificates make no connection.
    #[error("the endpoint or its certificates cannot be used")]
    Endpoint(#[source] tonic::transport::Error),
}

/// The connection.
pub(super) struct Transport {
    /// What a channel is made from, without TLS.
    endpoint: Endpoint,
    channel: Channel,
    certificates: Option<Certificates>,
    /// What the receiver is known, or hoped, to take.
    compression: Compression,
    metadata: MetadataMap,
    timeout: Duration,
    /// The last call failed: perhaps because certificates have changed.
    failed: bool,
}

impl Transport {
    /// Reads the certificates; connects to nothing yet. To be called inside a tokio runtime.
    pub(super) fn open(settings: &OtlpSettings) -> Result<Self, TransportError> {
        let endpoint = Endpoint::from_shared(settings.endpoint.clone())
            .and_then(|endpoint| endpoint.user_agent(format!("{OWN_AGENT}{}", env!("CARGO_PKG_VERSION"))))
            .map_err(TransportError::Endpoint)?
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .tcp_keepalive(Some(PING_INTERVAL));
        let (certificates, secured) = match &settings.tls {
            Some(files) => {
                let (certificates, secured) = Certificates::open(files, settings.tuning.certificates_every, &endpoint)?;
                (Some(certificates), secured)
            }
            None => (None, endpoint.clone()),
        };
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
        Ok(Self {
            channel: secured.connect_lazy(),
            endpoint,
            certificates,
            compression: settings.compression,
            metadata,
            timeout: settings.timeout,
            failed: false,
        })
    }

    /// Sends spans and waits for the answer until the deadline.
    pub(super) async fn export(&mut self, request: EncodedRequest) -> Result<ExportTraceServiceResponse, Status> {
        self.call(request, EXPORT_TRACES).await
    }

    /// Sends log records likewise. The messages around them, and the answer, have the field numbers of those for spans.
    pub(super) async fn export_logs(&mut self, request: EncodedRequest) -> Result<ExportTraceServiceResponse, Status> {
        self.call(request, EXPORT_LOGS).await
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
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.follow_certificates();
        let mut compression = self.compression;
        let result = loop {
            let Some(next) = weaker(compression) else {
                break self.attempt(request, method, compression).await;
            };
            match self.attempt(request.clone(), method.clone(), compression).await {
                // Or the whole service is not there: then nothing is taken, and the last answer says so.
                Err(status) if status.code() == Code::Unimplemented && status.source().is_none() => compression = next,
                other => break other,
            }
        };
        if result.is_ok() && compression != self.compression {
            let (endpoint, from, to) = (self.endpoint.uri(), self.compression, compression);
            tracing::warn!(%endpoint, "the OTLP receiver does not know the compression {from:?}; it gets {to:?}");
            self.compression = compression;
        }
        self.failed = result.is_err();
        result
    }

    async fn attempt<Q, A>(&self, request: Q, method: PathAndQuery, compression: Compression) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::from_parts(self.metadata.clone(), Default::default(), request);
        request.set_timeout(self.timeout);
        let mut grpc = Grpc::new(self.channel.clone());
        grpc = match compression {
            Compression::None => grpc,
            Compression::Gzip => grpc.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => grpc.send_compressed(CompressionEncoding::Zstd),
        };
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(request, method, ExportCodec::<Q, A>(PhantomData)).await
        };
        // The header tells the server; this one also ends the wait for a connection.
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer within the deadline")),
        }
    }

    /// Makes the channel anew if its certificates have changed. The old one ends with its last call.
    fn follow_certificates(&mut self) {
        let Some(certificates) = &mut self.certificates else { return };
        match certificates.changed(&self.endpoint, self.failed) {
            None => {}
            Some(Ok(secured)) => {
                tracing::info!(endpoint = %self.endpoint.uri(), "the certificates have changed; the new ones are used");
                self.channel = secured.connect_lazy();
            }
            Some(Err(error)) => {
                let reasons: Vec<_> = iter::successors(Some(&error as &dyn Error), |&error| error.source())
                    .map(ToString::to_string)
                    .collect();
                let (endpoint, error) = (self.endpoint.uri(), reasons.join(": "));
                tracing::error!(%endpoint, error, "the new certificates cannot be used; the old ones are kept");
            }
        }
    }
}

/// What a receiver that does not know a compression may know.
fn weaker(compression: Compression) -> Option<Compression> {
    match compression {
        Compression::Zstd => Some(Compression::Gzip),
        Compression::Gzip => Some(Compression::None),
        Compression::None => None,
    }
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
