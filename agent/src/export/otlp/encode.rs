//! A span in OTLP's own types.
//!
//! Owns the mapping, which is one to one with the JSON line: the same fields, names and values. Pure; the
//! environment and the host's name are arguments.

use inferscope_proto::{
    Message as _,
    encoded::{EncodedRequest, EncodedResourceSpans, EncodedScopeSpans},
    otlp::{
        collector_metrics::ExportMetricsServiceRequest,
        common::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
        metrics::{self, ResourceMetrics, ScopeMetrics},
        resource::Resource,
        trace::{self as proto, span::Event, span::SpanKind as Kind, status::StatusCode},
    },
};
use tonic::codegen::Bytes;

use super::{
    pairs::{self, PairError},
    settings::{Env, variable},
};
use crate::export::{
    attributes as names,
    span::{Span, SpanEvent, SpanKind, SpanStatus, Value},
};

/// `service.name` when nobody said otherwise.
const SERVICE_NAME: &str = "inferscope";

/// The OTLP form of `span`.
pub fn encode(span: &Span) -> proto::Span {
    let Span {
        trace_id,
        span_id,
        parent_span_id,
        name,
        kind,
        start_time_unix_nano,
        end_time_unix_nano,
        status,
        attributes: values,
        events,
    } = span;
    proto::Span {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        parent_span_id: parent_span_id.map(|id| id.to_vec()).unwrap_or_default(),
        name: name.clone(),
        kind: match kind {
            SpanKind::Client => Kind::Client,
            SpanKind::Server => Kind::Server,
            SpanKind::Internal => Kind::Internal,
        }
        .into(),
        start_time_unix_nano: *start_time_unix_nano,
        end_time_unix_nano: *end_time_unix_nano,
        attributes: attributes(values),
        events: events.iter().map(event).collect(),
        status: Some(proto::Status {
            code: match status {
                SpanStatus::Ok => StatusCode::Ok,
                SpanStatus::Error => StatusCode::Error,
                SpanStatus::Unset => StatusCode::Unset,
            }
            .into(),
            // The contract has no message, and an error's text may echo a key or a prompt.
            message: String::new(),
        }),
        ..proto::Span::default()
    }
}

fn event(event: &SpanEvent) -> Event {
    let SpanEvent { name, time_unix_nano, attributes: values } = event;
    Event {
        time_unix_nano: *time_unix_nano,
        name: (*name).to_owned(),
        attributes: attributes(values),
        dropped_attributes_count: 0,
    }
}

