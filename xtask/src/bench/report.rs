//! The results as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{machine::Machine, results::Results, target::Verdict};

/// Version of the JSON's layout: it changes when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Everything, for machines.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    quick: bool,
    machine: &'a Machine,
    targets: &'a [Verdict],
    #[serde(flatten)]
    results: &'a Results,
}

/// The JSON.
pub fn json(machine: &Machine, quick: bool, targets: &[Verdict], results: &Results) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Document { schema: SCHEMA, quick, machine, targets, results })
}

/// What stands above the tables.
const METHOD: &str = "\
Made by `cargo xtask bench`. Requests start by schedule, and times count from when a request was due. The generator knows
every byte of every answer in advance and compares; what the agent tells is compared with the same. What the agent adds is
measured in blocks, agent off, on, on, off; the figure is the median over blocks of the difference of the two sides'
medians (or of their 99th percentiles), with a 95 % bootstrap interval. *Control* is the same interval where no agent ran:
what the method finds where there is nothing to be found. Client, server and agent share the machine; both ends of
each call are captured, and a captured call or chunk is one end of it.
";

/// The Markdown.
pub fn markdown(machine: &Machine, quick: bool, targets: &[Verdict], results: &Results) -> String {
    let mut out = String::from("# Benchmark\n\n");
    if quick {
        out.push_str("**A quick run: too short for figures to be quoted.**\n\n");
    }
    let _ = writeln!(out, "{}.\n\n{METHOD}", machine.sentence());
    out.push_str("![Loss against offered rate, what is added to chunks and to latency](bench.svg)\n\n");
    table(
        &mut out,
        "Targets",
        &["what", "target", "measured", "95 %", "control", ""],
        targets.iter().map(|target| {
            let Verdict { title, target, value, interval, control, unit, verdict, .. } = target;
            vec![
                (*title).to_owned(),
                target.clone(),
                with_unit(*value, unit),
                range(*interval),
                range(*control),
                verdict.clone(),
            ]
        }),
    );
    let header = ["scenario", "what", "figure", "95 %", "control", "without", "with"];
    table(
        &mut out,
        "All figures",
        &header,
        results.figures.iter().map(|figure| {
            let side = |value: Option<f64>| value.map(number).unwrap_or_default();
            vec![
                figure.scenario.clone(),
                figure.what.clone(),
                with_unit(figure.value, figure.unit),
                range(figure.interval),
                range(figure.control),
                side(figure.off),
                side(figure.on),
            ]
        }),
    );
    let header =
        ["scenario", "calls", "chunks", "told once at each end, exact", "bytes chosen", "bytes lost", "ledger"];
    table(
        &mut out,
        "Completeness",
        &header,
        results.completeness.iter().map(|complete| {
            vec![
                complete.scenario.clone(),
                complete.calls.to_string(),
                complete.chunks.to_string(),
                complete.exact.to_string(),
                complete.offered_bytes.to_string(),
                complete.lost_bytes.to_string(),
                balance(complete.balanced),
            ]
        }),
    );
    let header = ["ramp", "chunks/s asked", "reached", "MB/s chosen", "lost", "bytes lost", "ledger", "agent, cores"];
    table(
        &mut out,
        "Loss against offered rate",
        &header,
        results.ramp.iter().map(|step| {
            vec![
                step.ramp.clone(),
                step.asked.map_or_else(|| "all that go".to_owned(), number),
                number(step.reached),
                number(step.offered_bytes_per_s / 1e6),
                format!("{} %", number(step.loss * 100.0)),
                step.lost_bytes.to_string(),
                balance(step.balanced),
                number(step.agent_cores),
            ]
        }),
    );
    out
}

fn balance(balanced: bool) -> String {
    if balanced { "balanced".to_owned() } else { "**not balanced**".to_owned() }
}

fn table(out: &mut String, title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "## {title}\n\n| {} |\n|{}", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out.push('\n');
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value)).trim_end().to_owned()
}

fn range(ends: Option<[f64; 2]>) -> String {
    ends.map(|[low, high]| format!("{} to {}", number(low), number(high))).unwrap_or_default()
}

/// A number with three digits that count, and no more than it has.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => return "0".to_owned(),
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    if grouped == "-0" { "0".to_owned() } else { grouped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let pairs = [
            (0.0, "0"),
            (1234567.8, "1,234,568"),
            (-1234.0, "-1,234"),
            (12.34, "12.3"),
            (10.0, "10"),
            (1.5, "1.5"),
            (0.1234, "0.123"),
            (-0.0001, "0"),
            (100.0, "100"),
        ];
        for (value, text) in pairs {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn tables_have_a_row_for_each_figure_and_none_without() {
        let mut results = Results::default();
        results.sample("s", "w", "us", &[1.0, 2.0, 3.0], 0.5);
        let text = markdown(&Machine::here(), true, &[], &results);
        assert!(text.contains("| s | w | 2 us |") && text.contains("quick run"), "{text}");
        assert!(!text.contains("## Completeness"));
        let parsed: serde_json::Value =
            serde_json::from_str(&json(&Machine::here(), false, &[], &results).unwrap()).unwrap();
        assert_eq!((parsed["schema"].as_u64(), parsed["figures"][0]["value"].as_f64()), (Some(1), Some(2.0)));
    }
}
