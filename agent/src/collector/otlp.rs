//! OTLP/gRPC, so that any OpenTelemetry source can send.
//!
//! Owns the service for traces; who may call it was asked before any of a request was read. An answer is given when the store has committed, so OK is durable; what comes twice is
//! stored once, by its ids. A store without room answers UNAVAILABLE with RetryInfo, which senders honour.

use std::{sync::Arc, time::Duration};

use inferscope_proto::{
    Message as _,
    otlp::{
        collector_trace::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::TraceService,
        },
        resource::Resource,
    },
    rpc::{self, RetryInfo},
};
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};

use super::{
    ship::{MAX_SOURCE, failed},
    store::{Ingest, Source, Spans},
};

/// When a sender should come again after the store had no room.
const RETRY: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone)]
pub struct OtlpService {
    ingest: Ingest,
}

impl OtlpService {
    /// Services that store in `ingest`.
    pub fn new(ingest: Ingest) -> Self {
        Self { ingest }
    }

    /// Stores spans of one resource each and waits until they are; how many are not, and why not.
    async fn store(&self, groups: Vec<(Arc<Source>, Vec<bytes::Bytes>)>) -> Result<(u64, &'static str), Status> {
        let mut waiting = Vec::with_capacity(groups.len());
        for (source, spans) in groups {
            if spans.is_empty() {
                continue;
            }
            let (reply, committed) = oneshot::channel();
            self.ingest.offer(Spans { source, spans, reply }).map_err(|_| busy())?;
            waiting.push(committed);
        }
        let (mut rejected, mut why) = (0, "");
        for committed in waiting {
            let committed = committed.await.map_err(|_| Status::unavailable("the collector is ending"))?;
            let done = committed.map_err(|error| failed(&error))?;
            rejected += done.rejected.len() as u64;
            why = done.rejected.first().map_or(why, |first| first.message);
        }
        Ok((rejected, why))
    }
}

fn source(resource: Option<Resource>) -> Result<Arc<Source>, Status> {
    let resource = resource.unwrap_or_default().encode_to_vec();
    if resource.len() > MAX_SOURCE {
        return Err(Status::invalid_argument("a resource has 64 KiB at most"));
    }
    Ok(Arc::new(Source::new(resource.into(), bytes::Bytes::new())))
}

/// No room, with the time after which there may be.
pub(super) fn busy() -> Status {
    let delay = rpc::Duration { seconds: RETRY.as_secs() as i64, nanos: 0 };
    let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
    let any = rpc::Any { type_url: format!("type.googleapis.com/{}", RetryInfo::NAME), value: info };
    let message = "the store has no room at the moment";
    let details = rpc::Status { code: Code::Unavailable as i32, message: message.to_owned(), details: vec![any] };
    Status::with_details(Code::Unavailable, message, details.encode_to_vec().into())
}

#[tonic::async_trait]
impl TraceService for OtlpService {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let groups = request.into_inner().resource_spans.into_iter().map(|group| {
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            Ok((source(group.resource)?, spans.map(|span| span.encode_to_vec().into()).collect()))
        });
        let groups = groups.collect::<Result<Vec<_>, Status>>()?;
        let (rejected_spans, error_message) = self.store(groups).await?;
        let partial = ExportTracePartialSuccess {
            rejected_spans: rejected_spans as i64,
            error_message: error_message.to_owned(),
        };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }))
    }
}
