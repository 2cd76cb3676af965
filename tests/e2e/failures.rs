//! What goes wrong: no rights, bad options, bytes that make no sense, and an end at the wrong moment.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use inferscope_tests::{
    agent::{Agent, EXIT, Stopped},
    bpf::{Loaded, wait_gone},
    client::{Client, Kind, Running},
    place,
    process::{Program, Stream},
    server::{Pace, Stack, Uvicorn},
};
use rustix::process::Signal;

use crate::{
    expect::{Ends, is_of, list},
    raw::{self, Canned},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// How long the kernel may take to free what a dead agent had loaded.
const FREED: Duration = Duration::from_secs(5);

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("failures::not_root", &[Need::Setpriv], not_root);
    all.add("failures::no_btf", &[Need::Unshare], no_btf);
    all.add("failures::unknown_pid", &[], unknown_pid);
    all.add("failures::bad_usage", &[], bad_usage);
    all.add("failures::port_closed", &[], port_closed);
    all.add("failures::noise", &[], noise);
    all.add("failures::cut_responses", &[], cut_responses);
    all.add("failures::last_bytes_meet_nobody", &[], last_bytes_meet_nobody);
    all.add("failures::cut_requests", &[], cut_requests);
    all.add("failures::duration_ends_it", &[], duration_ends_it);
    all.add("failures::interrupt_while_starting", &[], interrupt_while_starting);
    for (name, signal) in [("interrupt", Signal::INT), ("terminate", Signal::TERM)] {
        all.add(format!("failures::{name}_when_ready"), &[], move || stop_when_ready(signal));
        all.add(format!("failures::{name}_under_load"), &[], move || stop_under_load(signal));
    }
    all.add("failures::kill_under_load", &[], || stop_under_load(Signal::KILL));
    all.add("failures::many_libraries", &[], many_libraries);
}

/// A command that runs `binary` without any right.
pub fn as_nobody(binary: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary);
    command
}

fn not_root() -> Result<()> {
    let room = Room::new()?;
    let stopped = to_its_end(as_nobody(&room.agent_for_all()?).arg("trace"))?;
    told(&stopped, &[77], &["root", "privilege", "permission", "permitted", "cap_"])
}

fn no_btf() -> Result<()> {
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" trace";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(place::agent()?);
    told(&to_its_end(&mut command)?, &[77], &["btf"])
}

fn unknown_pid() -> Result<()> {
    // The kernel gives out numbers below this one only.
    let nobody = std::fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().to_owned();
    let stopped = to_its_end(Command::new(place::agent()?).args(["trace", "--pid", &nobody]))?;
    told(&stopped, &[1, 2], &[&nobody])
}

fn bad_usage() -> Result<()> {
    let lines: [&[&str]; 4] = [
        &["trace", "--no-such-option"],
        &["trace", "--pid", "zero"],
        &["trace", "--output", "xml"],
        &["no-such-command"],
    ];
    for line in lines {
        told(&to_its_end(Command::new(place::agent()?).args(line))?, &[2], &line[line.len() - 1..])?;
    }
    let away = ["run", "--config", "/nonexistent/inferscope.toml"];
    told(&to_its_end(Command::new(place::agent()?).args(away))?, &[1, 2], &["/nonexistent/inferscope.toml"])
}

/// Nothing listens where the client calls: there is no call to report, and the next one is reported.
fn port_closed() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let url = format!("http://127.0.0.1:{}/v1", place::free_port()?);
    let away = Client::new(Kind::OpenAiSync, &url, None).stream(true).run(SOON)?;
    ensure!(away.only()?.end == "broken", "somebody answered: {away:?}");
    let server = serves(&agent, &room)?;
    let calls = agent.stop()?.clean()?.calls()?;
    let of_away: Vec<_> = calls.into_iter().filter(|call| is_of(call, away.pid)).collect();
    ensure!(of_away.is_empty(), "calls of a client that was never connected:\n{}", list(&of_away));
    drop(server);
    Ok(())
}

