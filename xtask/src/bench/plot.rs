//! The results as a picture: one SVG file with three panels.
//!
//! Written by hand, because it is less than a plotting library's set-up. Colours are told apart in grey and by those who
//! do not see red and green alike (Okabe and Ito's palette), and marks differ as well.

use std::fmt::Write as _;

use super::{
    report::number,
    results::{Figure, Results, Step},
};

const WIDTH: f64 = 900.0;
/// Left of a panel there is room for the names of its rows.
const LEFT: f64 = 300.0;
const RIGHT: f64 = 40.0;
/// Above a panel stands its title, below it the axis.
const ABOVE: f64 = 50.0;
const BELOW: f64 = 60.0;
const ROW: f64 = 24.0;
const RAMP_HEIGHT: f64 = 240.0;

const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const GREY: &str = "#999999";

/// A row of a panel of intervals.
struct Row<'a> {
    figure: &'a Figure,
    limit: Option<f64>,
}

/// The picture.
pub fn svg(results: &Results) -> String {
    let mut panels = Vec::new();
    let cost = |scenario: &str, what: &str, limit| {
        results.find(scenario, what).map(|figure| Row { figure, limit: Some(limit) })
    };
    let costs: Vec<Row<'_>> = [
        cost("chunks in one thread, plain", "added to a write", 1500.0),
        cost("chunks in one thread, plain", "added to a read", 1500.0),
        cost("chunks in one thread, TLS", "added to a write", 3000.0),
        cost("chunks in one thread, TLS", "added to a read", 3000.0),
        cost("other processes", "added to getppid", 60.0),
        cost("other processes", "added to a read or write of a pipe", 60.0),
    ]
    .into_iter()
    .flatten()
    .collect();
    panels.push(intervals("Added to one call of a program, ns", &costs));
    let latencies: Vec<Row<'_>> = results
        .figures
        .iter()
        .filter(|figure| figure.what == "added to latency, p50")
        .map(|figure| Row { figure, limit: None })
        .collect();
    panels.push(intervals("Added to the latency of a call, p50, us", &latencies));
    panels.push(ramp("Loss against offered rate", &results.ramp));

    let height: f64 = panels.iter().map(|(_, height)| height).sum();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut top = 0.0;
    for (panel, height) in panels {
        let _ = writeln!(out, "<g transform=\"translate(0 {top})\">\n{panel}</g>");
        top += height;
    }
    out.push_str("</svg>\n");
    out
}

/// Where values are on an axis, which is linear or logarithmic.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        let part = if high > low { (scale(value) - low) / (high - low) } else { 0.5 };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values within the axis, about six.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
            let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
            return all.filter(|tick| (self.low..=self.high).contains(tick)).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        if rough <= 0.0 {
            return vec![self.low];
        }
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(decade * 10.0);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|at| at as f64 * step).collect()
    }
}

/// Figures with their intervals, one a row; grey is the control's interval, the dashed mark the limit.
fn intervals(title: &str, rows: &[Row<'_>]) -> (String, f64) {
    if rows.is_empty() {
        return (String::new(), 0.0);
    }
    let mut out = heading(title);
    let ends = |row: &Row<'_>| {
        let figure = row.figure;
        let ranges = [figure.interval, figure.control].into_iter().flatten().flatten();
        ranges.chain([figure.value, 0.0]).chain(row.limit).collect::<Vec<_>>()
    };
    let all: Vec<f64> = rows.iter().flat_map(ends).collect();
    let (low, high) = all.iter().fold((0.0f64, 0.0f64), |(low, high), &end| (low.min(end), high.max(end)));
    let margin = (high - low) * 0.05;
    let axis = Axis { low: low - margin, high: high + margin, log: false, from: LEFT, to: WIDTH - RIGHT };
    let bottom = ABOVE + ROW * rows.len() as f64;
    bottom_axis(&mut out, &axis, bottom);
    for (at, Row { figure, limit }) in rows.iter().enumerate() {
        let y = ABOVE + ROW * (at as f64 + 0.5);
        let name =
            if limit.is_some() { format!("{}: {}", figure.scenario, figure.what) } else { figure.scenario.clone() };
        text(&mut out, LEFT - 10.0, y + 4.0, "end", &shortened(&name));
        if let Some([low, high]) = figure.control {
            bar(&mut out, &axis, low, high, y + 5.0, GREY, 3.0);
        }
        if let Some([low, high]) = figure.interval {
            bar(&mut out, &axis, low, high, y, COLOURS[0], 2.0);
        }
        let x = axis.place(figure.value);
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{}\"/>", COLOURS[0]);
        if let Some(limit) = limit {
            let x = axis.place(*limit);
            let (from, to) = (y - ROW / 2.0 + 2.0, y + ROW / 2.0 - 2.0);
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\" stroke=\"{}\" stroke-width=\"2\" \
                 stroke-dasharray=\"4 2\"/>",
                COLOURS[1]
            );
        }
    }
    let limits = if rows.iter().any(|row| row.limit.is_some()) { "; dashed: the target" } else { "" };
    let legend = format!("dot and line: figure and 95 % interval; grey: control, no agent either time{limits}");
    text(&mut out, LEFT, bottom + 38.0, "start", &legend);
    (out, bottom + BELOW)
}

