//! `inferscope doctor`

use std::{io::Write as _, sync::mpsc::sync_channel, time::Duration};

use anyhow::Context as _;

use super::live::Plan;
use crate::{
    capture::{Capture, Session, Stop},
    cli::{DoctorArgs, ReportFormat, TargetArgs},
    diagnosis::{self, Check},
    discover::Report,
    gpu,
};

/// Loads and attaches everything for a moment, watches, and says what it found.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<()> {
    let session = Session::new()?;
    let targets = TargetArgs { pid: args.pid.clone(), ..Default::default() };
    let plan = Plan::of(targets, false, false, None);
    let stop = Stop::default();
    let capture = Capture::start(&plan.settings, plan.observe.clone(), stop.clone())?;
    let checks = checks(&capture);
    let report = watch(capture, &plan, &session, &stop, args.watch)?;
    let text = match args.output {
        ReportFormat::Pretty => diagnosis::to_lines(&checks, &report).join("\n"),
        ReportFormat::Json => diagnosis::to_json(&checks, &report).to_string(),
    };
    writeln!(std::io::stdout(), "{text}").context("standard output cannot be written")
}

/// What works on this host. That the programs were loaded and attached is known: the capture has started.
fn checks(capture: &Capture) -> Vec<Check> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut checks = vec![Check {
        name: "kernel programs",
        works: true,
        detail: format!("loaded and attached on Linux {}", release.trim()),
    }];
    for lost in capture.degraded() {
        let detail = format!("{} does not work: {}", lost.mechanism, lost.consequence);
        checks.push(Check { name: "kernel", works: false, detail });
    }
    checks.extend(gpu::checks(&gpu::Settings::default()));
    checks
}

/// Captures for some time as `trace` would, so that what is judged is what would happen.
fn watch(capture: Capture, plan: &Plan, session: &Session, stop: &Stop, time: Duration) -> anyhow::Result<Report> {
    let options = plan.pipeline(session);
    let asker = capture.asker();
    // Nobody reads the calls: each is dropped when it is finished, as by a full queue.
    let (calls, _finished) = sync_channel(1);
    let reader = std::thread::Builder::new()
        .name("capture".into())
        .spawn(move || capture.run(options, &calls, None, None, None))?;
    std::thread::sleep(time);
    let report = asker.report();
    stop.request();
    let ended = reader.join();
    anyhow::ensure!(ended.is_ok(), "the capture thread died; this is a bug");
    report.context("discovery did not answer; try again when the machine is less busy")
}
