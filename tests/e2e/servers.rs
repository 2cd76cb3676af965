//! What servers do: join late, call tools, refuse, cut short, lose their client, die.

use anyhow::{Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Finished, Kind},
    server::{Pace, Stack, Uvicorn},
};
use rustix::process::Signal;

use crate::{
    clients::needs,
    expect::{Ends, is_of, list, pair},
    scenario::{Room, SOON, Scenarios, transport},
};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for stack in Stack::ALL {
        for tls in [false, true] {
            let at = format!("{}::{}", stack.name(), transport(tls));
            all.add(format!("servers::agent_between::{at}"), &[], move || agent_between(stack, tls));
            for kind in [Kind::OpenAiSync, Kind::OpenAiAsync, Kind::NodeHttp] {
                let name = format!("servers::agent_last::{at}::{}", kind.name());
                all.add(name, needs(kind), move || agent_last(stack, tls, kind));
            }
            all.add(format!("servers::apis::{at}"), &[], move || apis(stack, tls));
            all.add(format!("servers::refusal::{at}"), &[], move || refusal(stack, tls));
            all.add(format!("servers::client_leaves::{at}"), &[], move || client_leaves(stack, tls));
            all.add(format!("servers::server_dies::{at}"), &[], move || server_dies(stack, tls));
        }
    }
}

/// The agent starts when the server runs already, the client comes later.
fn agent_between(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), Pace::QUICK, room.path())?;
    let agent = Agent::trace(&[])?;
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).stream(true).run(SOON)?;
    let calls = two_each(agent, &server, &client, 1)?;
    let ends = Ends::chat(&server, client.pid, true);
    ends.check(&calls, &client.reports)?;
    ends.check_nothing_else(&calls, 1)
}

/// The agent starts when the connection is open and was used already: the next calls on it must be seen.
fn agent_last(stack: Stack, tls: bool, kind: Kind) -> Result<()> {
    let room = Room::new()?;
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), Pace::QUICK, room.path())?;
    // Python's synchronous client closes the connection of a stream as soon as it has read `[DONE]`.
    let stream = kind != Kind::OpenAiSync;
    let client = Client::new(kind, &server.base_url(), server.ca()).stream(stream);
    let mut client = client.options(["--calls", "3", "--gate"]).spawn()?;
    client.wait_reports(1, SOON)?;
    let agent = Agent::trace(&[])?;
    client.program().write_line("go on")?;
    let client = client.finish(SOON)?;
    let calls = two_each(agent, &server, &client, 2)?;

    let ports: Vec<_> = server.log()?.iter().map(|entry| entry.peer_port).collect();
    ensure!(ports.len() == 3 && ports.windows(2).all(|two| two[0] == two[1]), "not one connection: {ports:?}");
    let ends = Ends::chat(&server, client.pid, stream);
    ends.check(&calls, &client.reports[1..])?;
    ends.check_nothing_else(&calls, 2)
}

/// Tool calls, several choices, a token limit, no usage, and the older API: what one client can ask for.
fn apis(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), Pace::QUICK, room.path())?;
    let (chat, completions) = ("openai.chat", "openai.completions");
    let variants: [(&str, &[&str]); 6] = [
        (chat, &["--tools"]),
        (chat, &["--n", "2"]),
        (chat, &["--max-tokens", "3"]),
        (chat, &["--no-usage"]),
        (completions, &["--api", "completions"]),
        (completions, &["--api", "completions", "--max-tokens", "2"]),
    ];
    let mut runs = Vec::new();
    for (api, options) in variants {
        for stream in [true, false] {
            let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).stream(stream);
            runs.push((api, stream, client.options(options.iter().copied()).run(SOON)?));
        }
    }
    agent.wait_for_calls(runs.len(), SOON, |call| is_of(call, server.pid()))?;
    let calls = agent.stop()?.clean()?.calls()?;
    for (api, stream, client) in &runs {
        ensure!(client.only()?.end == "done", "the client failed: {client:?}");
        let ends = Ends { server: &server, client_pid: client.pid, stream: *stream, api };
        ends.check(&calls, &client.reports)?;
    }
    Ok(())
}

