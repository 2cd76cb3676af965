//! Metrics in OTLP's own types.
//!
//! Owns the mapping: cumulative temporality, explicit buckets, and the types of attributes that the conventions have as
//! numbers. Pure.

use inferscope_proto::otlp::{
    collector_metrics::ExportMetricsServiceRequest,
    common::{KeyValue, any_value},
    metrics::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric::Data,
        number_data_point,
    },
};

use super::encode::{Envelope, key_value};
use crate::{
    export::attributes::{PROCESS_PID, SERVER_PORT},
    metrics::{
        Family, Point, Snapshot, Value,
        names::{INFERSCOPE_GPU_XID, Kind, OTEL_METRIC_OVERFLOW},
        series::Labels,
    },
};

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// One request with all of `snapshot`.
pub fn metrics_request(snapshot: &Snapshot, envelope: &Envelope) -> ExportMetricsServiceRequest {
    envelope.metrics(encode(snapshot))
}

/// The OTLP form of `snapshot`.
pub(super) fn encode(snapshot: &Snapshot) -> Vec<Metric> {
    let Snapshot { time_unix_nano, families } = snapshot;
    families.iter().map(|family| metric(family, *time_unix_nano)).collect()
}

fn metric(Family { metric, points }: &Family, time: u64) -> Metric {
    let numbers = || points.iter().filter_map(|point| number(point, time)).collect();
    let sum = |is_monotonic| Sum { data_points: numbers(), aggregation_temporality: CUMULATIVE, is_monotonic };
    let data = match metric.kind {
        Kind::Counter => Data::Sum(sum(true)),
        Kind::UpDownCounter => Data::Sum(sum(false)),
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram(_) => Data::Histogram(Histogram {
            data_points: points.iter().filter_map(|point| histogram(point, time)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    Metric {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn number(point: &Point, time: u64) -> Option<NumberDataPoint> {
    let value = match &point.value {
        Value::Int(number) => number_data_point::Value::AsInt(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Double(number) => number_data_point::Value::AsDouble(*number),
        Value::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: point.start_unix_nano.unwrap_or(0),
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(point: &Point, time: u64) -> Option<HistogramDataPoint> {
    let Value::Histogram(histogram) = &point.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: point.start_unix_nano.unwrap_or(0),
        time_unix_nano: time,
        count: histogram.count(),
        sum: Some(histogram.sum),
        bucket_counts: histogram.buckets.clone(),
        explicit_bounds: histogram.bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    let typed = |name: &str, text: &str| match name {
        OTEL_METRIC_OVERFLOW => any_value::Value::BoolValue(true),
        SERVER_PORT | PROCESS_PID | INFERSCOPE_GPU_XID => match text.parse() {
            Ok(number) => any_value::Value::IntValue(number),
            Err(_) => any_value::Value::StringValue(text.to_owned()),
        },
        _ => any_value::Value::StringValue(text.to_owned()),
    };
    labels.iter().map(|(name, text)| key_value(name, typed(name, text))).collect()
}
