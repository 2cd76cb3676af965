//! Which files get probes: containers, deleted and upgraded libraries, libraries that come late, file systems that do not
//! answer, and what happens when the last user is gone.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    bpf::Loaded,
    client::{Client, Kind},
    place,
    process::{Program, Stream},
    server::{Pace, Stack, Uvicorn},
};

use crate::{
    churn::nothing_lost,
    expect::{is_of, pair},
    libssl::{Libssl, library, talkative, wait_probed},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// How long a file without users keeps its probes, and how often that is looked at, with a second detaching for each.
const UNUSED: Duration = Duration::from_secs(60 + 2 * 10 + 10);

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("discovery::overlays_of_one_library", &[Need::Unshare, Need::Curl], overlays);
    all.add("discovery::pid_namespace", &[Need::Unshare, Need::Curl], pid_namespace);
    all.add("discovery::loaded_late", &[], loaded_late);
    all.add("discovery::deleted", &[], deleted);
    all.add("discovery::upgraded", &[], upgraded);
    for (name, user) in [("roots", 0), ("users", 65_534)] {
        all.add(format!("discovery::file_system_that_hangs::{name}"), &[Need::Unshare], move || hanging(user));
    }
    all.add("discovery::two_agents", &[Need::Curl], two_agents);
    all.add("discovery::tls_inside_tls", &[Need::Curl], tls_inside_tls);
    all.add("discovery::tls_that_nobody_can_read", &[], unreadable);
    all.add("capture_full::discovery::detached_when_unused", &[], detached);
}

/// A TLS server and where it runs.
fn server(room: &Room) -> Result<Uvicorn> {
    Uvicorn::start(Stack::Fast, room.pki(true)?.as_ref(), Pace::QUICK, room.path())
}

/// Ends the agent, and demands that nothing was lost.
fn end(agent: Agent) -> Result<Stopped> {
    let stopped = agent.stop()?.clean()?;
    nothing_lost(&stopped)?;
    Ok(stopped)
}

/// curl in two mount namespaces, each with an overlay of the whole system as its root. The library that they map has other
/// numbers in each, and is the one that the host's own programs map: it is probed once, and each call is seen once.
fn overlays() -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let agent = Agent::trace(&[])?;
    let links = Loaded::held_by(agent.program().pid())?.links.len();
    let script = r#"set -e; mount -t tmpfs none "$1"; mkdir "$1/up" "$1/work" "$1/root"
        mount -t overlay none -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
        cp "$2" "$1/root/authority.pem"; root=$1; shift 2; exec chroot "$root/root" "$@""#;
    let ca = server.ca().context("no authority")?;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let url = format!("{}/chat/completions", server.base_url());
    let mut pids = Vec::new();
    for name in ["one", "two"] {
        let top = room.file(name);
        fs::create_dir(&top)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&top).arg(ca);
        command.args(["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", "/authority.pem"]);
        command.args(["--header", "content-type: application/json", "--data", body, &url]);
        let curl = Program::spawn("curl in an overlay", &mut command)?;
        curl.wait_success(SOON)?;
        pids.push(curl.pid());
    }
    let calls = agent.wait_for_calls(2, SOON, |call| pids.iter().any(|pid| is_of(call, *pid)))?;
    ensure!(pids.iter().all(|pid| calls.iter().filter(|call| is_of(call, *pid)).count() == 1), "{calls:?}");
    ensure!(Loaded::held_by(agent.program().pid())?.links.len() == links, "a library was probed again");
    let ledger = end(agent)?.ledger().context("no ledger")?;
    say(&format!(
        "discovery::overlays_of_one_library: {links} links, names_shared {}",
        ledger["discover.names_shared"]
    ));
    ensure!(ledger["discover.names_shared"].as_u64() >= Some(2), "no overlay was recognised: {ledger}");
    Ok(())
}

/// curl in a process id namespace of its own: it is known by the host's number.
fn pid_namespace() -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let agent = Agent::trace(&[])?;
    let script = r#"curl --silent --noproxy '*' --cacert "$1" --header 'content-type: application/json' --data "$2" "$3" \
        > /dev/null & echo "inside $!"; wait $!"#;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let url = format!("{}/chat/completions", server.base_url());
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh"]);
    command.arg(server.ca().context("no authority")?).args([body, &url]);
    let outer = Program::spawn("unshare", &mut command)?;
    let inside = outer.wait_for_line(Stream::Stdout, "number", SOON, |line| line.starts_with("inside "))?;
    outer.wait_success(SOON)?;
    let is_client = |call: &inferscope_tests::call::Call| {
        call.kind() == "client" && call.text("process.executable.name").is_some_and(|name| name.contains("curl"))
    };
    let call = agent.wait_for_calls(1, SOON, is_client)?.swap_remove(0);
    let inside: u64 = inside.trim_start_matches("inside ").parse()?;
    ensure!(call.pid() > Some(u64::from(outer.pid())), "not the host's number: {}", call.json());
    ensure!(call.pid() != Some(inside), "the namespace's number: {}", call.json());
    end(agent).map(drop)
}

