//! What a reported call must say, given what the client and the server said of it.

use anyhow::{Context as _, Result, bail, ensure};
use inferscope_tests::{
    call::Call,
    client::{MODEL, Report},
    go,
    server::{Entry, Uvicorn},
};
use serde_json::{Value, json};

/// A server of the tests.
pub trait Server {
    /// The process id.
    fn pid(&self) -> u32;
    /// The port it listens on.
    fn port(&self) -> u16;
    /// Whether it speaks TLS.
    fn tls(&self) -> bool;
    /// What it logged so far; nothing if it keeps no log.
    fn log(&self) -> Result<Vec<Entry>>;
}

impl Server for Uvicorn {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn tls(&self) -> bool {
        self.tls()
    }

    fn log(&self) -> Result<Vec<Entry>> {
        self.log()
    }
}

/// Compares what a span and its client both say of a call that was captured whole.
pub fn compare(differ: &mut Differences, call: &Call, report: &Report, api: &str) {
    let completion = if report.finish.iter().any(|reason| reason == "length") { "length" } else { "done" };
    let mut attr = |name: &str, want: Value| differ.compare(name, call.attr(name), &want);
    attr("gen_ai.request.model", json!(MODEL));
    attr("gen_ai.response.model", json!(report.model));
    attr("gen_ai.response.id", json!(report.id));
    attr("gen_ai.response.finish_reasons", json!(report.finish));
    attr("gen_ai.usage.input_tokens", json!(report.input_tokens));
    attr("gen_ai.usage.output_tokens", json!(report.output_tokens));
    attr("http.response.status_code", json!(report.status));
    attr("inferscope.api", json!(api));
    attr("inferscope.completion", json!(completion));
    attr("inferscope.capture", json!("complete"));
}

/// The two ends of a call that both were processes on this machine.
pub struct Ends<'a> {
    /// The server.
    pub server: &'a dyn Server,
    /// The client's process.
    pub client_pid: u32,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// `inferscope.api`.
    pub api: &'static str,
}

impl<'a> Ends<'a> {
    /// Of chat calls.
    pub fn chat(server: &'a dyn Server, client_pid: u32, stream: bool) -> Self {
        Self { server, client_pid, stream, api: "openai.chat" }
    }

    /// Checks that each report has exactly one client span and one server span which say what the report says.
    pub fn check(&self, calls: &[Call], reports: &[Report]) -> Result<()> {
        for report in reports {
            let (client, server) = pair(calls, report.id()?)?;
            self.check_one(client, report, self.client_pid)?;
            self.check_one(server, report, self.server.pid())?;
            self.check_link(client, server)?;
        }
        Ok(())
    }

    /// Checks that the two processes have no other calls than `n` each, and each only on its own side.
    pub fn check_nothing_else(&self, calls: &[Call], n: usize) -> Result<()> {
        for (pid, own, other) in [(self.client_pid, "client", "server"), (self.server.pid(), "server", "client")] {
            let of = |kind: &str| calls.iter().filter(|call| is_of(call, pid) && call.kind() == kind).count();
            ensure!(of(own) == n, "{own} spans of process {pid}: {} instead of {n}\n{}", of(own), list(calls));
            ensure!(of(other) == 0, "{other} spans of process {pid}, which is a {own}\n{}", list(calls));
        }
        Ok(())
    }

    fn check_one(&self, call: &Call, report: &Report, pid: u32) -> Result<()> {
        let operation = if self.api == "openai.completions" { "text_completion" } else { "chat" };
        let mut differ = Differences::default();
        compare(&mut differ, call, report, self.api);
        let mut attr = |name: &str, want: Value| differ.compare(name, call.attr(name), &want);
        attr("gen_ai.operation.name", json!(operation));
        attr("gen_ai.provider.name", json!("openai"));
        // Only wget and what Go built have another library than the rest.
        let source = match call.text("process.executable.name") {
            _ if !self.server.tls() => "syscall",
            Some("wget") => "gnutls",
            Some(name) if name.starts_with(go::PREFIX) => "go",
            _ => "openssl",
        };
        attr("inferscope.capture.source", json!(source));
        attr("process.pid", json!(pid));
        if report.input_tokens.is_some() {
            attr("inferscope.usage.source", json!("reported"));
        }
        if !report.tool_calls.is_empty() {
            attr("inferscope.tool_calls", json!(report.tool_calls));
        }
        if self.stream {
            attr("gen_ai.request.stream", json!(true));
            attr("inferscope.chunk.count", json!(report.chunks));
        }
        differ.compare("name", call.json().get("name"), &json!(format!("{operation} {MODEL}")));
        differ.check("status is an error", call.member("status") != Some("error"));
        differ.check("no process.executable.name", call.text("process.executable.name").is_some());
        differ.check("it ends before it starts", start(call)? < number(call, "end_time_unix_nano")?);
        if self.stream {
            let first_token = call.seconds("inferscope.time_to_first_token");
            let first_event = call.seconds("gen_ai.response.time_to_first_chunk");
            differ.check("no time to first token", first_token.is_some_and(|seconds| seconds > 0.0));
            // Both servers send the role first and the first word later.
            differ.check("the role-only event is after the first token", first_event <= first_token);
        }
        differ.into_result(call)
    }

