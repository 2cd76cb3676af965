//! One exchange, and the file of recorded ones.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::Want;
use crate::place;

/// The file of recordings.
const FILE: &str = "ruby_llm.jsonl.xz";

/// What stands in the recordings for what the recorder was not to tell, and a value that such a thing can have.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("<AWS_REGION>", "us-east-1"),
    ("<GOOGLE_CLOUD_PROJECT>", "project"),
    ("<GOOGLE_CLOUD_LOCATION>", "us-central1"),
    ("<OLLAMA_API_BASE>", "/v1"),
    ("<GPUSTACK_API_BASE>", "/v1-openai"),
];

/// Headers that belong to the connection or to a body's form, which are a replay's own.
const OF_THE_CONNECTION: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "connection",
    "keep-alive",
    "expect",
    "te",
    "upgrade",
];

/// Headers and body of a request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Lower-case names and values; those of the connection are left out.
    pub headers: Vec<(String, String)>,
    /// The body, without any encoding.
    pub body: Vec<u8>,
}

impl Message {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// Whether the body is Server-Sent Events.
    pub fn is_sse(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }
}

/// One exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Number among the rows of one replay; it reaches the spans, see [`Row::authority`].
    pub index: usize,
    /// Where it comes from, for messages.
    pub name: String,
    /// The corpus' word for the API.
    pub api: String,
    /// Method.
    pub method: String,
    /// Host without a port.
    pub host: String,
    /// Path with the query.
    pub target: String,
    /// What the client sends.
    pub request: Message,
    /// Status of the answer.
    pub status: u16,
    /// What the server answers.
    pub response: Message,
    /// What its spans must say.
    pub want: Want,
}

impl Row {
    /// Row 0's port in [`Row::authority`].
    const FIRST_PORT: u64 = 10_000;

    /// The authority that the request names. Its port is the row's number: it reaches both spans as `server.port`, in
    /// every version of HTTP and however many rows share a connection.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, Self::FIRST_PORT + self.index as u64)
    }

    /// The number of the row whose authority had this port.
    pub fn index_of_port(port: u64) -> Option<usize> {
        usize::try_from(port.checked_sub(Self::FIRST_PORT)?).ok()
    }
}

/// Why the recorded exchanges cannot be read, if so.
pub fn missing() -> Option<String> {
    match (file(), place::on_path("xz")) {
        (None, _) => Some(format!("there are no recordings: set INFERSCOPE_CORPUS to {FILE}")),
        (_, None) => Some("xz is not installed".to_owned()),
        _ => None,
    }
}

/// The recorded exchanges.
pub fn recorded() -> Result<Vec<Row>> {
    let path = file().context("there are no recordings")?;
    let mut xz = Command::new("xz").arg("-dc").arg(&path).stdout(Stdio::piped()).spawn().context("cannot run xz")?;
    let lines = BufReader::new(xz.stdout.take().context("no stdout")?).lines();
    let rows = lines.enumerate().map(|(index, line)| parse(index, &line?)).collect::<Result<Vec<_>>>()?;
    ensure!(xz.wait()?.success(), "xz cannot read {}", path.display());
    Ok(rows)
}

fn file() -> Option<PathBuf> {
    let beside = [place::workspace().join("shared"), place::workspace().join("../shared")];
    let beside = beside.into_iter().map(|dir| dir.join("corpus").join(FILE));
    env::var_os("INFERSCOPE_CORPUS").map(PathBuf::from).into_iter().chain(beside).find(|path| path.is_file())
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    path: String,
    i: u64,
    method: String,
    host: String,
    url: String,
    urlpath: String,
    api: String,
    req_model: Option<String>,
    status: u16,
    req_headers: serde_json::Map<String, Value>,
    resp_headers: serde_json::Map<String, Value>,
    req_body_b64: Option<String>,
    resp_body_b64: Option<String>,
    expected: Value,
}

fn parse(index: usize, line: &str) -> Result<Row> {
    let line: Line = serde_json::from_str(line)?;
    let query = line.url.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    // Rows of local engines name no host.
    let host = if line.host.is_empty() { "localhost" } else { &line.host };
    let message = |headers, body: Option<String>| -> Result<Message> {
        Ok(Message { headers: kept(headers), body: base64(body.as_deref().unwrap_or_default())? })
    };
    let response = message(&line.resp_headers, line.resp_body_b64)?;
    Ok(Row {
        index,
        name: format!("{} {}", line.path, line.i),
        want: Want::of(&line.api, line.req_model, line.status, &response, &line.expected),
        api: line.api,
        method: line.method,
        host: filled(&host.to_uppercase()).to_lowercase(),
        target: filled(&line.urlpath) + &query,
        request: message(&line.req_headers, line.req_body_b64)?,
        status: line.status,
        response,
    })
}

/// A text with a value in the place of each placeholder.
fn filled(text: &str) -> String {
    PLACEHOLDERS.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn kept(headers: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for (name, values) in headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str())) {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        kept.extend(values.iter().filter_map(Value::as_str).map(|value| (name.clone(), value.to_owned())));
    }
    kept
}

fn base64(text: &str) -> Result<Vec<u8>> {
    let (mut out, mut bits, mut n) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => bail!("byte {other} is not base64"),
        };
        (bits, n) = (bits << 6 | u32::from(value), n + 6);
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_row_with_its_placeholders_filled() {
        let line = serde_json::json!({
            "path": "a.yml", "i": 3, "method": "POST", "api": "gemini.generate", "status": 200, "req_model": null,
            "host": "bedrock-runtime.<aws_region>.amazonaws.com", "url": "https://x/p?alt=sse",
            "urlpath": "/projects/<GOOGLE_CLOUD_PROJECT>/m:generateContent",
            "req_headers": {"host": ["x"], "accept": ["a", "b"]}, "resp_headers": {"transfer-encoding": ["chunked"]},
            "req_body_b64": "aGVsbG8=", "resp_body_b64": null, "expected": {"n_objs": 1},
        });
        let row = parse(7, &line.to_string()).unwrap();
        assert_eq!(row.target, "/projects/project/m:generateContent?alt=sse");
        assert_eq!(row.authority(), "bedrock-runtime.us-east-1.amazonaws.com:10007");
        assert_eq!(Row::index_of_port(10_007), Some(7));
        assert_eq!(Row::index_of_port(443), None);
        let accept = |value: &str| ("accept".to_owned(), value.to_owned());
        assert_eq!(row.request, Message { headers: vec![accept("a"), accept("b")], body: b"hello".to_vec() });
        assert_eq!(row.response, Message::default());
    }

    #[test]
    fn base64_of_any_length_is_read_and_other_bytes_are_refused() {
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!(base64("YQ==").unwrap(), b"a");
        assert_eq!(base64("+/8A").unwrap(), [0xfb, 0xff, 0]);
        assert!(base64("a-b").is_err());
    }
}
