use std::{fs, fs::Permissions, io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    Compression, Config, ConfigError, OtlpConfig, PrivacyConfig, ShipCompression, ToolDetail, WalConfig, WhenFull,
};
use crate::{export::json_file::Rotation, privacy::Operator};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("c.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert!(!config.privacy.content && !config.capture.all_http && !config.capture.infer);
    assert_eq!(config.capture.idle_timeout_seconds, 300);
    assert!(config.capture.mcp_stdio);
    assert!(!config.usage.estimate);
    assert!(config.sampling.sampling().keeps_all() && config.sampling.always_above_usd.is_none());
    assert!(config.gpu.enabled && config.gpu.nvml_library.is_none() && config.gpu.active_hz == 10);
    assert!(config.cost.enabled && config.cost.table && config.cost.prices.is_empty());
    assert!(config.export.otlp.is_empty() && config.export.jsonl.is_none() && config.export.prometheus.is_none());
    assert!(config.wal.is_none() && config.export.ship.is_none());
}

#[test]
fn the_section_alone_makes_a_log() {
    let wal = parse("[wal]").unwrap().wal.unwrap();
    assert_eq!(wal, WalConfig::default());
    assert_eq!((wal.dir.as_path(), wal.max_bytes), (Path::new("/var/lib/inferscope/wal"), 1 << 30));
    assert_eq!((wal.when_full, wal.key_file), (WhenFull::RefuseNew, None));
    let error = parse("[export.ship]").unwrap_err();
    assert!(error.contains("missing field `endpoint`"), "{error}");
    let error = parse("[wal]\nwhen_full = \"panic\"").unwrap_err();
    assert!(error.starts_with("c.toml:2:13: unknown variant `panic`"), "{error}");
}

