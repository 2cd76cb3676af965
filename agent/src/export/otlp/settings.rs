//! Where spans, metrics and logs go and how: the configuration over the standard variables.
//!
//! Owns the precedence (file, then `OTEL_EXPORTER_OTLP_TRACES_*`, `…_METRICS_*` or `…_LOGS_*`, then `OTEL_EXPORTER_OTLP_*`, then the default)
//! and the checks that can be made without a connection. The variables are about one destination, the one without a name:
//! where the file names destinations, each is what the file says of it and nothing else. Pure: the environment is an argument, files are only
//! named. Errors name the setting and never quote its value, because endpoints and headers carry credentials.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::{
    metadata::{AsciiMetadataKey, AsciiMetadataValue},
    transport::Uri,
};

use super::pairs::{self, PairError};
use crate::config::{Compression, Headers, OtlpConfig};

/// The environment: the value of a variable by its name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The value of a variable; one that is set to nothing counts as not set, as the specification says.
pub(super) fn variable(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.trim().is_empty())
}

/// Where OTLP/gRPC receivers listen when nobody said otherwise.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";
/// The specification's default deadline of a call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// About 6,000 spans without content: minutes of an outage at ten calls a second, within the agent's memory budget.
const DEFAULT_QUEUE_BYTES: usize = 8 << 20;
/// Bounds the queue's own overhead when spans are tiny.
const DEFAULT_QUEUE_SPANS: usize = 16_384;
/// Notices are few and short: hours of them.
const LOGS_QUEUE_BYTES: usize = 256 << 10;
/// Bounds their number too.
const LOGS_QUEUE_RECORDS: usize = 512;
/// How often metrics are sent. The specification's default is twice as long; what shows a queue that grows should not be.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
/// The specification's name of the interval, in milliseconds.
const INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";

/// Everything that the exporter needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSettings {
    /// Tells this destination from others; the one that the variables are about has none.
    pub name: Option<String>,
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// Files for TLS; absent for a plaintext endpoint.
    pub tls: Option<TlsFiles>,
    /// Sent with every call; `Debug` shows the names alone.
    pub headers: Headers,
    /// Compression of requests.
    pub compression: Compression,
    /// Deadline of one call.
    pub timeout: Duration,
    /// Most bytes of encoded spans that wait in memory, those being sent included.
    pub queue_max_bytes: usize,
    /// Most spans that wait in memory, those being sent included.
    pub queue_max_spans: usize,
    /// What no operator needs to set.
    pub tuning: Tuning,
}

/// PEM files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Values with one right answer for every operator, and others for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Largest request, uncompressed. gRPC receivers take 4 MiB by default; the margin is for those that count
    /// framing or leave a little room.
    pub request_max_bytes: usize,
    /// Most spans of a request, so that one of tiny spans does not take long to store.
    pub request_max_spans: usize,
    /// A span up to this size, alone in its request, is never taken for too large: the receiver that says so has no
    /// room or no quota at the moment, and is asked again.
    pub small_span_bytes: usize,
    /// How long a span waits for others to share its request.
    pub linger: Duration,
    /// First wait before another attempt.
    pub backoff_first: Duration,
    /// Longest wait before another attempt.
    pub backoff_longest: Duration,
    /// How often files with certificates are looked at, while calls go well.
    pub certificates_every: Duration,
    /// How often the cursor in the log is made durable, at most: what was taken and is not noted is sent again after a crash.
    pub note_every: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            request_max_bytes: (4 << 20) - (64 << 10),
            request_max_spans: 512,
            small_span_bytes: 64 << 10,
            linger: Duration::from_secs(1),
            backoff_first: Duration::from_secs(1),
            backoff_longest: Duration::from_secs(30),
            certificates_every: Duration::from_secs(5),
            note_every: Duration::from_millis(500),
        }
    }
}

