use std::{path::Path, time::Duration};

use super::{OtlpSettings, SettingsError, TlsFiles};
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
