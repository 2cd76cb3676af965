//! Blocks: the agent off, on, on, off, and the same samples each time.

use std::collections::BTreeMap;

use anyhow::Result;
use inferscope_tests::agent::Stopped;

use super::{
    rig::{Rig, Watcher},
    stats::{self, Difference, Sides},
};

/// Samples of a phase, by name.
pub type Samples = BTreeMap<&'static str, Vec<f64>>;

/// How often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Blocks with the agent.
    pub blocks: u32,
    /// Blocks without it: what the machine and the method find where there is nothing to be found.
    pub controls: u32,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Compared {
    blocks: Vec<[Samples; 2]>,
    controls: Vec<[Samples; 2]>,
    /// How the agents ended, one a block.
    pub stopped: Vec<Stopped>,
}

/// Measures in blocks. `phase` is one phase; it is told the agent if one is running.
pub fn blocks(
    rig: &mut Rig,
    effort: Effort,
    agent: &[&str],
    mut phase: impl FnMut(&mut Rig, Option<&Watcher>) -> Result<Samples>,
) -> Result<Compared> {
    let mut compared = Compared::default();
    // Caches, connections and frequencies as they will be: the first phase of all would be the only cold one.
    phase(rig, None)?;
    for _ in 0..effort.blocks {
        let mut off = phase(rig, None)?;
        let watcher = rig.agent(agent)?;
        let mut on = phase(rig, Some(&watcher))?;
        add(&mut on, phase(rig, Some(&watcher))?);
        compared.stopped.push(watcher.stop()?);
        add(&mut off, phase(rig, None)?);
        compared.blocks.push([off, on]);
    }
    for _ in 0..effort.controls {
        let mut a = phase(rig, None)?;
        let mut b = phase(rig, None)?;
        add(&mut b, phase(rig, None)?);
        add(&mut a, phase(rig, None)?);
        compared.controls.push([a, b]);
    }
    Ok(compared)
}

fn add(samples: &mut Samples, more: Samples) {
    for (name, more) in more {
        samples.entry(name).or_default().extend(more);
    }
}

impl Compared {
    /// What the agent adds to a quantile of a series; `None` if there is no such series.
    pub fn added(&self, series: &str, q: f64) -> Option<Difference> {
        stats::difference(&sides(&self.blocks, series), q, stats::SEED)
    }

    /// The same between phases that do not differ.
    pub fn control(&self, series: &str, q: f64) -> Option<Difference> {
        stats::difference(&sides(&self.controls, series), q, stats::SEED)
    }

    /// All samples of a series that only phases with the agent have.
    pub fn with_agent(&self, series: &str) -> Vec<f64> {
        self.blocks.iter().filter_map(|[_, on]| on.get(series)).flatten().copied().collect()
    }
}

fn sides(blocks: &[[Samples; 2]], series: &str) -> Vec<Sides> {
    let side = |samples: &Samples| samples.get(series).cloned().unwrap_or_default();
    blocks.iter().map(|[off, on]| Sides { off: side(off), on: side(on) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_a_side_are_put_together() {
        let mut samples = Samples::from([("a", vec![1.0])]);
        add(&mut samples, Samples::from([("a", vec![2.0]), ("b", vec![3.0])]));
        assert_eq!(samples, Samples::from([("a", vec![1.0, 2.0]), ("b", vec![3.0])]));
        let compared = Compared { blocks: vec![[Samples::new(), samples]], ..Default::default() };
        assert_eq!(compared.with_agent("a"), [1.0, 2.0]);
        assert_eq!(compared.added("a", 0.5), None);
    }
}
