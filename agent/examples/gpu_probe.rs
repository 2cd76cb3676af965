//! What `cargo xtask gpu-check` has done by the agent's own code: `gpu_probe survey ROUNDS`, `gpu_probe poll HZ SECONDS` or
//! `gpu_probe sample SECONDS` (the sampler as in the service, with calls active). Prints one JSON object. Exits with 77
//! where there is no GPU to be seen.

use std::{
    env,
    io::Write as _,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use inferscope::gpu::{self, CallSurvey, GpuError, GpuRecord, GpuSampler, NvmlCost, Settings, Survey, Which};
use serde_json::{Value, json};

/// There is no GPU.
const NO_GPU: u8 = 77;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    match result.and_then(|value| writeln!(std::io::stdout(), "{value}").context("standard output cannot be written")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            if error.is::<GpuError>() { ExitCode::from(NO_GPU) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &[&str]) -> Result<Value> {
    let settings = Settings::default();
    match *arguments {
        ["survey", rounds] => survey(&settings, rounds.parse()?),
        ["poll", hz, seconds] => {
            let cost = gpu::poll_steadily(&settings, hz.parse()?, Duration::from_secs(seconds.parse()?))?;
            Ok(json!({"cost": cost_to_json(&cost)}))
        }
        ["sample", seconds] => sample(&settings, Duration::from_secs(seconds.parse()?)),
        _ => bail!("usage: gpu_probe survey ROUNDS | poll HZ SECONDS | sample SECONDS"),
    }
}

fn survey(settings: &Settings, rounds: usize) -> Result<Value> {
    let Survey { driver, devices, calls } = gpu::survey(settings, rounds)?;
    let us = |time: Duration| time.as_nanos() as f64 / 1e3;
    let call = |call: CallSurvey| {
        let CallSurvey { name, count, median, p99, max, errors } = call;
        json!({"name": name, "count": count, "median_us": us(median), "p99_us": us(p99), "max_us": us(max), "errors": errors})
    };
    let check =
        |check: inferscope::diagnosis::Check| json!({"name": check.name, "works": check.works, "detail": check.detail});
    Ok(json!({
        "driver": driver,
        "devices": devices,
        "calls": calls.into_iter().map(call).collect::<Vec<_>>(),
        "checks": gpu::checks(settings).into_iter().map(check).collect::<Vec<_>>(),
    }))
}

/// The sampler for some time, with calls active on all devices.
fn sample(settings: &Settings, time: Duration) -> Result<Value> {
    let counts: Arc<[AtomicU64; 4]> = Arc::default();
    let counted = Arc::clone(&counts);
    let sampler = GpuSampler::start(settings, move |_, record| {
        let n = match record {
            GpuRecord::Samples(_) => 0,
            GpuRecord::Processes { .. } => 1,
            GpuRecord::Utilization { .. } => 2,
            GpuRecord::Lost { .. } => 3,
            GpuRecord::Devices(_) | GpuRecord::Xid { .. } => return,
        };
        counted[n].fetch_add(1, Relaxed);
    })?;
    sampler.set_active(Which::All, true);
    thread::sleep(time);
    let [samples, lists, utilizations, losses] = [0, 1, 2, 3].map(|n: usize| counts[n].load(Relaxed));
    Ok(json!({
        "seconds": time.as_secs_f64(),
        "samples": samples,
        "process_lists": lists,
        "process_utilizations": utilizations,
        "losses": losses,
        "cost": cost_to_json(&sampler.cost()),
    }))
}

fn cost_to_json(cost: &NvmlCost) -> Value {
    let us = |time: Duration| time.as_nanos() as f64 / 1e3;
    let calls = cost.calls.iter().map(|call| {
        json!({"name": call.name, "count": call.count, "failed": call.failed, "total_us": us(call.total), "max_us": us(call.max)})
    });
    json!({"total_us": us(cost.total()), "calls": calls.collect::<Vec<_>>()})
}
