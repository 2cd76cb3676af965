//! `[export]`: where calls and metrics go.
//!
//! Owns the section's layout and the ranges of its settings. What the standard `OTEL_*` variables add is resolved by
//! `export::otlp`. `[export.otlp]` is one table, or several: each of `[[export.otlp]]` is a destination of its own.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::delivery::ShipConfig;
use crate::export::json_file::Rotation;

/// Most destinations of OTLP: each has a queue and a connection of its own.
const MAX_DESTINATIONS: usize = 8;

/// Longest name of a destination.
const MAX_NAME: usize = 32;

/// Fewest bytes of a file before it is rotated: below, a line would often be a file of its own.
const MIN_ROTATION: u64 = 4096;

/// Most rotated files that can be kept.
const MAX_ROTATED: u32 = 999;

/// Rotated files that are kept where only a size is said.
const DEFAULT_ROTATED: u32 = 5;

/// `[export]`: a section that is absent is an exporter that is off.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// `[export.otlp]`, or `[[export.otlp]]` for each of several destinations.
    #[serde(deserialize_with = "one_or_several")]
    pub otlp: Vec<OtlpConfig>,
    /// `[export.jsonl]`
    pub jsonl: Option<JsonlConfig>,
    /// `[export.prometheus]`
    pub prometheus: Option<PrometheusConfig>,
    /// `[export.ship]`
    pub ship: Option<ShipConfig>,
}

/// `[export.otlp]`: what is absent comes from the standard `OTEL_EXPORTER_OTLP_*` variables, unless it has a name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Tells several destinations apart, in the ledger too. The variables do not apply to one that has a name.
    pub name: Option<String>,
    /// `http://host:4317` or `https://host:4317`; the scheme decides on TLS.
    pub endpoint: Option<String>,
    /// Sent with every call.
    pub headers: Option<Headers>,
    /// Compression of requests.
    pub compression: Option<Compression>,
    /// Deadline of one call.
    pub timeout_seconds: Option<f64>,
    /// Certificates to trust, PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Key of the client certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// Most bytes of encoded spans that wait in memory.
    pub queue_max_bytes: Option<usize>,
    /// Most spans that wait in memory.
    pub queue_max_spans: Option<usize>,
    /// Send metrics too. Off unless this says so, or `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` is set.
    pub metrics: Option<bool>,
    /// Send what is noticed beside calls as logs: a call that does not move, the end of an engine's process. Off unless this
    /// says so, or `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT` is set.
    pub logs: Option<bool>,
    /// How often metrics are sent.
    pub metrics_interval_seconds: Option<f64>,
}

/// Compression of OTLP requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip, which every OTLP receiver understands.
    Gzip,
    /// zstd, smaller and cheaper; gzip, then none, where the receiver does not know it.
    Zstd,
}

/// `[export.jsonl]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// File to append to.
    pub path: PathBuf,
    /// Bytes beyond which the file is put aside as `path.1`. Absent: never.
    pub max_bytes: Option<u64>,
    /// Files that are kept so, the oldest as `path.N`. Absent: 5.
    pub max_files: Option<u32>,
}

/// `[export.prometheus]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusConfig {
    /// Address and port to be asked for metrics at. Whoever reaches it can read them: there is no authentication.
    pub listen: SocketAddr,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        // The port that OpenTelemetry's exporters for Prometheus have.
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// Headers, whose values are secrets: `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(headers) = self;
        f.debug_map().entries(headers.keys().map(|name| (name, "[redacted]"))).finish()
    }
}

// By hand, because serde's own errors quote a value that has the wrong type.
impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names and texts")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Headers, E> {
                Err(E::custom("headers must be a table of names and texts"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Headers, A::Error> {
                let mut headers = BTreeMap::new();
                while let Some((name, Text(value))) = table.next_entry()? {
                    headers.insert(name, value);
                }
                Ok(Headers(headers))
            }
        }

        deserializer.deserialize_any(Table)
    }
}

/// A header's value.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Self(text)),
            _ => Err(de::Error::custom("the value of a header must be a text")),
        }
    }
}

