//! Why a call was slow: each cause is provoked on purpose while the mock engine serves a call, and must come first; calls
//! beside which nothing was provoked must have none.
//!
//! Each is provoked [`FEW`] times in a usual run; with `INFERSCOPE_CAUSE_RUNS=10` so often. To add a cause: a function that
//! provokes it and makes a call, and a line in [`add`].

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    call::Call,
    engine::{
        MockEngine, Options,
        client::{Ask, Called, End},
        load::{Planned, drive},
    },
};
use serde_json::json;

use crate::{
    controller::{Limit, Limited},
    network::{Network, succeed},
    scenario::{Need, Room, SOON, Scenarios, say},
    serving::{Stage, pass_some_tokens},
};

/// How often each is provoked in a usual run.
const FEW: usize = 3;

/// Calls that make the rule for what is usual.
const USUAL: usize = 24;

/// How the calls are: a prompt of 200 tokens, a hundred to write, some 0.7 s.
const CALL: Ask = Ask { prompt: 200, cached: 0, output: 100, stream: true, leave_after: None, pause: Duration::ZERO };

/// Adds the scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("causes::gpu_throttle", &[], || matrix("gpu_throttle", &Options::default(), gpu_throttle));
    all.add("causes::gpu_xid", &[], || matrix("gpu_xid", &Options::default(), gpu_xid));
    all.add("causes::storage_read", &[], storage_read);
    all.add("causes::cpu_run_queue", &[Need::Taskset], || matrix("cpu_run_queue", &Options::default(), cpu_hog));
    all.add("causes::cpu_throttle", &[], cpu_throttle);
    all.add("causes::queueing", &[], || matrix("queueing", &Options::default(), queueing));
    all.add("causes::oom_kill", &[], oom_kill);
    all.add("causes::slow_reader", &[Need::Ip, Need::Curl], slow_reader);
    all.add("causes::network_retransmit", &[Need::Ip, Need::Nft, Need::Curl], network_retransmit);
}

