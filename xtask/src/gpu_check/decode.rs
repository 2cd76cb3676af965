//! Whether polling disturbs decoding: a loop of CUDA graphs, alone and beside pollers of several rates.
//!
//! Owns the order of the phases: each rate once per round, so that a drift of the machine falls on all of them alike.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::show::say;

/// The loop.
const PROGRAM: &str = include_str!("decode.py");

/// How often the counters are read beside it; 0 is not at all.
const RATES_HZ: [u32; 4] = [0, 1, 10, 40];

const ROUNDS: usize = 3;

const PHASE_SECONDS: u32 = 10;

/// The loop's process.
struct Loop {
    child: Child,
    wishes: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Loop {
    fn start() -> Result<Self> {
        let mut command = Command::new("python3");
        let mut child = command.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (wishes, answers) = (child.stdin.take(), child.stdout.take());
        let (wishes, answers) = wishes.zip(answers).context("no pipes to the loop")?;
        Ok(Self { child, wishes, answers: BufReader::new(answers).lines() })
    }

    fn answer(&mut self) -> Result<Value> {
        let line = self.answers.next().context("the loop ended; its error is above")??;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures, or says why not.
pub fn measure(probe: &Path) -> Result<Value> {
    if inferscope_tests::place::on_path("python3").is_none() {
        return Ok(json!({"skipped": "no python3"}));
    }
    let mut decoding = Loop::start()?;
    let ready = decoding.answer()?;
    if ready.get("skipped").is_some() {
        return Ok(ready);
    }
    let mut phases = Vec::new();
    for round in 0..ROUNDS {
        for hz in RATES_HZ {
            say(&format!("xtask: decoding with polling at {hz} Hz, round {} of {ROUNDS}", round + 1));
            phases.push(phase(&mut decoding, probe, hz)?);
        }
    }
    Ok(json!({"program": ready, "phases": phases}))
}

fn phase(decoding: &mut Loop, probe: &Path, hz: u32) -> Result<Value> {
    let mut poller = Command::new(probe);
    poller.args(["poll", &hz.to_string(), &PHASE_SECONDS.to_string()]).stdout(Stdio::piped());
    let poller = if hz > 0 { Some(poller.spawn()?) } else { None };
    writeln!(decoding.wishes, "{hz}hz {PHASE_SECONDS}")?;
    let steps = decoding.answer()?;
    let polling = poller.map(|poller| -> Result<Value> {
        let output = poller.wait_with_output()?;
        ensure!(output.status.success(), "the poller failed: {}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    });
    Ok(json!({"hz": hz, "steps": steps, "polling": polling.transpose()?}))
}