/// A table, or an array of tables.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OtlpConfig>, D::Error> {
    struct Tables;

    impl<'de> Visitor<'de> for Tables {
        type Value = Vec<OtlpConfig>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table [export.otlp] or tables [[export.otlp]]")
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
            OtlpConfig::deserialize(MapAccessDeserializer::new(table)).map(|config| vec![config])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Self::Value, A::Error> {
            let mut configs = Vec::new();
            while let Some(config) = tables.next_element()? {
                if configs.len() == MAX_DESTINATIONS {
                    return Err(de::Error::custom(format_args!("more than {MAX_DESTINATIONS} destinations")));
                }
                configs.push(config);
            }
            Ok(configs)
        }
    }

    deserializer.deserialize_any(Tables)
}

/// A setting that cannot be: its name below `export`, and what is wrong with it.
type Refusal = (String, &'static str);

impl ExportConfig {
    /// The first setting that cannot be.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let Self { otlp, jsonl, prometheus, ship } = self;
        for (n, config) in otlp.iter().enumerate() {
            let refuse = |key: &str, reason| Err((format!("otlp[{n}].{key}"), reason));
            match &config.name {
                None if otlp.len() > 1 => return refuse("name", "must be set where there are several destinations"),
                Some(name) if !is_name(name) => {
                    return refuse("name", "must be 1 to 32 lower-case letters, digits, `-` or `_`");
                }
                Some(_) if otlp[..n].iter().any(|other| other.name == config.name) => {
                    return refuse("name", "must be unlike that of any other destination");
                }
                // The variables' default is for the one destination that they are about.
                Some(_) if config.endpoint.is_none() => {
                    return refuse("endpoint", "must be set where the destination has a name");
                }
                None | Some(_) => {}
            }
            config.check().map_err(|(key, reason)| (format!("{}.{key}", config.section()), reason))?;
        }
        if let Some(jsonl) = jsonl {
            jsonl.check().map_err(|(key, reason)| (format!("jsonl.{key}"), reason))?;
        }
        if prometheus.as_ref().is_some_and(|prometheus| prometheus.listen.port() == 0) {
            return Err(("prometheus.listen".to_owned(), "must be an address with a port other than 0"));
        }
        if let Some(ship) = ship {
            ship.check().map_err(|(key, reason)| (format!("ship.{key}"), reason))?;
        }
        Ok(())
    }
}

/// Whether a text can name a destination: it becomes a part of the names of counters.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

impl OtlpConfig {
    /// How errors name the destination's section, without `export.`.
    pub fn section(&self) -> String {
        match &self.name {
            Some(name) => format!("otlp[{name}]"),
            None => "otlp".to_owned(),
        }
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let positive = |setting, value| match value {
            Some(0) => Err((setting, "must be more than zero")),
            _ => Ok(()),
        };
        positive("queue_max_bytes", self.queue_max_bytes)?;
        positive("queue_max_spans", self.queue_max_spans)?;
        if self.timeout_seconds.is_some_and(|seconds| !(0.001..=3600.0).contains(&seconds)) {
            return Err(("timeout_seconds", "must be between 0.001 and 3600"));
        }
        if self.metrics_interval_seconds.is_some_and(|seconds| !(1.0..=3600.0).contains(&seconds)) {
            return Err(("metrics_interval_seconds", "must be between 1 and 3600"));
        }
        Ok(())
    }
}

impl JsonlConfig {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match (self.max_bytes, self.max_files) {
            (None, Some(_)) => Err(("max_files", "must be set together with max_bytes")),
            (Some(..MIN_ROTATION), _) => Err(("max_bytes", "must be at least 4096")),
            (_, Some(0)) => Err(("max_files", "must be between 1 and 999")),
            (_, Some(files)) if files > MAX_ROTATED => Err(("max_files", "must be between 1 and 999")),
            _ => Ok(()),
        }
    }

    /// When the file is rotated and how many are kept, if it is.
    pub fn rotation(&self) -> Option<Rotation> {
        let max_bytes = self.max_bytes?;
        Some(Rotation { max_bytes, max_files: self.max_files.unwrap_or(DEFAULT_ROTATED) })
    }
}