/// Noise on followed sockets, in both directions and at several places of an exchange.
fn noise() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let garbage = raw::noise(0x5eed, 40_000);

    // To a real server: at once, and after a proper exchange on the same connection.
    raw::exchange(server.port(), &garbage)?;
    let mut socket = raw::connect(server.port())?;
    socket.write_all(&raw::request("noise-after"))?;
    raw::read_until(&mut socket, "[DONE]")?;
    // The server may close before it has taken all of it.
    let _refused = socket.write_all(&garbage);
    raw::drain(&mut socket)?;
    for malformed in [
        "POST /v1/chat/completions\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -5\r\n\r\n{}",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nnot json!",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    ] {
        let mut socket = raw::connect(server.port())?;
        socket.write_all(malformed.as_bytes())?;
        socket.shutdown(std::net::Shutdown::Write)?;
        raw::drain(&mut socket)?;
    }

    // From a server: instead of an answer, inside a chunked body, inside an event.
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let answers = vec![
        garbage.clone(),
        [head.clone(), garbage.clone()].concat(),
        [head, b"9c40\r\ndata: ".to_vec(), garbage[..39_994].to_vec(), b"\r\n0\r\n\r\n".to_vec()].concat(),
    ];
    let n = answers.len();
    let canned = Canned::start(answers)?;
    for _ in 0..n {
        raw::exchange(canned.port(), &raw::request("noise"))?;
    }
    canned.join()?;

    // The agent is still there, and so is everything proper.
    let own = std::process::id();
    serves(&agent, &room)?;
    let calls = agent.stop()?.clean()?.calls()?;
    let named = |name: &str| calls.iter().filter(|call| call.text("gen_ai.request.model") == Some(name)).count();
    ensure!(named("noise-after") == 2, "the proper exchange before the noise is not there\n{}", list(&calls));
    for call in calls.iter().filter(|call| is_of(call, own) && call.text("gen_ai.request.model") == Some("noise")) {
        ensure!(call.completion() != Some("done"), "noise was taken for an answer: {}", call.json());
    }
    Ok(())
}

/// A response that ends at any place: one call per side, marked, never taken for a whole one. Whole it is once the
/// model has said why it stopped and what it used, though the sentinel and the framing's end are missing.
fn cut_responses() -> Result<()> {
    let whole = raw::answer();
    let text = String::from_utf8_lossy(&whole).into_owned();
    let find = |needle: &str| text.find(needle).unwrap_or(0);
    let (body, done) = (find("\r\n\r\n") + 4, find("data: [DONE]"));
    let cuts =
        [0, 5, find("content-type") + 3, body, body + 1, find("one "), find("two ") + 2, find("usage") + 20, done];
    let mut answers: Vec<_> = cuts.iter().map(|&cut| whole[..cut].to_vec()).collect();
    answers.push(whole.clone());

    let agent = Agent::trace(&[])?;
    let canned = Canned::start(answers)?;
    for cut in cuts.into_iter().chain([whole.len()]) {
        raw::exchange(canned.port(), &raw::request(&format!("cut-{cut}")))?;
    }
    canned.join()?;
    let own = std::process::id();
    agent.wait_for_calls(2 * (cuts.len() + 1), SOON, |call| is_of(call, own))?;
    let calls = agent.stop()?.clean()?.calls()?;
    for cut in cuts.into_iter().chain([whole.len()]) {
        for kind in ["client", "server"] {
            let model = format!("cut-{cut}");
            let of_cut = |call: &&_| is_cut(call, &model, kind);
            let found: Vec<_> = calls.iter().filter(of_cut).collect();
            let [call] = found.as_slice() else {
                anyhow::bail!("{} {kind} spans of {model}\n{}", found.len(), list(&calls))
            };
            if cut == whole.len() || cut == done {
                ensure!(call.completion() == Some("done"), "a whole answer: {}", call.json());
                ensure!(call.number("gen_ai.usage.output_tokens") == Some(3), "its usage: {}", call.json());
            } else {
                ensure!(call.completion() == Some("server_closed"), "cut at {cut}: {}", call.json());
            }
        }
    }
    Ok(())
}

/// A client that leaves once it has read the sentinel: what ends the framing is answered with a reset, and the connection is
/// over before the call that sent it returns. All that was sent was seen.
fn last_bytes_meet_nobody() -> Result<()> {
    const END: &[u8] = b"0\r\n\r\n";
    let agent = Agent::trace(&[])?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        socket.set_read_timeout(Some(SOON))?;
        raw::read_request(&mut socket)?;
        socket.write_all(raw::answer().strip_suffix(END).context("an answer ends otherwise")?)?;
        ensure!(socket.read(&mut [0])? == 0, "the client says more");
        // It succeeds: the reset comes back meanwhile.
        socket.write_all(END)?;
        let after = socket.write(END);
        ensure!(after.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe), "no reset: {after:?}");
        Ok(())
    });
    let mut client = raw::connect(port)?;
    client.write_all(&raw::request("left"))?;
    raw::read_until(&mut client, "[DONE]")?;
    drop(client);
    server.join().map_err(|_| anyhow!("the server panicked"))??;
    let calls = agent.wait_for_calls(2, SOON, |call| is_of(call, std::process::id()))?;
    let stopped = agent.stop()?.clean()?;
    for kind in ["client", "server"] {
        let call = calls.iter().find(|call| is_cut(call, "left", kind)).with_context(|| format!("no {kind}"))?;
        let right = call.completion() == Some("done") && call.capture() == Some("complete");
        ensure!(right, "not whole: {}", call.json());
    }
    let ledger = stopped.ledger().context("no ledger")?;
    for name in ["kernel.bytes_unseen", "pipeline.bytes_lost"] {
        ensure!(ledger[name] == serde_json::json!(0), "{name}: {ledger}");
    }
    Ok(())
}

