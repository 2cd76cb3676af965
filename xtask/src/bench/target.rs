//! The design's targets, and what of them is met.

use serde::Serialize;

use super::results::Results;

/// Which side of its limit a figure must be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    BeAtMost,
    BeAtLeast,
}

/// One target.
struct Target {
    title: &'static str,
    scenario: &'static str,
    what: &'static str,
    must: Must,
    limit: f64,
}

const fn at_most(title: &'static str, scenario: &'static str, what: &'static str, limit: f64) -> Target {
    Target { title, scenario, what, must: Must::BeAtMost, limit }
}

const fn at_least(title: &'static str, scenario: &'static str, what: &'static str, limit: f64) -> Target {
    Target { title, scenario, what, must: Must::BeAtLeast, limit }
}

/// The scenario of `engines`.
const ENGINES: &str = "8 GPUs and 32 processes";

/// All of them. Units are those of the figures.
const TARGETS: [Target; 23] = [
    at_most("agent CPU per captured 1 KB request, plain", "1 KB requests, plain", "agent CPU per captured call", 10.0),
    at_most("agent CPU per captured 1 KB request, TLS", "1 KB requests, TLS", "agent CPU per captured call", 10.0),
    at_most("added per streamed chunk, plain, server", "chunks in one thread, plain", "added to a write", 1500.0),
    at_most("added per streamed chunk, plain, client", "chunks in one thread, plain", "added to a read", 1500.0),
    at_most("added per streamed chunk, TLS, server", "chunks in one thread, TLS", "added to a write", 3000.0),
    at_most("added per streamed chunk, TLS, client", "chunks in one thread, TLS", "added to a read", 3000.0),
    at_most("other processes, per system call", "other processes", "added to getppid", 60.0),
    at_most(
        "other processes, per read or write that is no socket's",
        "other processes",
        "added to a read or write of a pipe",
        60.0,
    ),
    at_most("loss at the highest rate, tokens, plain", "overload with tokens, plain", "loss at the highest rate", 0.0),
    at_most("loss at the highest rate, tokens, TLS", "overload with tokens, TLS", "loss at the highest rate", 0.0),
    at_most(
        "loss at the highest rate, 16 KB chunks",
        "overload with 16 KB chunks, plain",
        "loss at the highest rate",
        0.0,
    ),
    at_most("TTFT against the server's own clock, p99, plain", "10 streams, plain", "TTFT error, p99", 100.0),
    at_most("TTFT against the server's own clock, p99, TLS", "10 streams, TLS", "TTFT error, p99", 100.0),
    at_most("resident memory, 1,000 streams", "1,000 streams, plain", "resident memory", 40.0),
    at_most("resident memory, 1,000 streams, TLS", "1,000 streams, TLS", "resident memory", 40.0),
    at_most("the same, each page counted once", "1,000 streams, plain", "memory, each page counted once", 40.0),
    at_least("replay, one core", "replay", "records per second of CPU, start included", 300_000.0),
    at_most("start to first captured call, plain", "start, plain", "start to first captured call", 1.0),
    at_most("start to first captured call, TLS", "start, TLS", "start to first captured call", 1.0),
    at_most("agent CPU, 8 GPUs and 32 processes, no call", ENGINES, "agent CPU, no call", 1.0),
    at_most("agent CPU, 8 GPUs and 32 processes, 4 calls", ENGINES, "agent CPU, 4 calls", 1.0),
    at_most("time in NVML a second, no call", ENGINES, "time in NVML a second, no call", 1.0),
    at_most("time in NVML a second, 4 calls", ENGINES, "time in NVML a second, 4 calls", 1.0),
];

/// A target and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What is limited.
    pub title: &'static str,
    /// The limit, with its direction and unit.
    pub target: String,
    /// What was measured.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// The control's interval.
    pub control: Option<[f64; 2]>,
    /// Its unit.
    pub unit: &'static str,
    /// Whether it is met.
    pub met: bool,
    /// In words.
    pub verdict: String,
}

/// What came of every target that was measured.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    TARGETS.iter().filter_map(|target| judge(target, results)).collect()
}

fn judge(target: &Target, results: &Results) -> Option<Verdict> {
    let Target { title, scenario, what, must, limit } = *target;
    let figure = results.find(scenario, what)?;
    let (sign, within): (_, fn(f64, f64) -> bool) = match must {
        Must::BeAtMost => ("<=", |value, limit| value <= limit),
        Must::BeAtLeast => (">=", |value, limit| value >= limit),
    };
    let met = within(figure.value, limit);
    let sure = figure.interval.is_none_or(|ends| ends.iter().all(|&end| within(end, limit) == met));
    let by = if limit == 0.0 {
        format!("by {} {}", super::report::number(figure.value), figure.unit)
    } else {
        format!("by {:.0} %", (figure.value - limit).abs() / limit * 100.0)
    };
    let word = if met { "met".to_owned() } else { format!("not met, {by}") };
    let verdict = if sure { word } else { format!("{word}; the interval holds the limit") };
    let target = format!("{sign} {} {}", super::report::number(limit), figure.unit);
    let (value, interval, control, unit) = (figure.value, figure.interval, figure.control, figure.unit);
    Some(Verdict { title, target, value, interval, control, unit, met, verdict })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(value: f64, interval: [f64; 2]) -> Verdict {
        let mut results = Results::default();
        let (scenario, what) = (TARGETS[0].scenario, TARGETS[0].what);
        results.sample(scenario, what, "us", &[value], 0.5);
        results.figures[0].interval = Some(interval);
        verdicts(&results).remove(0)
    }

    #[test]
    fn a_verdict_says_by_how_much_and_how_surely() {
        assert_eq!(verdict(4.0, [3.0, 5.0]).verdict, "met");
        assert_eq!(verdict(9.0, [8.0, 11.0]).verdict, "met; the interval holds the limit");
        let missed = verdict(15.0, [14.0, 16.0]);
        assert_eq!((missed.met, missed.verdict.as_str()), (false, "not met, by 50 %"));
        assert_eq!(missed.target, "<= 10 us");
    }

    #[test]
    fn what_was_not_measured_has_no_verdict() {
        assert!(verdicts(&Results::default()).is_empty());
    }
}
