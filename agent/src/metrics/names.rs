//! Every metric that leaves inferscope, and every label that only metrics have, in one table.
//!
//! Owns names, kinds, units, labels and bucket boundaries; what is counted is decided in `calls` and `gauges`. The names
//! are OpenTelemetry's: those of the GenAI conventions (semantic-conventions v1.41.1, `docs/gen-ai/gen-ai-metrics.md`,
//! boundaries included) and of the hardware ones (v1.44.0, `docs/hardware/{common,gpu,temperature}.md`), and `inferscope.*`
//! for what they have no name for. Units are UCUM. Changing a line here changes what dashboards read.
//!
//! To add a metric: one line here, its `add` or `push`, and a line in `docs/metrics.md`, which a test compares with this
//! table.

use crate::export::attributes::*;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down; sums over its series make sense.
    UpDownCounter,
    /// A reading; sums over its series make none.
    Gauge,
    /// A distribution, with these upper boundaries of its buckets, which include them; one more has no boundary.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As the documentation writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::UpDownCounter => "updowncounter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// OpenTelemetry's spelling.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// UCUM; in braces what is counted.
    pub unit: &'static str,
    /// Labels that a series may have. One that is not known is left out.
    pub labels: &'static [&'static str],
    /// What it says, one sentence.
    pub help: &'static str,
}

/// Boundaries of durations, seconds.
pub const DURATION: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Boundaries of token counts.
pub const TOKENS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
];
/// Boundaries of the time to first token, seconds.
pub const FIRST_TOKEN: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Boundaries of the time per output token, seconds.
pub const OUTPUT_TOKEN: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// Boundaries of MCP's operations, seconds.
pub const MCP: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

macro_rules! labels {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*

        /// Labels that no span has, in the order of this file.
        pub const LABELS: &[&str] = &[$($constant),*];
    };
}

labels! {
    /// `input` or `output`.
    GEN_AI_TOKEN_TYPE = "gen_ai.token.type";
    /// NVML's id of a device or of a MIG instance.
    HW_ID = "hw.id";
    /// Always `gpu`.
    HW_TYPE = "hw.type";
    /// `GPU` with NVML's index.
    HW_NAME = "hw.name";
    /// Product name.
    HW_MODEL = "hw.model";
    /// The device that a MIG instance is a part of.
    HW_PARENT = "hw.parent";
    /// Always `general`: any kernel.
    HW_GPU_TASK = "hw.gpu.task";
    /// `receive` or `transmit`.
    NETWORK_IO_DIRECTION = "network.io.direction";
    /// `client`, `server` or `internal`.
    INFERSCOPE_SIDE = "inferscope.side";
    /// NVIDIA's number of an error.
    INFERSCOPE_GPU_XID = "inferscope.gpu.xid";
    /// Whose clock: `sm` or `memory`.
    INFERSCOPE_GPU_CLOCK = "inferscope.gpu.clock";
    /// Why clocks were held down.
    INFERSCOPE_GPU_THROTTLE_REASON = "inferscope.gpu.throttle.reason";
    /// What became of energy: `shared` among calls, `idle`, `unattributed`.
    INFERSCOPE_ENERGY_STATE = "inferscope.energy.state";
    /// Function of NVML.
    INFERSCOPE_NVML_CALL = "inferscope.nvml.call";
    /// What was full: a label's set of values, or `series`.
    INFERSCOPE_METRICS_LIMIT = "inferscope.metrics.limit";
    /// Present, and `true`, only on the series that takes what found no place; the specification's name for it.
    OTEL_METRIC_OVERFLOW = "otel.metric.overflow";
}

