//! What a benchmark found, as data: figures, what was complete, what was lost at which rate.

use anyhow::Result;
use serde::Serialize;

use super::{
    complete::Completeness,
    measure::Compared,
    stats::{self, SEED},
};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was run.
    pub scenario: String,
    /// What was measured of it.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// The figure: what the agent adds where there are two sides, else the measured value.
    pub value: f64,
    /// Where it lies with 95 % confidence.
    pub interval: Option<[f64; 2]>,
    /// Without the agent.
    pub off: Option<f64>,
    /// With it.
    pub on: Option<f64>,
    /// The same interval where the agent never ran: what the method finds when there is nothing to be found.
    pub control: Option<[f64; 2]>,
}

/// One step of a ramp.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Which ramp.
    pub ramp: String,
    /// Content chunks per second that were asked for; absent for as many as go.
    pub asked: Option<f64>,
    /// Content chunks per second that the generator reached.
    pub reached: f64,
    /// Bytes per second that the agent chose for capture.
    pub offered_bytes_per_s: f64,
    /// Share of the chosen bytes that was lost.
    pub loss: f64,
    /// Bytes that were lost, all of them counted by reason.
    pub lost_bytes: u64,
    /// Whether every byte is in the ledger.
    pub balanced: bool,
    /// CPU that the agent took, in cores.
    pub agent_cores: f64,
}

/// Everything.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// In the order in which they were measured.
    pub figures: Vec<Figure>,
    /// Of every scenario with calls.
    pub completeness: Vec<Completeness>,
    /// Loss against offered rate.
    pub ramp: Vec<Step>,
    /// Scenarios that could not be carried out, and why.
    pub failures: Vec<String>,
}

/// Which figure to make of a series.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Name of the series.
    pub series: &'a str,
    /// What it is called.
    pub what: &'a str,
    /// Which quantile.
    pub q: f64,
    /// Its unit.
    pub unit: &'static str,
}

impl Results {
    /// Notes a scenario's failure: what the others found is still worth having.
    pub fn note(&mut self, scenario: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.failures.push(format!("{scenario}: {error:#}"));
        }
    }

    /// Adds what the agent adds.
    pub fn compare(&mut self, scenario: &str, compared: &Compared, wanted: Wanted<'_>) {
        let Wanted { series, what, q, unit } = wanted;
        let Some(found) = compared.added(series, q) else { return };
        self.figures.push(Figure {
            scenario: scenario.to_owned(),
            what: what.to_owned(),
            unit,
            value: found.added,
            interval: Some([found.low, found.high]),
            off: Some(found.off),
            on: Some(found.on),
            control: compared.control(series, q).map(|control| [control.low, control.high]),
        });
    }

    /// Adds a quantile of samples that stand for themselves.
    pub fn sample(&mut self, scenario: &str, what: &str, unit: &'static str, samples: &[f64], q: f64) {
        let Some((value, interval)) = stats::interval(samples, q, SEED) else { return };
        self.figures.push(Figure {
            scenario: scenario.to_owned(),
            what: what.to_owned(),
            unit,
            value,
            interval: (samples.len() > 1).then_some(interval),
            off: None,
            on: None,
            control: None,
        });
    }

    /// The figure with this name, if it was measured.
    pub fn find(&self, scenario: &str, what: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.scenario == scenario && figure.what == what)
    }

    /// The steps of one ramp.
    pub fn ramp_of<'a>(&'a self, ramp: &'a str) -> impl Iterator<Item = &'a Step> {
        self.ramp.iter().filter(move |step| step.ramp == ramp)
    }

    /// What is wrong with what was captured; times are never wrong.
    pub fn problems(&self) -> Vec<String> {
        let of = |complete: &Completeness| {
            let problems = complete.problems.iter().map(|problem| format!("{}: {problem}", complete.scenario));
            let silent = (complete.problems.is_empty() && !complete.is_good())
                .then(|| format!("{}: {} of {} calls exact", complete.scenario, complete.exact, complete.calls));
            problems.chain(silent).collect::<Vec<_>>()
        };
        let unbalanced = self.ramp.iter().filter(|step| !step.balanced);
        let unbalanced =
            unbalanced.map(|step| format!("{} at {:.0}/s: the ledger does not balance", step.ramp, step.reached));
        self.failures.iter().cloned().chain(self.completeness.iter().flat_map(of)).chain(unbalanced).collect()
    }
}
