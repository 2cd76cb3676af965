//! A real vLLM, whose own clock and counters the agent is judged by: which processes it is, every call's tokens and
//! times, and what is said of the calls that die with its engine. Runs with `cargo xtask test --suite vllm` only.
//!
//! vLLM knows nothing of the agent; the client is `python/client_vllm.py`, with the `openai` package. Counts must be
//! equal. Where vLLM and the agent measure different things, it is said at the limit.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    place,
    process::{Program, Stream},
    vllm::{self, Metrics, Vllm},
};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{
    otlp::Receiver,
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// Levels of concurrency, and calls at each.
const LEVELS: [u64; 3] = [1, 4, 8];
const CALLS: usize = 20;

/// How far the first token may be off in the median, milliseconds.
const FIRST_TOKEN: f64 = 2.0;

/// How far the time per output token may be, milliseconds.
const PACE: f64 = 0.1;

/// How far the wall's clock may be from the monotonic one plus what it was ahead when the agent started, milliseconds.
const CLOCKS: f64 = 0.5;

/// Streams that are held under way at once.
const HELD: u64 = 6;

/// What the agent says when a process of an engine ends.
const ENDED: &str = "a process of an engine has ended";

/// Adds the scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("vllm::truth", &[Need::Vllm], truth);
    all.add("vllm::crash", &[Need::Vllm], crash);
}

/// What the client says of a call.
#[derive(Debug, Deserialize)]
struct Said {
    id: Option<String>,
    stream: bool,
    level: u64,
    tokens: u64,
    usage: Option<Usage>,
    metrics: Option<Times>,
    end: String,
    error: Option<String>,
}

/// As the server counted.
#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// `metrics` of an answer (`build_per_request_timing_metrics` in vllm/entrypoints/generate/base/serving.py), all by the
/// monotonic clock of the engine's core.
#[derive(Debug, Deserialize)]
struct Times {
    /// From the first time that the request was scheduled.
    time_to_first_token_ms: f64,
    /// From when the core had it until then.
    queue_time_ms: f64,
    /// From the first token to the last, by the number of gaps.
    mean_itl_ms: Option<f64>,
}

fn client(server: &Vllm, args: &[&str]) -> Result<Program> {
    let mut command = Command::new(vllm::python());
    command.arg(place::script("client_vllm.py")).arg(server.url()).args(args);
    Program::spawn("client", &mut command)
}

/// Waits for a client, and takes what it says of its calls.
fn said(client: &Program) -> Result<Vec<Said>> {
    client.wait_success(SOON * 3)?;
    client
        .stdout()
        .iter()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
        .collect()
}

/// Makes calls until the agent knows which engine they are served by: what is served before its first look at the
/// processes has none.
fn acquaint(server: &Vllm, agent: &Agent) -> Result<Call> {
    for n in 1..=10 {
        let calls = said(&client(server, &["levels", "1", "--calls", "1"])?)?;
        let told = told(agent, &calls)?;
        if let Some(call) = told.into_iter().find(|call| call.attr("inferscope.engine.id").is_some()) {
            say(&format!("vllm: call {n} has an engine"));
            return Ok(call);
        }
    }
    anyhow::bail!("the agent knows no engine after ten calls: {:?}", agent.program().stderr())
}

/// What the agent says of the server's side of calls, in their order.
fn told(agent: &Agent, calls: &[Said]) -> Result<Vec<Call>> {
    let ids: Vec<&str> = calls.iter().filter_map(|call| call.id.as_deref()).collect();
    ensure!(ids.len() == calls.len(), "calls without an id: {calls:?}");
    let found = agent.wait_for_calls(ids.len(), SOON, |call| {
        call.kind() == "server" && call.id().is_some_and(|id| ids.contains(&id))
    })?;
    let of = |id: &&str| found.iter().find(|call| call.id() == Some(id)).cloned();
    ids.iter().map(|id| of(id).with_context(|| format!("{id} is not told"))).collect()
}