/// Why settings were refused. `setting` is the variable or the name in the configuration file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The endpoint is no URL that a gRPC client can call.
    #[error("{setting} must be http://host:port or https://host:port, {reason}")]
    Endpoint {
        /// Where it was set.
        setting: String,
        /// What it has that it must not have, or the reverse.
        reason: &'static str,
    },
    /// Another OTLP transport was asked for.
    #[error("{setting} asks for a protocol other than grpc, which is the only one that inferscope speaks")]
    Protocol {
        /// Where it was set.
        setting: String,
    },
    /// The value is not one of those that are known.
    #[error("{setting} must be {expect}")]
    Value {
        /// Where it was set.
        setting: String,
        /// What is known.
        expect: &'static str,
    },
    /// A list of headers cannot be read.
    #[error("{setting} is not a list of name=value")]
    Pairs {
        /// Where it was set.
        setting: String,
        /// What is wrong with it.
        #[source]
        source: PairError,
    },
    /// A header that cannot be sent.
    #[error("{setting}: header `{name}` {reason}")]
    Header {
        /// Where it was set.
        setting: String,
        /// Name of the header.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// One of certificate and key without the other.
    #[error(
        "a client certificate needs its key and the key its certificate: one of the two is not set for export.{section}"
    )]
    HalfIdentity {
        /// The destination's section.
        section: String,
    },
    /// Files for TLS with a plaintext endpoint.
    #[error("certificates are set but the endpoint is plaintext: use https:// for export.{section}")]
    PlaintextWithCertificates {
        /// The destination's section.
        section: String,
    },
}

/// How metrics are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsSettings {
    /// Where to. The bounds on queues mean nothing here: the newest metrics are all that waits.
    pub otlp: OtlpSettings,
    /// How often.
    pub interval: Duration,
}

impl MetricsSettings {
    /// The settings of each destination that metrics were asked for.
    pub fn resolve_all(configs: &[OtlpConfig], env: Env<'_>) -> Result<Vec<Self>, SettingsError> {
        of_each(configs, |config| Self::resolve(config, env))
    }

    /// The settings, or `None` when nobody asked for metrics: neither `metrics = true` in the file nor an endpoint for
    /// metrics in `env`.
    pub fn resolve(config: Option<&OtlpConfig>, env: Env<'_>) -> Result<Option<Self>, SettingsError> {
        let env = applicable(config, env);
        if !is_asked_for(Signal::Metrics, config.and_then(|config| config.metrics), env) {
            return Ok(None);
        }
        let interval = match (config.and_then(|config| config.metrics_interval_seconds), variable(env, INTERVAL)) {
            // The configuration has checked the range.
            (Some(seconds), _) => Duration::try_from_secs_f64(seconds).unwrap_or(DEFAULT_INTERVAL),
            (None, None) => DEFAULT_INTERVAL,
            (None, Some(text)) => match text.trim().parse() {
                Ok(millis @ 1000..=3_600_000) => Duration::from_millis(millis),
                _ => {
                    let expect = "milliseconds between 1000 and 3600000";
                    return Err(SettingsError::Value { setting: INTERVAL.to_owned(), expect });
                }
            },
        };
        let otlp = OtlpSettings::of(Signal::Metrics, config.unwrap_or(&OtlpConfig::default()), env)?;
        Ok(Some(Self { otlp, interval }))
    }
}

/// What is sent. Each has variables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    fn prefix(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_EXPORTER_OTLP_TRACES_",
            Self::Metrics => "OTEL_EXPORTER_OTLP_METRICS_",
            Self::Logs => "OTEL_EXPORTER_OTLP_LOGS_",
        }
    }

    /// What messages call that which is sent.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Whether a signal that is off by default is wanted: the file says so, or it has an endpoint of its own in `env`. One for all
/// signals is not enough: many receivers behind it take traces only.
fn is_asked_for(signal: Signal, in_file: Option<bool>, env: Env<'_>) -> bool {
    in_file.unwrap_or_else(|| variable(env, &format!("{}ENDPOINT", signal.prefix())).is_some())
}

/// The environment as one signal sees it.
#[derive(Clone, Copy)]
struct Variables<'a> {
    signal: Signal,
    env: Env<'a>,
}