fn is_cut(call: &inferscope_tests::call::Call, model: &str, kind: &str) -> bool {
    call.kind() == kind && call.text("gen_ai.request.model") == Some(model)
}

/// A request that ends at any place: ignored or marked, and the server's next call is reported.
fn cut_requests() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(Stack::Pure, None, Pace::QUICK, room.path())?;
    let whole = raw::request("cut-request");
    for cut in [1, 10, 40, 100, whole.len() / 2, whole.len() - 1] {
        let mut socket = raw::connect(server.port())?;
        socket.write_all(&whole[..cut])?;
        socket.shutdown(std::net::Shutdown::Write)?;
        raw::drain(&mut socket)?;
    }
    serves(&agent, &room)?;
    let calls = agent.stop()?.clean()?.calls()?;
    for call in calls.iter().filter(|call| is_of(call, std::process::id()) || is_of(call, server.pid())) {
        ensure!(call.completion() != Some("done"), "half a request was taken for a call: {}", call.json());
    }
    Ok(())
}

/// `--duration` ends a trace by itself, with everything that an interrupt would give.
fn duration_ends_it() -> Result<()> {
    let before = Loaded::now()?;
    let began = Instant::now();
    let agent = Agent::trace(&["--duration", "1s"])?;
    holds_probes(&agent)?;
    let stopped = agent.finish(began)?;
    ensure!(stopped.code == 0 && stopped.ledger().is_some(), "{stopped:?}");
    ensure!(stopped.took >= Duration::from_secs(1), "it ended after {:?}", stopped.took);
    wait_gone(&before, FREED)
}

/// An interrupt at eight moments between the start and the end of attaching.
fn interrupt_while_starting() -> Result<()> {
    let before = Loaded::now()?;
    let began = Instant::now();
    let agent = Agent::trace(&[])?;
    let attach = began.elapsed();
    holds_probes(&agent)?;
    agent.stop()?.clean()?;
    for eighth in 0..8 {
        let agent = Agent::launch(Command::new(place::agent()?).args(["trace", "--output", "jsonl"]))?;
        // The moment is what is tested here: an end before it, which this waits for, must not come.
        let early = agent.program().wait_exit(attach * eighth / 8);
        ensure!(early.is_err(), "it ended by itself: {:?}", agent.program().stderr());
        let stopped = agent.stop()?;
        // Before it has installed a handler, the interrupt kills it: nothing is attached by then.
        ensure!(matches!(stopped.code, 0 | 130), "exit code {} at {eighth}/8: {:?}", stopped.code, stopped.stderr);
        ensure!(stopped.took <= EXIT, "{:?} to exit at {eighth}/8", stopped.took);
        ensure!(!stopped.stderr.join("\n").contains("panicked"), "{:?}", stopped.stderr);
        wait_gone(&before, FREED)?;
    }
    Ok(())
}

fn stop_when_ready(signal: Signal) -> Result<()> {
    let before = Loaded::now()?;
    let agent = Agent::trace(&[])?;
    holds_probes(&agent)?;
    agent.stop_with(signal)?.clean()?;
    wait_gone(&before, FREED)
}

/// Without anything in the kernel, nothing could be left behind, and those tests would show nothing.
fn holds_probes(agent: &Agent) -> Result<()> {
    let held = Loaded::held_by(agent.program().pid())?;
    ensure!(!held.programs.is_empty() && !held.links.is_empty(), "it is ready and holds only {held:?}");
    Ok(())
}

/// Copies of a TLS library that one process maps. Taken off one by one, their probes would take half a minute.
const LIBRARIES: usize = 50;