/// A process that is older than the agent and loads a library of its own later.
fn loaded_late() -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let mut client = Libssl::start()?;
    let agent = talkative()?;
    let copy = room.file("libssl-of-its-own.so");
    fs::copy(library()?, &copy)?;
    client.load(&copy)?;
    wait_probed(&agent, &copy, 1)?;
    let said = client.tell(&format!("call {} {}", server.port(), server.port()))?;
    agent.wait_for_calls(said.len(), SOON, |call| is_of(call, client.pid()))?;
    agent.wait_for_calls(said.len(), SOON, |call| is_of(call, server.pid()))?;
    let calls = end(agent)?.calls()?;
    said.iter().try_for_each(|said| said.check(&calls))
}

/// A library that was deleted before the agent came.
fn deleted() -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let copy = room.file("libssl.so.3");
    fs::copy(library()?, &copy)?;
    let mut client = Libssl::with(&copy)?;
    fs::remove_file(&copy)?;
    let agent = Agent::trace(&[])?;
    let said = client.tell(&format!("call {}", server.port()))?;
    agent.wait_for_calls(1, SOON, |call| is_of(call, client.pid()))?;
    agent.wait_for_calls(1, SOON, |call| is_of(call, server.pid()))?;
    let calls = end(agent)?.calls()?;
    said.iter().try_for_each(|said| said.check(&calls))
}

/// A library that is replaced under a running process: the process goes on with the old one, the next has the new one.
fn upgraded() -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let (path, new) = (room.file("libssl.so.3"), room.file("libssl.so.3.new"));
    fs::copy(library()?, &path)?;
    let agent = talkative()?;
    let mut old_client = Libssl::with(&path)?;
    wait_probed(&agent, &path, 1)?;
    let call = format!("call {}", server.port());
    let mut said = old_client.tell(&call)?;
    fs::copy(library()?, &new)?;
    fs::rename(&new, &path)?;
    let mut new_client = Libssl::with(&path)?;
    wait_probed(&agent, &path, 2)?;
    said.extend(new_client.tell(&call)?);
    said.extend(old_client.tell(&call)?);
    agent.wait_for_calls(3, SOON, |call| is_of(call, old_client.pid()) || is_of(call, new_client.pid()))?;
    agent.wait_for_calls(3, SOON, |call| is_of(call, server.pid()))?;
    let calls = end(agent)?.calls()?;
    said.iter().try_for_each(|said| said.check(&calls))
}

/// A file system that stops answering after a program was mapped from it, which anybody may have: root's is waited for some
/// time and then given up until it answers, a user's own is left alone. Either is said, and all others go on.
fn hanging(user: u32) -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let mount = room.file("mount");
    fs::create_dir(&mount)?;
    // In a mount namespace of its own: its end takes the mount along.
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(place::python()?).arg(place::script("hanging_fs.py")).arg(&mount).arg(user.to_string());
    let file_system = Program::spawn("hanging_fs", &mut command)?;
    file_system.wait_for_line(Stream::Stdout, "ready", SOON, |line| line == "ready")?;
    let agent = Agent::trace(&[])?;
    let (told, counter) = match user {
        0 => ("does not answer", "discover.files_slow"),
        _ => ("need never answer", "discover.files_untrusted"),
    };
    agent.program().wait_for_line(Stream::Stderr, told, SOON, |line| line.contains(told))?;
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).run(SOON)?;
    agent.wait_for_calls(1, SOON, |call| is_of(call, client.pid))?;
    // While a request is with root's file system, the kernel lets nobody end who made it.
    if user == 0 {
        file_system.kill()?;
    }
    let stopped = agent.stop()?.clean()?;
    let ledger = stopped.ledger().context("no ledger")?;
    ensure!(ledger[counter] == 1, "{ledger}");
    Ok(())
}

/// Two agents at once: each sees every call once, the other is a process like any other, and the end of one leaves the
/// other's probes alone.
fn two_agents() -> Result<()> {
    let room = Room::new()?;
    let server = server(&room)?;
    let (first, second) = (Agent::trace(&["--all-http"])?, Agent::trace(&["--all-http"])?);
    let agents = [first.program().pid(), second.program().pid()];
    let call = || Client::new(Kind::Curl, &server.base_url(), server.ca()).run(SOON);
    let both = call()?;
    for agent in [&first, &second] {
        agent.wait_for_calls(1, SOON, |call| is_of(call, both.pid))?;
    }
    let first = end(first)?;
    let one = call()?;
    second.wait_for_calls(1, SOON, |call| is_of(call, one.pid))?;
    let second = end(second)?;
    for (stopped, expected) in [(&first, 1), (&second, 2)] {
        let calls = stopped.calls()?;
        let of = |pid| calls.iter().filter(|call| is_of(call, pid)).count();
        ensure!(of(both.pid) + of(one.pid) == expected, "{} and {} calls", of(both.pid), of(one.pid));
        ensure!(agents.into_iter().all(|pid| of(pid) == 0), "an agent makes no calls");
    }
    Ok(())
}