fn runs() -> usize {
    env::var("INFERSCOPE_CAUSE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(FEW)
}

/// Makes calls usual, then provokes something again and again, with undisturbed calls between.
fn matrix(kind: &str, options: &Options, provoke: impl Fn(&Stage) -> Result<Called>) -> Result<()> {
    let stage = Stage::start(options)?;
    make_usual(&stage)?;
    try_out(kind, &stage, provoke)?;
    stage.stop()?;
    Ok(())
}

fn make_usual(stage: &Stage) -> Result<()> {
    // The first call makes the engine known.
    stage.told(&stage.call(&[CALL], Duration::ZERO)?)?;
    stage.told(&stage.call(&[CALL; USUAL], Duration::from_millis(250))?)?;
    Ok(())
}

fn try_out(kind: &str, stage: &Stage, provoke: impl Fn(&Stage) -> Result<Called>) -> Result<()> {
    let (mut first, mut clean, mut others) = (0, 0, Vec::new());
    for _ in 0..runs() {
        let called = provoke(stage)?;
        let told = stage.told(std::slice::from_ref(&called))?;
        let kinds = kinds(&told[0]);
        if kinds.first().map(String::as_str) == Some(kind) {
            first += 1;
        } else {
            others.push(format!("{kinds:?} {}", told[0].json()["events"]));
        }
        // What was provoked has its end.
        let rest = stage.told(&stage.call(&[CALL; 3], Duration::from_millis(1000))?)?;
        clean += rest.iter().skip(1).filter(|call| self::kinds(call).is_empty()).count();
    }
    let (runs, undisturbed) = (runs(), 2 * runs());
    say(&format!("{kind}: first in {first} of {runs} runs; no cause in {clean} of {undisturbed} undisturbed calls"));
    // Nine in ten; of a few, all but one.
    ensure!(
        first * 10 >= runs * 9 || (runs <= FEW && first + 1 >= runs),
        "{kind}: first in {first} of {runs}: {others:#?}"
    );
    ensure!(clean * 20 >= undisturbed * 19 || (runs <= FEW && clean + 1 >= undisturbed), "{kind}: {clean} clean");
    Ok(())
}

fn kinds(call: &Call) -> Vec<String> {
    call.list("inferscope.cause.kinds").unwrap_or_default().into_iter().map(str::to_owned).collect()
}

/// A call, and something that is done while it is served.
fn during(engine: &MockEngine, ask: Ask, act: impl FnOnce() -> Result<()>) -> Result<Called> {
    let address = engine.address();
    let call = thread::spawn(move || drive(address, &[Planned { due: Duration::ZERO, ask }], false));
    // The engine has written so many tokens by then, and as many of the call's as it had of it.
    pass_some_tokens(engine)?;
    act()?;
    let mut called = call.join().map_err(|_| anyhow::anyhow!("the call panicked"))??;
    called.pop().context("no call")
}

fn gpu_throttle(stage: &Stage) -> Result<Called> {
    stage.engine.control(&json!({"gpu": "throttle", "ms": 1500}))?;
    Ok(stage.call(&[CALL], Duration::ZERO)?.remove(0))
}

fn gpu_xid(stage: &Stage) -> Result<Called> {
    during(&stage.engine, CALL, || {
        stage.engine.control(&json!({"gpu": "xid", "code": 79}))?;
        stage.engine.control(&json!({"worker": "stall", "ms": 1200}))
    })
}

/// A worker reads weights again while it serves.
fn storage_read() -> Result<()> {
    let room = Room::new()?;
    let file = room.file("model.safetensors");
    let mut out = fs::File::create(&file)?;
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    (0..768).try_for_each(|_| out.write_all(&block))?;
    out.sync_all()?;
    matrix("storage_read", &Options::default(), |stage| {
        during(&stage.engine, CALL, || {
            (0..2).try_for_each(|_| stage.engine.control(&json!({"worker": "read", "file": file})))
        })
    })
}

/// Programs that want the engine's processor, and get it first.
fn cpu_hog(stage: &Stage) -> Result<Called> {
    let processors = thread::available_parallelism()?.get();
    let last = (processors - 1).to_string();
    for pid in stage.engine.pids().all() {
        succeed(Command::new("taskset").args(["-acp", &last, &pid.to_string()]))?;
    }
    let hogs: Result<Vec<Hog>> = (0..6).map(|_| Hog::start(&last)).collect();
    let hogs = hogs?;
    let called = stage.call(&[CALL], Duration::ZERO)?.remove(0);
    drop(hogs);
    for pid in stage.engine.pids().all() {
        succeed(Command::new("taskset").args(["-acp", &format!("0-{last}"), &pid.to_string()]))?;
    }
    Ok(called)
}

/// A program that does nothing, as fast as it can.
struct Hog(Child);

impl Hog {
    fn start(processor: &str) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", processor, "nice", "-n", "-10", "sh", "-c", "while :; do :; done"]);
        Ok(Self(command.stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The engine's control group has less processor time than it wants.
fn cpu_throttle() -> Result<()> {
    let quota = Limit::Cpu(1000);
    let group = Limited::make("inferscope-e2e-throttle", quota)?;
    let options = Options { wrapper: enter(&group), ..Options::default() };
    let stage = Stage::start(&options)?;
    make_usual(&stage)?;
    try_out("cpu_throttle", &stage, |stage| {
        group.set(quota)?;
        let called = stage.call(&[Ask { output: 60, ..CALL }], Duration::ZERO);
        group.lift()?;
        Ok(called?.remove(0))
    })?;
    stage.stop()?;
    Ok(())
}

/// A command line that enters a group and becomes what follows.
fn enter(group: &Limited) -> Vec<std::ffi::OsString> {
    let script = format!("echo $$ > {} && exec \"$0\" \"$@\"", group.procs().display());
    ["sh", "-c", &script].into_iter().map(Into::into).collect()
}

/// Long prompts come before a short one.
fn queueing(stage: &Stage) -> Result<Called> {
    let long = Planned { due: Duration::ZERO, ask: Ask::stream(8000, 4) };
    let mut plan = vec![long; 6];
    plan.push(Planned { due: Duration::from_millis(20), ask: CALL });
    drive(stage.engine.address(), &plan, false)?.pop().context("no call")
}

/// The worker takes more memory than its control group has.
fn oom_kill() -> Result<()> {
    let limit = Limit::Memory(256 << 20);
    let (mut first, runs) = (0, runs().min(FEW));
    for _ in 0..runs {
        let group = Limited::make("inferscope-e2e-oom-engine", limit)?;
        let stage = Stage::start(&Options { wrapper: enter(&group), ..Options::default() })?;
        group.set(limit)?;
        stage.told(&stage.call(&[CALL], Duration::ZERO)?)?;
        let called = during(&stage.engine, Ask { output: 2000, ..CALL }, || {
            stage.engine.control(&json!({"worker": "allocate", "mib": 4096}))
        })?;
        ensure!(called.end != End::Done, "{called:?}");
        let told = stage.agent.wait_for_calls(1, SOON, |call| call.kind() == "server" && call.status() == "error")?;
        first += usize::from(kinds(&told[0]).first().map(String::as_str) == Some("oom_kill"));
        stage.agent.stop()?.clean()?;
        stage.engine.wait_end()?;
    }
    say(&format!("oom_kill: first in {first} of {runs} runs"));
    ensure!(first == runs, "first in {first} of {runs}");
    Ok(())
}

/// An engine in a network of its own, and calls by curl in that network.
struct Apart {
    network: Network,
    stage: Stage,
    room: Room,
}

impl Apart {
    /// With `[min, default, max]` bytes of room for what is sent at both ends of a connection, or as much as usual.
    fn start(name: &'static str, room: Option<[u32; 3]>) -> Result<Self> {
        let network = Network::make(name, false)?;
        if let Some([min, default, max]) = room {
            let small =
                format!("echo {min} {default} {max} | tee /proc/sys/net/ipv4/tcp_wmem > /proc/sys/net/ipv4/tcp_rmem");
            succeed(network.inside(Path::new("sh")).args(["-c", &small]))?;
        }
        let inside = network.inside(Path::new("env"));
        let wrapper =
            [inside.get_program()].into_iter().chain(inside.get_args()).map(std::ffi::OsStr::to_owned).collect();
        let stage = Stage::start(&Options { wrapper, ..Options::default() })?;
        let apart = Self { network, stage, room: Room::new()? };
        for n in 0..USUAL {
            apart.call(CALL, &[]).with_context(|| format!("usual call {n}"))?;
        }
        Ok(apart)
    }

    /// A call by curl, and what the agent says of one end of it.
    fn call(&self, ask: Ask, options: &[&str]) -> Result<[Call; 2]> {
        let body = self.room.file("body.json");
        let request = ask.request();
        fs::write(&body, request.split_once("\r\n\r\n").context("no body")?.1)?;
        let url = format!("http://127.0.0.1:{}/v1/chat/completions", self.stage.engine.port());
        let mut command = self.network.inside(Path::new("curl"));
        command
            .args(["-sN", "-H", "content-type: application/json", "--data-binary"])
            .arg(format!("@{}", body.display()));
        let output = command.args(options).arg(url).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).context("no id")?.to_owned();
        let side = |kind: &str| {
            let mut calls =
                self.stage.agent.wait_for_calls(1, SOON, |call| call.kind() == kind && call.id() == Some(&id))?;
            calls.pop().context("no call")
        };
        Ok([side("client")?, side("server")?])
    }

    fn judge(self, kind: &str, side: usize, provoke: impl Fn(&Self) -> Result<[Call; 2]>) -> Result<()> {
        let (mut first, mut others) = (0, Vec::new());
        for _ in 0..runs() {
            let told = provoke(&self)?;
            let call = &told[side];
            if kinds(call).first().map(String::as_str) == Some(kind) {
                first += 1;
            } else {
                others.push(call.json().to_string());
            }
        }
        let clean = (0..2 * runs()).map(|_| self.call(CALL, &[])).collect::<Result<Vec<_>>>()?;
        let clean = clean.iter().filter(|told| kinds(&told[side]).is_empty()).count();
        say(&format!(
            "{kind}: first in {first} of {} runs; no cause in {clean} of {} undisturbed calls",
            runs(),
            2 * runs()
        ));
        ensure!(first * 10 >= runs() * 9 || (runs() <= FEW && first + 1 >= runs()), "first in {first}: {others:#?}");
        self.stage.stop()?;
        Ok(())
    }
}

/// A client that takes what is sent at half of its pace; what lies between has no room for the rest.
fn slow_reader() -> Result<()> {
    let long = Ask { output: 400, ..CALL };
    Apart::start("inferscope-slow", Some([4096, 8192, 16384]))?
        .judge("slow_reader", 1, |apart| apart.call(long, &["--limit-rate", "15k"]))
}

/// Half of the segments that the server sends are lost on the way. Of fewer some calls lose none that TCP does not replace
/// within a fifth of a second, which is not slow. That it lasts until curl gives up takes nine losses in a row.
fn network_retransmit() -> Result<()> {
    Apart::start("inferscope-lossy", None)?.judge("network_retransmit", 0, |apart| {
        let rule = format!(
            "table inet lossy {{ chain in {{ type filter hook input priority 0; \
             tcp sport {} meta length 100-65535 numgen random mod 2 == 1 drop; }}; }}",
            apart.stage.engine.port()
        );
        succeed(apart.network.inside(Path::new("nft")).arg(rule))?;
        let told = apart.call(CALL, &["--max-time", "100"]);
        succeed(apart.network.inside(Path::new("nft")).args(["delete", "table", "inet", "lossy"]))?;
        told
    })
}