/// Loads so many copies of the TLS library that Python itself uses, from a folder, and waits.
const LOAD_COPIES: &str = "
import ctypes, shutil, ssl, sys
maps = [line.split()[-1] for line in open('/proc/self/maps')]
library = next(path for path in maps if 'libssl' in path)
kept = []
for i in range(int(sys.argv[2])):
    kept.append(ctypes.CDLL(shutil.copy(library, f'{sys.argv[1]}/libssl-{i}.so')))
print('mapped', flush=True)
sys.stdin.read()
";

/// However many files are probed, the end comes in time and leaves nothing.
fn many_libraries() -> Result<()> {
    let room = Room::new()?;
    let before = Loaded::now()?;
    let mut python = Command::new(place::python()?);
    let python =
        Program::spawn("python", python.args(["-c", LOAD_COPIES]).arg(room.path()).arg(LIBRARIES.to_string()))?;
    python.wait_for_line(Stream::Stdout, "copies", SOON, |line| line == "mapped")?;
    let stopped = Agent::trace(&["--pid", &python.pid().to_string()])?.stop()?.clean()?;
    wait_gone(&before, FREED)?;
    let ledger = stopped.ledger().context("no ledger")?;
    let probed = ledger["discover.files_probed"].as_u64();
    ensure!(probed.is_some_and(|probed| probed >= LIBRARIES as u64), "{probed:?} files of {LIBRARIES} were probed");
    say(&format!("failures::many_libraries: {LIBRARIES} files, stopped in {:?}", stopped.took));
    Ok(())
}

/// The agent ends while streams are under way: nothing of it stays, and who was traced notices nothing.
fn stop_under_load(signal: Signal) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?;
    let before = Loaded::now()?;
    let agent = Agent::trace(&[])?;
    let pace = Pace { chunks: 150, interval_ms: 20.0, first_token_ms: 5.0 };
    let server = Uvicorn::start(Stack::Fast, pki.as_ref(), pace, room.path())?;
    let client = busy(&server)?;
    client.wait_first_chunks(40, SOON)?;
    holds_probes(&agent)?;
    let stopped = agent.stop_with(signal)?;
    wait_gone(&before, FREED)?;
    if signal == Signal::KILL {
        ensure!(stopped.code == 128 + 9, "{stopped:?}");
    } else {
        let stopped = stopped.clean()?;
        let cut = stopped.calls()?.into_iter().find(|call| {
            is_of(call, client.pid()) && call.completion() == Some("done") && call.capture() == Some("complete")
        });
        ensure!(cut.is_none(), "a call that was under way is reported as whole: {cut:?}");
    }
    let client = client.finish(SOON)?;
    let whole = client.reports.iter().filter(|report| report.end == "done" && report.chunks == Some(150)).count();
    ensure!(whole == 40, "only {whole} of 40 streams came through: {:?}", client.reports);
    let after = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).run(SOON)?;
    ensure!(after.only()?.end == "done", "the server does not answer any more: {after:?}");
    Ok(())
}

/// Forty streams at once that announce their first chunks.
fn busy(server: &Uvicorn) -> Result<Running> {
    let client = Client::new(Kind::OpenAiAsync, &server.base_url(), server.ca()).stream(true);
    client.options(["--calls", "40", "--concurrency", "40", "--announce-first"]).spawn()
}

/// A fresh server and client, whose call must be reported as if nothing had happened.
fn serves(agent: &Agent, room: &Room) -> Result<Uvicorn> {
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).run(SOON)?;
    let calls = agent.wait_for_calls(2, SOON, |call| is_of(call, client.pid) || is_of(call, server.pid()))?;
    Ends::chat(&server, client.pid, true).check(&calls, &client.reports)?;
    Ok(server)
}

/// Runs a command that must end by itself.
fn to_its_end(command: &mut Command) -> Result<Stopped> {
    let began = Instant::now();
    Agent::launch(command)?.finish(began)
}

/// Demands one of `codes` and a message on stderr that holds one of `words`; no panic, nothing on stdout.
fn told(stopped: &Stopped, codes: &[i32], words: &[impl AsRef<str>]) -> Result<()> {
    let said = stopped.stderr.join("\n");
    let lower = said.to_lowercase();
    ensure!(codes.contains(&stopped.code), "exit code {} instead of {codes:?}:\n{said}", stopped.code);
    ensure!(words.iter().any(|word| lower.contains(&word.as_ref().to_lowercase())), "not a clear message:\n{said}");
    ensure!(!lower.contains("panicked"), "{said}");
    ensure!(stopped.stdout.is_empty(), "data on stdout: {:?}", stopped.stdout);
    Ok(())
}