/// A model that is not there, with and without a stream: 404, and an error on both sides.
fn refusal(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), Pace::QUICK, room.path())?;
    for stream in [true, false] {
        let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).stream(stream);
        let client = client.options(["--model", "no-such-model"]).run(SOON)?;
        ensure!(client.only()?.end == "refused", "the client was served: {client:?}");
        let client_call = agent.wait_for_calls(1, SOON, |call| is_of(call, client.pid))?;
        refused(&client_call[0], "client")?;
    }
    let server_calls = agent.wait_for_calls(2, SOON, |call| is_of(call, server.pid()))?;
    server_calls.iter().try_for_each(|call| refused(call, "server"))?;
    let calls = agent.stop()?.clean()?.calls()?;
    let of_server = calls.iter().filter(|call| is_of(call, server.pid())).count();
    ensure!(of_server == 2, "{of_server} server spans of two calls\n{}", list(&calls));
    Ok(())
}

fn refused(call: &Call, kind: &str) -> Result<()> {
    let right = call.kind() == kind
        && call.number("http.response.status_code") == Some(404)
        && call.member("status") == Some("error")
        && call.completion() == Some("error")
        && call.text("error.type").is_some()
        && call.text("gen_ai.request.model") == Some("no-such-model")
        && call.capture() == Some("complete");
    ensure!(right, "not what a refused call should be: {}", call.json());
    Ok(())
}

/// The client closes its connection in the middle of a stream.
fn client_leaves(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), Pace::SLOW, room.path())?;
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).stream(true);
    let client = client.options(["--stop-after", "5"]).run(SOON)?;
    let report = client.only()?;
    ensure!(report.end == "stopped", "the client did not leave: {report:?}");
    agent.wait_for_calls(2, SOON, |call| is_of(call, server.pid()) || is_of(call, client.pid))?;
    let calls = agent.stop()?.clean()?.calls()?;
    let (of_client, of_server) = pair(&calls, report.id()?)?;
    for call in [of_client, of_server] {
        let right = call.completion() == Some("client_closed")
            && matches!(call.capture(), Some("complete" | "truncated"))
            && call.number("inferscope.chunk.count").is_some_and(|chunks| (5..500).contains(&chunks))
            && call.attr("gen_ai.usage.output_tokens").is_none()
            && call.attr("gen_ai.response.finish_reasons").is_none_or(|reasons| reasons == &serde_json::json!([]));
        ensure!(right, "not what a call without its client should be: {}", call.json());
    }
    Ok(())
}

/// The server is killed in the middle of a stream.
fn server_dies(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), Pace::SLOW, room.path())?;
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).stream(true);
    let client = client.options(["--announce-first"]).spawn()?;
    client.wait_first_chunks(1, SOON)?;
    server.program().signal(Signal::KILL)?;
    let client = client.finish(SOON)?;
    let report = client.only()?;
    ensure!(report.end == "broken", "the client noticed nothing: {report:?}");
    let calls = two_each(agent, &server, &client, 1)?;
    let (of_client, of_server) = pair(&calls, report.id()?)?;
    for call in [of_client, of_server] {
        let right = call.completion() == Some("server_closed")
            && call.number("inferscope.chunk.count").is_some_and(|chunks| (1..500).contains(&chunks))
            && call.attr("gen_ai.usage.output_tokens").is_none();
        ensure!(right, "not what a call without its server should be: {}", call.json());
    }
    Ok(())
}

/// Waits until both sides of `n` calls were reported, and stops the agent.
fn two_each(agent: Agent, server: &Uvicorn, client: &Finished, n: usize) -> Result<Vec<Call>> {
    agent.wait_for_calls(2 * n, SOON, |call| is_of(call, server.pid()) || is_of(call, client.pid))?;
    agent.stop()?.clean()?.calls()
}
