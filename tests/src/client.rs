//! Real client programs, and what each says about its own calls.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    place,
    process::{Program, State, Stream},
};

/// The model that both test servers serve.
pub const MODEL: &str = "inferscope-test-model";

/// What curl prints after the body, so that the status is known.
const CURL_STATUS: &str = "curl-http-status ";

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The `openai` package's blocking client.
    OpenAiSync,
    /// The `openai` package's asyncio client.
    OpenAiAsync,
    /// curl.
    Curl,
    /// wget, whose TLS is GnuTLS.
    Wget,
    /// Node's `http` and `https` modules.
    NodeHttp,
    /// Node's `fetch`.
    NodeFetch,
    /// Node's `http2` module.
    NodeHttp2,
    /// A script over OpenSSL 1.1.1.
    OpenSsl11,
}

impl Kind {
    /// All that are on a machine anyway.
    pub const ALL: [Self; 6] =
        [Self::OpenAiSync, Self::OpenAiAsync, Self::Curl, Self::Wget, Self::NodeHttp, Self::NodeFetch];

    /// For names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiSync => "openai_sync",
            Self::OpenAiAsync => "openai_async",
            Self::Curl => "curl",
            Self::Wget => "wget",
            Self::NodeHttp => "node_http",
            Self::NodeFetch => "node_fetch",
            Self::NodeHttp2 => "node_http2",
            Self::OpenSsl11 => "openssl_1_1",
        }
    }

    fn is_node(self) -> bool {
        matches!(self, Self::NodeHttp | Self::NodeFetch | Self::NodeHttp2)
    }
}

/// How to call.
#[derive(Clone, Debug)]
pub struct Client {
    /// Which program.
    pub kind: Kind,
    /// For example `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// Authority to trust, for https.
    pub ca: Option<PathBuf>,
    /// Whether to ask for a stream.
    pub stream: bool,
    /// The user's message.
    pub prompt: String,
    /// The API key.
    pub key: String,
    /// Interpreter for the `openai` clients; the test virtualenv's when absent.
    pub python: Option<PathBuf>,
    /// Options of the client's own command line.
    pub options: Vec<OsString>,
}

impl Client {
    /// A client of `base_url` with plain defaults.
    pub fn new(kind: Kind, base_url: &str, ca: Option<&Path>) -> Self {
        Self {
            kind,
            base_url: base_url.to_owned(),
            ca: ca.map(Path::to_owned),
            stream: false,
            prompt: "Say a few words.".to_owned(),
            key: "sk-test".to_owned(),
            python: None,
            options: Vec::new(),
        }
    }

    /// Asks for a stream.
    pub fn stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    /// Adds options of the client's own command line.
    pub fn options<S: Into<OsString>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Starts the client.
    pub fn spawn(&self) -> Result<Running> {
        let mut command = match self.kind {
            Kind::Curl => self.curl(),
            Kind::Wget => self.wget(),
            Kind::OpenSsl11 => self.openssl_1_1()?,
            kind if kind.is_node() => self.node(),
            _ => self.openai()?,
        };
        // A proxy that the environment names would stand between the two ends.
        command.env("NO_PROXY", "*").env("no_proxy", "*");
        let program = Program::spawn(self.kind.name(), &mut command)?;
        Ok(Running { program, kind: self.kind, stream: self.stream })
    }

    /// Runs the client to its end.
    pub fn run(&self, timeout: Duration) -> Result<Finished> {
        self.spawn()?.finish(timeout)
    }

    fn openai(&self) -> Result<Command> {
        let python = self.python.clone().map_or_else(place::python, Ok)?;
        let mut command = Command::new(python);
        command.arg(place::script("client_openai.py"));
        command.args(["--mode", if self.kind == Kind::OpenAiSync { "sync" } else { "async" }]);
        self.common(&mut command);
        Ok(command)
    }

    fn node(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(place::script("client_node.mjs"));
        let via = match self.kind {
            Kind::NodeHttp => "http",
            Kind::NodeHttp2 => "http2",
            _ => "fetch",
        };
        command.args(["--via", via]);
        if let Some(ca) = self.ca.as_ref().filter(|_| self.kind == Kind::NodeFetch) {
            command.env("NODE_EXTRA_CA_CERTS", ca);
        }
        self.common(&mut command);
        command
    }

