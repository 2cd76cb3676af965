//! One call to the engine, as a client that believes nothing: it counts tokens itself and stamps what it sees.
//!
//! Reads HTTP/1.1 by hand, so that a stamp is taken when the bytes are there, and a client can leave in the middle.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use super::timeline::now_ns;

/// Bytes that are read at once.
const READ: usize = 16 << 10;

/// Largest head of a response.
const MAX_HEAD: usize = 16 << 10;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// How many of them the engine has cached.
    pub cached: u32,
    /// Tokens of the answer.
    pub output: u32,
    /// Whether to stream.
    pub stream: bool,
    /// Close the connection after so many tokens.
    pub leave_after: Option<u32>,
    /// Wait so long before every read: a client that is slow.
    pub pause: Duration,
}

impl Ask {
    /// A stream of `output` tokens for `prompt` tokens.
    pub fn stream(prompt: u32, output: u32) -> Self {
        Self { prompt, cached: 0, output, stream: true, leave_after: None, pause: Duration::ZERO }
    }

    /// The request, head and body.
    pub fn request(&self) -> String {
        let words = vec!["word"; self.prompt as usize].join(" ");
        let mut body = json!({
            "model": "inferscope/mock-8b", "messages": [{"role": "user", "content": words}],
            "max_tokens": self.output, "stream": self.stream, "mock": {"cached_tokens": self.cached},
        });
        if self.stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        let body = body.to_string();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// How a call ended for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All of the answer came.
    Done,
    /// It closed, as it was asked to.
    Left,
    /// The engine answered with an error, or a chunk of the stream was one.
    Refused(String),
    /// The connection ended before the answer did.
    Cut,
}

/// What a client saw. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// What was asked.
    pub ask: Ask,
    /// When the request was due; zero if it was by no schedule.
    pub due_ns: u64,
    /// When the request was about to be written.
    pub sent_ns: u64,
    /// When the first token had come, of a stream.
    pub first_token_ns: Option<u64>,
    /// When the last token had come.
    pub last_token_ns: Option<u64>,
    /// When it was over.
    pub end_ns: u64,
    /// HTTP status.
    pub status: Option<u16>,
    /// The response's id.
    pub id: Option<String>,
    /// Chunks with content.
    pub tokens: u32,
    /// `usage` of the answer.
    pub usage: Option<Usage>,
    /// How it ended.
    pub end: End,
}

/// What the engine says that it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
    /// Tokens of the prompt that were cached.
    pub cached: u64,
}

/// Makes one call. The connection can be used again if the call is [`End::Done`].
///
/// # Errors
/// If the request cannot be written, or what comes is no HTTP.
pub async fn call(connection: &mut TcpStream, ask: Ask) -> Result<Called> {
    let sent_ns = now_ns();
    connection.write_all(ask.request().as_bytes()).await.context("cannot write the request")?;
    let mut called = Called {
        ask,
        due_ns: 0,
        sent_ns,
        first_token_ns: None,
        last_token_ns: None,
        end_ns: 0,
        status: None,
        id: None,
        tokens: 0,
        usage: None,
        end: End::Cut,
    };
    let mut input = Input { connection, buffer: Vec::new(), pause: ask.pause };
    if let Some(head) = input.head().await? {
        called.status = Some(head.status);
        match head.length {
            Some(length) => {
                if let Some(body) = input.take(length).await? {
                    called.whole(&body)?;
                }
            }
            None => called.read_events(&mut input).await?,
        }
    }
    called.end_ns = now_ns();
    Ok(called)
}

impl Called {
    fn whole(&mut self, body: &[u8]) -> Result<()> {
        let body: Value = serde_json::from_slice(body).context("the answer is not JSON")?;
        if !body["error"].is_null() {
            self.end = End::Refused(body["error"]["message"].as_str().unwrap_or_default().to_owned());
            return Ok(());
        }
        self.id = body["id"].as_str().map(str::to_owned);
        self.usage = Usage::of(&body["usage"]);
        let text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        self.tokens = u32::try_from(text.split_whitespace().count())?;
        self.end = End::Done;
        Ok(())
    }

