use std::{path::Path, time::Duration};

use super::{MetricsSettings, OtlpSettings, SettingsError, TlsFiles};
use crate::config::{Compression, Headers, OtlpConfig};

fn resolve(config: Option<&OtlpConfig>, vars: &[(&str, &str)]) -> Result<Option<OtlpSettings>, SettingsError> {
    let env = |name: &str| {
        let (_, value) = vars.iter().find(|(short, _)| name == format!("OTEL_EXPORTER_OTLP_{short}"))?;
        Some((*value).to_owned())
    };
    OtlpSettings::resolve(config, &env)
}

fn of_env(vars: &[(&str, &str)]) -> OtlpSettings {
    resolve(Some(&OtlpConfig::default()), vars).unwrap().unwrap()
}

fn refused(vars: &[(&str, &str)]) -> String {
    resolve(Some(&OtlpConfig::default()), vars).unwrap_err().to_string()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn nobody_asked_so_nothing_is_exported() {
    assert_eq!(resolve(None, &[]), Ok(None));
    assert_eq!(resolve(None, &[("ENDPOINT", "  ")]), Ok(None));
    assert!(resolve(None, &[("TRACES_ENDPOINT", "http://c:4317")]).unwrap().is_some());
}

#[test]
fn defaults_are_the_specifications() {
    let settings = of_env(&[]);
    assert_eq!((settings.endpoint.as_str(), settings.timeout), ("http://localhost:4317", Duration::from_secs(10)));
    assert_eq!((settings.compression, settings.tls, settings.headers.0.len()), (Compression::None, None, 0));
}

#[test]
fn the_file_wins_over_traces_over_all_signals() {
    let all = [
        ("ENDPOINT", "http://all:1"),
        ("HEADERS", "a=all"),
        ("COMPRESSION", "none"),
        ("TIMEOUT", "1000"),
        ("PROTOCOL", "http/protobuf"),
    ];
    let traces = [
        ("TRACES_ENDPOINT", "https://traces:2/"),
        ("TRACES_HEADERS", "b=tr%20aces"),
        ("TRACES_COMPRESSION", "gzip"),
        ("TRACES_TIMEOUT", "2000"),
        ("TRACES_PROTOCOL", "grpc"),
    ];
    let both: Vec<_> = all.into_iter().chain(traces).collect();
    let settings = of_env(&both);
    assert_eq!(settings.endpoint, "https://traces:2");
    assert_eq!(settings.headers, headers(&[("b", "tr aces")]));
    assert_eq!((settings.compression, settings.timeout), (Compression::Gzip, Duration::from_secs(2)));
    assert_eq!(settings.tls, Some(TlsFiles::default()));

    let file = OtlpConfig {
        endpoint: Some("http://file:3".to_owned()),
        headers: Some(headers(&[("c", "file")])),
        compression: Some(Compression::None),
        timeout_seconds: Some(3.5),
        queue_max_bytes: Some(7),
        ..OtlpConfig::default()
    };
    let settings = resolve(Some(&file), &both).unwrap().unwrap();
    assert_eq!((settings.endpoint.as_str(), settings.tls), ("http://file:3", None));
    assert_eq!(settings.headers, headers(&[("c", "file")]));
    assert_eq!((settings.compression, settings.timeout), (Compression::None, Duration::from_millis(3500)));
    assert_eq!(settings.queue_max_bytes, 7);
}

#[test]
fn endpoints_that_grpc_cannot_call() {
    for (url, part) in [
        ("collector:4317", "scheme"),
        ("grpc://collector:4317", "scheme"),
        ("http://collector:4318/v1/traces", "path"),
        ("http://user:hunter2@collector:4317", "user"),
        ("http://", "not"),
    ] {
        let error = refused(&[("ENDPOINT", url)]);
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT must be") && error.contains(part), "{error}");
        assert!(!error.contains("hunter2"));
    }
}

#[test]
fn other_values_that_are_refused() {
    for (name, value, expect) in [
        ("PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL asks for a protocol other than grpc"),
        ("COMPRESSION", "zstd", "OTEL_EXPORTER_OTLP_COMPRESSION must be gzip or none"),
        ("TRACES_TIMEOUT", "10s", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT must be milliseconds"),
        ("TIMEOUT", "0", "OTEL_EXPORTER_OTLP_TIMEOUT must be milliseconds"),
        ("HEADERS", "hunter2", "OTEL_EXPORTER_OTLP_HEADERS is not a list of name=value"),
        ("HEADERS", "a b=hunter2", "OTEL_EXPORTER_OTLP_HEADERS: header `a b` has a name"),
        ("HEADERS", "a=hunter2%0A", "OTEL_EXPORTER_OTLP_HEADERS: header `a` has a value"),
        ("HEADERS", "grpc-timeout=hunter2", "OTEL_EXPORTER_OTLP_HEADERS: header `grpc-timeout` belongs to gRPC"),
        ("HEADERS", "k-bin=hunter2", "OTEL_EXPORTER_OTLP_HEADERS: header `k-bin` is binary"),
        ("CLIENT_KEY", "/key.pem", "a client certificate needs its key"),
        ("CERTIFICATE", "/ca.pem", "certificates are set but the endpoint is plaintext"),
    ] {
        let error = refused(&[(name, value)]);
        assert!(error.starts_with(expect), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn certificates_come_from_the_file_and_the_environment() {
    let file = OtlpConfig { ca_file: Some("/file/ca.pem".into()), ..OtlpConfig::default() };
    let vars = [
        ("ENDPOINT", "https://c:1"),
        ("CERTIFICATE", "/env/ca.pem"),
        ("CLIENT_CERTIFICATE", "/env/cert.pem"),
        ("TRACES_CLIENT_KEY", "/env/key.pem"),
    ];
    let tls = resolve(Some(&file), &vars).unwrap().unwrap().tls.unwrap();
    assert_eq!(tls.ca.as_deref(), Some(Path::new("/file/ca.pem")));
    assert_eq!(tls.client, Some(("/env/cert.pem".into(), "/env/key.pem".into())));
}

#[test]
fn debug_shows_no_header_value() {
    let debug = format!("{:?}", of_env(&[("HEADERS", "authorization=Bearer%20hunter2")]));
    assert!(debug.contains("authorization") && !debug.contains("hunter2"), "{debug}");
}

fn metrics(config: Option<&OtlpConfig>, vars: &[(&str, &str)]) -> Result<Option<MetricsSettings>, SettingsError> {
    let env = |name: &str| vars.iter().find(|(full, _)| name == *full).map(|(_, value)| (*value).to_owned());
    MetricsSettings::resolve(config, &env)
}

#[test]
fn metrics_are_sent_where_somebody_asked_for_them() {
    let with = |metrics| OtlpConfig { metrics, ..OtlpConfig::default() };
    let all = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1")];
    let own = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://own:2")];
    let traces = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:3")];
    for vars in [&[][..], &all, &traces] {
        assert_eq!(metrics(None, vars), Ok(None));
        assert_eq!(metrics(Some(&with(None)), vars), Ok(None));
    }
    assert_eq!(metrics(Some(&with(Some(false))), &own), Ok(None));
    let on = with(Some(true));
    let endpoint =
        |config: Option<&OtlpConfig>, vars: &[(&str, &str)]| metrics(config, vars).unwrap().unwrap().otlp.endpoint;
    assert_eq!(endpoint(None, &own), "http://own:2");
    assert_eq!(endpoint(Some(&on), &[]), "http://localhost:4317");
    assert_eq!(endpoint(Some(&on), &traces), "http://localhost:4317");
    assert_eq!(endpoint(Some(&on), &all), "http://all:1");
    let file = OtlpConfig { endpoint: Some("http://file:3".to_owned()), ..on };
    assert_eq!(endpoint(Some(&file), &own), "http://file:3");
    // And an endpoint for metrics sends no spans.
    assert_eq!(resolve(None, &[("METRICS_ENDPOINT", "http://own:2")]), Ok(None));
}

#[test]
fn the_interval_comes_from_the_file_and_the_environment() {
    let on = OtlpConfig { metrics: Some(true), ..OtlpConfig::default() };
    let interval = |config: &OtlpConfig, vars: &[(&str, &str)]| {
        metrics(Some(config), vars).map(|settings| settings.unwrap().interval)
    };
    let vars = [("OTEL_METRIC_EXPORT_INTERVAL", "5000"), ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2000")];
    assert_eq!(interval(&on, &[]), Ok(Duration::from_secs(30)));
    assert_eq!(interval(&on, &vars), Ok(Duration::from_secs(5)));
    let file = OtlpConfig { metrics_interval_seconds: Some(1.5), ..on.clone() };
    assert_eq!(interval(&file, &vars), Ok(Duration::from_millis(1500)));
    assert_eq!(metrics(Some(&on), &vars).unwrap().unwrap().otlp.timeout, Duration::from_secs(2));
    for value in ["0", "999", "5s"] {
        let error = interval(&on, &[("OTEL_METRIC_EXPORT_INTERVAL", value)]).unwrap_err();
        assert_eq!(error.to_string(), "OTEL_METRIC_EXPORT_INTERVAL must be milliseconds between 1000 and 3600000");
    }
}

#[test]
fn the_variables_are_not_about_a_destination_that_has_a_name() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://env:2"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
    ];
    let env = |name: &str| vars.iter().find(|(full, _)| name == *full).map(|(_, value)| (*value).to_owned());
    let named = |name: &str, metrics| OtlpConfig {
        name: Some(name.to_owned()),
        endpoint: Some(format!("http://{name}:3")),
        metrics,
        ..OtlpConfig::default()
    };
    let configs = [named("a", None), named("b", Some(true))];
    let all = OtlpSettings::resolve_all(&configs, &env).unwrap();
    let found: Vec<_> =
        all.iter().map(|one| (one.name.as_deref(), one.endpoint.as_str(), one.headers.0.len())).collect();
    assert_eq!(found, [(Some("a"), "http://a:3", 0), (Some("b"), "http://b:3", 0)]);
    let all = MetricsSettings::resolve_all(&configs, &env).unwrap();
    let found: Vec<_> = all.iter().map(|one| (one.otlp.name.as_deref(), one.interval.as_secs())).collect();
    assert_eq!(found, [(Some("b"), 30)], "an endpoint for metrics in the environment asks for none of theirs");
    // Where the file names none, the variables make the one that they are about.
    assert_eq!(OtlpSettings::resolve_all(&[], &env).unwrap()[0].endpoint, "http://env:1");
    assert_eq!(MetricsSettings::resolve_all(&[], &env).unwrap()[0].otlp.endpoint, "http://env:2");
    assert!(OtlpSettings::resolve_all(&[], &|_| None).unwrap().is_empty());
}

#[test]
fn an_error_names_the_destination() {
    let error = |config: OtlpConfig| {
        let config = OtlpConfig { name: Some("eu".to_owned()), ..config };
        OtlpSettings::resolve_all(&[config], &|_| None).unwrap_err().to_string()
    };
    let endpoint = Some("http://eu:1".to_owned());
    let url = error(OtlpConfig { endpoint: Some("eu:1".to_owned()), ..OtlpConfig::default() });
    assert!(url.starts_with("export.otlp[eu].endpoint must be"), "{url}");
    let half = error(OtlpConfig { endpoint: endpoint.clone(), key_file: Some("/k".into()), ..OtlpConfig::default() });
    assert!(half.ends_with("export.otlp[eu]"), "{half}");
    let plain = error(OtlpConfig { endpoint, ca_file: Some("/ca".into()), ..OtlpConfig::default() });
    assert!(plain.ends_with("use https:// for export.otlp[eu]"), "{plain}");
}

#[test]
fn logs_are_sent_where_somebody_asked_for_them() {
    let own = [("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://own:2")];
    let logs = |configs: &[OtlpConfig], vars: &[(&str, &str)]| {
        let env = |name: &str| vars.iter().find(|(full, _)| name == *full).map(|(_, value)| (*value).to_owned());
        let all = OtlpSettings::resolve_logs(configs, &env).unwrap();
        all.into_iter().map(|one| one.endpoint).collect::<Vec<_>>()
    };
    let with = |logs| OtlpConfig { logs, ..OtlpConfig::default() };
    assert_eq!(logs(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1")]), [""; 0]);
    assert_eq!(logs(&[], &own), ["http://own:2"]);
    assert_eq!(logs(&[with(Some(false))], &own), [""; 0]);
    assert_eq!(logs(&[with(Some(true))], &[]), ["http://localhost:4317"]);
    // And an endpoint for logs sends no spans.
    assert_eq!(resolve(None, &[("LOGS_ENDPOINT", "http://own:2")]), Ok(None));
}