    fn common(&self, command: &mut Command) {
        command.args(["--base-url", &self.base_url, "--prompt", &self.prompt, "--api-key", &self.key]);
        if let Some(ca) = &self.ca {
            command.arg("--ca").arg(ca);
        }
        if self.stream {
            command.arg("--stream");
        }
        command.args(&self.options);
    }

    /// The request's body, for clients that take it as it is.
    fn body(&self) -> String {
        let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": self.prompt}]});
        if self.stream {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    }

    fn wget(&self) -> Command {
        let mut command = Command::new("wget");
        command.args(["--quiet", "--output-document=-", "--tries=1", "--header", "content-type: application/json"]);
        command.args(["--header", &format!("authorization: Bearer {}", self.key)]);
        command.arg(format!("--post-data={}", self.body()));
        if let Some(ca) = &self.ca {
            command.arg(format!("--ca-certificate={}", ca.display()));
        }
        command.args(&self.options);
        command.arg(format!("{}/chat/completions", self.base_url));
        command
    }

    fn openssl_1_1(&self) -> Result<Command> {
        let mut command = Command::new(place::python()?);
        command.arg(place::script("client_openssl_1_1.py"));
        command.args(["--url", &format!("{}/chat/completions", self.base_url), "--body", &self.body()]);
        command.args(["--header", "content-type: application/json"]);
        command.args(["--header", &format!("authorization: Bearer {}", self.key)]);
        if let Some(ca) = &self.ca {
            command.arg("--ca").arg(ca);
        }
        command.args(&self.options);
        Ok(command)
    }

    fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--no-buffer", "--header", "content-type: application/json"]);
        command.args(["--header", &format!("authorization: Bearer {}", self.key), "--data", &self.body()]);
        command.args(["--write-out", &format!("\n{CURL_STATUS}%{{http_code}}\n")]);
        if let Some(ca) = &self.ca {
            command.arg("--cacert").arg(ca);
        }
        command.args(&self.options);
        command.arg(format!("{}/chat/completions", self.base_url));
        command
    }
}

/// A client at work.
#[derive(Debug)]
pub struct Running {
    program: Program,
    kind: Kind,
    stream: bool,
}

impl Running {
    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Waits until a client with `--announce-first` has `n` streams under way.
    pub fn wait_first_chunks(&self, n: usize, timeout: Duration) -> Result<()> {
        self.program.wait_for("first chunks", timeout, |state| {
            let seen = state.stdout.iter().filter(|line| line.contains(r#""event""#)).count();
            (seen >= n).then_some(())
        })
    }

    /// Waits until `n` calls were reported.
    pub fn wait_reports(&self, n: usize, timeout: Duration) -> Result<Vec<Report>> {
        self.program.wait_for("reports", timeout, |state| {
            let reports = self.reports(state);
            (reports.len() >= n).then_some(reports)
        })
    }

    /// Waits for the client's end.
    pub fn finish(self, timeout: Duration) -> Result<Finished> {
        self.program.wait_success(timeout)?;
        let reports = self.program.wait_for("state", timeout, |state| Some(self.reports(state)))?;
        Ok(Finished { pid: self.pid(), reports })
    }

    fn reports(&self, state: &State) -> Vec<Report> {
        if self.kind == Kind::Wget {
            // It prints no status; any but 200 makes it fail, which is noticed before this is asked.
            let mut lines = state.lines(Stream::Stdout).to_vec();
            lines.push(format!("{CURL_STATUS}200"));
            return Report::from_body(&lines, self.stream).into_iter().collect();
        }
        if matches!(self.kind, Kind::Curl | Kind::OpenSsl11) {
            return Report::from_body(state.lines(Stream::Stdout), self.stream).into_iter().collect();
        }
        let objects = state.stdout.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects.filter(|value| value.get("end").is_some()).map(|value| Report::from_line(&value)).collect()
    }
}

/// A client that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its process id.
    pub pid: u32,
    /// What it said of each call, in the order of their ends.
    pub reports: Vec<Report>,
}

impl Finished {
    /// The only call.
    pub fn only(&self) -> Result<&Report> {
        let [report] = self.reports.as_slice() else { anyhow::bail!("not one report: {:?}", self.reports) };
        Ok(report)
    }
}

/// What a client saw of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// HTTP status.
    pub status: Option<u64>,
    /// The response's id.
    pub id: Option<String>,
    /// The response's model.
    pub model: Option<String>,
    /// Chunks with content or a tool call; absent when not streamed.
    pub chunks: Option<u64>,
    /// `usage.prompt_tokens`.
    pub input_tokens: Option<u64>,
    /// `usage.completion_tokens`.
    pub output_tokens: Option<u64>,
    /// Finish reasons, one per choice.
    pub finish: Vec<String>,
    /// Names of called tools.
    pub tool_calls: Vec<String>,
    /// Code of an error.
    pub error: Option<String>,
    /// `done`, `stopped`, `broken` or `refused`.
    pub end: String,
}