impl Variables<'_> {
    /// The variable for the signal, else the one for all signals, with the name of the one that was found.
    fn get(self, name: &str) -> Option<(String, String)> {
        [self.signal.prefix(), "OTEL_EXPORTER_OTLP_"].iter().find_map(|prefix| {
            let full = format!("{prefix}{name}");
            let value = variable(self.env, &full)?;
            Some((full, value.trim().to_owned()))
        })
    }
}

/// What `resolve` gives for each section, or for none if there is none.
fn of_each<T>(
    configs: &[OtlpConfig],
    resolve: impl Fn(Option<&OtlpConfig>) -> Result<Option<T>, SettingsError>,
) -> Result<Vec<T>, SettingsError> {
    match configs {
        [] => resolve(None).map(|settings| settings.into_iter().collect()),
        configs => configs.iter().filter_map(|config| resolve(Some(config)).transpose()).collect(),
    }
}

/// The environment as the destination sees it: one with a name sees none.
fn applicable<'a>(config: Option<&OtlpConfig>, env: Env<'a>) -> Env<'a> {
    match config.and_then(|config| config.name.as_ref()) {
        Some(_) => &|_| None,
        None => env,
    }
}

impl OtlpSettings {
    /// The settings of each destination for spans.
    pub fn resolve_all(configs: &[OtlpConfig], env: Env<'_>) -> Result<Vec<Self>, SettingsError> {
        of_each(configs, |config| Self::resolve(config, env))
    }

    /// The settings for spans, or `None` when nobody asked for OTLP: no section in the file and no endpoint in `env`.
    pub fn resolve(config: Option<&OtlpConfig>, env: Env<'_>) -> Result<Option<Self>, SettingsError> {
        let env = applicable(config, env);
        let asked = Variables { signal: Signal::Traces, env }.get("ENDPOINT").is_some();
        match config {
            None if !asked => Ok(None),
            None => Self::of(Signal::Traces, &OtlpConfig::default(), env).map(Some),
            Some(config) => Self::of(Signal::Traces, config, env).map(Some),
        }
    }

    /// The settings of each destination that logs were asked for.
    pub fn resolve_logs(configs: &[OtlpConfig], env: Env<'_>) -> Result<Vec<Self>, SettingsError> {
        of_each(configs, |config| {
            let env = applicable(config, env);
            if !is_asked_for(Signal::Logs, config.and_then(|config| config.logs), env) {
                return Ok(None);
            }
            let settings = Self::of(Signal::Logs, config.unwrap_or(&OtlpConfig::default()), env)?;
            Ok(Some(Self { queue_max_bytes: LOGS_QUEUE_BYTES, queue_max_spans: LOGS_QUEUE_RECORDS, ..settings }))
        })
    }

    fn of(signal: Signal, config: &OtlpConfig, env: Env<'_>) -> Result<Self, SettingsError> {
        let env = Variables { signal, env };
        let endpoint = env.get("ENDPOINT");
        if let Some((setting, protocol)) = env.get("PROTOCOL")
            && protocol != "grpc"
        {
            return Err(SettingsError::Protocol { setting });
        }
        let (endpoint, encrypted) =
            match config.endpoint.clone().map(|url| in_file(config, "endpoint", url)).or(endpoint) {
                Some((setting, url)) => check_endpoint(setting, &url)?,
                None => (DEFAULT_ENDPOINT.to_owned(), false),
            };
        let (setting, headers) = headers(config, env)?;
        check_headers(&setting, &headers)?;
        Ok(Self {
            name: config.name.clone(),
            endpoint,
            tls: tls_files(config, env, encrypted)?,
            headers,
            compression: compression(config, env)?,
            timeout: timeout(config, env)?,
            queue_max_bytes: config.queue_max_bytes.unwrap_or(DEFAULT_QUEUE_BYTES),
            queue_max_spans: config.queue_max_spans.unwrap_or(DEFAULT_QUEUE_SPANS),
            tuning: Tuning::default(),
        })
    }
}

fn in_file<T>(config: &OtlpConfig, key: &str, value: T) -> (String, T) {
    (format!("export.{}.{key}", config.section()), value)
}