#[test]
fn every_setting_is_read() {
    let config = parse(
        r#"
        [capture]
        idle_timeout_seconds = 60
        mcp_stdio = false
        all_http = true
        infer = true
        [privacy]
        content = true
        content_max_bytes = 1000
        tool_definitions = "full"
        email = "mask"
        phone = "off"
        card = "hash"
        iban = "replace"
        ip = "mask"
        fields = ["date_of_birth"]
        hash_key_file = "/etc/inferscope/hash.key"
        [[privacy.patterns]]
        name = "customer"
        regex = "CUST-\\d{6}"
        operator = "hash"
        [[privacy.patterns]]
        name = "project"
        regex = '(?i)project \w+'
        [targets]
        pids = [1, 2]
        comms = ["python3"]
        exes = ["/opt/*"]
        cgroups = ["/system.slice"]
        units = ["vllm.service"]
        containers = ["3f4d"]
        ports = [8000]
        hosts = ["*.openai.com"]
        [targets.exclude]
        comms = ["curl"]
        ports = [9]
        [cost]
        enabled = true
        table = false
        [cost.prices."vllm/llama-3*"]
        input_per_mtok = 0.2
        output_per_mtok = 0.4
        cache_read_per_mtok = 0.1
        cache_write_per_mtok = 0.25
        cache_write_1h_per_mtok = 0.3
        input_audio_per_mtok = 1
        output_audio_per_mtok = 2
        per_call = 0.001
        [usage]
        estimate = true
        [serving]
        time_to_first_token_limit_seconds = 2.5
        time_per_output_token_limit_seconds = 0.1
        stuck_seconds = 60
        [gpu]
        enabled = false
        nvml_library = "/opt/nvidia/libnvidia-ml.so.1"
        active_hz = 4
        step_clock = true
        [sampling]
        rate = 0.25
        always_above_usd = 0.5
        [quality]
        low_confidence_logprob = -2.5
        [export.otlp]
        endpoint = "https://collector:4317"
        headers = { authorization = "Bearer x" }
        compression = "gzip"
        timeout_seconds = 2.5
        ca_file = "/ca.pem"
        cert_file = "/cert.pem"
        key_file = "/key.pem"
        queue_max_bytes = 5
        queue_max_spans = 6
        metrics = true
        logs = true
        metrics_interval_seconds = 15
        [export.ship]
        endpoint = "https://collector.example:4317"
        agent_id = "gpu-17"
        ca_file = "/ca.pem"
        cert_file = "/cert.pem"
        key_file = "/key.pem"
        token_file = "/token"
        compression = "none"
        [wal]
        dir = "/var/lib/inferscope/log"
        max_bytes = 2_000_000
        when_full = "drop_oldest"
        key_file = "/wal.key"
        [export.jsonl]
        path = "/var/lib/inferscope/calls.jsonl"
        max_bytes = 10_000_000
        max_files = 3
        [export.prometheus]
        listen = "[::1]:9000"
        "#,
    )
    .unwrap();
    assert_eq!((config.privacy.content_max_bytes, config.targets.pids), (1000, vec![1, 2]));
    let PrivacyConfig { tool_definitions, email, phone, card, iban, ip, fields, patterns, .. } = config.privacy;
    assert_eq!(
        (tool_definitions, email, phone, card),
        (ToolDetail::Full, Operator::Mask, Operator::Off, Operator::Hash)
    );
    assert_eq!((iban, ip, fields), (Operator::Replace, Operator::Mask, vec!["date_of_birth".to_owned()]));
    let operators: Vec<_> = patterns.iter().map(|pattern| (pattern.name.as_str(), pattern.operator)).collect();
    assert_eq!(operators, [("customer", Operator::Hash), ("project", Operator::Replace)]);
    assert!(config.cost.enabled && !config.cost.table);
    assert_eq!(config.cost.prices["vllm/llama-3*"].output_per_mtok, 0.4);
    assert!(config.usage.estimate && !config.capture.mcp_stdio);
    assert_eq!(config.quality.low_confidence_logprob, Some(-2.5));
    assert!(!config.gpu.enabled && config.gpu.active_hz == 4 && config.gpu.step_clock);
    assert_eq!(config.gpu.nvml_library.as_deref(), Some(Path::new("/opt/nvidia/libnvidia-ml.so.1")));
    let [otlp] = <[_; 1]>::try_from(config.export.otlp).unwrap();
    assert_eq!(otlp.compression, Some(Compression::Gzip));
    assert_eq!(otlp.headers.unwrap().0["authorization"], "Bearer x");
    assert_eq!(otlp.timeout_seconds, Some(2.5));
    assert_eq!((otlp.metrics, otlp.metrics_interval_seconds), (Some(true), Some(15.0)));
    assert_eq!(otlp.logs, Some(true));
    assert_eq!(config.export.prometheus.unwrap().listen.to_string(), "[::1]:9000");
    let ship = config.export.ship.unwrap();
    assert_eq!((ship.endpoint.as_str(), ship.agent_id.as_deref()), ("https://collector.example:4317", Some("gpu-17")));
    let files = [ship.ca_file, ship.cert_file, ship.key_file, ship.token_file].map(Option::unwrap);
    assert_eq!(files, ["/ca.pem", "/cert.pem", "/key.pem", "/token"].map(Path::new));
    assert_eq!(ship.compression, ShipCompression::None);
    let wal = config.wal.unwrap();
    assert_eq!((wal.dir.as_path(), wal.max_bytes), (Path::new("/var/lib/inferscope/log"), 2_000_000));
    assert_eq!((wal.when_full, wal.key_file.as_deref()), (WhenFull::DropOldest, Some(Path::new("/wal.key"))));
    let jsonl = config.export.jsonl.unwrap();
    assert_eq!(jsonl.path, Path::new("/var/lib/inferscope/calls.jsonl"));
    assert_eq!(jsonl.rotation(), Some(Rotation { max_bytes: 10_000_000, max_files: 3 }));
    assert_eq!((config.sampling.rate, config.sampling.always_above_usd), (0.25, Some(0.5)));
}

#[test]
fn a_section_without_an_address_listens_on_the_loopback_alone() {
    let listen = parse("[export.prometheus]").unwrap().export.prometheus.unwrap().listen;
    assert_eq!(listen.to_string(), "127.0.0.1:9464");
}

