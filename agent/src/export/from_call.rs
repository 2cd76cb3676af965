//! The one conversion from a finished call to a span.
//!
//! Owns which attribute is present when, and the arithmetic of the derived times. Pure. What was not seen gives no
//! attribute: there is no default that could be taken for a measurement (invariant 4).

use std::time::Duration;

use super::{
    attributes::{self as names, EVENT_GAP, EVENT_MALFORMED, EVENT_UNDECODED},
    inferred, remote, serving,
    span::{Span, SpanEvent, SpanKind, SpanStatus, Value, hex},
    within,
};
use crate::{
    call::{Binding, Capture, Completion, FinishedCall, HttpFacts, Note, NoteKind, Place, Retry, Side, Timing},
    host::{Hop, ProcessIdentity},
    llm::{Content, Estimated, Facts, Method, Quality, RequestFacts, ResponseFacts, Timings, Usage},
    privacy::Redactor,
    record::{Address, Source},
    time::{Mono, WallAnchor},
};

/// `error.type` of an error that named no kind, as the conventions spell it.
const UNNAMED_ERROR: &str = "_OTHER";

impl Span {
    /// The span of `call`, its kernel times converted to wall time by `anchor`.
    pub fn from_call(call: &FinishedCall, anchor: WallAnchor) -> Self {
        let mut out = Attributes::default();
        match (&call.facts, &call.inferred) {
            (Some(facts @ Facts { rpc: Some(rpc), .. }), _) => remote::rpc(&mut out, facts, rpc),
            (Some(facts), _) => model_call(&mut out, facts),
            (None, Some(facts)) => inferred::attributes(&mut out, call, facts),
            (None, None) if call.is_within() => within::attributes(&mut out, call),
            (None, None) => {
                out.text(names::HTTP_REQUEST_METHOD, call.http.method.as_deref());
                // Bots and webhooks have their key in the path.
                let path = call.http.path.as_deref().map(|path| Redactor::shared().credentials(path));
                out.text(names::URL_PATH, path.as_deref());
            }
        }
        place(&mut out, &call.place);
        // A remote procedure call has progress in its stream, and no token.
        let is_rpc = call.facts.as_ref().is_some_and(|facts| facts.rpc.is_some());
        if call.streamed && (call.chunk_count > 0 || !is_rpc) {
            stream_times(&mut out, call);
        }
        out.int(names::HTTP_RESPONSE_STATUS_CODE, call.http.status.map(u64::from));
        let error = error_type(call);
        out.text(names::ERROR_TYPE, error.as_deref());
        let (address, port) = server(call);
        out.text(names::SERVER_ADDRESS, address.as_deref());
        out.int(names::SERVER_PORT, port);
        out.text(names::NETWORK_TRANSPORT, transport(call));
        out.text(names::NETWORK_PEER_ADDRESS, call.peer.as_ref().and_then(address_of).as_deref());
        out.int(names::NETWORK_PEER_PORT, call.peer.as_ref().and_then(port_of));
        process(&mut out, &call.process);
        out.text(names::INFERSCOPE_COMPLETION, call.completion.map(Completion::as_str));
        out.text(names::INFERSCOPE_CAPTURE, Some(call.capture.as_str()));
        out.text(names::INFERSCOPE_CAPTURE_SOURCE, Some(call.source.as_str()));
        out.text(names::INFERSCOPE_CAPTURE_BINDING, call.binding.map(Binding::as_str));
        out.text(names::INFERSCOPE_HOP, call.hop.map(Hop::as_str));
        if let Some(facts) = &call.serving {
            serving::attributes(&mut out, facts);
        }
        if let Some(content) = call.facts.as_ref().and_then(|facts| facts.content.as_ref()) {
            messages(&mut out, content);
        }
        Self {
            trace_id: call.ids.trace,
            span_id: call.ids.span,
            parent_span_id: call.ids.parent,
            name: span_name(call),
            kind: match call.side {
                _ if call.is_within() => SpanKind::Internal,
                Side::Client => SpanKind::Client,
                Side::Server => SpanKind::Server,
            },
            start_time_unix_nano: anchor.to_unix_nanos(call.timing.start),
            end_time_unix_nano: anchor.to_unix_nanos(call.timing.end.max(call.timing.start)),
            status: match (&error, call.completion) {
                (Some(_), _) => SpanStatus::Error,
                (None, Some(_)) => SpanStatus::Ok,
                (None, None) => SpanStatus::Unset,
            },
            attributes: out.0,
            events: call
                .notes
                .iter()
                .map(|note| event(note, anchor))
                .chain(call.load.iter().flat_map(|load| within::phases(load, anchor)))
                .chain(call.serving.iter().flat_map(|facts| serving::events(facts, call.timing.end, anchor)))
                .collect(),
        }
    }
}

