//! An OTLP export request around spans that are encoded already.
//!
//! Owns a second view of three OTLP messages: the same field numbers, but each span is bytes. A nested message and
//! a byte string are the same on the wire, so a receiver sees an ordinary `ExportTraceServiceRequest`, while a
//! sender keeps its queue in exactly the bytes that it accounts for and repeats an attempt without encoding again.

use prost::bytes::Bytes;

use crate::otlp::{common::InstrumentationScope, resource::Resource};

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodedRequest {
    /// Spans by resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<EncodedResourceSpans>,
}

/// `ResourceSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodedResourceSpans {
    /// What the spans come from.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Spans by instrumentation scope.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<EncodedScopeSpans>,
}

/// `ScopeSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodedScopeSpans {
    /// What made the spans.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Encoded `Span` messages.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub spans: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::otlp::{
        collector_trace::ExportTraceServiceRequest,
        trace::{ResourceSpans, ScopeSpans, Span},
    };

    #[test]
    fn the_bytes_are_those_of_the_published_messages() {
        let spans: Vec<_> =
            (1..=3).map(|n| Span { trace_id: vec![n; 16], start_time_unix_nano: 7, ..Span::default() }).collect();
        let (resource, scope) =
            (Some(Resource::default()), Some(InstrumentationScope { name: "s".to_owned(), ..Default::default() }));
        let encoded = EncodedRequest {
            resource_spans: vec![EncodedResourceSpans {
                resource: resource.clone(),
                scope_spans: vec![EncodedScopeSpans {
                    scope: scope.clone(),
                    spans: spans.iter().map(|span| span.encode_to_vec().into()).collect(),
                }],
            }],
        };
        let published = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource,
                scope_spans: vec![ScopeSpans { scope, spans, schema_url: String::new() }],
                schema_url: String::new(),
            }],
        };
        assert_eq!(encoded.encode_to_vec(), published.encode_to_vec());
    }
}
