//! Every byte of a request and of its answer, from the number of the call and its shape.
//!
//! The form is that of OpenAI's chat completions. A word is seven letters and a blank, so that lengths can be chosen to
//! the byte, and counts as one token. One content chunk is one SSE event, one HTTP chunk and one write.

use serde::{Deserialize, Serialize};

/// The model that requests and answers name.
pub const MODEL: &str = "inferscope-load";

/// The one path that the server knows.
pub const PATH: &str = "/v1/chat/completions";

/// The header that tells the server what to answer.
const HEADER: &str = "x-load";

/// Bytes of a word, the blank behind it included.
pub const WORD: usize = 8;

/// What a call looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Words of the prompt.
    pub prompt_words: u32,
    /// Content chunks of the answer; of one that is not streamed, what its words are counted in.
    pub chunks: u32,
    /// Words of a chunk.
    pub chunk_words: u32,
    /// From the request to the first chunk, in microseconds.
    pub first_us: u32,
    /// Between two chunks, in microseconds.
    pub interval_us: u32,
}

impl Shape {
    /// Tokens of the answer.
    pub fn answer_words(&self) -> u64 {
        u64::from(self.chunks) * u64::from(self.chunk_words)
    }

    /// How long the answer takes at least, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        let gaps = if self.stream { u64::from(self.chunks.saturating_sub(1)) } else { 0 };
        (u64::from(self.first_us) + gaps * u64::from(self.interval_us)) * 1000
    }
}

/// The id of a call's response.
pub fn response_id(call: u64) -> String {
    format!("chatcmpl-load-{call}")
}

/// The number of the call that a response id belongs to, if it is one of ours.
pub fn call_of(id: &str) -> Option<u64> {
    id.strip_prefix("chatcmpl-load-")?.parse().ok()
}

/// What the words of a call are for: prompt and answer have different ones.
#[derive(Clone, Copy)]
enum Part {
    Prompt = 0,
    Answer = 1,
}