#[test]
fn errors_name_the_place() {
    let error = parse("[privacy]\ncontent = true\ncolour = 1\n").unwrap_err();
    assert!(error.starts_with("c.toml:3:1: unknown field `colour`"), "{error}");
    let error = parse("[privacy]\ncontent = \"yes\"\n").unwrap_err();
    assert!(error.starts_with("c.toml:2:11: "), "{error}");
    let error = parse("[export.jsonl]\n").unwrap_err();
    assert!(error.contains("missing field `path`"), "{error}");
    assert!(parse("[captures]\n").unwrap_err().contains("unknown field `captures`"));
    let error = parse("[privacy]\nemail = \"hide\"\n").unwrap_err();
    assert!(error.starts_with("c.toml:2:9: unknown variant `hide`"), "{error}");
    let error = parse("[export.prometheus]\nlisten = \"localhost\"\n").unwrap_err();
    assert!(error.starts_with("c.toml:2:10: invalid socket address"), "{error}");
}

/// Two destinations of one name.
const TWICE: &str = "[[export.otlp]]\nname = \"a\"\nendpoint = \"x\"\n[[export.otlp]]\nname = \"a\"\nendpoint = \"y\"";

#[test]
fn several_destinations_are_an_array_of_tables() {
    let config = parse(
        "[[export.otlp]]\nname = \"eu\"\nendpoint = \"http://a:1\"\ncompression = \"zstd\"\n\
         [[export.otlp]]\nname = \"us-2\"\nendpoint = \"http://b:2\"",
    )
    .unwrap();
    let names: Vec<_> = config.export.otlp.iter().map(|otlp| otlp.name.as_deref()).collect();
    assert_eq!(names, [Some("eu"), Some("us-2")]);
    assert_eq!(config.export.otlp[0].compression, Some(Compression::Zstd));
    // One that stands alone needs no name.
    assert_eq!(parse("[[export.otlp]]").unwrap().export.otlp, [OtlpConfig::default()]);
    assert_eq!(parse("[export.otlp]").unwrap().export.otlp, [OtlpConfig::default()]);
    for (text, place) in [
        ("[export]\notlp = 5", "c.toml:2:8: invalid type: integer `5`, expected a table [export.otlp] or tables"),
        ("[[export.otlp]]\nname = \"a\"\n[[export.otlp]]\ncolour = 1", "c.toml:4:1: unknown field `colour`"),
        ("[[export.otlp]]\nname = \"a\"\n[[export.otlp]]\nmetrics = 1", "c.toml:4:11: "),
        (&"[[export.otlp]]\n".repeat(9), "c.toml:"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(place), "{error}");
    }
}

#[test]
fn a_file_is_rotated_where_a_size_is_said() {
    let rotation = |text: &str| parse(text).unwrap().export.jsonl.unwrap().rotation();
    assert_eq!(rotation("[export.jsonl]\npath = \"a\""), None);
    let rotated = rotation("[export.jsonl]\npath = \"a\"\nmax_bytes = 4096");
    assert_eq!(rotated, Some(Rotation { max_bytes: 4096, max_files: 5 }));
}

