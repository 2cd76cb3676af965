//! Many streams at once: nothing lost, nothing twice, and times as the server itself took them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    client::{Client, Kind, Report},
    server::{Pace, Stack, Uvicorn},
};

use crate::{
    expect::{Ends, is_of},
    scenario::{Room, Scenarios, say, transport},
};

/// Two hundred streams on a small machine, client and server being Python.
const UNDER_LOAD: Duration = Duration::from_secs(180);

/// What the agent's time to first token may be longer than the server's own, in the middle.
const TTFT_ERROR_NS: i64 = 1_000_000;

/// What writing seconds as a number of 64 bits may take off.
const ROUNDING_NS: i64 = 1_000;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for stack in Stack::ALL {
        for tls in [false, true] {
            let at = format!("{}::{}", stack.name(), transport(tls));
            all.add(format!("load::streams_200x100::{at}"), &[], move || streams(stack, tls));
            all.add(format!("load::ttft_10_streams::{at}"), &[], move || ttft(stack, tls));
        }
    }
}

/// 200 concurrent streams of 100 chunks each.
fn streams(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let pace = Pace { chunks: 100, interval_ms: 20.0, first_token_ms: 50.0 };
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), pace, room.path())?;
    let client = Client::new(Kind::OpenAiAsync, &server.base_url(), server.ca()).stream(true);
    let client = client.options(["--calls", "200", "--concurrency", "200"]).run(UNDER_LOAD)?;
    ensure!(client.reports.len() == 200, "the client made {} calls", client.reports.len());
    ensure!(client.reports.iter().all(is_whole), "the client's streams were cut");

    agent.wait_for_calls(400, UNDER_LOAD, |call| is_of(call, server.pid()) || is_of(call, client.pid))?;
    let stopped = agent.stop()?.clean()?;
    let calls = stopped.calls()?;
    let ends = Ends::chat(&server, client.pid, true);
    ends.check(&calls, &client.reports)?;
    ends.check_nothing_else(&calls, 200)?;
    if let Some(ledger) = stopped.ledger() {
        say(&format!("load::streams_200x100::{}::{}: ledger {ledger}", stack.name(), transport(tls)));
    }
    Ok(())
}

fn is_whole(report: &Report) -> bool {
    report.end == "done" && report.chunks == Some(100) && report.output_tokens == Some(100)
}

/// 10 concurrent streams, 200 in all: the agent's time to first token against the server's log.
///
/// The server takes its own times in user space, inside of ours: it begins after the read and yields its first chunk
/// before the write. So ours is never the shorter one, on whatever machine; by how much it is longer is the server's
/// event loop as well, and a busy machine widens it without bound. The middle one is asserted, the tail is printed
/// here and measured by `cargo xtask bench`, whose server is quicker than its clock.
fn ttft(stack: Stack, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let pace = Pace { chunks: 15, interval_ms: 9.0, first_token_ms: 31.0 };
    let server = Uvicorn::start(stack, room.pki(tls)?.as_ref(), pace, room.path())?;
    let client = Client::new(Kind::OpenAiAsync, &server.base_url(), server.ca()).stream(true);
    // The lanes are apart: ten requests in one turn of the server's event loop would wait for one another between
    // the kernel and the application, which is not what is measured here.
    let client = client.options(["--calls", "200", "--concurrency", "10", "--stagger-ms", "17"]).run(UNDER_LOAD)?;
    let calls = agent.wait_for_calls(200, UNDER_LOAD, |call| is_of(call, server.pid()))?;
    agent.stop()?.clean()?;
    ensure!(client.reports.len() == 200, "the client made {} calls", client.reports.len());

    let log = server.log()?;
    let mut longer = Vec::new();
    for call in &calls {
        let entry = log.iter().find(|entry| entry.id.as_deref() == call.id()).context("a call that nobody logged")?;
        let own = entry.ttft_ns.context("the server saw no first chunk")? as i64;
        let ours = call.seconds("inferscope.time_to_first_token").context("no time to first token")?;
        longer.push(Duration::from_secs_f64(ours).as_nanos() as i64 - own);
    }
    longer.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| longer[(longer.len() * percent).div_ceil(100) - 1]);
    let (least, most) = (longer[0], longer[longer.len() - 1]);
    say(&format!(
        "load::ttft_10_streams::{}::{}: TTFT - server's own: least {:.0} us, p50 {:.0} us, p99 {:.0} us, most {:.0} us, n {}",
        stack.name(),
        transport(tls),
        least as f64 / 1e3,
        p50 as f64 / 1e3,
        p99 as f64 / 1e3,
        most as f64 / 1e3,
        longer.len(),
    ));
    ensure!(least >= -ROUNDING_NS, "a time to first token is {} ns shorter than the server's own", -least);
    ensure!(p50 <= TTFT_ERROR_NS, "the middle of the error is {p50} ns, more than {TTFT_ERROR_NS}");
    Ok(())
}