/// Whether each call is told once for each of its ends, and the server's is the child of the client's.
fn once_each(calls: &[Said], all: &[Call]) -> Result<()> {
    for id in calls.iter().filter_map(|call| call.id.as_deref()) {
        let of =
            |kind: &str| all.iter().filter(|call| call.kind() == kind && call.id() == Some(id)).collect::<Vec<_>>();
        let (clients, servers) = (of("client"), of("server"));
        let [client] = clients[..] else { anyhow::bail!("{id} has {} spans of its client", clients.len()) };
        let [server] = servers[..] else { anyhow::bail!("{id} has {} spans of its server", servers.len()) };
        ensure!(server.member("parent_span_id") == client.member("span_id"), "{id}: its two ends are not linked");
    }
    Ok(())
}

/// The engine is one, and every number that vLLM tells of its calls is the agent's too.
fn truth() -> Result<()> {
    let room = Room::new()?;
    let traces = Receiver::start(&room)?;
    let server = Vllm::start(&["--otlp-traces-endpoint", &format!("http://127.0.0.1:{}", traces.port())])?;
    let agent = Agent::trace(&[])?;
    let first = acquaint(&server, &agent)?;
    is_one_engine(&server, &first)?;
    let before = server.metrics()?;
    let (levels, calls) = (LEVELS.map(|level| level.to_string()), CALLS.to_string());
    let levels = levels.each_ref().map(String::as_str);
    let calls = said(&client(&server, &[&["levels"], &levels[..], &["--calls", &calls]].concat())?)?;
    let after = server.metrics()?;
    ensure!(calls.len() == LEVELS.len() * CALLS, "{} calls were made", calls.len());
    let told = told(&agent, &calls)?;
    let mut wrong = Vec::new();
    for (call, told) in calls.iter().zip(&told) {
        wrong.extend(same(call, told).err().map(|error| format!("{error:#}: {}", told.json())));
        let engine = told.text("inferscope.engine.id");
        if engine.is_none() || engine != first.text("inferscope.engine.id") {
            wrong.push(format!("another engine: {}", told.json()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    counts(&told, &before, &after)?;
    running(&server, &agent)?;
    slow(&told);
    // Its last spans leave with it.
    server.stop()?;
    let stopped = agent.stop()?.clean()?;
    once_each(&calls, &stopped.calls()?)?;
    for line in stopped.stderr.iter().filter(|line| line.contains(ENDED)) {
        say(&format!("vllm: while it stopped: {line}"));
    }
    let pairs: Vec<(&Said, &Call)> = calls.iter().zip(&told).filter(|(call, _)| call.stream).collect();
    times(&pairs, &fronts(&traces)?, &before, &after)
}

/// Whether the engine is vLLM with all its processes.
fn is_one_engine(server: &Vllm, call: &Call) -> Result<()> {
    let processes = server.processes();
    for (pid, title) in &processes {
        say(&format!("vllm: {pid} {}", title.chars().take(100).collect::<String>()));
    }
    for role in ["VLLM::EngineCore", "VLLM::Worker"] {
        ensure!(processes.iter().any(|(_, title)| title.starts_with(role)), "this vLLM has no {role}");
    }
    let number = |name: &str| call.number(name).with_context(|| format!("no {name}: {}", call.json()));
    let text = |name: &str| call.text(name).with_context(|| format!("no {name}: {}", call.json()));
    ensure!(call.pid() == Some(server.program().pid().into()), "served by {:?}", call.pid());
    ensure!(text("inferscope.engine.name")? == "vllm", "{}", call.json());
    ensure!(text("inferscope.engine.version")? == vllm::OWN_VERSION, "{}", call.json());
    let count = number("inferscope.engine.process.count")?;
    ensure!(count == processes.len() as u64, "{count} processes of {processes:?}");
    say(&format!(
        "vllm: one engine of {count} processes, confidence {:?}",
        call.attr("inferscope.engine.confidence").context("no confidence")?
    ));
    Ok(())
}

/// Whether a span counts what the server did, and repeats what it said of its times.
fn same(said: &Said, told: &Call) -> Result<()> {
    ensure!(said.end == "done", "it ended {}: {:?}", said.end, said.error);
    let usage = said.usage.as_ref().context("vLLM sent no usage")?;
    ensure!(usage.completion_tokens == said.tokens, "{} tokens of {}", usage.completion_tokens, said.tokens);
    let number = |name: &str, want: u64| {
        let got = told.number(name);
        ensure!(got == Some(want), "{name} is {got:?} instead of {want}");
        Ok(())
    };
    number("gen_ai.usage.input_tokens", usage.prompt_tokens)?;
    number("gen_ai.usage.output_tokens", usage.completion_tokens)?;
    ensure!(told.attr("gen_ai.request.stream").is_some() == said.stream, "whether it is a stream");
    ensure!(told.completion() == Some("length"), "it ended {:?}", told.completion());
    ensure!(told.capture() == Some("complete"), "it is {:?}", told.capture());
    let times = said.metrics.as_ref().context("vLLM sent no metrics")?;
    for (name, want) in [
        ("inferscope.server.timing.time_to_first_token", times.time_to_first_token_ms),
        ("inferscope.server.timing.queue", times.queue_time_ms),
    ] {
        let got = told.seconds(name).with_context(|| format!("no {name}"))?;
        ensure!((got * 1e3 - want).abs() < 1e-3, "{name} is {got} s instead of {want} ms");
    }
    // Nobody can be before a call that came when nothing was under way.
    let in_flight = told.number("inferscope.in_flight_at_start").context("nothing of what was in flight")?;
    ensure!(in_flight < said.level, "{in_flight} calls in flight among {}", said.level);
    Ok(())
}

/// All calls together against the server's counters.
fn counts(told: &[Call], before: &Metrics, after: &Metrics) -> Result<()> {
    let sum = |name: &str| told.iter().filter_map(|call| call.number(name)).sum::<u64>();
    for (name, got) in [
        ("request_success_total", told.len() as u64),
        ("prompt_tokens_total", sum("gen_ai.usage.input_tokens")),
        ("generation_tokens_total", sum("gen_ai.usage.output_tokens")),
    ] {
        let want = after.since(before, name)?;
        say(&format!("vllm: {name} {want}, agent {got}"));
        ensure!(want == got as f64, "{name} is {want}, and the agent has {got}");
    }
    Ok(())
}

/// What the agent finds slow, and why: shown only, for it is the machine's doing.
fn slow(told: &[Call]) {
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    for call in told.iter().filter(|call| call.attr("inferscope.slow").is_some()) {
        let kinds = call.list("inferscope.cause.kinds").unwrap_or_default();
        *causes.entry(kinds.first().map_or("none", |kind| *kind).to_owned()).or_default() += 1;
    }
    say(&format!("vllm: slow calls of {} by their first cause: {causes:?}", told.len()));
}

/// A request by the clock of vLLM's front: a span of its own traces (`do_tracing` in vllm/v1/engine/output_processor.py).
#[derive(Clone, Copy, Debug)]
struct Front {
    /// When it was taken in, nanoseconds of the wall's clock: once it is read, parsed and found valid, and before it is
    /// rendered and made tokens (`render_chat_async` in vllm/renderers/base.py).
    arrival: u64,
    /// From then until the front had what the core sent first, milliseconds (`first_token_latency` in
    /// vllm/v1/metrics/stats.py).
    first_token: f64,
}

/// All of them by the id of the request.
fn fronts(traces: &Receiver) -> Result<HashMap<String, Front>> {
    let mut fronts = HashMap::new();
    for span in traces.spans()?.iter().filter(|span| span["name"] == "llm_request") {
        let of = &span["attributes"];
        let id = of["gen_ai.request.id"].as_str().context("a span without an id")?.to_owned();
        let arrival = span["start_time_unix_nano"].as_u64().context("a span without a start")?;
        let first_token = of["gen_ai.latency.time_to_first_token"].as_f64().context("a span without a first token")?;
        fronts.insert(id, Front { arrival, first_token: first_token * 1e3 });
    }
    Ok(fronts)
}

/// How the agent's times of streams differ from vLLM's, milliseconds.
#[derive(Debug, Default)]
struct Errors {
    /// When the first token was there: the agent's is when the front had written it.
    token: Vec<f64>,
    /// When the request had come: the front's clock starts later, once the request is read, parsed and found valid.
    arrival: Vec<f64>,
    /// Time to first token against the front's: the sum of the two above.
    front: Vec<f64>,
    /// Time to first token against the core's, queue included, which is what an answer's `metrics` tell. The core's clock
    /// starts when its scheduler gets the request (`add_request` in vllm/v1/core/sched/scheduler.py) and stops when it hands
    /// out the token: without rendering the messages, making tokens of them, the way between the processes both times, and
    /// the wait for the step that is under way, for the core takes requests between two steps (`run_busy_loop` in
    /// vllm/v1/engine/core.py). So it grows with the load, and says nothing of the agent but its sign.
    core: Vec<f64>,
    /// Time per output token. Both ends of it are late by about the same.
    pace: Vec<f64>,
}

/// Times of the streams against the server's own, call by call and in the mean.
fn times(pairs: &[(&Said, &Call)], fronts: &HashMap<String, Front>, before: &Metrics, after: &Metrics) -> Result<()> {
    let mut all = Errors::default();
    for level in LEVELS {
        let mut of = Errors::default();
        for (said, told) in pairs.iter().filter(|(said, _)| said.level == level) {
            let times = said.metrics.as_ref().context("vLLM sent no metrics")?;
            let front = said.id.as_ref().and_then(|id| fronts.get(id)).context("vLLM has no span of a call")?;
            let seconds = |name: &str| told.seconds(name).with_context(|| format!("no {name}: {}", told.json()));
            let first = seconds("inferscope.time_to_first_token")? * 1e3;
            let start = told.json()["start_time_unix_nano"].as_u64().context("no start")?;
            let arrival = front.arrival.cast_signed() - start.cast_signed();
            of.arrival.push(arrival as f64 / 1e6);
            of.front.push(first - front.first_token);
            of.token.push(first - front.first_token - arrival as f64 / 1e6);
            of.core.push(first - times.time_to_first_token_ms - times.queue_time_ms);
            let pace = times.mean_itl_ms.context("vLLM tells no time between tokens")?;
            of.pace.push(seconds("inferscope.time_per_output_token")? * 1e3 - pace);
        }
        say(&format!("vllm: {level} at once, {of}"));
        all.extend(of);
    }
    say(&format!("vllm: all streams, {all}"));
    let mean = |name: &str| {
        let all: Vec<f64> = pairs.iter().filter_map(|(_, call)| call.seconds(name)).collect();
        all.iter().sum::<f64>() / all.len() as f64 * 1e3
    };
    say(&format!(
        "vllm: means of /metrics, streams and others: first token {:.2} ms, queue {:.3} ms, per token {:.3} ms; the agent's, \
         streams: first token {:.2} ms, per token {:.3} ms",
        after.mean_since(before, "time_to_first_token_seconds")? * 1e3,
        after.mean_since(before, "request_queue_time_seconds")? * 1e3,
        after.mean_since(before, "request_time_per_output_token_seconds")? * 1e3,
        mean("inferscope.time_to_first_token"),
        mean("inferscope.time_per_output_token"),
    ));
    all.judge()
}

impl Errors {
    /// Whether they are within what a machine may take that has other things to do. How long vLLM parses, and what its
    /// core's clock leaves out, is its own business: of these only the sign is known.
    fn judge(&self) -> Result<()> {
        let [token, arrival, core, pace] =
            [&self.token, &self.arrival, &self.core, &self.pace].map(|all| Spread::of(all));
        ensure!(token.median.abs() <= FIRST_TOKEN, "the first token is off by {token}");
        ensure!(token.least >= -CLOCKS, "the agent has a first token before vLLM: {token}");
        ensure!(arrival.least >= -CLOCKS, "vLLM has a request before the agent: {arrival}");
        ensure!(core.least >= 0.0, "the core alone takes longer than the agent says: {core}");
        ensure!(pace.median.abs() <= PACE, "the time per token is off by {pace}");
        Ok(())
    }

    fn extend(&mut self, other: Self) {
        let Self { token, arrival, front, core, pace } = other;
        self.token.extend(token);
        self.arrival.extend(arrival);
        self.front.extend(front);
        self.core.extend(core);
        self.pace.extend(pace);
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, arrival, front, core, pace } = self;
        let [token, arrival, front, core, pace] = [token, arrival, front, core, pace].map(|all| Spread::of(all));
        write!(f, "agent against vLLM: first token there {token}; vLLM's clock starts {arrival}; ")?;
        write!(f, "time to first token by its front {front}, by its core {core}; time per token {pace}")
    }
}

/// Streams that are under way, by the server and by the call that comes next.
fn running(server: &Vllm, agent: &Agent) -> Result<()> {
    let mut holding = client(server, &["hold", &HELD.to_string(), "600"])?;
    holding.wait_for_line(Stream::Stdout, "streams", SOON, |line| line == "begun")?;
    let running = server.metrics()?.get("num_requests_running")?;
    holding.write_line("call")?;
    holding.close_stdin();
    let calls = said(&holding)?;
    let told = told(agent, &calls)?;
    let beside = calls.iter().position(|call| call.tokens < 600).context("no call beside the streams")?;
    let in_flight = told[beside].number("inferscope.in_flight_at_start").context("nothing of what was in flight")?;
    say(&format!("vllm: num_requests_running {running}, agent's calls in flight {in_flight}"));
    ensure!(running == HELD as f64 && in_flight == HELD, "{running} run, and the agent has {in_flight}");
    Ok(())
}

/// The engine's core is killed with streams under way: each is told with who ended. Here the agent was there before
/// vLLM, as a service is.
fn crash() -> Result<()> {
    let agent = Agent::trace(&[])?;
    let server = Vllm::start(&[])?;
    acquaint(&server, &agent)?;
    let processes = server.processes();
    let core = processes.iter().find(|(_, title)| title.starts_with("VLLM::EngineCore")).context("no core")?.0;
    let mut holding = client(&server, &["hold", &HELD.to_string(), "1500"])?;
    holding.wait_for_line(Stream::Stdout, "streams", SOON, |line| line == "begun")?;
    holding.close_stdin();
    kill_process(Pid::from_raw(i32::try_from(core)?).context("no pid")?, Signal::KILL)?;
    let calls = said(&holding)?;
    ensure!(calls.len() as u64 == HELD && calls.iter().all(|call| call.end != "done"), "{calls:?}");
    for call in &calls {
        say(&format!(
            "vllm: {} ended {} for its client: {:?}",
            call.id.as_deref().unwrap_or("?"),
            call.end,
            call.error
        ));
    }
    let told = told(&agent, &calls)?;
    for call in &told {
        let kinds = call.list("inferscope.cause.kinds").with_context(|| format!("no cause: {}", call.json()))?;
        ensure!(kinds.first() == Some(&"engine_exit"), "{kinds:?}: {}", call.json());
        let evidence = call.json()["events"].to_string();
        ensure!(evidence.contains(&format!("pid {core}")), "{evidence}");
    }
    say(&format!("vllm: {} calls killed with pid {core}: {}", told.len(), told[0].json()["events"]));
    let stopped = agent.stop()?.clean()?;
    let pid = format!("pid={core}");
    let is_it = |line: &&String| line.contains(ENDED) && line.contains(&pid);
    let notice = stopped.stderr.iter().find(is_it).with_context(|| format!("nobody was told: {:?}", stopped.stderr))?;
    say(&format!("vllm: {notice}"));
    Ok(())
}

/// How much numbers are spread.
struct Spread {
    least: f64,
    median: f64,
    ninth: f64,
    most: f64,
}

impl Spread {
    fn of(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let at = |tenths: usize| sorted.get(last * tenths / 10).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(5), ninth: at(9), most: at(10) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, median, ninth, most } = self;
        write!(f, "{median:+.2} ms ({least:+.2} to {most:+.2}, p90 {ninth:+.2})")
    }
}