/// Attributes under construction: a value that is absent adds nothing.
#[derive(Default)]
pub(super) struct Attributes(pub(super) Vec<(&'static str, Value)>);

impl Attributes {
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        self.0.extend(value.map(|value| (name, Value::Str(value.to_owned()))));
    }

    /// A count that does not fit the wire's signed integer came from a payload that lies: it is left out.
    pub(super) fn int(&mut self, name: &'static str, value: Option<u64>) {
        self.0.extend(value.and_then(|value| i64::try_from(value).ok()).map(|value| (name, Value::Int(value))));
    }

    /// JSON has no infinities, but `1e999` in a request parses to one.
    pub(super) fn double(&mut self, name: &'static str, value: Option<f64>) {
        self.0.extend(value.filter(|value| value.is_finite()).map(|value| (name, Value::Double(value))));
    }

    pub(super) fn seconds(&mut self, name: &'static str, value: Option<Duration>) {
        self.double(name, value.map(|value| value.as_secs_f64()));
    }

    pub(super) fn if_true(&mut self, name: &'static str, value: bool) {
        self.0.extend(value.then_some((name, Value::Bool(true))));
    }

    pub(super) fn list(&mut self, name: &'static str, values: &[String]) {
        self.0.extend((!values.is_empty()).then(|| (name, Value::StrArray(values.to_vec()))));
    }
}

fn span_name(call: &FinishedCall) -> String {
    match &call.facts {
        Some(Facts { rpc: Some(rpc), .. }) => remote::rpc_name(rpc),
        Some(Facts { retrieval: Some(retrieval), .. }) => remote::retrieval_name(retrieval),
        Some(Facts { operation, request: RequestFacts { model: Some(model), .. }, .. }) => {
            format!("{operation} {model}")
        }
        Some(facts) => facts.operation.to_owned(),
        None if call.is_within() => within::name(call),
        None if call.inferred.is_some() => call.inferred.as_deref().map(inferred::span_name).unwrap_or_default(),
        // The path would make a name for every resource: the conventions keep it out when the route is unknown.
        None => call.http.method.clone().unwrap_or_else(|| "HTTP".to_owned()),
    }
}

fn model_call(out: &mut Attributes, facts: &Facts) {
    let Facts { api, operation, provider, request, response, usage, timings, retrieval, estimated, quality, .. } =
        facts;
    out.text(names::GEN_AI_OPERATION_NAME, Some(*operation));
    out.text(names::GEN_AI_PROVIDER_NAME, Some(*provider));

    let RequestFacts {
        model,
        stream,
        max_tokens,
        temperature,
        top_p,
        frequency_penalty,
        presence_penalty,
        seed,
        choice_count,
        top_k,
        stop_sequences,
        output_type,
        encoding_formats,
        dimensions,
        service_tier,
        previous_response_id,
        conversation_id: _,
        message_count,
        tool_count,
    } = request;
    out.text(names::GEN_AI_REQUEST_MODEL, model.as_deref());
    out.if_true(names::GEN_AI_REQUEST_STREAM, *stream == Some(true));
    out.int(names::GEN_AI_REQUEST_MAX_TOKENS, *max_tokens);
    out.double(names::GEN_AI_REQUEST_TEMPERATURE, *temperature);
    out.double(names::GEN_AI_REQUEST_TOP_P, *top_p);
    out.double(names::GEN_AI_REQUEST_FREQUENCY_PENALTY, *frequency_penalty);
    out.double(names::GEN_AI_REQUEST_PRESENCE_PENALTY, *presence_penalty);
    out.0.extend(seed.map(|seed| (names::GEN_AI_REQUEST_SEED, Value::Int(seed))));
    out.int(names::GEN_AI_REQUEST_CHOICE_COUNT, choice_count.filter(|&count| count != 1));
    out.double(names::GEN_AI_REQUEST_TOP_K, *top_k);
    out.list(names::GEN_AI_REQUEST_STOP_SEQUENCES, stop_sequences);
    out.list(names::GEN_AI_REQUEST_ENCODING_FORMATS, encoding_formats);
    out.int(names::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, *dimensions);
    out.text(names::GEN_AI_OUTPUT_TYPE, *output_type);
    out.text(names::OPENAI_REQUEST_SERVICE_TIER, service_tier.as_deref());
    out.text(names::INFERSCOPE_PREVIOUS_RESPONSE_ID, previous_response_id.as_deref());

    let ResponseFacts {
        model,
        id,
        finish_reasons,
        tool_calls,
        system_fingerprint,
        service_tier,
        upstream_provider,
        native_finish_reason,
        reported_cost,
        audio_seconds,
        counted_tokens,
    } = response;
    out.text(names::GEN_AI_RESPONSE_MODEL, model.as_deref());
    out.text(names::GEN_AI_RESPONSE_ID, id.as_deref());
    out.list(names::GEN_AI_RESPONSE_FINISH_REASONS, finish_reasons);
    out.text(names::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, system_fingerprint.as_deref());
    out.text(names::OPENAI_RESPONSE_SERVICE_TIER, service_tier.as_deref());
    out.text(names::INFERSCOPE_UPSTREAM_PROVIDER, upstream_provider.as_deref());
    out.text(names::INFERSCOPE_NATIVE_FINISH_REASON, native_finish_reason.as_deref());
    out.double(names::INFERSCOPE_COST_REPORTED_USD, *reported_cost);
    out.double(names::INFERSCOPE_USAGE_AUDIO_SECONDS, *audio_seconds);
    out.int(names::INFERSCOPE_COUNTED_TOKENS, *counted_tokens);
    tokens(out, usage);
    estimates(out, usage, *estimated);

    server_timings(out, timings);
    if let Some(retrieval) = retrieval {
        remote::retrieval(out, retrieval);
    }

    out.text(names::INFERSCOPE_API, Some(*api));
    out.list(names::INFERSCOPE_TOOL_CALLS, tool_calls);
    out.int(names::INFERSCOPE_REQUEST_MESSAGE_COUNT, *message_count);
    out.int(names::INFERSCOPE_REQUEST_TOOL_COUNT, *tool_count);
    signs(out, quality);
}

fn place(out: &mut Attributes, place: &Place) {
    let Place { conversation, turn, retry, regeneration } = place;
    out.text(names::GEN_AI_CONVERSATION_ID, conversation.as_deref());
    out.int(names::INFERSCOPE_CONVERSATION_TURN, turn.map(u64::from));
    if let Some(Retry { count, first }) = retry {
        out.int(names::INFERSCOPE_RETRY_COUNT, Some(u64::from(*count)));
        out.text(names::INFERSCOPE_RETRY_OF, first.map(|span| hex(&span)).as_deref());
    }
    out.if_true(names::INFERSCOPE_REGENERATION, *regeneration);
}

/// What is wrong with the answer. What is not, or could not be judged, gives no attribute.
fn signs(out: &mut Attributes, quality: &Quality) {
    let Quality {
        refusal,
        content_filter,
        length,
        empty,
        repetition,
        malformed_arguments,
        mismatched_arguments,
        logprob_mean,
        logprob_min,
        low_confidence,
    } = *quality;
    out.if_true(names::INFERSCOPE_QUALITY_REFUSAL, refusal);
    out.if_true(names::INFERSCOPE_QUALITY_CONTENT_FILTER, content_filter);
    out.if_true(names::INFERSCOPE_QUALITY_LENGTH, length);
    out.if_true(names::INFERSCOPE_QUALITY_EMPTY, empty);
    out.if_true(names::INFERSCOPE_QUALITY_REPETITION, repetition);
    out.int(names::INFERSCOPE_QUALITY_MALFORMED_TOOL_ARGUMENTS, some(malformed_arguments));
    out.int(names::INFERSCOPE_QUALITY_MISMATCHED_TOOL_ARGUMENTS, some(mismatched_arguments));
    out.double(names::INFERSCOPE_QUALITY_LOGPROB_MEAN, logprob_mean);
    out.double(names::INFERSCOPE_QUALITY_LOGPROB_MIN, logprob_min);
    out.if_true(names::INFERSCOPE_QUALITY_LOW_CONFIDENCE, low_confidence);
}

/// A count of findings, of which none is nothing to tell.
fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

/// What the server's own clock says, never in the place of what was measured.
fn server_timings(out: &mut Attributes, timings: &Timings) {
    let Timings { queue, prompt, first_token, generation, inter_token, load, total, upstream } = *timings;
    out.double(names::INFERSCOPE_SERVER_TIMING_QUEUE, queue);
    out.double(names::INFERSCOPE_SERVER_TIMING_PROMPT, prompt);
    out.double(names::INFERSCOPE_SERVER_TIMING_TIME_TO_FIRST_TOKEN, first_token);
    out.double(names::INFERSCOPE_SERVER_TIMING_GENERATION, generation);
    out.double(names::INFERSCOPE_SERVER_TIMING_INTER_TOKEN, inter_token);
    out.double(names::INFERSCOPE_SERVER_TIMING_LOAD, load);
    out.double(names::INFERSCOPE_SERVER_TIMING_TOTAL, total);
    out.double(names::INFERSCOPE_SERVER_TIMING_UPSTREAM, upstream);
}

fn tokens(out: &mut Attributes, usage: &Usage) {
    let Usage {
        input,
        output,
        cache_read,
        cache_write,
        reasoning,
        total: _,
        cache_write_5m,
        cache_write_1h,
        text,
        image,
        audio,
        processed_input,
        processed_output,
        web_searches,
        search_units,
    } = *usage;
    out.int(names::GEN_AI_USAGE_INPUT_TOKENS, input);
    out.int(names::GEN_AI_USAGE_OUTPUT_TOKENS, output);
    out.int(names::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, cache_read);
    out.int(names::GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, cache_write);
    out.int(names::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, reasoning);
    out.int(names::GEN_AI_USAGE_TEXT_INPUT_TOKENS, text.input);
    out.int(names::GEN_AI_USAGE_TEXT_OUTPUT_TOKENS, text.output);
    out.int(names::GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS, text.cache_read);
    out.int(names::GEN_AI_USAGE_IMAGE_INPUT_TOKENS, image.input);
    out.int(names::GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS, image.output);
    out.int(names::GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS, image.cache_read);
    out.int(names::GEN_AI_USAGE_AUDIO_INPUT_TOKENS, audio.input);
    out.int(names::GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS, audio.output);
    out.int(names::GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS, audio.cache_read);
    out.int(names::INFERSCOPE_USAGE_CACHE_WRITE_5M, cache_write_5m);
    out.int(names::INFERSCOPE_USAGE_CACHE_WRITE_1H, cache_write_1h);
    out.int(names::INFERSCOPE_USAGE_PROCESSED_INPUT_TOKENS, processed_input);
    out.int(names::INFERSCOPE_USAGE_PROCESSED_OUTPUT_TOKENS, processed_output);
    out.int(names::INFERSCOPE_USAGE_WEB_SEARCHES, web_searches);
    out.int(names::INFERSCOPE_USAGE_SEARCH_UNITS, search_units);
    out.int(names::INFERSCOPE_USAGE_UNATTRIBUTED_TOKENS, usage.unattributed());
}

/// Where token counts come from, and what was estimated in their place.
fn estimates(out: &mut Attributes, usage: &Usage, estimated: Option<Estimated>) {
    let Estimated { input, output, method } = estimated.unwrap_or_default();
    out.int(names::INFERSCOPE_USAGE_ESTIMATED_INPUT_TOKENS, input);
    out.int(names::INFERSCOPE_USAGE_ESTIMATED_OUTPUT_TOKENS, output);
    out.text(names::INFERSCOPE_USAGE_ESTIMATED_METHOD, method.map(Method::as_str));
    let estimated = input.or(output).map(|_| "estimated");
    out.text(names::INFERSCOPE_USAGE_SOURCE, if usage.is_reported() { Some("reported") } else { estimated });
}

fn stream_times(out: &mut Attributes, call: &FinishedCall) {
    let Timing { start, request_end: _, response_start: _, first_event, first_chunk, last_chunk, end: _ } = call.timing;
    // Whoever joins late knows when it joined, not when the request began.
    let since_start = |at: Option<Mono>| at.filter(|_| call.capture != Capture::PartialStart).map(|at| at.since(start));
    out.seconds(names::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, since_start(first_event));
    out.seconds(names::INFERSCOPE_TIME_TO_FIRST_TOKEN, since_start(first_chunk));

    let output = call.facts.as_ref().and_then(|facts| facts.usage.output).filter(|&output| output > 1);
    // A single chunk has no time between chunks: zero would read as infinitely fast.
    if let (Some(first), Some(last), Some(output), 2..) = (first_chunk, last_chunk, output, call.chunk_count) {
        let per_token = last.since(first).as_secs_f64() / (output - 1) as f64;
        out.double(names::INFERSCOPE_TIME_PER_OUTPUT_TOKEN, Some(per_token));
    }
    out.int(names::INFERSCOPE_CHUNK_COUNT, Some(call.chunk_count).filter(|&count| count > 0));
    out.seconds(names::INFERSCOPE_CHUNK_GAP_P50, call.gaps.quantile(0.50));
    out.seconds(names::INFERSCOPE_CHUNK_GAP_P99, call.gaps.quantile(0.99));
    out.seconds(names::INFERSCOPE_CHUNK_GAP_MAX, call.gaps.max());
}

fn error_type(call: &FinishedCall) -> Option<String> {
    let said = call.facts.as_ref().and_then(|facts| facts.error.clone());
    let status = call.http.status.filter(|&status| status >= 400).map(|status| status.to_string());
    said.or(status).or_else(|| {
        let kind = match call.completion? {
            Completion::Done | Completion::Length => return None,
            Completion::ClientClosed => "cancelled",
            Completion::ServerClosed => "connection_reset",
            Completion::Idle => "timeout",
            Completion::Error => UNNAMED_ERROR,
        };
        Some(kind.to_owned())
    })
}

/// Address and port of the serving end. A client's port follows from the scheme when `Host` names none; a server
/// may sit behind something that spoke another scheme, so there the socket's own port is the better witness.
fn server(call: &FinishedCall) -> (Option<String>, Option<u64>) {
    let HttpFacts { host, .. } = &call.http;
    let socket = match call.side {
        Side::Client => call.peer.as_ref(),
        Side::Server => call.local.as_ref(),
    };
    // What a client writes into `Host` on a UNIX socket names nothing.
    if is_unix(call) {
        return (socket.and_then(address_of), None);
    }
    match host.as_deref().and_then(split_host) {
        Some((host, HostPort::Given(port))) => (Some(host.to_owned()), Some(u64::from(port))),
        Some((host, HostPort::Unreadable)) => (Some(host.to_owned()), None),
        Some((host, HostPort::Default)) => {
            let port = match call.side {
                Side::Client => Some(if call.tls { 443 } else { 80 }),
                Side::Server => socket.and_then(port_of),
            };
            (Some(host.to_owned()), port)
        }
        None => (socket.and_then(address_of), socket.and_then(port_of)),
    }
}

/// The port as a `Host` header gives it.
#[derive(Debug, PartialEq)]
enum HostPort {
    Given(u16),
    Default,
    Unreadable,
}

/// Host and port of a `Host` or `:authority` value. User information, which an authority may carry, is a
/// credential and stays out.
fn split_host(value: &str) -> Option<(&str, HostPort)> {
    let value = value.rsplit_once('@').map_or(value, |(_, host)| host).trim();
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => value.split_once(':').map_or((value, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => HostPort::Default,
        Some(port) => port.parse().map_or(HostPort::Unreadable, HostPort::Given),
    };
    (!host.is_empty()).then_some((host, port))
}

/// What carried the call, where it was not TCP. A server's standard input and output are pipes whatever the client's
/// runtime makes them of: Node's are UNIX sockets without a name.
fn transport(call: &FinishedCall) -> Option<&'static str> {
    let is_named = |end: &Option<Address>| end.as_ref().and_then(address_of).is_some();
    let is_pipe = call.source == Source::Lines && !is_named(&call.local) && !is_named(&call.peer);
    if is_pipe || call.source == Source::Pipe {
        return Some("pipe");
    }
    is_unix(call).then_some("unix")
}

fn is_unix(call: &FinishedCall) -> bool {
    matches!(call.local, Some(Address::Unix { .. }))
}

/// An IPv4 peer of a dual-stack socket is the same peer: `::ffff:a.b.c.d` is written `a.b.c.d`. A UNIX socket's address is
/// the name that it is bound to, if it is.
fn address_of(end: &Address) -> Option<String> {
    match end {
        Address::Ip(address) => Some(address.ip().to_canonical().to_string()),
        Address::Unix { name, .. } => name.as_deref().map(str::to_owned),
    }
}

fn port_of(end: &Address) -> Option<u64> {
    end.ip().map(|address| u64::from(address.port()))
}

fn process(out: &mut Attributes, process: &ProcessIdentity) {
    let ProcessIdentity { pid, start_boottime_ns: _, uid, comm: _, executable, container_id } = process;
    out.int(names::PROCESS_PID, Some(u64::from(*pid)));
    out.text(names::PROCESS_EXECUTABLE_NAME, executable.as_deref());
    out.int(names::PROCESS_REAL_USER_ID, uid.map(u64::from));
    out.text(names::CONTAINER_ID, container_id.as_deref());
}

fn messages(out: &mut Attributes, content: &Content) {
    let Content { input_messages, output_messages, system_instructions, tool_definitions, truncated } = content;
    out.text(names::GEN_AI_INPUT_MESSAGES, input_messages.as_deref());
    out.text(names::GEN_AI_OUTPUT_MESSAGES, output_messages.as_deref());
    out.text(names::GEN_AI_SYSTEM_INSTRUCTIONS, system_instructions.as_deref());
    out.text(names::GEN_AI_TOOL_DEFINITIONS, tool_definitions.as_deref());
    out.if_true(names::INFERSCOPE_CONTENT_TRUNCATED, *truncated);
}

fn event(note: &Note, anchor: WallAnchor) -> SpanEvent {
    let mut out = Attributes::default();
    let name = match note.kind {
        NoteKind::Gap { part, bytes } => {
            out.text(names::INFERSCOPE_PART, Some(part));
            out.int(names::INFERSCOPE_BYTES, Some(bytes));
            EVENT_GAP
        }
        NoteKind::Malformed { part, reason } => {
            out.text(names::INFERSCOPE_PART, Some(part));
            out.text(names::INFERSCOPE_REASON, Some(reason));
            EVENT_MALFORMED
        }
        NoteKind::Undecoded { part } => {
            out.text(names::INFERSCOPE_PART, Some(part));
            EVENT_UNDECODED
        }
    };
    SpanEvent { name, time_unix_nano: anchor.to_unix_nanos(note.at), attributes: out.0 }
}

#[cfg(test)]
#[path = "from_call_tests.rs"]
mod tests;
