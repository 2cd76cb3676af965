use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
};

use super::{Format, family_name, write};
use crate::{
    export::{
        span::Span,
        testing::{ANCHOR, chat},
    },
    metrics::{
        Machines, Metrics, Snapshot,
        machines::{Engine, Gpu, NvmlCall, Traffic},
        names::{self, Kind},
    },
    time::Mono,
};

const NOW: Mono = Mono(1_000_000_000);

/// A snapshot with counters, gauges and histograms, and with everything in labels that could end one.
fn snapshot() -> Snapshot {
    let metrics = Metrics::new(ANCHOR);
    let mut call = chat();
    metrics.on_call(&Span::from_call(&call, ANCHOR));
    let facts = call.facts.as_mut().unwrap();
    facts.request.model = Some("a\"b\\c\nd{e=\"f\",} ü #\t".to_owned());
    metrics.on_call(&Span::from_call(&call, ANCHOR));
    metrics.on_machines(Machines {
        at: NOW,
        gpus: vec![
            Gpu {
                uuid: "GPU-0".to_owned(),
                name: "H100".to_owned(),
                utilization: Some(0.5),
                power_watts: Some(345.5),
                energy_joules: Some(1e18),
                temperature: Some(65.0),
                sm_clock_hz: Some(1_980_000_000),
                throttle_seconds: vec![("power", 1.5)],
                pcie_bytes: Some(Traffic { received: 1, sent: u64::MAX }),
                ecc_uncorrected: Some(0),
                xids: vec![(79, 1)],
                ..Gpu::default()
            },
            Gpu { uuid: "GPU-1".to_owned(), unobserved: Some("it is \"lost\"\\".to_owned()), ..Gpu::default() },
        ],
        engines: vec![Engine { id: "e".to_owned(), tokens_per_second: Some(1.0), ..Engine::default() }],
        nvml: vec![NvmlCall { name: "nvmlInit_v2".to_owned(), count: 1, seconds: 1e-7, longest: 1e-7 }],
        samples_lost: Some(0),
        ..Machines::default()
    });
    metrics.snapshot(NOW)
}

fn resource() -> Vec<(String, String)> {
    [("service.name", "infer\"scope"), ("host.name", "h"), ("host_name", "again"), ("9.a-b", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

#[test]
fn names_have_units_and_suffixes() {
    let name = |metric| family_name(metric);
    for (metric, expect) in [
        (&names::CLIENT_DURATION, "gen_ai_client_operation_duration_seconds"),
        (&names::CLIENT_TOKENS, "gen_ai_client_token_usage"),
        (&names::SERVER_FIRST_TOKEN, "gen_ai_server_time_to_first_token_seconds"),
        (&names::GPU_UTILIZATION, "hw_gpu_utilization_ratio"),
        (&names::GPU_MEMORY_USAGE, "hw_gpu_memory_usage_bytes"),
        (&names::GPU_ENERGY, "hw_energy_joules"),
        (&names::GPU_POWER, "hw_power_watts"),
        (&names::GPU_TEMPERATURE, "hw_temperature_celsius"),
        (&names::GPU_CLOCK, "inferscope_gpu_frequency_hertz"),
        (&names::GPU_OBSERVED, "inferscope_gpu_observed"),
        (&names::ENGINE_TOKENS, "inferscope_engine_token_rate_per_second"),
        (&names::COST, "inferscope_cost_usd"),
    ] {
        assert_eq!(name(metric), expect);
    }
}

#[test]
fn no_two_families_share_the_name_of_a_sample() {
    let mut taken = BTreeMap::new();
    for metric in names::ALL {
        let family = family_name(metric);
        let suffixes: &[&str] = match metric.kind {
            Kind::Counter => &["", "_total", "_created"],
            Kind::UpDownCounter | Kind::Gauge => &[""],
            Kind::Histogram(_) => &["", "_bucket", "_sum", "_count", "_created"],
        };
        for suffix in suffixes {
            let before = taken.insert(format!("{family}{suffix}"), metric.name);
            assert_eq!(before, None, "{}", metric.name);
        }
    }
}

#[test]
fn the_lines_are_these() {
    let text = write(&snapshot(), &resource(), Format::Prometheus);
    for line in [
        "# TYPE target_info gauge",
        "target_info{service_name=\"infer\\\"scope\",host_name=\"h\",_a_b=\"\"} 1",
        "# HELP hw_energy_joules_total Energy of the GPU's board since the driver was loaded.",
        "# TYPE hw_energy_joules_total counter",
        "hw_energy_joules_total{hw_id=\"GPU-0\",hw_type=\"gpu\",hw_name=\"GPU 0\",hw_model=\"H100\"} 1e18",
        "# TYPE gen_ai_client_operation_duration_seconds histogram",
        "# TYPE hw_power_watts gauge",
        "inferscope_gpu_samples_lost_total 0",
        "inferscope_nvml_time_seconds_total{inferscope_nvml_call=\"nvmlInit_v2\"} 1e-7",
        "inferscope_gpu_observed{hw_id=\"GPU-1\",hw_type=\"gpu\",hw_name=\"GPU 0\",hw_model=\"\",\
            inferscope_reason=\"it is \\\"lost\\\"\\\\\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains("gen_ai_request_model=\"a\\\"b\\\\c\\nd{e=\\\"f\\\",} ü #\t\",") && !text.contains("UNIT"));
    let text = write(&snapshot(), &resource(), Format::OpenMetrics);
    for line in ["# TYPE target info", "# TYPE hw_energy_joules counter", "# UNIT hw_energy_joules joules"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

/// What a strict reader finds: samples by name and labels.
#[derive(Debug, Default)]
struct Parsed {
    kinds: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

/// Reads an exposition, and panics where it is not one: descriptions before samples, families in one piece, no series
/// twice, names and escapes as allowed, buckets that add up.
fn read(text: &str, format: Format) -> Parsed {
    let mut parsed = Parsed::default();
    let (mut family, mut ended) = (String::new(), BTreeSet::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert!(format == Format::OpenMetrics && lines.peek().is_none(), "text behind the end");
            return parsed;
        }
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name) = (words.next().unwrap(), words.next().unwrap().to_owned());
            let rest = words.next().unwrap_or_default().to_owned();
            if name != family {
                assert!(ended.insert(std::mem::replace(&mut family, name.clone())) && !ended.contains(&name), "{name}");
            }
            match keyword {
                "HELP" => assert!(!rest.is_empty()),
                "TYPE" => assert!(parsed.kinds.insert(name, rest).is_none()),
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{rest}")), "{name} {rest}");
                    parsed.units.insert(name, rest);
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, pairs(labels)),
            None => (series, Vec::new()),
        };
        assert!(name.starts_with(&family) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
        let suffix = &name[family.len()..];
        let allowed: &[&str] = match (parsed.kinds[&family].as_str(), format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("info", _) => &["_info"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{name} of {family}");
        let value = value.replace("+Inf", "inf").parse().unwrap();
        assert!(parsed.samples.insert((name.to_owned(), labels), value).is_none(), "{line}");
    }
    assert_eq!(format, Format::Prometheus, "there is no end");
    parsed
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let (mut pairs, mut rest) = (Vec::new(), text);
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.as_bytes()[0].is_ascii_digit());
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('"' | '\\') => escaped,
                    other => panic!("\\{other}"),
                }),
                (_, letter) => value.push(letter),
            }
        };
        assert!(pairs.iter().all(|(other, _)| other != name), "{name} twice");
        pairs.push((name.to_owned(), value));
        rest = match &after[end..] {
            "}" => return pairs,
            more => more.strip_prefix(',').unwrap(),
        };
    }
}