/// Loss over the rate that was reached.
fn ramp(title: &str, steps: &[Step]) -> (String, f64) {
    if steps.is_empty() {
        return (String::new(), 0.0);
    }
    let mut out = heading(title);
    let rates = steps.iter().map(|step| step.reached);
    let (low, high) = rates.fold((f64::MAX, 0.0f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    let x = Axis { low: low / 1.2, high: high * 1.2, log: true, from: LEFT, to: WIDTH - RIGHT };
    let most = steps.iter().map(|step| step.loss * 100.0).fold(1.0, f64::max);
    let bottom = ABOVE + RAMP_HEIGHT;
    let y = Axis { low: 0.0, high: most * 1.05, log: false, from: bottom, to: ABOVE };
    bottom_axis(&mut out, &x, bottom);
    for tick in y.ticks() {
        let at = y.place(tick);
        let _ = writeln!(out, "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>", x.to);
        text(&mut out, LEFT - 8.0, at + 4.0, "end", &number(tick));
    }
    text(&mut out, LEFT, ABOVE - 4.0, "start", "lost, % of the bytes chosen for capture");
    let mut names: Vec<&str> = steps.iter().map(|step| step.ramp.as_str()).collect();
    names.dedup();
    for (at, name) in names.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mut points: Vec<_> =
            steps.iter().filter(|step| step.ramp == *name).map(|step| (step.reached, step.loss * 100.0)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let points: Vec<_> = points.into_iter().map(|(rate, loss)| (x.place(rate), y.place(loss))).collect();
        let line: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        let _ = writeln!(out, "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for (x, y) in points {
            mark(&mut out, at, x, y, colour);
        }
        // Left of the axis, where no line can cross it.
        let y = ABOVE + 20.0 + 20.0 * at as f64;
        mark(&mut out, at, 20.0, y - 4.0, colour);
        text(&mut out, 32.0, y, "start", name);
    }
    text(
        &mut out,
        (LEFT + WIDTH - RIGHT) / 2.0,
        bottom + 38.0,
        "middle",
        "content chunks per second, each written and read",
    );
    (out, bottom + BELOW)
}

fn heading(title: &str) -> String {
    format!("<text x=\"{LEFT}\" y=\"26\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n")
}

fn bottom_axis(out: &mut String, axis: &Axis, bottom: f64) {
    let (from, to) = (axis.from, axis.to);
    let _ = writeln!(out, "<line x1=\"{from}\" x2=\"{to}\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"black\"/>");
    for tick in axis.ticks() {
        let x = axis.place(tick);
        let colour = if tick == 0.0 { "black" } else { "#dddddd" };
        let _ = writeln!(out, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{ABOVE}\" y2=\"{bottom}\" stroke=\"{colour}\"/>");
        text(out, x, bottom + 18.0, "middle", &number(tick));
    }
}

fn bar(out: &mut String, axis: &Axis, low: f64, high: f64, y: f64, colour: &str, width: f64) {
    let (from, to) = (axis.place(low), axis.place(high));
    let _ = writeln!(
        out,
        "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
    );
}

/// A disc, a square or a triangle.
fn mark(out: &mut String, at: usize, x: f64, y: f64, colour: &str) {
    let _ = match at % 3 {
        0 => writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>"),
        1 => writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" fill=\"{colour}\"/>",
            x - 4.5,
            y - 4.5
        ),
        _ => writeln!(out, "<path d=\"M{x:.1} {:.1} l5.5 9.5 h-11 z\" fill=\"{colour}\"/>", y - 6.0),
    };
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
}

/// A name that fits left of a panel.
fn shortened(name: &str) -> String {
    name.replace("chunks in one thread, ", "chunk, ").replace("added to a ", "").replace("added to ", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_place_and_divide() {
        let axis = Axis { low: 0.0, high: 100.0, log: false, from: 10.0, to: 20.0 };
        assert_eq!([0.0, 50.0, 1000.0].map(|value| axis.place(value)), [10.0, 15.0, 20.0]);
        assert_eq!(axis.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let log = Axis { low: 10.0, high: 1000.0, log: true, from: 0.0, to: 2.0 };
        assert!((log.place(100.0) - 1.0).abs() < 1e-9);
        assert_eq!(log.ticks(), [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        let flat = Axis { low: 1.0, high: 1.0, log: false, from: 0.0, to: 2.0 };
        assert_eq!((flat.place(1.0), flat.ticks()), (1.0, vec![1.0]));
    }

    #[test]
    fn a_picture_of_nothing_is_still_a_picture() {
        let svg = svg(&Results::default());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn every_step_of_a_ramp_is_marked() {
        let step = |reached, loss| Step {
            ramp: "r < s".into(),
            asked: None,
            reached,
            offered_bytes_per_s: 1.0,
            loss,
            lost_bytes: 0,
            balanced: true,
            agent_cores: 0.1,
        };
        let results = Results { ramp: vec![step(10.0, 0.0), step(100.0, 0.5)], ..Default::default() };
        let svg = svg(&results);
        // Two steps and the legend.
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("r &lt; s") && !svg.contains("NaN"));
    }
}
