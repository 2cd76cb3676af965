//! What a finished call adds to the metrics.
//!
//! Owns which call counts where. Takes the span, as every exporter does, so that metrics and spans never disagree. A call
//! that was joined late or cut short by the agent has no duration; one that was inferred has nothing but its number.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    names::{self, Metric},
    series::{Counted, LabelSet},
    top::{Choice, MAX_VALUE, Top, cut_to},
};
use crate::{
    call::Capture,
    export::{
        attributes::*,
        span::{Span, SpanKind, Value},
    },
};

/// Models, processes, hosts, engines and MCP's methods that have series of their own, each.
pub const PLACES: usize = 50;

/// Kinds of errors that do: providers name their own.
const ERRORS: usize = 30;

/// Between host and port in the one set of values that both share: a server is asked for by both.
const PORT: char = '\n';

/// The labels whose values programs and payloads choose.
#[derive(Debug)]
pub(super) struct Open {
    models: Top,
    processes: Top,
    servers: Top,
    engines: Top,
    methods: Top,
    errors: Top,
}

impl Default for Open {
    fn default() -> Self {
        let [models, processes, servers, engines, methods] = [PLACES; 5].map(Top::new);
        Self { models, processes, servers, engines, methods, errors: Top::new(ERRORS) }
    }
}

/// Where measurements go, with the count of what found no place.
pub(super) struct Sheet<'a> {
    counted: &'a mut Counted,
    folded: &'a mut BTreeMap<&'static str, u64>,
    /// When the call ended: a series that begins anew counts from here.
    now: u64,
}

impl<'a> Sheet<'a> {
    /// For one call that ended at `now`.
    pub(super) fn new(counted: &'a mut Counted, folded: &'a mut BTreeMap<&'static str, u64>, now: u64) -> Self {
        Self { counted, folded, now }
    }

    fn add(&mut self, metric: &'static Metric, labels: &LabelSet, amount: f64) {
        if !self.counted.add(metric, labels, amount) {
            *self.folded.entry("series").or_default() += 1;
        }
    }

    /// The value that `label` gets; `all` are the labels that share its values.
    fn choose(&mut self, top: &mut Top, all: &[&'static str], value: Option<&str>) -> Option<Arc<str>> {
        let Choice { value, folded, evicted } = top.choose(value?);
        if let Some(evicted) = evicted {
            for label in all {
                self.counted.retire(&[(label, &evicted)], self.now);
            }
        }
        self.fold(all, folded);
        Some(value)
    }

    fn server(&mut self, top: &mut Top, host: Option<&str>, port: Option<i64>) -> Option<(Arc<str>, Option<Arc<str>>)> {
        let split = |joined: &str| match joined.split_once(PORT) {
            Some((host, port)) => (Arc::from(host), Some(Arc::from(port))),
            None => (Arc::from(joined), None),
        };
        let joined = match (host?, port) {
            (host, Some(port)) => format!("{}{PORT}{port}", cut_to(host, MAX_VALUE - 8)),
            (host, None) => host.to_owned(),
        };
        let Choice { value, folded, evicted } = top.choose(&joined);
        if let Some((host, port)) = evicted.as_deref().map(split) {
            let port = port.as_deref().map(|port| (SERVER_PORT, port));
            let labels: Vec<_> = [(SERVER_ADDRESS, &*host)].into_iter().chain(port).collect();
            self.counted.retire(&labels, self.now);
        }
        self.fold(&[SERVER_ADDRESS], folded);
        Some(split(&value))
    }

    fn fold(&mut self, labels: &[&'static str], folded: bool) {
        if folded && let Some(label) = labels.first() {
            *self.folded.entry(label).or_default() += 1;
        }
    }
}

/// A call as it is counted: its span, and what is asked of it more than once.
struct Call<'a> {
    span: &'a Span,
    /// Seconds, if all of its time was seen.
    seconds: Option<f64>,
    failed: bool,
}

impl<'a> Call<'a> {
    fn new(span: &'a Span) -> Self {
        let capture = span.get(INFERSCOPE_CAPTURE).and_then(Value::as_str);
        let part = [Capture::PartialStart, Capture::Truncated].map(|part| Some(part.as_str()));
        let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        Self {
            span,
            seconds: (!part.contains(&capture)).then_some(nanos as f64 / 1e9),
            failed: span.get(ERROR_TYPE).is_some(),
        }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.span.get(name).and_then(Value::as_str)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.span.get(name).and_then(Value::as_int)
    }

    fn double(&self, name: &str) -> Option<f64> {
        self.span.get(name).and_then(Value::as_double)
    }

    fn list(&self, name: &str) -> &'a [String] {
        match self.span.get(name) {
            Some(Value::StrArray(texts)) => texts,
            _ => &[],
        }
    }
}

