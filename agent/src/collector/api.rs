//! Questions about what is stored, over HTTP: `GET` and JSON.
//!
//! Owns the paths, their parameters, who may ask, and the form of an error. What a question means is the store's business.
//! A parameter that is not known is refused: what is misspelt would otherwise not narrow anything. Times are nanoseconds
//! since the Unix epoch, as everywhere; what is not known is null.
//!
//! To add a path: its line in [`router`], its function, its row in docs/collector.md.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Path, Query, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{
    auth::{self, Denied, Peer, Tokens},
    fresh::Fresh,
    store::{self, Dimension, Filter, Ingest, Kind, QueryError, Status},
};
use crate::kernel::clock;

/// Calls of a page unless it is said.
const PAGE: usize = 100;

/// Logs and entries of the audit log that are shown at most.
const LATEST: usize = 1000;

/// What all answers are made from.
pub struct Shared {
    /// Questions.
    pub reader: store::Reader,
    /// Who reads content is noted here.
    pub ingest: Ingest,
    /// Who may ask.
    pub tokens: Arc<Fresh<Tokens>>,
}

type App = Arc<Shared>;
type Parameters = BTreeMap<String, String>;

/// All paths.
pub fn router(shared: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/v1/calls", get(calls))
        .route("/api/v1/calls/{trace_id}/{span_id}", get(call))
        .route("/api/v1/calls/{trace_id}/{span_id}/content", get(content))
        .route("/api/v1/traces/{trace_id}", get(trace))
        .route("/api/v1/aggregate", get(aggregate))
        .route("/api/v1/gpus", get(gpus))
        .route("/api/v1/gpus/{gauge}", get(gpu_history))
        .route("/api/v1/agents", get(agents))
        .route("/api/v1/ledger", get(ledger))
        .route("/api/v1/logs", get(logs))
        .route("/api/v1/audit", get(audit))
        .route("/api/v1/summary", get(summary))
        .with_state(shared)
}

/// Why there is no answer.
enum Problem {
    Denied(Denied),
    Wrong(String),
    Missing,
    Query(QueryError),
    Failed(&'static str),
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Denied(denied @ Denied::Unknown) => (StatusCode::UNAUTHORIZED, denied.to_string()),
            Self::Denied(denied) => (StatusCode::FORBIDDEN, denied.to_string()),
            Self::Wrong(message) => (StatusCode::BAD_REQUEST, message),
            Self::Missing => (StatusCode::NOT_FOUND, "there is no such call".to_owned()),
            Self::Query(error @ QueryError::Wrong { .. }) => (StatusCode::BAD_REQUEST, error.to_string()),
            Self::Query(error @ (QueryError::TooSlow { .. } | QueryError::Busy)) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            Self::Query(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a query failed");
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            Self::Failed(message) => (StatusCode::SERVICE_UNAVAILABLE, message.to_owned()),
        };
        let mut response = (status, document(&json!({ "error": message }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

type Answer = Result<Response, Problem>;

fn document(value: &impl Serialize) -> Response {
    // Numbers that JSON has not are null; there is nothing else that could fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    // What is stored changes, and some of it is not for everybody.
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from(body)).into_response()
}

impl Shared {
    fn may_read(&self, peer: &Peer, headers: &HeaderMap) -> Result<auth::Reader, Denied> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = text(header::AUTHORIZATION);
        // A page of somebody else's, in a browser on this host, can make its own name mean this address. Whoever is let in without
        // a token has to ask for this host.
        if authorization.is_none() && !text(header::HOST).is_some_and(is_this_host) {
            return Err(Denied::Unknown);
        }
        auth::may_read(&self.tokens.get(), peer, authorization)
    }

    /// Asks the store on a thread that may wait.
    async fn ask<T: Serialize + Send + 'static>(
        &self,
        question: impl FnOnce(&store::Reader) -> Result<T, QueryError> + Send + 'static,
    ) -> Answer {
        let reader = self.reader.clone();
        let answer = spawn_blocking(move || question(&reader)).await;
        Ok(document(&answer.map_err(|_| Problem::Failed("the question was given up"))??))
    }
}

/// Whether a `Host` header names this host and no other.
fn is_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Takes parameters one by one, and refuses what is left.
struct Taking(Parameters);

impl Taking {
    fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: String| text.parse().map_err(|_| Problem::Wrong(format!("{name} is no number that fits")));
        self.text(name).map(parse).transpose()
    }

    fn one_of<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let parse = |text: String| parse(&text).ok_or_else(|| Problem::Wrong(format!("{name} has no such value")));
        self.text(name).map(parse).transpose()
    }

    fn filter(&mut self) -> Result<Filter, Problem> {
        Ok(Filter {
            from: self.number("from")?,
            to: self.number("to")?,
            model: self.text("model"),
            provider: self.text("provider"),
            host: self.text("host"),
            executable: self.text("executable"),
            user: self.number("user")?,
            status: self.one_of("status", Status::parse)?,
            kind: self.one_of("kind", Kind::parse)?,
            error_type: self.text("error_type"),
            min_duration: self.number("min_duration")?,
            min_ttft: self.number("min_ttft")?,
            min_cost: self.number("min_cost")?,
            slow: self.one_of("slow", |text| text.parse().ok())?.unwrap_or(false),
            cause: self.text("cause"),
            trace_id: self.one_of("trace_id", id::<16>)?,
            conversation: self.text("conversation"),
        })
    }

    fn end(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::Wrong(format!("there is no parameter {name:?}"))),
        }
    }
}

