//! Calls over gRPC's own runtime: Triton's inference and Qdrant's search, unary and streamed, compressed, failed.
//!
//! The server is `python/grpc_server.py`, a mock of the two, the client `python/grpc_client.py`; what the client saw, it says in
//! the terms of a span.

use std::process::Command;

use anyhow::Result;
use inferscope_tests::{
    agent::Agent,
    place,
    process::{Program, Stream},
};

use crate::{
    scenario::{SOON, Scenarios},
    sdks::judge,
};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("grpc::plain", &[], calls);
}

fn calls() -> Result<()> {
    let agent = Agent::trace(&[])?;
    let python = || -> Result<Command> { Ok(Command::new(place::python()?)) };
    let server = Program::spawn("grpc_server", python()?.arg(place::script("grpc_server.py")))?;
    let ready = server.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
    let port = ready.trim_start_matches("ready ");
    let client = Program::spawn("grpc_client", python()?.arg(place::script("grpc_client.py")).arg(port))?;
    judge("grpc::plain", agent, &server, &client, false)
}