/// SplitMix64 (Steele, Lea, Flood 2014): well spread numbers from a counter.
fn spread(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Appends words `from..to` of one part of a call.
fn push_words(out: &mut String, call: u64, part: Part, words: std::ops::Range<u32>) {
    for at in words {
        let mut bits = spread(call << 33 | (part as u64) << 32 | u64::from(at));
        for _ in 1..WORD {
            out.push(char::from(b'a' + (bits & 15) as u8));
            bits >>= 4;
        }
        out.push(' ');
    }
}

/// The prompt of a call.
pub fn prompt(call: u64, shape: &Shape) -> String {
    let mut text = String::with_capacity(shape.prompt_words as usize * WORD);
    push_words(&mut text, call, Part::Prompt, 0..shape.prompt_words);
    text
}

/// The text of the whole answer of a call.
pub fn answer(call: u64, shape: &Shape) -> String {
    let mut text = String::with_capacity(shape.answer_words() as usize * WORD);
    push_words(&mut text, call, Part::Answer, 0..shape.chunks * shape.chunk_words);
    text
}

/// The request of a call.
pub fn request(call: u64, shape: &Shape) -> Vec<u8> {
    let Shape { stream, prompt_words, chunks, chunk_words, first_us, interval_us } = shape;
    let options = if *stream { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let prompt = prompt(call, shape);
    let body = format!(r#"{{"model":"{MODEL}",{options}"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let stream = u8::from(*stream);
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: load.example\r\ncontent-type: application/json\r\n\
         {HEADER}: {call} {stream} {prompt_words} {chunks} {chunk_words} {first_us} {interval_us}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A request's head as far as the server needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the call.
    pub call: u64,
    /// What is to be answered.
    pub shape: Shape,
    /// Length of head and body together.
    pub len: usize,
}

impl Head {
    /// Reads the head from the beginning of what came; `Ok(None)` if there is more to come.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "the head is not text")?;
        let field = |name: &str| {
            let fields = text.split("\r\n").filter_map(|line| line.split_once(": "));
            fields.into_iter().find(|(field, _)| *field == name).map(|(_, value)| value)
        };
        let numbers: Vec<u64> =
            field(HEADER).ok_or("no call is named")?.split(' ').filter_map(|number| number.parse().ok()).collect();
        let &[call, stream, ref rest @ ..] = numbers.as_slice() else { return Err("the call is not described") };
        let rest: Vec<u32> = rest.iter().filter_map(|&number| u32::try_from(number).ok()).collect();
        let &[prompt_words, chunks, chunk_words, first_us, interval_us] = rest.as_slice() else {
            return Err("the shape is not described");
        };
        let body: usize = field("content-length").and_then(|n| n.parse().ok()).ok_or("no length")?;
        let shape = Shape { stream: stream == 1, prompt_words, chunks, chunk_words, first_us, interval_us };
        Ok(Some(Self { call, shape, len: end + 4 + body }))
    }
}

/// The pieces of an answer in the order in which they are written: an opening, every content chunk, a closing. An
/// answer that is not streamed is one piece.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    call: u64,
    shape: Shape,
}

impl Answer {
    /// Of one call.
    pub fn new(call: u64, shape: Shape) -> Self {
        Self { call, shape }
    }

    /// Number of pieces.
    pub fn n_pieces(&self) -> u32 {
        if self.shape.stream { self.shape.chunks + 2 } else { 1 }
    }

    /// One of them. The content chunks of a stream are 1 to `chunks`.
    pub fn piece(&self, at: u32) -> Vec<u8> {
        let Shape { stream, chunks, chunk_words, .. } = self.shape;
        if !stream {
            return self.whole();
        }
        match at {
            0 => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                let role =
                    self.event(r#"[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#);
                [head.as_bytes(), &http_chunk(&role)].concat()
            }
            at if at <= chunks => {
                let mut text = String::with_capacity(chunk_words as usize * WORD);
                push_words(&mut text, self.call, Part::Answer, (at - 1) * chunk_words..at * chunk_words);
                let choice = format!(r#"[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]"#);
                http_chunk(&self.event(&choice))
            }
            _ => {
                let finish = self.event(r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#);
                let usage = self.event(&format!(r#"[],"usage":{}"#, self.usage()));
                let mut bytes = http_chunk(&format!("{finish}{usage}data: [DONE]\n\n"));
                bytes.extend_from_slice(b"0\r\n\r\n");
                bytes
            }
        }
    }

    fn event(&self, choices: &str) -> String {
        let id = response_id(self.call);
        format!(
            "data: {{\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"{MODEL}\",\"choices\":{choices}}}\n\n"
        )
    }

    fn usage(&self) -> String {
        let (input, output) = (u64::from(self.shape.prompt_words), self.shape.answer_words());
        format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#, input + output)
    }

    fn whole(&self) -> Vec<u8> {
        let (id, text) = (response_id(self.call), answer(self.call, &self.shape));
        let message = format!(r#"{{"role":"assistant","content":"{text}"}}"#);
        let body = format!(
            r#"{{"id":"{id}","object":"chat.completion","created":1700000000,"model":"{MODEL}","choices":[{{"index":0,"message":{message},"finish_reason":"stop"}}],"usage":{}}}"#,
            self.usage()
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
    }
}

fn http_chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Compares an answer with what it must be, as it comes.
#[derive(Debug)]
pub struct Check {
    answer: Answer,
    next: u32,
    left: Vec<u8>,
    at: usize,
}

impl Check {
    /// Of an answer of which nothing has come.
    pub fn new(answer: Answer) -> Self {
        Self { answer, next: 0, left: Vec::new(), at: 0 }
    }

    /// Takes what came; an error if it is not what must come here.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            if self.at == self.left.len() {
                if self.next == self.answer.n_pieces() {
                    return Err("more than the answer came");
                }
                (self.left, self.at) = (self.answer.piece(self.next), 0);
                self.next += 1;
            }
            let n = bytes.len().min(self.left.len() - self.at);
            if bytes[..n] != self.left[self.at..self.at + n] {
                return Err("other bytes than the answer's came");
            }
            self.at += n;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Whether content has begun to come.
    pub fn has_content(&self) -> bool {
        !self.answer.shape.stream || self.next > 1
    }

    /// Content chunks that have come as a whole, of `chunks` that there are.
    pub fn n_content(&self, chunks: u32) -> u64 {
        let complete = if self.at == self.left.len() { self.next } else { self.next.saturating_sub(1) };
        u64::from(complete.saturating_sub(1).min(chunks))
    }

    /// Whether all of it has come.
    pub fn is_complete(&self) -> bool {
        self.next == self.answer.n_pieces() && self.at == self.left.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const SHAPE: Shape =
        Shape { stream: true, prompt_words: 3, chunks: 4, chunk_words: 2, first_us: 10, interval_us: 20 };

    fn bytes(answer: &Answer) -> Vec<u8> {
        (0..answer.n_pieces()).flat_map(|at| answer.piece(at)).collect()
    }

    #[test]
    fn a_request_says_what_it_asks_for() {
        let request = request(7, &SHAPE);
        let head = Head::parse(&request).unwrap().unwrap();
        assert_eq!(head, Head { call: 7, shape: SHAPE, len: request.len() });
        let body: Value = serde_json::from_slice(&request[request.len() - 120..]).unwrap_or_default();
        assert!(body.is_null(), "the tail alone is no JSON");
        let body = &request[request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..];
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["messages"][0]["content"], prompt(7, &SHAPE));
        assert_eq!(Head::parse(&request[..40]), Ok(None));
        assert!(Head::parse(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n").is_err());
        assert!(Head::parse(b"POST / HTTP/1.1\r\nx-load: 1 2 3\r\ncontent-length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn an_answer_holds_what_the_shape_says() {
        let text = String::from_utf8(bytes(&Answer::new(7, SHAPE))).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let events: Vec<Value> = events.collect();
        let contents = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        let contents: Vec<&str> = contents.filter(|content| !content.is_empty()).collect();
        assert_eq!(contents.len(), 4);
        assert_eq!(contents.concat(), answer(7, &SHAPE));
        assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 8);
        assert!(events.iter().all(|event| event["id"].as_str().and_then(call_of) == Some(7)));

        let whole = bytes(&Answer::new(7, Shape { stream: false, ..SHAPE }));
        let body = &whole[whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..];
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], answer(7, &SHAPE));
    }

    #[test]
    fn words_differ_between_calls_and_parts_and_have_their_length() {
        assert_eq!(answer(1, &SHAPE).len(), 8 * WORD);
        assert_ne!(answer(1, &SHAPE), answer(2, &SHAPE));
        assert_ne!(answer(1, &SHAPE)[..3 * WORD], prompt(1, &SHAPE)[..]);
    }

    #[test]
    fn a_check_takes_an_answer_in_any_pieces_and_no_other() {
        let answer = Answer::new(7, SHAPE);
        let bytes = bytes(&answer);
        for size in [1, 3, 100, bytes.len()] {
            let mut check = Check::new(answer);
            for piece in bytes.chunks(size) {
                assert!(!check.is_complete());
                check.take(piece).unwrap();
            }
            assert!(check.is_complete() && check.has_content());
            assert!(check.take(b"x").is_err());
        }
        let mut other = bytes.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(Check::new(answer).take(&other).is_err());
        let mut check = Check::new(answer);
        check.take(&answer.piece(0)).unwrap();
        assert!(!check.has_content() && !check.is_complete());
        assert_eq!(check.n_content(4), 0);
        check.take(&answer.piece(1)).unwrap();
        check.take(&answer.piece(2)[..3]).unwrap();
        assert_eq!(check.n_content(4), 1);
    }
}