/// Counts `span`.
pub(super) fn record(open: &mut Open, mut sheet: Sheet<'_>, span: &Span) {
    let call = Call::new(span);
    let whole = LabelSet::default()
        .with(INFERSCOPE_COMPLETION, call.text(INFERSCOPE_COMPLETION))
        .with(INFERSCOPE_CAPTURE, call.text(INFERSCOPE_CAPTURE))
        .with(names::INFERSCOPE_SIDE, Some(span.kind.as_str()));
    sheet.add(&names::CALLS_FINISHED, &whole, 1.0);
    if span.get(INFERSCOPE_INFERRED).is_some() {
        return;
    }
    let side = match span.kind {
        SpanKind::Client => Side::Client,
        SpanKind::Server => Side::Server,
        SpanKind::Internal => return,
    };
    if call.text(MCP_METHOD_NAME).is_some() {
        mcp(open, &mut sheet, &call, side);
    } else if call.text(GEN_AI_PROVIDER_NAME).is_some() {
        model_call(open, &mut sheet, &call, side);
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

fn mcp(open: &mut Open, sheet: &mut Sheet<'_>, call: &Call<'_>, side: Side) {
    let method = sheet.choose(&mut open.methods, &[MCP_METHOD_NAME], call.text(MCP_METHOD_NAME));
    let process = sheet.choose(&mut open.processes, &[PROCESS_EXECUTABLE_NAME], call.text(PROCESS_EXECUTABLE_NAME));
    let error = sheet.choose(&mut open.errors, &[ERROR_TYPE], call.text(ERROR_TYPE));
    let labels = LabelSet::default()
        .with(MCP_METHOD_NAME, method)
        .with(NETWORK_TRANSPORT, call.text(NETWORK_TRANSPORT))
        .with(PROCESS_EXECUTABLE_NAME, process)
        .with(ERROR_TYPE, error);
    let metric = match side {
        Side::Client => &names::MCP_CLIENT_DURATION,
        Side::Server => &names::MCP_SERVER_DURATION,
    };
    if let Some(seconds) = call.seconds {
        sheet.add(metric, &labels, seconds);
    }
}

fn model_call(open: &mut Open, sheet: &mut Sheet<'_>, call: &Call<'_>, side: Side) {
    const MODELS: [&str; 2] = [GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL];
    let request_model = sheet.choose(&mut open.models, &MODELS, call.text(GEN_AI_REQUEST_MODEL));
    let response_model = sheet.choose(&mut open.models, &MODELS, call.text(GEN_AI_RESPONSE_MODEL));
    let process = sheet.choose(&mut open.processes, &[PROCESS_EXECUTABLE_NAME], call.text(PROCESS_EXECUTABLE_NAME));
    let engine = sheet.choose(&mut open.engines, &[INFERSCOPE_ENGINE_ID], call.text(INFERSCOPE_ENGINE_ID));
    let error = sheet.choose(&mut open.errors, &[ERROR_TYPE], call.text(ERROR_TYPE));
    let (host, port) = sheet.server(&mut open.servers, call.text(SERVER_ADDRESS), call.int(SERVER_PORT)).unzip();
    let labels = LabelSet::default()
        .with(GEN_AI_OPERATION_NAME, call.text(GEN_AI_OPERATION_NAME))
        .with(GEN_AI_PROVIDER_NAME, call.text(GEN_AI_PROVIDER_NAME))
        .with(GEN_AI_REQUEST_MODEL, request_model)
        .with(GEN_AI_RESPONSE_MODEL, response_model)
        .with(SERVER_ADDRESS, host)
        .with(SERVER_PORT, port.flatten())
        .with(PROCESS_EXECUTABLE_NAME, process)
        .with(INFERSCOPE_ENGINE_ID, engine)
        .with(ERROR_TYPE, error)
        .with(names::INFERSCOPE_SIDE, Some(call.span.kind.as_str()));

    let (duration, tokens) = match side {
        Side::Client => (&names::CLIENT_DURATION, &names::CLIENT_TOKENS),
        Side::Server => (&names::SERVER_DURATION, &names::SERVER_TOKENS),
    };
    let first_chunk = call.double(GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK);
    // The conventions' two are of responses that succeeded.
    let token_times = |name| call.double(name).filter(|_| !call.failed);
    let times = match side {
        Side::Client => [(&names::CLIENT_FIRST_CHUNK, first_chunk), (duration, call.seconds)].to_vec(),
        Side::Server => vec![
            (&names::SERVER_FIRST_TOKEN, token_times(INFERSCOPE_TIME_TO_FIRST_TOKEN)),
            (&names::SERVER_OUTPUT_TOKEN, token_times(INFERSCOPE_TIME_PER_OUTPUT_TOKEN)),
            (duration, call.seconds),
        ],
    };
    let sums = [
        (&names::COST, call.double(INFERSCOPE_COST_USD)),
        (&names::CALLS_ENERGY, call.double(INFERSCOPE_GPU_ENERGY_JOULES)),
        (&names::WASTE_TIME, call.double(INFERSCOPE_WASTE_SECONDS)),
        (&names::WASTE_ENERGY, call.double(INFERSCOPE_WASTE_JOULES)),
    ];
    for (metric, amount) in times.into_iter().chain(sums) {
        if let Some(amount) = amount {
            sheet.add(metric, &labels, amount);
        }
    }
    let mut labels = labels;
    for (kind, name) in [("input", GEN_AI_USAGE_INPUT_TOKENS), ("output", GEN_AI_USAGE_OUTPUT_TOKENS)] {
        if let Some(count) = call.int(name) {
            labels.set(names::GEN_AI_TOKEN_TYPE, kind);
            sheet.add(tokens, &labels, count as f64);
        }
    }
    for measure in call.list(INFERSCOPE_SLOW) {
        labels.set(INFERSCOPE_SLOW_MEASURE, measure.as_str());
        sheet.add(&names::CALLS_SLOW, &labels, 1.0);
    }
    if let Some(cause) = call.list(INFERSCOPE_CAUSE_KINDS).first() {
        labels.set(INFERSCOPE_CAUSE_KIND, cause.as_str());
        sheet.add(&names::CALLS_CAUSES, &labels, 1.0);
    }
}