    async fn read_events(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut text = Vec::new();
        let mut done = false;
        while let Some(chunk) = input.chunk().await? {
            if chunk.is_empty() {
                if done && self.end == End::Cut {
                    self.end = End::Done;
                }
                return Ok(());
            }
            text.extend_from_slice(&chunk);
            while let Some(at) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..at + 2).collect();
                done |= self.event(&event)?;
            }
            if self.ask.leave_after.is_some_and(|after| self.tokens >= after) {
                self.end = End::Left;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes one event; true if it is the mark of the end.
    fn event(&mut self, event: &[u8]) -> Result<bool> {
        let data = event.strip_prefix(b"data: ").context("an event without data")?.trim_ascii_end();
        if data == b"[DONE]" {
            return Ok(true);
        }
        let chunk: Value = serde_json::from_slice(data).context("an event is not JSON")?;
        if !chunk["error"].is_null() {
            self.end = End::Refused(chunk["error"]["message"].as_str().unwrap_or_default().to_owned());
            return Ok(false);
        }
        if self.id.is_none() {
            self.id = chunk["id"].as_str().map(str::to_owned);
        }
        if let Some(usage) = Usage::of(&chunk["usage"]) {
            self.usage = Some(usage);
        }
        if chunk["choices"][0]["delta"]["content"].as_str().is_some_and(|content| !content.is_empty()) {
            let now = now_ns();
            self.tokens += 1;
            self.first_token_ns.get_or_insert(now);
            self.last_token_ns = Some(now);
        }
        Ok(false)
    }
}

impl Usage {
    fn of(usage: &Value) -> Option<Self> {
        Some(Self {
            prompt: usage["prompt_tokens"].as_u64()?,
            completion: usage["completion_tokens"].as_u64()?,
            cached: usage["prompt_tokens_details"]["cached_tokens"].as_u64()?,
        })
    }
}

struct Head {
    status: u16,
    /// `None`: the body comes in chunks.
    length: Option<usize>,
}

/// What comes on a connection. Everything returns `None` where it ends too early.
struct Input<'a> {
    connection: &'a mut TcpStream,
    buffer: Vec<u8>,
    pause: Duration,
}

impl Input<'_> {
    async fn more(&mut self) -> Result<bool> {
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        self.buffer.reserve(READ);
        match self.connection.read_buf(&mut self.buffer).await {
            Ok(n) => Ok(n > 0),
            // An engine that is killed resets its connections.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes up to and with `end`.
    async fn until(&mut self, end: &[u8]) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|bytes| bytes == end) {
                return Ok(Some(self.buffer.drain(..at + end.len()).collect()));
            }
            if self.buffer.len() > MAX_HEAD {
                bail!("no end of the head in {MAX_HEAD} bytes");
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn take(&mut self, n: usize) -> Result<Option<Vec<u8>>> {
        while self.buffer.len() < n {
            if !self.more().await? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.drain(..n).collect()))
    }

    async fn head(&mut self) -> Result<Option<Head>> {
        let Some(head) = self.until(b"\r\n\r\n").await? else { return Ok(None) };
        let head = String::from_utf8(head).context("the head is no text")?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Ok(Some(Head { status: status.with_context(|| format!("no HTTP: {head}"))?, length }))
    }

    /// The next chunk of the body; an empty one is its end.
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(size) = self.until(b"\r\n").await? else { return Ok(None) };
        let size = std::str::from_utf8(&size)?.trim_end();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("no size of a chunk: {size:?}"))?;
        let chunk = self.take(size + 2).await?;
        Ok(chunk.map(|mut chunk| {
            chunk.truncate(size);
            chunk
        }))
    }
}
