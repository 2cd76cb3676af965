//! The text exposition of metrics: Prometheus' format 0.0.4 and OpenMetrics 1.0.
//!
//! Owns the rules from OpenTelemetry's names to Prometheus' (opentelemetry-specification,
//! `compatibility/prometheus_and_openmetrics.md`): what is no letter, digit or underscore becomes an underscore; the unit in
//! full is a suffix, before `_total` of a counter; braces are no unit; `1` is `ratio` for gauges; an up-down-counter is a
//! gauge; the resource is `target_info`. One deviation: points have no `otel_scope_*` labels, because there is one scope.
//!
//! To add a unit: a branch in [`unit`].

use std::fmt::Write as _;

use crate::metrics::{
    Family, Snapshot, Value,
    names::{Kind, Metric},
    series::{Histogram, Labels},
};

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, which everything reads.
    Prometheus,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers: OpenMetrics 1.0 if it is named with no less weight than plain text. A
    /// header that names neither gets Prometheus' own.
    pub fn accepted(header: Option<&str>) -> Self {
        let (mut open, mut plain) = (0.0, 0.0);
        for range in header.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse::<f64>().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let best = match kind.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => &mut open,
                "text/plain" | "text/*" | "*/*" => &mut plain,
                _ => continue,
            };
            *best = f64::max(*best, weight);
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// What the answer's `Content-Type` says.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// `snapshot` as text. `resource` are the attributes of what is measured.
pub fn write(snapshot: &Snapshot, resource: &[(String, String)], format: Format) -> String {
    let mut out = String::new();
    target(&mut out, resource, format);
    for Family { metric, points } in &snapshot.families {
        let name = family_name(metric);
        header(&mut out, metric, &name, format);
        for point in points {
            match &point.value {
                Value::Int(number) => sample(&mut out, &sample_name(metric, &name), &point.labels, None, *number),
                Value::Double(number) => {
                    sample(&mut out, &sample_name(metric, &name), &point.labels, None, real(*number));
                }
                Value::Histogram(histogram) => buckets(&mut out, &name, &point.labels, histogram),
            }
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// Name of a metric's family: with its unit, without the suffix of its kind.
pub(super) fn family_name(metric: &Metric) -> String {
    let mut name = identifier(metric.name);
    let unit = unit(metric);
    if !unit.is_empty() && !name.ends_with(&format!("_{unit}")) {
        name.push('_');
        name.push_str(&unit);
    }
    name
}

fn sample_name(metric: &Metric, family: &str) -> String {
    match metric.kind {
        Kind::Counter => format!("{family}_total"),
        Kind::UpDownCounter | Kind::Gauge | Kind::Histogram(_) => family.to_owned(),
    }
}

/// The unit in Prometheus' words; empty for what is counted.
fn unit(metric: &Metric) -> String {
    let word = |unit: &str| match unit {
        "s" => "seconds",
        "By" => "bytes",
        "J" => "joules",
        "W" => "watts",
        "Cel" => "celsius",
        "Hz" => "hertz",
        _ => "",
    };
    match metric.unit.split_once('/') {
        Some((_, "s")) => "per_second".to_owned(),
        _ if metric.unit == "1" && metric.kind == Kind::Gauge => "ratio".to_owned(),
        _ => word(metric.unit).to_owned(),
    }
}

/// A name that both formats allow.
fn identifier(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' => out.push(letter),
            '0'..='9' if !out.is_empty() => out.push(letter),
            _ if out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    out
}

fn header(out: &mut String, metric: &Metric, family: &str, format: Format) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::UpDownCounter | Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    // Prometheus' own format describes the samples, OpenMetrics the family.
    let name = match format {
        Format::Prometheus => sample_name(metric, family),
        Format::OpenMetrics => family.to_owned(),
    };
    let help = escape(metric.help, format == Format::OpenMetrics);
    push(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    let unit = unit(metric);
    if format == Format::OpenMetrics && !unit.is_empty() {
        push(out, format_args!("# UNIT {name} {unit}\n"));
    }
}

fn target(out: &mut String, resource: &[(String, String)], format: Format) {
    if resource.is_empty() {
        return;
    }
    let (name, kind) = match format {
        Format::Prometheus => ("target_info", "gauge"),
        Format::OpenMetrics => ("target", "info"),
    };
    push(out, format_args!("# HELP {name} What is measured.\n# TYPE {name} {kind}\ntarget_info{{"));
    // Two names can become one; the first has it.
    let mut seen: Vec<String> = Vec::new();
    for (label, value) in resource {
        let label = identifier(label);
        if !label.is_empty() && !seen.contains(&label) {
            let comma = if seen.is_empty() { "" } else { "," };
            push(out, format_args!("{comma}{label}=\"{}\"", escape(value, true)));
            seen.push(label);
        }
    }
    out.push_str("} 1\n");
}

fn buckets(out: &mut String, name: &str, labels: &Labels, histogram: &Histogram) {
    let mut below = 0;
    let bounds = histogram.bounds.iter().map(|bound| real(*bound)).chain(["+Inf".to_owned()]);
    let bucket = format!("{name}_bucket");
    for (bound, count) in bounds.zip(&histogram.buckets) {
        below += count;
        sample(out, &bucket, labels, Some(&bound), below);
    }
    sample(out, &format!("{name}_sum"), labels, None, real(histogram.sum));
    sample(out, &format!("{name}_count"), labels, None, below);
}

fn sample(out: &mut String, name: &str, labels: &Labels, bound: Option<&str>, value: impl std::fmt::Display) {
    out.push_str(name);
    let mut open = '{';
    for (label, text) in labels.iter() {
        push(out, format_args!("{open}{}=\"{}\"", identifier(label), escape(text, true)));
        open = ',';
    }
    if let Some(bound) = bound {
        push(out, format_args!("{open}le=\"{bound}\""));
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    push(out, format_args!(" {value}\n"));
}

/// A real number; whole ones keep their point, as OpenMetrics wants boundaries.
fn real(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => format!("{number:?}"),
    }
}

/// Escapes what would end a text; double quotes only where texts stand in them.
fn escape(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            _ => out.push(letter),
        }
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