/// curl through a proxy that is itself spoken to by TLS: the call is read from the inner TLS, whole and once.
fn tls_inside_tls() -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no certificates")?;
    let server = Uvicorn::start(Stack::Fast, Some(&pki), Pace::QUICK, room.path())?;
    let mut command = Command::new(place::python()?);
    command.arg(place::script("tls_proxy.py")).args([&pki.cert, &pki.key]);
    let proxy = Program::spawn("tls_proxy", &mut command)?;
    let ready = proxy.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
    let port = ready.trim_start_matches("ready ").to_owned();
    let agent = Agent::trace(&[])?;
    let mut made = Vec::new();
    for stream in [false, true, true] {
        let client = Client::new(Kind::Curl, &server.base_url(), server.ca()).stream(stream);
        let url = format!("https://127.0.0.1:{port}");
        let authority = pki.ca.display().to_string();
        let client = client.options(["--noproxy", "", "--proxy", &url, "--proxy-cacert", &authority]);
        let finished = client.run(SOON)?;
        made.push((finished.only()?.id.clone().context("no id")?, finished.pid));
    }
    agent.wait_for_calls(3, SOON, |call| made.iter().any(|(_, pid)| is_of(call, *pid)))?;
    agent.wait_for_calls(3, SOON, |call| is_of(call, server.pid()))?;
    let calls = end(agent)?.calls()?;
    ensure!(calls.len() == 6, "{} calls", calls.len());
    for (id, pid) in &made {
        let (client, _) = pair(&calls, id)?;
        ensure!(is_of(client, *pid) && client.capture() == Some("complete"), "{}", client.json());
        let peer = client.number("network.peer.port");
        ensure!(peer == Some(port.parse()?), "its peer is the proxy: {}", client.json());
    }
    Ok(())
}

/// TLS by a program that the probes do not know, beside a library that they do: it is noticed, told once, and the library's
/// probes are set anew. Here the TLS is none, but bytes in the form of its records.
fn unreadable() -> Result<()> {
    let agent = Agent::trace(&[])?;
    let mut command = Command::new(place::python()?);
    command.arg(place::script("unread_tls.py")).arg(library()?);
    let program = Program::spawn("unread_tls", &mut command)?;
    program.wait_for_line(Stream::Stdout, "sent", SOON, |line| line == "sent")?;
    let told = "TLS passes the probes by";
    agent.program().wait_for_line(Stream::Stderr, told, SOON, |line| line.contains(told))?;
    // The probes that were set anew work: the library's other users go on.
    let room = Room::new()?;
    let server = server(&room)?;
    let client = Client::new(Kind::Curl, &server.base_url(), server.ca()).run(SOON)?;
    agent.wait_for_calls(1, SOON, |call| is_of(call, client.pid))?;
    let stopped = agent.stop()?.clean()?;
    let ledger = stopped.ledger().context("no ledger")?;
    ensure!(ledger["discover.files_reattached"].as_u64() >= Some(1), "{ledger}");
    ensure!(ledger["discover.silent_processes"].as_u64() >= Some(1), "{ledger}");
    let unread = ledger["processes"].as_array().into_iter().flatten().find(|line| line["pid"] == program.pid());
    ensure!(unread.is_some_and(|line| line["tls_unread"].as_u64() >= Some(16 << 10)), "{ledger}");
    Ok(())
}

/// A library of one process's own loses its probes some time after that process has ended, and nothing else does.
fn detached() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&["-v"])?;
    let pid = agent.program().pid();
    let copy = room.file("libssl-of-its-own.so");
    fs::copy(library()?, &copy)?;
    let links = || Ok::<_, anyhow::Error>(Loaded::held_by(pid)?.links);
    let before = links()?;
    let client = Libssl::with(&copy)?;
    agent.program().wait_for_line(Stream::Stderr, "probed", SOON, |line| line.contains("libssl-of-its-own"))?;
    // Other programs of the machine may have files probed at any time: only these links must go.
    let its: BTreeSet<u32> = links()?.difference(&before).copied().collect();
    ensure!(!its.is_empty(), "no probes were set");
    drop(client);
    let told = "its probes are detached";
    agent.program().wait_for_line(Stream::Stderr, told, UNUSED, |line| line.contains(told))?;
    // The detaching is told when it begins.
    let deadline = Instant::now() + SOON;
    while !links()?.is_disjoint(&its) {
        ensure!(agent.program().wait_exit(Duration::from_millis(50)).is_err(), "the agent has ended");
        ensure!(Instant::now() < deadline, "links {its:?} are still held");
    }
    end(agent).map(drop)
}
