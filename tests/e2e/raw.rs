//! The two ends of a connection in the test's own hands, for bytes that no proper program sends.
//!
//! Both ends are this process, so the agent sees a client and a server with the test's pid.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use inferscope_tests::client::MODEL;
use serde_json::json;

use crate::scenario::SOON;

/// A server that answers each connection's first request with the next of its answers and closes.
pub struct Canned {
    port: u16,
    thread: JoinHandle<Result<()>>,
}

impl Canned {
    /// Starts one that serves as many connections as there are answers, one after the other.
    pub fn start(answers: Vec<Vec<u8>>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let thread = thread::spawn(move || {
            for answer in answers {
                let (mut socket, _) = listener.accept()?;
                socket.set_read_timeout(Some(SOON))?;
                read_request(&mut socket)?;
                socket.write_all(&answer)?;
                // Only writing ends here: closing with unread bytes would send a reset, which may overtake the answer.
                socket.shutdown(Shutdown::Write)?;
                drain(&mut socket)?;
            }
            Ok(())
        });
        Ok(Self { port, thread })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until every answer was given.
    pub fn join(self) -> Result<()> {
        self.thread.join().map_err(|_| anyhow!("the canned server panicked"))?
    }
}

/// A chat request for a stream, whole.
pub fn request(model: &str) -> Vec<u8> {
    let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hello there"}],
        "stream_options": {"include_usage": true}});
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// A whole streamed answer with three words: status line, headers and a chunked body.
pub fn answer() -> Vec<u8> {
    let event = |choices, usage| {
        let event = json!({"id": "chatcmpl-raw", "object": "chat.completion.chunk", "model": MODEL,
            "choices": choices, "usage": usage});
        format!("data: {event}\n\n")
    };
    let word =
        |word: &str| event(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]), json!(null));
    let events = [
        word("one "),
        word("two "),
        word("three "),
        event(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), json!(null)),
        event(json!([]), json!({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5})),
        "data: [DONE]\n\n".to_owned(),
    ];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let chunk = |event: &String| format!("{:x}\r\n{event}\r\n", event.len());
    let body: String = events.iter().map(chunk).collect();
    (head + &body + "0\r\n\r\n").into_bytes()
}

/// Opens a connection, sends `bytes` and reads until the other end closes.
pub fn exchange(port: u16, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut socket = connect(port)?;
    // The other end may have enough before it has read everything.
    let _refused = socket.write_all(bytes);
    drain(&mut socket)
}

/// Opens a connection.
pub fn connect(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// Reads until the other end closes, whether in peace or not.
pub fn drain(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => Ok(all),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(all),
        Err(error) => Err(error).context("the other end neither answers nor closes"),
    }
}

/// Reads until `enough` is in what was read.
pub fn read_until(socket: &mut TcpStream, enough: &str) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(enough) {
        let n = socket.read(&mut buffer)?;
        anyhow::ensure!(n > 0, "closed before {enough:?}");
        seen.extend_from_slice(&buffer[..n]);
    }
    Ok(())
}

/// Reads a request with a Content-Length, or as much of one as comes.
pub fn read_request(socket: &mut TcpStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&seen);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse()? {
                return Ok(());
            }
        }
        let n = socket.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&buffer[..n]);
    }
}

/// Bytes without any meaning, the same on every run: a xorshift sequence.
pub fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..n).map(|_| next()).collect()
}
