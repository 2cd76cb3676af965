//! What agents measure of their GPUs: the latest of each gauge, and its course by the minute.
//!
//! Owns which metrics are kept so (those of GPUs: `hw.*` with an `hw.id`, and `inferscope.gpu.*`), and how many series
//! there may be. Other metrics say what the stored calls say as well, and are kept as they came for a short time.

use inferscope_proto::otlp::{
    common::{AnyValue, KeyValue, any_value::Value as Any},
    metrics::{Metric, NumberDataPoint, ScopeMetrics, metric::Data, number_data_point},
};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    apply::signed,
    texts::{Texts, UNKNOWN},
};
use crate::metrics::names::{HW_ID, HW_TYPE};

/// Series in all: a host with eight GPUs has some two hundred.
const MAX_SERIES: i64 = 200_000;

/// Longest labels of a series, bytes.
const MAX_LABELS: usize = 1024;

const MINUTE: i64 = 60_000_000_000;

/// Stores the gauges among `metrics`.
pub(super) fn store(
    db: &Connection,
    texts: &mut Texts,
    host: Option<i64>,
    metrics: &ScopeMetrics,
) -> rusqlite::Result<()> {
    for metric in metrics.metrics.iter().filter(|metric| is_of_gpus(&metric.name)) {
        for point in points(metric) {
            let Some(value) = number(point) else { continue };
            let Some(gpu) = label(point, HW_ID) else { continue };
            self::point(db, texts, host.unwrap_or(UNKNOWN), metric, gpu, point, value)?;
        }
    }
    Ok(())
}

fn is_of_gpus(name: &str) -> bool {
    name.starts_with("hw.") || name.starts_with("inferscope.gpu.")
}

fn points(metric: &Metric) -> &[NumberDataPoint] {
    match &metric.data {
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        Some(Data::Sum(sum)) => &sum.data_points,
        _ => &[],
    }
}

fn number(point: &NumberDataPoint) -> Option<f64> {
    match point.value? {
        number_data_point::Value::AsInt(number) => Some(number as f64),
        number_data_point::Value::AsDouble(number) => Some(number).filter(|number| number.is_finite()),
    }
}

fn text(value: Option<&AnyValue>) -> Option<&str> {
    match value?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

fn label<'a>(point: &'a NumberDataPoint, name: &str) -> Option<&'a str> {
    let found = point.attributes.iter().find(|attribute| attribute.key == name)?;
    text(found.value.as_ref()).filter(|text| !text.is_empty() && text.len() <= MAX_LABELS)
}

/// The labels beside the GPU's id, as an object: they tell series apart, and are shown.
fn labels(point: &NumberDataPoint) -> String {
    let some = |KeyValue { key, value, .. }: &KeyValue| {
        let value = match value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => serde_json::Value::from(text.as_str()),
            Any::IntValue(number) => serde_json::Value::from(*number),
            Any::BoolValue(is) => serde_json::Value::from(*is),
            _ => return None,
        };
        (key != HW_ID && key != HW_TYPE).then(|| (key.clone(), value))
    };
    let labels: serde_json::Map<_, _> = point.attributes.iter().filter_map(some).collect();
    serde_json::Value::Object(labels).to_string()
}

fn point(
    db: &Connection,
    texts: &mut Texts,
    host: i64,
    metric: &Metric,
    gpu: &str,
    point: &NumberDataPoint,
    value: f64,
) -> rusqlite::Result<()> {
    let labels = labels(point);
    if labels.len() > MAX_LABELS {
        return Ok(());
    }
    let (metric, at) = (texts.id(db, &metric.name)?, signed(point.time_unix_nano));
    let find = "SELECT id FROM gauges WHERE host = ?1 AND gpu = ?2 AND metric = ?3 AND labels = ?4";
    let key = params![host, gpu, metric, labels];
    let known: Option<i64> = db.prepare_cached(find)?.query_row(key, |row| row.get(0)).optional()?;
    let gauge = match known {
        Some(id) => {
            db.prepare_cached("UPDATE gauges SET value = ?2, at = ?3 WHERE id = ?1 AND at <= ?3")?
                .execute(params![id, value, at])?;
            id
        }
        None => {
            let count: i64 = db.prepare_cached("SELECT count(*) FROM gauges")?.query_row([], |row| row.get(0))?;
            if count >= MAX_SERIES {
                return Ok(());
            }
            db.prepare_cached(
                "INSERT INTO gauges (host, gpu, metric, labels, value, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![host, gpu, metric, labels, value, at])?;
            db.last_insert_rowid()
        }
    };
    db.prepare_cached(
        "INSERT INTO gauge_minutes (minute, gauge, count, sum, max) VALUES (?1, ?2, 1, ?3, ?3) \
         ON CONFLICT DO UPDATE SET count = count + 1, sum = sum + excluded.sum, max = max(max, excluded.max)",
    )?
    .execute(params![at.div_euclid(MINUTE), gauge, value])?;
    Ok(())
}
