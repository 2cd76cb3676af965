//! A recording gives the calls that were seen, every time, on any machine, to anyone.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Kind},
    process::Program,
    server::{Pace, Stack, Uvicorn},
};
use rustix::fs::{Gid, Uid, chown};

use crate::{
    expect::is_of,
    failures::as_nobody,
    scenario::{Need, Room, SOON, Scenarios, transport},
};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for tls in [false, true] {
        let name = format!("replay::equals_trace::{}", transport(tls));
        all.add(name, &[Need::Setpriv], move || equals_trace(tls));
    }
    all.add("replay::cut_recording", &[Need::Setpriv], cut_recording);
}

/// One agent records while another traces; the replay, as nobody, must say what the trace said.
fn equals_trace(tls: bool) -> Result<()> {
    let room = Room::new()?;
    let file = room.file("recording");
    let recorder = Agent::start(&["record".as_ref(), file.as_os_str()])?;
    let tracer = Agent::trace(&[])?;
    let server = talk(&room, tls)?;
    let traced = tracer.stop()?.clean()?.calls()?;
    recorder.stop()?.clean()?;

    let binary = room.agent_for_all()?;
    chown(&file, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).context("there is no recording")?;
    let first = replay(&binary, &file)?;
    let second = replay(&binary, &file)?;
    ensure!(first == second, "two replays of one recording differ");

    let replayed = first.iter().map(|line| Call::parse(line)).collect::<Result<Vec<_>>>()?;
    let facts = |calls: &[Call]| {
        let of_server = calls.iter().filter(|call| is_of(call, server.pid()));
        let mut facts: Vec<_> = of_server.map(|call| call.facts().to_string()).collect();
        facts.sort();
        facts
    };
    let (traced, replayed) = (facts(&traced), facts(&replayed));
    ensure!(traced.len() == 6, "{} of 6 calls were traced", traced.len());
    for (one, other) in traced.iter().zip(&replayed) {
        ensure!(one == other, "traced:\n  {one}\nreplayed:\n  {other}");
    }
    ensure!(traced.len() == replayed.len(), "{} traced, {} replayed", traced.len(), replayed.len());
    Ok(())
}

/// A recording that ends in the middle, as after a full disk: what is whole is replayed, and the rest is no panic.
fn cut_recording() -> Result<()> {
    let room = Room::new()?;
    let file = room.file("recording");
    let recorder = Agent::start(&["record".as_ref(), file.as_os_str()])?;
    talk(&room, false)?;
    recorder.stop()?.clean()?;
    let binary = room.agent_for_all()?;
    let bytes = fs::read(&file).context("there is no recording")?;
    for cut in [0, 1, 16, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        let part = room.file(&format!("cut-{cut}"));
        fs::write(&part, &bytes[..cut])?;
        let program = start_replay(&binary, &part)?;
        let status = program.wait_exit(SOON)?;
        let said = program.stderr().join("\n");
        ensure!(matches!(status.code(), Some(0 | 1)), "cut at {cut}: {status}\n{said}");
        ensure!(!said.contains("panicked"), "cut at {cut}:\n{said}");
        ensure!(status.success() || !said.is_empty(), "cut at {cut}: it failed without a word");
    }
    Ok(())
}

fn talk(room: &Room, tls: bool) -> Result<Uvicorn> {
    let server = Uvicorn::start(Stack::Fast, room.pki(tls)?.as_ref(), Pace::QUICK, room.path())?;
    let variants: [&[&str]; 3] = [&[], &["--tools"], &["--model", "no-such-model"]];
    for options in variants {
        for stream in [true, false] {
            let client = Client::new(Kind::OpenAiSync, &server.base_url(), server.ca()).stream(stream);
            client.options(options.iter().copied()).run(SOON)?;
        }
    }
    Ok(server)
}

fn replay(binary: &Path, file: &Path) -> Result<Vec<String>> {
    let program = start_replay(binary, file)?;
    program.wait_success(Duration::from_secs(60)).context("replay as nobody")?;
    Ok(program.stdout())
}

fn start_replay(binary: &Path, file: &Path) -> Result<Program> {
    let mut command: Command = as_nobody(binary);
    command.arg("replay").arg(file).args(["--output", "jsonl"]);
    Program::spawn("inferscope replay", &mut command)
}
