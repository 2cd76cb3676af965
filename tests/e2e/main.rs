//! End-to-end tests: real servers and real clients that know nothing of the agent, and the agent as people run it.
//!
//! `cargo xtask test` prepares what these need and runs them as root. By hand: build the workspace, then
//! `cargo test -p inferscope-tests --test e2e -- FILTER`. A scenario that cannot run on this machine is reported as
//! ignored and says why; with `INFERSCOPE_REQUIRE_E2E=1` it fails instead.
//!
//! To add a scenario: a function in the file of its topic, that returns an error which says what was expected, and a
//! line in that file's `add`.

mod binding;
mod capture;
mod causes;
mod causes_kernel;
mod churn;
mod clients;
mod controller;
mod corpus;
mod delivery;
mod discovery;
mod doctor;
mod estimates;
mod expect;
mod failures;
mod go;
mod group;
mod grpc;
mod http2;
mod infer;
mod joining;
mod libssl;
mod load;
mod mcp;
mod model_load;
mod network;
mod nginx;
mod otlp;
mod privacy;
mod raw;
mod replay;
mod rustls;
mod scenario;
mod sdks;
mod servers;
mod serving;
mod sockets;
mod step_clock;
mod stripped;
mod targets;
mod vllm;
mod websocket;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // The scenarios share one kernel: what one of them loads or runs, the agent of another would see.
    args.test_threads = Some(1);
    let mut all = scenario::Scenarios::default();
    clients::add(&mut all);
    delivery::add(&mut all);
    corpus::add(&mut all);
    servers::add(&mut all);
    grpc::add(&mut all);
    http2::add(&mut all);
    websocket::add(&mut all);
    sockets::add(&mut all);
    binding::add(&mut all);
    rustls::add(&mut all);
    capture::add(&mut all);
    joining::add(&mut all);
    load::add(&mut all);
    privacy::add(&mut all);
    otlp::add(&mut all);
    estimates::add(&mut all);
    replay::add(&mut all);
    doctor::add(&mut all);
    failures::add(&mut all);
    discovery::add(&mut all);
    churn::add(&mut all);
    causes_kernel::add(&mut all);
    targets::add(&mut all);
    infer::add(&mut all);
    go::add(&mut all);
    sdks::add(&mut all);
    mcp::add(&mut all);
    serving::add(&mut all);
    model_load::add(&mut all);
    step_clock::add(&mut all);
    causes::add(&mut all);
    stripped::add(&mut all);
    vllm::add(&mut all);
    let trials = all.into_trials(!args.list);
    libtest_mimic::run(&args, trials).exit_code()
}