#[test]
fn a_strict_reader_gets_every_number_back() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let parsed = read(&write(&snapshot(), &resource(), format), format);
        let sum = |name: &str| -> f64 {
            parsed.samples.iter().filter(|((sample, _), _)| sample == name).map(|(_, value)| value).sum()
        };
        assert_eq!(sum("gen_ai_client_operation_duration_seconds_count"), 2.0);
        assert_eq!(sum("gen_ai_client_token_usage_sum"), 262.0);
        assert_eq!((sum("hw_power_watts"), sum("hw_energy_joules_total")), (345.5, 1e18));
        let model = |labels: &[(String, String)]| labels.iter().any(|(_, value)| value == "a\"b\\c\nd{e=\"f\",} ü #\t");
        assert!(parsed.samples.keys().any(|(_, labels)| model(labels)));
        let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), count) in &parsed.samples {
            if let (Some(family), Some((le, labels))) = (name.strip_suffix("_bucket"), labels.split_last()) {
                let bound = le.1.replace("+Inf", "inf").parse().unwrap();
                buckets.entry((family, labels)).or_default().push((bound, *count));
            }
        }
        for ((family, labels), mut counts) in buckets {
            counts.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(counts.is_sorted_by_key(|(_, count)| *count), "{family}");
            let whole = parsed.samples[&(format!("{family}_count"), labels.to_vec())];
            assert_eq!(counts.last(), Some(&(f64::INFINITY, whole)), "{family}");
        }
    }
}

#[test]
fn the_format_is_what_the_reader_prefers() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
        application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,text/plain;q=0.2,*/*;q=0.1";
    for (accept, expect) in [
        (None, Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("text/plain"), Format::Prometheus),
        (Some(prometheus), Format::OpenMetrics),
        (Some("application/openmetrics-text; version=1.0.0"), Format::OpenMetrics),
        (Some("Application/OpenMetrics-Text"), Format::OpenMetrics),
        (Some("application/openmetrics-text; version=0.0.1"), Format::Prometheus),
        (Some("application/openmetrics-text;q=0, */*"), Format::Prometheus),
        (Some("application/openmetrics-text;q=0.1, text/plain"), Format::Prometheus),
        (Some("application/openmetrics-text;q=x"), Format::Prometheus),
        (Some(";;=,"), Format::Prometheus),
    ] {
        assert_eq!(Format::accepted(accept), expect, "{accept:?}");
    }
}

/// The reader of Prometheus' client library for Python, where there is one: `INFERSCOPE_TEST_PYTHON` names an interpreter
/// that has it.
#[test]
fn prometheus_own_parsers_read_it() {
    let python = std::env::var("INFERSCOPE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
parse = {'OpenMetrics': openmetrics, 'Prometheus': prometheus}[sys.argv[1]]
samples = [sample for family in parse(sys.stdin.read()) for sample in family.samples]
assert sum(s.value for s in samples if s.name == 'gen_ai_client_operation_duration_seconds_count') == 2
assert any(s.labels.get('gen_ai_request_model') == 'a\"b\\\\c\\nd{e=\"f\",} ü #\\t' for s in samples)
print(len(samples))
";
    let has = Command::new(&python).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {python} has no prometheus_client");
        return;
    }
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = write(&snapshot(), &resource(), format);
        let mut child = Command::new(&python)
            .args(["-c", script, &format!("{format:?}")])
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{format:?}");
        let samples = read(&text, format).samples.len();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), samples.to_string(), "{format:?}");
    }
}