macro_rules! metrics {
    ($($constant:ident = $kind:expr, $name:literal, $unit:literal, [$($label:ident),* $(,)?], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric =
                Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };
        )*

        /// All metrics, in the order of this file, which is the order of every export.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    CLIENT_DURATION = Kind::Histogram(DURATION), "gen_ai.client.operation.duration", "s", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME, ERROR_TYPE,
    ], "Time of calls as their clients see it, from the first request byte to the last response byte.";
    CLIENT_FIRST_CHUNK = Kind::Histogram(DURATION), "gen_ai.client.operation.time_to_first_chunk", "s", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME,
    ], "Time to the first event of a streamed response, whatever it holds, as clients see it.";
    CLIENT_TOKENS = Kind::Histogram(TOKENS), "gen_ai.client.token.usage", "{token}", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME, GEN_AI_TOKEN_TYPE,
    ], "Tokens of calls as the provider reported them; estimates are left out.";
    SERVER_DURATION = Kind::Histogram(DURATION), "gen_ai.server.request.duration", "s", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME, INFERSCOPE_ENGINE_ID, ERROR_TYPE,
    ], "Time of calls at their server, from the first request byte to the last response byte.";
    SERVER_OUTPUT_TOKEN = Kind::Histogram(OUTPUT_TOKEN), "gen_ai.server.time_per_output_token", "s", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME, INFERSCOPE_ENGINE_ID,
    ], "Mean time between the output tokens of a streamed response that succeeded.";
    SERVER_FIRST_TOKEN = Kind::Histogram(FIRST_TOKEN), "gen_ai.server.time_to_first_token", "s", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME, INFERSCOPE_ENGINE_ID,
    ], "Time to the first chunk with content, reasoning or a tool call of a streamed response that succeeded.";
    SERVER_TOKENS = Kind::Histogram(TOKENS), "inferscope.server.token.usage", "{token}", [
        GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS,
        SERVER_PORT, PROCESS_EXECUTABLE_NAME, INFERSCOPE_ENGINE_ID, GEN_AI_TOKEN_TYPE,
    ], "Tokens of calls as their server reported them, for servers whose clients are elsewhere.";
    MCP_CLIENT_DURATION = Kind::Histogram(MCP), "mcp.client.operation.duration", "s", [
        MCP_METHOD_NAME, NETWORK_TRANSPORT, PROCESS_EXECUTABLE_NAME, ERROR_TYPE,
    ], "Time of requests of the Model Context Protocol as their clients see it.";
    MCP_SERVER_DURATION = Kind::Histogram(MCP), "mcp.server.operation.duration", "s", [
        MCP_METHOD_NAME, NETWORK_TRANSPORT, PROCESS_EXECUTABLE_NAME, ERROR_TYPE,
    ], "Time of requests of the Model Context Protocol at their server.";

    CALLS_FINISHED = Kind::Counter, "inferscope.calls.finished", "{call}",
        [INFERSCOPE_SIDE, INFERSCOPE_COMPLETION, INFERSCOPE_CAPTURE],
        "Calls of every kind that were reported, by how they ended and how much of them was seen.";
    CALLS_SLOW = Kind::Counter, "inferscope.calls.slow", "{call}",
        [INFERSCOPE_SLOW_MEASURE, GEN_AI_REQUEST_MODEL, INFERSCOPE_ENGINE_ID],
        "Calls of which this time was beyond what it is as a rule, or beyond the configured limit.";
    CALLS_CAUSES = Kind::Counter, "inferscope.calls.causes", "{call}",
        [INFERSCOPE_CAUSE_KIND, GEN_AI_REQUEST_MODEL, INFERSCOPE_ENGINE_ID],
        "Slow or failed calls by the likeliest cause; a call for which nothing speaks is not counted.";
    COST = Kind::Counter, "inferscope.cost.usd", "{USD}",
        [INFERSCOPE_SIDE, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, PROCESS_EXECUTABLE_NAME],
        "What calls cost, US dollars, where their price is known; a call whose two ends are on this host is on both sides.";
    CALLS_ENERGY = Kind::Counter, "inferscope.calls.energy", "J", [GEN_AI_REQUEST_MODEL, INFERSCOPE_ENGINE_ID],
        "Calls' shares of the measured energy of GPU boards: not marginal energy, not wall power.";
    WASTE_TIME = Kind::Counter, "inferscope.waste.time", "s", [GEN_AI_REQUEST_MODEL, INFERSCOPE_ENGINE_ID],
        "Time for which servers went on with calls whose client had gone.";
    WASTE_ENERGY = Kind::Counter, "inferscope.waste.energy", "J", [GEN_AI_REQUEST_MODEL, INFERSCOPE_ENGINE_ID],
        "Shares of energy of calls after their client had gone.";

    ENGINE_ACTIVE = Kind::UpDownCounter, "inferscope.engine.calls.active", "{call}",
        [INFERSCOPE_ENGINE_ID, INFERSCOPE_ENGINE_NAME], "Calls under way at an engine.";
    ENGINE_QUEUED = Kind::UpDownCounter, "inferscope.engine.calls.queued", "{call}",
        [INFERSCOPE_ENGINE_ID, INFERSCOPE_ENGINE_NAME],
        "An estimate of an engine's queue: calls under way that have no token yet, those being read included.";
    ENGINE_TOKENS = Kind::Gauge, "inferscope.engine.token.rate", "{token}/s",
        [INFERSCOPE_ENGINE_ID, INFERSCOPE_ENGINE_NAME], "Output tokens that an engine sends.";
    ENGINE_ENERGY = Kind::Counter, "inferscope.engine.energy", "J",
        [INFERSCOPE_ENGINE_ID, INFERSCOPE_ENGINE_NAME, INFERSCOPE_ENERGY_STATE],
        "Energy of an engine's GPUs by what became of it; the three add up to what the boards measured.";
    ENGINE_PROCESSES = Kind::UpDownCounter, "inferscope.engine.processes", "{process}",
        [INFERSCOPE_ENGINE_ID, INFERSCOPE_ENGINE_NAME], "Processes of an engine.";

    GPU_OBSERVED = Kind::Gauge, "inferscope.gpu.observed", "",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, INFERSCOPE_REASON],
        "1 for a GPU that is observed, 0 with a reason for one that is not; without hw.id: no GPU can be observed.";
    GPU_UTILIZATION = Kind::Gauge, "hw.gpu.utilization", "1",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, HW_GPU_TASK],
        "Share of time with a kernel running on the GPU.";
    GPU_MEMORY_ACTIVITY = Kind::Gauge, "inferscope.gpu.memory.activity", "1",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT], "Share of time with GPU memory being read or written.";
    GPU_MEMORY_LIMIT = Kind::UpDownCounter, "hw.gpu.memory.limit", "By",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT], "Size of the GPU's memory.";
    GPU_MEMORY_USAGE = Kind::UpDownCounter, "hw.gpu.memory.usage", "By",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT], "GPU memory in use.";
    GPU_MEMORY_UTILIZATION = Kind::Gauge, "hw.gpu.memory.utilization", "1",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT], "Share of the GPU's memory in use.";
    GPU_POWER = Kind::Gauge, "hw.power", "W", [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT],
        "Power of the GPU's board.";
    GPU_ENERGY = Kind::Counter, "hw.energy", "J", [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT],
        "Energy of the GPU's board since the driver was loaded.";
    GPU_TEMPERATURE = Kind::Gauge, "hw.temperature", "Cel", [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT],
        "Temperature of the GPU.";
    GPU_CLOCK = Kind::Gauge, "inferscope.gpu.frequency", "Hz",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, INFERSCOPE_GPU_CLOCK], "Clocks of the GPU.";
    GPU_THROTTLE = Kind::Counter, "inferscope.gpu.throttle.time", "s",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, INFERSCOPE_GPU_THROTTLE_REASON],
        "Time for which the GPU's clocks were held down, since the driver was loaded.";
    GPU_IO = Kind::Counter, "hw.gpu.io", "By",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, NETWORK_IO_DIRECTION], "Bytes over the GPU's PCIe link.";
    GPU_NVLINK = Kind::Counter, "inferscope.gpu.nvlink.io", "By",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, NETWORK_IO_DIRECTION], "Bytes over all NVLinks of the GPU.";
    GPU_ERRORS = Kind::Counter, "hw.errors", "{error}", [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, ERROR_TYPE],
        "Errors of the GPU's memory that could not be corrected.";
    GPU_XID = Kind::Counter, "inferscope.gpu.xid.errors", "{error}",
        [HW_ID, HW_TYPE, HW_NAME, HW_MODEL, HW_PARENT, INFERSCOPE_GPU_XID], "Errors that the GPU's driver reported.";
    GPU_PROCESS_MEMORY = Kind::UpDownCounter, "inferscope.gpu.process.memory", "By",
        [HW_ID, PROCESS_PID, PROCESS_EXECUTABLE_NAME, INFERSCOPE_ENGINE_ID], "GPU memory of a process.";
    GPU_PROCESS_UTILIZATION = Kind::Gauge, "inferscope.gpu.process.utilization", "1",
        [HW_ID, PROCESS_PID, PROCESS_EXECUTABLE_NAME, INFERSCOPE_ENGINE_ID],
        "Share of the multiprocessors' time that a process used.";

    NVML_CALLS = Kind::Counter, "inferscope.nvml.calls", "{call}", [INFERSCOPE_NVML_CALL],
        "Calls that inferscope made to NVML.";
    NVML_TIME = Kind::Counter, "inferscope.nvml.time", "s", [INFERSCOPE_NVML_CALL], "Time that they took.";
    NVML_LONGEST = Kind::Gauge, "inferscope.nvml.duration.max", "s", [INFERSCOPE_NVML_CALL],
        "The longest of them so far.";
    SAMPLES_LOST = Kind::Counter, "inferscope.gpu.samples.lost", "{sample}", [],
        "Samples of GPUs that were taken and not used because a queue was full.";

    LOST_BYTES = Kind::Counter, "inferscope.capture.lost", "By", [INFERSCOPE_REASON],
        "Bytes of calls that were to be captured and were lost.";
    LOST_CALLS = Kind::Counter, "inferscope.export.lost", "{call}", [INFERSCOPE_REASON],
        "Calls that an exporter did not deliver.";
    FOLDED = Kind::Counter, "inferscope.metrics.folded", "{measurement}", [INFERSCOPE_METRICS_LIMIT],
        "Label values written as `other`, and measurements put on an overflow series, because there were too many.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::export::attributes;

    #[test]
    fn names_are_unique_and_lower_case() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        let plain = |name: &str| name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_'));
        assert!(names.iter().chain(LABELS).all(|name| plain(name)));
        assert!(LABELS.iter().all(|label| !attributes::ALL.contains(label)), "a label has two constants");
    }

    /// The table of the documentation, of which the test below says where it differs.
    fn table() -> String {
        let row = |metric: &&Metric| {
            let Metric { name, kind, unit, labels, help } = metric;
            let unit = if unit.is_empty() { String::new() } else { format!("`{unit}`") };
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{name}` | {} | {unit} | {} | {help} |\n", kind.as_str(), labels.join(" "))
        };
        let rows: String = ALL.iter().map(row).collect();
        format!("| metric | kind | unit | labels | what it says |\n|---|---|---|---|---|\n{rows}")
    }

    #[test]
    fn the_documentation_has_this_table() {
        let page = include_str!("../../../docs/metrics.md");
        let table = table();
        assert!(page.contains(&table), "docs/metrics.md is to have this table:\n{table}");
        for label in LABELS {
            assert!(page.contains(&format!("`{label}`")), "docs/metrics.md does not name the label {label}");
        }
    }

    #[test]
    fn a_name_is_no_other_s_namespace() {
        for (one, other) in ALL.iter().flat_map(|one| ALL.iter().map(move |other| (one.name, other.name))) {
            assert!(!other.starts_with(&format!("{one}.")), "{one} {other}");
        }
    }

    #[test]
    fn boundaries_rise_and_labels_do_not_repeat() {
        for metric in ALL {
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted_by(|one, next| one < next), "{}", metric.name);
            }
            let labels: BTreeSet<_> = metric.labels.iter().collect();
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.name);
        }
    }
}
