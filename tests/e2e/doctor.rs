//! What `inferscope doctor` says of real processes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    client::{Client, Kind},
    place,
    process::Program,
    server::{ModelServer, Pace, Stack, Uvicorn},
};
use serde_json::Value;

use crate::scenario::{Need, Room, SOON, Scenarios};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("doctor::captured_and_not", &[Need::Curl], captured_and_not);
    all.add("doctor::for_people", &[], for_people);
}

/// A program whose TLS is read, one whose TLS cannot be read, one without TLS, and one that does nothing.
fn captured_and_not() -> Result<()> {
    let (room, other) = (Room::new()?, Room::new()?);
    let pki = room.pki(true)?;
    let tls = Uvicorn::start(Stack::Fast, pki.as_ref(), Pace::SLOW, room.path())?;
    let idle = Uvicorn::start(Stack::Fast, pki.as_ref(), Pace::SLOW, room.path())?;
    let plain = Uvicorn::start(Stack::Fast, None, Pace::SLOW, other.path())?;
    // rustls, of which no function has a name.
    let rustls = ModelServer::start(&place::model_server()?, Pace { chunks: 2000, ..Pace::SLOW }, room.path())?;
    let stream = |url: &str, ca| {
        let client = Client::new(Kind::OpenAiSync, url, ca).stream(true).options(["--announce-first"]).spawn()?;
        client.wait_first_chunks(1, SOON)?;
        anyhow::Ok(client)
    };
    let clients = [
        stream(&tls.base_url(), tls.ca())?,
        stream(&plain.base_url(), None)?,
        stream(&rustls.https_url(), Some(rustls.ca()))?,
    ];
    let mut doctor = Command::new(place::agent()?);
    doctor.args(["doctor", "--output", "json", "--watch", "4s"]);
    let doctor = Program::spawn("doctor", &mut doctor)?;
    doctor.wait_success(SOON)?;
    let lines = doctor.wait_for("state", SOON, |state| Some(state.stdout.clone()))?;
    let report: Value = serde_json::from_str(&lines.join("\n"))?;
    let of = |pid: u32| -> Result<&Value> {
        let processes = report["processes"].as_array().context("no processes")?;
        processes.iter().find(|process| process["pid"] == pid).with_context(|| format!("{pid} is not there: {report}"))
    };
    for (pid, verdict) in [
        (tls.pid(), "tls_read"),
        (clients[0].pid(), "tls_read"),
        (idle.pid(), "waiting"),
        (plain.pid(), "plain"),
        (rustls.pid(), "tls_no_functions"),
    ] {
        let process = of(pid)?;
        ensure!(process["verdict"] == verdict, "{pid} is not {verdict}: {process}");
    }
    let read = of(tls.pid())?;
    let (records, plaintext) = (read["tls_bytes"]["written"].as_u64(), read["plaintext_bytes"]["written"].as_u64());
    ensure!(plaintext > Some(0) && records > plaintext, "records are longer than their plaintext: {read}");
    let file = read["files"][0].as_str().context("no library")?;
    let files = report["files"].as_array().context("no files")?;
    let file = files.iter().find(|known| known["path"] == file).context("a library that is not listed")?;
    ensure!(file["calls"].as_u64() > Some(0) && file["evidence"] == "symbols", "the probes were not hit: {file}");
    ensure!(report["checks"][0]["works"] == true, "{report}");
    Ok(())
}

/// The same for a terminal.
fn for_people() -> Result<()> {
    let mut doctor = Command::new(place::agent()?);
    doctor.args(["doctor", "--watch", "0ms"]);
    let doctor = Program::spawn("doctor", &mut doctor)?;
    doctor.wait_success(SOON)?;
    let lines = doctor.wait_for("state", SOON, |state| Some(state.stdout.clone()))?;
    for part in ["This host", "kernel programs: loaded and attached", "Files with probes", "Processes"] {
        ensure!(lines.iter().any(|line| line.contains(part)), "no line has '{part}': {lines:?}");
    }
    Ok(())
}