#[test]
fn values_out_of_range_are_refused() {
    for (text, setting) in [
        ("[capture]\nidle_timeout_seconds = 0", "capture.idle_timeout_seconds"),
        ("[privacy]\ncontent_max_bytes = 0", "privacy.content_max_bytes"),
        ("[privacy]\nfields = [\"a\", \"-\"]", "privacy.fields[1]"),
        ("[[privacy.patterns]]\nname = \"a\"\nregex = \"(\"", "privacy.patterns[0].regex"),
        ("[[privacy.patterns]]\nname = \"a b\"\nregex = \"a\"", "privacy.patterns[0].name"),
        ("[targets]\npids = [7, 0]", "targets.pids"),
        ("[targets]\ncomms = [\"\"]", "targets.comms"),
        ("[targets]\nports = [0]", "targets.ports"),
        ("[targets.exclude]\npids = [0]", "targets.exclude.pids"),
        ("[export.otlp]\nqueue_max_spans = 0", "export.otlp.queue_max_spans"),
        ("[export.otlp]\ntimeout_seconds = nan", "export.otlp.timeout_seconds"),
        ("[export.otlp]\nmetrics_interval_seconds = 0.5", "export.otlp.metrics_interval_seconds"),
        ("[export.otlp]\nmetrics_interval_seconds = inf", "export.otlp.metrics_interval_seconds"),
        ("[export.prometheus]\nlisten = \"127.0.0.1:0\"", "export.prometheus.listen"),
        ("[cost.prices.\"a/b\"]\ninput_per_mtok = -1", "cost.prices.\"a/b\".input_per_mtok"),
        ("[sampling]\nrate = 1.5", "sampling.rate"),
        ("[sampling]\nrate = -0.1", "sampling.rate"),
        ("[sampling]\nrate = nan", "sampling.rate"),
        ("[sampling]\nalways_above_usd = -1", "sampling.always_above_usd"),
        ("[export.jsonl]\npath = \"a\"\nmax_bytes = 100", "export.jsonl.max_bytes"),
        ("[export.jsonl]\npath = \"a\"\nmax_files = 2", "export.jsonl.max_files"),
        ("[export.jsonl]\npath = \"a\"\nmax_bytes = 9999\nmax_files = 0", "export.jsonl.max_files"),
        ("[export.jsonl]\npath = \"a\"\nmax_bytes = 9999\nmax_files = 1000", "export.jsonl.max_files"),
        ("[export.otlp]\nname = \"a.b\"", "export.otlp[0].name"),
        ("[export.otlp]\nname = \"a\"", "export.otlp[0].endpoint"),
        ("[[export.otlp]]\n[[export.otlp]]\nname = \"a\"", "export.otlp[0].name"),
        ("[[export.otlp]]\nname = \"\"", "export.otlp[0].name"),
        (TWICE, "export.otlp[1].name"),
        ("[[export.otlp]]\nname = \"a\"\nendpoint = \"x\"\nqueue_max_spans = 0", "export.otlp[a].queue_max_spans"),
        ("[quality]\nlow_confidence_logprob = 0.5", "quality.low_confidence_logprob"),
        ("[export.otlp]\ntimeout_seconds = 0", "export.otlp.timeout_seconds"),
        ("[wal]\nmax_bytes = 1048575", "wal.max_bytes"),
        ("[wal]\ndir = \"log\"", "wal.dir"),
        ("[export.ship]\nendpoint = \"https://c\"\nagent_id = \"\"", "export.ship.agent_id"),
        ("[export.ship]\nendpoint = \"https://c\"\ncert_file = \"/c\"", "export.ship.cert_file"),
        ("[export.ship]\nendpoint = \"https://c\"\nkey_file = \"/k\"", "export.ship.cert_file"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(&format!("c.toml: {setting} must be")), "{error}");
    }
}

#[test]
fn secrets_are_neither_in_debug_nor_in_errors() {
    let config = parse("[export.otlp]\nheaders = { authorization = \"hunter2\" }").unwrap();
    let debug = format!("{config:?}");
    assert!(debug.contains("authorization") && debug.contains("[redacted]") && !debug.contains("hunter2"));
    for text in [
        "[export.otlp]\nheaders = \"hunter2\"",
        "[export.otlp.headers]\nauthorization = [\"hunter2\"]",
        "[export.otlp.headers]\nauthorization = \"hunter2",
        "[export.otlp.headers]\nauthorization = hunter2",
    ] {
        let error = Config::parse(Path::new("c.toml"), text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert!(error.to_string().starts_with("c.toml:2:"), "{error}");
    }
}

#[test]
fn a_missing_file_matters_only_when_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    assert_eq!(Config::read_if_there(&path).unwrap(), Config::default());
    match Config::load(Some(&path)) {
        Err(ConfigError::Read { source, .. }) => assert_eq!(source.kind(), ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_others_can_change_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "[capture]\nall_http = true\n").unwrap();
    for mode in [0o620, 0o602] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Config::load(Some(&path)), Err(ConfigError::Writable { mode: found, .. }) if found == mode));
        assert!(matches!(Config::read_if_there(&path), Err(ConfigError::Writable { .. })));
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(Config::load(Some(&path)).unwrap().capture.all_http);
}

#[test]
fn what_the_documents_show_is_a_configuration() {
    let documents: [(&str, usize, &[&str]); 2] = [
        ("export.md", 4, &["[sampling]", "[export.jsonl]", "[export.otlp]", "[[export.otlp]]"]),
        ("delivery.md", 2, &["[wal]", "[export.ship]"]),
    ];
    for (name, count, sections) in documents {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap();
        let blocks: Vec<_> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(blocks.len(), count, "{name}");
        for block in blocks {
            parse(block).unwrap_or_else(|error| panic!("{error} in {name}:\n{block}"));
        }
        assert!(sections.iter().all(|section| text.contains(section)), "{name}");
    }
}