impl Report {
    /// The response's id, which the call must have had.
    pub fn id(&self) -> Result<&str> {
        self.id.as_deref().with_context(|| format!("the client saw no id: {self:?}"))
    }

    /// Reads the line that a client prints for a call.
    pub fn from_line(line: &Value) -> Self {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        Self {
            status: line["status"].as_u64(),
            id: text("id"),
            model: text("model"),
            chunks: line["chunks"].as_u64(),
            input_tokens: line["usage"]["prompt_tokens"].as_u64(),
            output_tokens: line["usage"]["completion_tokens"].as_u64(),
            finish: strings(&line["finish"]),
            tool_calls: strings(&line["tool_calls"]),
            error: text("error"),
            end: text("end").unwrap_or_default(),
        }
    }

    /// Reads what curl printed: a body, streamed or not, and the status line that ends it.
    fn from_body(lines: &[String], stream: bool) -> Option<Self> {
        let status = lines.iter().find_map(|line| line.strip_prefix(CURL_STATUS))?.parse().ok();
        let mut report = Self { status, chunks: stream.then_some(0), end: "broken".into(), ..Self::default() };
        for line in lines {
            let data = line.strip_prefix("data: ").unwrap_or(line);
            if data == "[DONE]" {
                report.end = "done".into();
            } else if let Ok(object @ Value::Object(_)) = serde_json::from_str::<Value>(data) {
                report.absorb(&object);
            }
        }
        if status != Some(200) {
            report.end = "refused".into();
        } else if !stream {
            report.end = "done".into();
        }
        Some(report)
    }

    fn absorb(&mut self, object: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.id = self.id.take().or_else(|| text(&object["id"]));
        self.model = self.model.take().or_else(|| text(&object["model"]));
        self.error = self.error.take().or_else(|| text(&object["error"]["code"]));
        self.input_tokens = object["usage"]["prompt_tokens"].as_u64().or(self.input_tokens);
        self.output_tokens = object["usage"]["completion_tokens"].as_u64().or(self.output_tokens);
        for choice in object["choices"].as_array().into_iter().flatten() {
            let content = choice["delta"]["content"].as_str().is_some_and(|content| !content.is_empty());
            self.chunks = self.chunks.map(|chunks| chunks + u64::from(content));
            self.finish.extend(text(&choice["finish_reason"]));
        }
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_curl_printed_is_read_like_a_client_would() {
        let printed = r#"data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}

data: {"id":"a","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"a","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}

data: [DONE]

curl-http-status 200"#;
        let lines: Vec<_> = printed.lines().map(str::to_owned).collect();
        let expect = Report {
            status: Some(200),
            id: Some("a".into()),
            model: Some("m".into()),
            chunks: Some(1),
            input_tokens: Some(3),
            output_tokens: Some(1),
            finish: vec!["stop".into()],
            end: "done".into(),
            ..Report::default()
        };
        assert_eq!(Report::from_body(&lines, true), Some(expect));
        assert_eq!(Report::from_body(&lines[..3], true), None, "without the status it is not over");
    }
}