    fn check_link(&self, client: &Call, server: &Call) -> Result<()> {
        let port = json!(self.server.port());
        let mut differ = Differences::default();
        let parent = server.member("parent_span_id").filter(|parent| !parent.is_empty());
        if self.server.tls() {
            // Inside TLS the socket is known only where it could be found out; where it is, it must be right.
            differ.check("the parent is another span", parent.is_none() || parent == client.member("span_id"));
            let peer = client.attr("network.peer.port");
            differ.check("the peer is another port", peer.is_none() || peer == Some(&port));
        } else {
            differ.check("the server span's parent is not the client span", parent == client.member("span_id"));
            differ.check("the trace ids differ", client.member("trace_id") == server.member("trace_id"));
            differ.check("the server began first", start(client)? <= start(server)?);
            differ.compare("network.peer.port", client.attr("network.peer.port"), &port);
            differ.compare("client's server.port", client.attr("server.port"), &port);
            differ.compare("server's server.port", server.attr("server.port"), &port);
            let id = server.id();
            let logged = self.server.log()?.into_iter().find(|entry| entry.id.as_deref() == id);
            let logged = logged.with_context(|| format!("the server logged no {id:?}"))?;
            differ.compare("server's peer", server.attr("network.peer.port"), &json!(logged.peer_port));
        }
        differ.into_result(server)
    }
}

/// The client span and the server span of a response id, each exactly once.
pub fn pair<'a>(calls: &'a [Call], id: &str) -> Result<(&'a Call, &'a Call)> {
    let of = |kind: &str| -> Result<&'a Call> {
        let mut found = calls.iter().filter(|call| call.id() == Some(id) && call.kind() == kind);
        let first = found.next().with_context(|| format!("no {kind} span of {id}\n{}", list(calls)))?;
        ensure!(found.next().is_none(), "more than one {kind} span of {id}\n{}", list(calls));
        Ok(first)
    };
    Ok((of("client")?, of("server")?))
}

/// Whether a call was made or answered by a process.
pub fn is_of(call: &Call, pid: u32) -> bool {
    call.pid() == Some(u64::from(pid))
}

/// A line per call, for messages.
pub fn list(calls: &[Call]) -> String {
    let line = |call: &Call| {
        let [name, end, capture] = [call.member("name"), call.completion(), call.capture()].map(|v| v.unwrap_or("-"));
        format!("  {} {name} id={:?} pid={:?} {end} {capture}", call.kind(), call.id(), call.pid())
    };
    calls.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn start(call: &Call) -> Result<u64> {
    number(call, "start_time_unix_nano")
}

/// Times may be numbers or, as in OTLP's JSON, strings of digits.
fn number(call: &Call, name: &str) -> Result<u64> {
    let value = &call.json()[name];
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.with_context(|| format!("{name} is not a number: {value}"))
}

/// Collects everything that is wrong with a call, so that one failure shows all of it.
#[derive(Default)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Demands equality; a `want` of null demands absence.
    pub fn compare(&mut self, name: &str, got: Option<&Value>, want: &Value) {
        let got = got.unwrap_or(&Value::Null);
        // An empty list says the same as none.
        let same = got == want || (got.is_null() && want == &json!([]));
        if !same {
            self.0.push(format!("{name} is {got} instead of {want}"));
        }
    }

    /// Demands that something holds; `problem` says what is wrong if not.
    pub fn check(&mut self, problem: &str, holds: bool) {
        if !holds {
            self.0.push(problem.to_owned());
        }
    }

    /// An error if there was any difference.
    pub fn into_result(self, call: &Call) -> Result<()> {
        if !self.0.is_empty() {
            bail!("{}\n  in {}", self.0.join("\n  "), call.json());
        }
        Ok(())
    }
}