/// An id of so many bytes, in hexadecimal digits.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn ids(path: &(String, String)) -> Result<([u8; 16], [u8; 8]), Problem> {
    id(&path.0).zip(id(&path.1)).ok_or_else(|| Problem::Wrong("an id has 32 and 16 hexadecimal digits".to_owned()))
}

async fn calls(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Answer {
    app.may_read(&peer, &headers)?;
    let mut taking = Taking(parameters);
    let filter = taking.filter()?;
    let limit = taking.number("limit")?.unwrap_or(PAGE);
    let cursor = taking.text("cursor");
    taking.end()?;
    app.ask(move |reader| reader.calls(&filter, limit, cursor.as_deref())).await
}

async fn call(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(path): Path<(String, String)>,
) -> Answer {
    app.may_read(&peer, &headers)?;
    let (trace_id, span_id) = ids(&path)?;
    let reader = app.reader.clone();
    let found = spawn_blocking(move || reader.call(trace_id, span_id)).await;
    let found = found.map_err(|_| Problem::Failed("the question was given up"))??;
    Ok(document(&found.ok_or(Problem::Missing)?))
}

/// Content takes a token that says so, and is shown only after that is written down.
async fn content(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(path): Path<(String, String)>,
) -> Answer {
    let reader = app.may_read(&peer, &headers)?;
    if !reader.content {
        return Err(Denied::Role.into());
    }
    let (trace_id, span_id) = ids(&path)?;
    let noted = app
        .ingest
        .audit(&reader.name, "read_content", Some((trace_id, span_id)))
        .map_err(|_| Problem::Failed("that content is read cannot be noted at the moment"))?;
    match noted.await {
        Ok(Ok(_)) => {}
        _ => return Err(Problem::Failed("that content is read cannot be noted at the moment")),
    }
    let reader = app.reader.clone();
    let found = spawn_blocking(move || reader.content(trace_id, span_id)).await;
    let found = found.map_err(|_| Problem::Failed("the question was given up"))??;
    Ok(document(&found.ok_or(Problem::Missing)?))
}

async fn trace(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Answer {
    app.may_read(&peer, &headers)?;
    let trace_id = id(&path).ok_or_else(|| Problem::Wrong("a trace id has 32 hexadecimal digits".to_owned()))?;
    app.ask(move |reader| reader.trace(trace_id)).await
}

async fn aggregate(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Answer {
    app.may_read(&peer, &headers)?;
    let mut taking = Taking(parameters);
    let filter = taking.filter()?;
    let step = taking.number("step")?;
    let by = taking.text("by").unwrap_or_default();
    taking.end()?;
    let dimension = |name: &str| {
        Dimension::parse(name).ok_or_else(|| Problem::Wrong(format!("calls are not added up by {name:?}")))
    };
    let by: Vec<_> = by.split(',').filter(|name| !name.is_empty()).map(dimension).collect::<Result<_, _>>()?;
    app.ask(move |reader| reader.aggregate(&filter, &by, step)).await
}

async fn gpu_history(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(gauge): Path<i64>,
    Query(parameters): Query<Parameters>,
) -> Answer {
    app.may_read(&peer, &headers)?;
    let mut taking = Taking(parameters);
    let (from, to) = (taking.number("from")?, taking.number("to")?);
    taking.end()?;
    let range = from.zip(to).ok_or_else(|| Problem::Wrong("from and to are needed".to_owned()))?;
    app.ask(move |reader| reader.gpu_history(gauge, range.0, range.1)).await
}

async fn gpus(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Answer {
    app.may_read(&peer, &headers)?;
    app.ask(|reader| reader.gpus()).await
}

async fn agents(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Answer {
    app.may_read(&peer, &headers)?;
    app.ask(|reader| reader.agents()).await
}

async fn ledger(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Answer {
    app.may_read(&peer, &headers)?;
    app.ask(|reader| reader.ledger()).await
}

async fn logs(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Answer {
    app.may_read(&peer, &headers)?;
    let mut taking = Taking(parameters);
    let (severity, limit) = (taking.number("min_severity")?.unwrap_or(0), taking.number("limit")?.unwrap_or(PAGE));
    taking.end()?;
    app.ask(move |reader| reader.logs(severity, limit.min(LATEST))).await
}

async fn audit(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Answer {
    app.may_read(&peer, &headers)?;
    app.ask(|reader| reader.audit(LATEST)).await
}

async fn summary(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Answer {
    app.may_read(&peer, &headers)?;
    let now = i64::try_from(clock::anchor().unix_nanos).unwrap_or(i64::MAX);
    app.ask(move |reader| reader.summary(now)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_this_host() {
        for own in ["localhost", "localhost:8317", "127.0.0.1:8317", "[::1]:8317"] {
            assert!(is_this_host(own), "{own}");
        }
        for other in ["", "evil.example:8317", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil.example", "a b"] {
            assert!(!is_this_host(other), "{other}");
        }
    }

    #[test]
    fn ids_are_hexadecimal_and_of_their_length() {
        assert_eq!(id::<2>("00fF"), Some([0, 255]));
        for wrong in ["", "00f", "00ffa", "00fg", "+0ff", "0é0"] {
            assert_eq!(id::<2>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        let taking = |text: &str| Taking([(text.to_owned(), "1".to_owned())].into());
        let mut known = taking("min_ttft");
        assert!(known.filter().is_ok_and(|filter| filter.min_ttft == Some(1.0)) && known.end().is_ok());
        let mut unknown = taking("min_tfft");
        assert!(unknown.filter().is_ok() && unknown.end().is_err());
        assert!(taking("status").filter().is_err());
    }
}