fn attributes(values: &[(&'static str, Value)]) -> Vec<KeyValue> {
    values.iter().map(|(name, value)| key_value(name, any_value(value))).collect()
}

fn any_value(value: &Value) -> any_value::Value {
    match value {
        Value::Str(text) => any_value::Value::StringValue(text.clone()),
        Value::Int(number) => any_value::Value::IntValue(*number),
        Value::Double(number) => any_value::Value::DoubleValue(*number),
        Value::Bool(truth) => any_value::Value::BoolValue(*truth),
        Value::StrArray(texts) => {
            let text = |text: &String| AnyValue { value: Some(any_value::Value::StringValue(text.clone())) };
            any_value::Value::ArrayValue(ArrayValue { values: texts.iter().map(text).collect() })
        }
    }
}

pub(super) fn key_value(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// An encoded span without its messages and marked as cut, or `None` when it has none. What a receiver that finds
/// a span too large gets in the second attempt: the measurements matter more than the text.
pub(in crate::export) fn without_content(span: &[u8]) -> Option<Bytes> {
    let mut span = proto::Span::decode(span).ok()?;
    let all = span.attributes.len();
    span.attributes.retain(|attribute| !names::CONTENT.contains(&attribute.key.as_str()));
    if span.attributes.len() == all {
        return None;
    }
    span.attributes.retain(|attribute| attribute.key != names::INFERSCOPE_CONTENT_TRUNCATED);
    span.attributes.push(key_value(names::INFERSCOPE_CONTENT_TRUNCATED, any_value::Value::BoolValue(true)));
    Some(span.encode_to_vec().into())
}

/// What surrounds the spans of every request: who sends them.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Envelope {
    /// From `OTEL_SERVICE_NAME`, over `OTEL_RESOURCE_ATTRIBUTES`, over `inferscope` on `host`.
    pub fn new(env: Env<'_>, host: Option<&str>) -> Result<Self, PairError> {
        let mut resource = match variable(env, "OTEL_RESOURCE_ATTRIBUTES") {
            Some(text) => pairs::parse(&text)?,
            None => Vec::new(),
        };
        if let Some(service) = variable(env, "OTEL_SERVICE_NAME") {
            resource.retain(|(name, _)| name != names::SERVICE_NAME);
            resource.insert(0, (names::SERVICE_NAME.to_owned(), service));
        }
        for (name, value) in [(names::HOST_NAME, host), (names::SERVICE_NAME, Some(SERVICE_NAME))] {
            if let Some(value) = value.filter(|_| !resource.iter().any(|(other, _)| other == name)) {
                resource.insert(0, (name.to_owned(), value.to_owned()));
            }
        }
        let text = |(name, value): (String, String)| key_value(&name, any_value::Value::StringValue(value));
        Ok(Self {
            resource: Resource { attributes: resource.into_iter().map(text).collect(), ..Resource::default() },
            scope: InstrumentationScope {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            },
        })
    }

    /// A request with these encoded spans.
    pub(super) fn request(&self, spans: Vec<Bytes>) -> EncodedRequest {
        let Self { resource, scope } = self;
        EncodedRequest {
            resource_spans: vec![EncodedResourceSpans {
                resource: Some(resource.clone()),
                scope_spans: vec![EncodedScopeSpans { scope: Some(scope.clone()), spans }],
            }],
        }
    }

    /// A request with these metrics.
    pub(super) fn metrics(&self, metrics: Vec<metrics::Metric>) -> ExportMetricsServiceRequest {
        let Self { resource, scope } = self;
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource.clone()),
                scope_metrics: vec![ScopeMetrics { scope: Some(scope.clone()), metrics, schema_url: String::new() }],
                schema_url: String::new(),
            }],
        }
    }

    /// The attributes of the resource: all are texts.
    pub fn resource(&self) -> Vec<(String, String)> {
        let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
            _ => None,
        };
        self.resource.attributes.iter().filter_map(text).collect()
    }

    /// Who sends, for those that say it once.
    pub(in crate::export) fn encoded(&self) -> (&Resource, &InstrumentationScope) {
        (&self.resource, &self.scope)
    }

    /// Size of a request without spans, with room for the lengths that grow with them.
    pub(super) fn overhead(&self) -> usize {
        self.request(Vec::new()).encoded_len() + 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::testing::{ANCHOR, chat},
        llm::Content,
    };

    fn text(value: Option<&AnyValue>) -> Option<&str> {
        match value.and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => Some(text),
            _ => None,
        }
    }

    fn envelope(vars: &[(&str, &str)]) -> Vec<(String, String)> {
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let Envelope { resource, .. } = Envelope::new(&env, Some("host-1")).unwrap();
        resource
            .attributes
            .into_iter()
            .map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref()).unwrap().to_owned()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn every_field_of_the_span_is_there() {
        let mut call = chat();
        call.ids.parent = Some([2; 8]);
        let span = Span::from_call(&call, ANCHOR);
        let encoded = encode(&span);
        assert_eq!(encoded.trace_id, [0xab; 16]);
        assert_eq!(encoded.span_id, [1; 8]);
        assert_eq!(encoded.parent_span_id, [2; 8]);
        assert_eq!((encoded.kind(), encoded.name.as_str()), (Kind::Client, "chat gpt-4o"));
        assert_eq!(encoded.start_time_unix_nano, span.start_time_unix_nano);
        assert_eq!(encoded.end_time_unix_nano, span.end_time_unix_nano);
        assert_eq!(encoded.status.as_ref().unwrap().code(), StatusCode::Ok);
        assert_eq!(encoded.attributes.len(), span.attributes.len());
        for ((name, value), attribute) in span.attributes.iter().zip(&encoded.attributes) {
            assert_eq!(attribute.key, *name);
            assert_eq!(attribute.value.as_ref().unwrap().value, Some(any_value(value)));
        }
        assert_eq!(encoded.events[0].name, "inferscope.gap");
        assert_eq!(encoded.events[0].attributes.len(), 2);
        assert_eq!(encode(&Span { parent_span_id: None, ..span }).parent_span_id, [0; 0]);
    }

    #[test]
    fn the_resource_honours_the_standard_variables() {
        assert_eq!(envelope(&[]), pairs(&[("service.name", "inferscope"), ("host.name", "host-1")]));
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,host.name=b,team=c%20d");
        assert_eq!(envelope(&[attributes]), pairs(&[("service.name", "a"), ("host.name", "b"), ("team", "c d")]));
        assert_eq!(envelope(&[attributes, ("OTEL_SERVICE_NAME", "e")])[0], ("service.name".to_owned(), "e".to_owned()));
        assert_eq!(Envelope::new(&|_: &str| Some("no pair".to_owned()), None), Err(PairError::Shape(1)));
    }

    #[test]
    fn content_can_be_taken_out_again() {
        let mut call = chat();
        assert_eq!(without_content(&encode(&Span::from_call(&call, ANCHOR)).encode_to_vec()), None);
        call.facts.as_mut().unwrap().content = Some(Content {
            input_messages: Some("in".to_owned()),
            output_messages: Some("out".to_owned()),
            system_instructions: Some("how".to_owned()),
            tool_definitions: Some("with".to_owned()),
            truncated: true,
        });
        let full = encode(&Span::from_call(&call, ANCHOR));
        let bare = proto::Span::decode(without_content(&full.encode_to_vec()).unwrap()).unwrap();
        let keys: Vec<_> = bare.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(keys.len(), full.attributes.len() - 4);
        assert!(!names::CONTENT.iter().any(|name| keys.contains(name)));
        assert_eq!(keys.iter().filter(|key| **key == names::INFERSCOPE_CONTENT_TRUNCATED).count(), 1);
    }
}