/// The endpoint without a path, and whether it is encrypted.
fn check_endpoint(setting: String, url: &str) -> Result<(String, bool), SettingsError> {
    let refuse = |reason| Err(SettingsError::Endpoint { setting: setting.clone(), reason });
    let Ok(uri) = url.parse::<Uri>() else { return refuse("which it is not") };
    let encrypted = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return refuse("the scheme decides on TLS"),
    };
    let Some(authority) = uri.authority() else { return refuse("a host is missing") };
    match uri.path_and_query().map(|rest| rest.as_str()) {
        // A header can carry credentials without showing up wherever an endpoint is printed.
        _ if authority.as_str().contains('@') => refuse("without a user: use headers"),
        Some("/") | None => Ok((format!("{}://{authority}", if encrypted { "https" } else { "http" }), encrypted)),
        // It would be dropped without a word, and usually it is the endpoint of OTLP over HTTP.
        Some(_) => refuse("without a path: gRPC has none"),
    }
}

fn headers(config: &OtlpConfig, env: Variables<'_>) -> Result<(String, Headers), SettingsError> {
    if let Some(headers) = &config.headers {
        return Ok(in_file(config, "headers", headers.clone()));
    }
    let Some((setting, text)) = env.get("HEADERS") else { return Ok(Default::default()) };
    match pairs::parse(&text) {
        Ok(pairs) => Ok((setting, Headers(pairs.into_iter().collect()))),
        Err(source) => Err(SettingsError::Pairs { setting, source }),
    }
}

fn check_headers(setting: &str, headers: &Headers) -> Result<(), SettingsError> {
    for (name, value) in &headers.0 {
        let lower = name.to_ascii_lowercase();
        let reason = if lower.starts_with("grpc-") || matches!(lower.as_str(), "te" | "content-type" | "user-agent") {
            "belongs to gRPC itself"
        } else if lower.ends_with("-bin") {
            "is binary, which is not supported"
        } else if AsciiMetadataKey::from_bytes(lower.as_bytes()).is_err() {
            "has a name that HTTP does not allow"
        } else if AsciiMetadataValue::try_from(value.as_str()).is_err() {
            "has a value that is not printable ASCII"
        } else {
            continue;
        };
        return Err(SettingsError::Header { setting: setting.to_owned(), name: name.clone(), reason });
    }
    Ok(())
}

fn compression(config: &OtlpConfig, env: Variables<'_>) -> Result<Compression, SettingsError> {
    match (config.compression, env.get("COMPRESSION")) {
        (Some(compression), _) => Ok(compression),
        (None, None) => Ok(Compression::default()),
        (None, Some((_, text))) if text == "gzip" => Ok(Compression::Gzip),
        (None, Some((_, text))) if text == "none" => Ok(Compression::None),
        (None, Some((setting, _))) => Err(SettingsError::Value { setting, expect: "gzip or none" }),
    }
}

fn timeout(config: &OtlpConfig, env: Variables<'_>) -> Result<Duration, SettingsError> {
    match (config.timeout_seconds, env.get("TIMEOUT")) {
        // The configuration has checked the range.
        (Some(seconds), _) => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(DEFAULT_TIMEOUT)),
        (None, None) => Ok(DEFAULT_TIMEOUT),
        (None, Some((setting, text))) => match text.parse() {
            Ok(millis @ 1..=3_600_000) => Ok(Duration::from_millis(millis)),
            _ => Err(SettingsError::Value { setting, expect: "milliseconds between 1 and 3600000" }),
        },
    }
}

fn tls_files(config: &OtlpConfig, env: Variables<'_>, encrypted: bool) -> Result<Option<TlsFiles>, SettingsError> {
    let file = |configured: &Option<PathBuf>, name| {
        configured.clone().or_else(|| env.get(name).map(|(_, path)| Path::new(&path).to_owned()))
    };
    let files = TlsFiles {
        ca: file(&config.ca_file, "CERTIFICATE"),
        client: match (file(&config.cert_file, "CLIENT_CERTIFICATE"), file(&config.key_file, "CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(SettingsError::HalfIdentity { section: config.section() }),
        },
    };
    match encrypted {
        true => Ok(Some(files)),
        false if files == TlsFiles::default() => Ok(None),
        false => Err(SettingsError::PlaintextWithCertificates { section: config.section() }),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
