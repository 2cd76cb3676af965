//! Exchanges of our own, one or two for each way of counting tokens, in the forms that the providers document.
//!
//! To add one: a function in the provider's file, and a line in [`rows`].

mod amazon;
mod anthropic;
mod google;
mod openai;
mod others;

use serde_json::{Value, json};

use super::{Message, Row, Want};

/// All of them.
pub fn rows() -> Vec<Row> {
    let exchanges = [
        openai::chat(),
        openai::chat_stream(),
        openai::error(),
        openai::responses(),
        openai::responses_stream(),
        anthropic::message(),
        anthropic::stream(),
        anthropic::stream_that_fails(),
        google::whole(),
        google::stream(),
        google::array(),
        amazon::converse(),
        amazon::converse_stream(),
        others::cohere(),
        others::cohere_stream(),
        others::ollama_stream(),
        openai::embeddings(),
        others::batch_that_is_polled(),
        others::token(),
    ];
    exchanges.into_iter().enumerate().map(|(index, exchange)| exchange.row(index)).collect()
}

/// A chat with OpenAI under the number `index`.
pub fn chat(index: usize) -> Row {
    openai::chat().row(index)
}

struct Exchange {
    api: &'static str,
    method: &'static str,
    host: &'static str,
    target: &'static str,
    request: Vec<u8>,
    status: u16,
    kind: &'static str,
    response: Vec<u8>,
    expected: Value,
}

impl Exchange {
    fn post(api: &'static str, host: &'static str, target: &'static str, request: Value) -> Self {
        let (request, response, expected) = (request.to_string().into_bytes(), Vec::new(), Value::Null);
        Self { api, method: "POST", host, target, request, status: 200, kind: JSON, response, expected }
    }

    fn answer(self, response: &Value, expected: Value) -> Self {
        Self { response: response.to_string().into_bytes(), expected, ..self }
    }

    /// The answer in events, each with a name where the API gives it one.
    fn stream(self, events: &[(&str, Value)], end: &str, mut expected: Value) -> Self {
        let mut body = String::new();
        for (name, data) in events {
            if !name.is_empty() {
                body += &format!("event: {name}\n");
            }
            body += &format!("data: {data}\n\n");
        }
        body += end;
        expected["sse_events"] = json!(events.len());
        self.body("text/event-stream", body.into_bytes(), expected)
    }

    fn body(self, kind: &'static str, response: Vec<u8>, expected: Value) -> Self {
        Self { kind, response, expected, ..self }
    }

    fn row(self, index: usize) -> Row {
        let Self { api, method, host, target, request, status, kind, response, expected } = self;
        let model = serde_json::from_slice::<Value>(&request).unwrap_or_default()["model"].as_str().map(str::to_owned);
        let of_kind = |kind: &str, body| Message { headers: vec![("content-type".to_owned(), kind.to_owned())], body };
        let response = of_kind(kind, response);
        Row {
            index,
            name: format!("own {index}"),
            api: api.to_owned(),
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            request: if request.is_empty() { Message::default() } else { of_kind(JSON, request) },
            status,
            want: Want::of(api, model, status, &response, &expected),
            response,
        }
    }
}

const JSON: &str = "application/json";

const DONE: &str = "data: [DONE]\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_and_hold_calls_and_negatives() {
        let rows = rows();
        assert!(rows.iter().enumerate().all(|(at, row)| row.index == at));
        let negatives = rows.iter().filter(|row| row.want == Want::NoCall).count();
        let calls = rows.iter().filter(|row| matches!(row.want, Want::Call(_))).count();
        assert_eq!((negatives, negatives + calls), (2, rows.len()));
    }
}
