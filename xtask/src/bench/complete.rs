//! Whether everything was captured: each call once at each end, with what it must say, and every byte accounted for.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use inferscope_tests::{
    agent::Stopped,
    call::Call,
    load::wire::{self, Shape},
};
use serde::Serialize;
use serde_json::Value;

/// Problems that are told of one scenario; more of the same say nothing new.
const MAX_PROBLEMS: usize = 5;

/// Calls that were made, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub n: u64,
    /// What they look like.
    pub shape: Shape,
}

/// Which processes made them.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The clients' process.
    pub client: u32,
    /// The server.
    pub server: u32,
}

/// What an agent told of calls against what they were.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completeness {
    /// What was run.
    pub scenario: String,
    /// Calls that were made while an agent was there.
    pub calls: u64,
    /// Content chunks in them.
    pub chunks: u64,
    /// Calls that were told once at each end with the right facts.
    pub exact: u64,
    /// Bytes that the agent chose for capture.
    pub offered_bytes: u64,
    /// Those of them that it says it lost.
    pub lost_bytes: u64,
    /// Whether every byte is in its ledger.
    pub balanced: bool,
    /// What is wrong, the first of it.
    pub problems: Vec<String>,
}

impl Completeness {
    /// Nothing yet.
    pub fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), balanced: true, ..Default::default() }
    }

    /// Takes in an agent's end and the calls that were made while it was there. `text` demands that prompt and answer
    /// are told, byte for byte.
    pub fn take(&mut self, told: &[Call], stopped: &Stopped, made: &[Made], ends: Ends, text: bool) -> Result<()> {
        self.take_ledger(stopped)?;
        let mut by_call: HashMap<u64, Vec<&Call>> = HashMap::new();
        for call in told {
            if let Some(number) = call.id().and_then(wire::call_of) {
                by_call.entry(number).or_default().push(call);
            }
        }
        for made in made {
            for number in made.first..made.first + made.n {
                self.calls += 1;
                self.chunks += if made.shape.stream { u64::from(made.shape.chunks) } else { 0 };
                let told = by_call.get(&number).map_or(&[][..], Vec::as_slice);
                match check(told, number, &made.shape, ends, text) {
                    Ok(()) => self.exact += 1,
                    Err(problem) => self.complain(format!("call {number}: {problem}")),
                }
            }
        }
        Ok(())
    }

    /// Takes in the ledger of an agent that has ended; gives bytes offered and lost.
    pub fn take_ledger(&mut self, stopped: &Stopped) -> Result<(u64, u64)> {
        let ledger = stopped.ledger().context("the agent gave no ledger")?;
        let number = |name: &str| ledger[name].as_u64().with_context(|| format!("no {name} in {ledger}"));
        let (offered, lost) = (number("kernel.bytes_offered")?, number("lost_bytes")?);
        self.offered_bytes += offered;
        self.lost_bytes += lost;
        if ledger["balanced"] != true {
            self.balanced = false;
            self.complain(format!("the ledger does not balance: {ledger}"));
        }
        Ok((offered, lost))
    }

    /// Something is wrong.
    pub fn complain(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.balanced && self.exact == self.calls
    }
}

/// One call: a span at each end, with the same facts.
fn check(told: &[&Call], number: u64, shape: &Shape, ends: Ends, text: bool) -> Result<(), String> {
    for (kind, pid) in [("client", ends.client), ("server", ends.server)] {
        let is = |call: &&&Call| call.kind() == kind && call.pid() == Some(u64::from(pid));
        let spans: Vec<_> = told.iter().filter(is).collect();
        let [call] = spans.as_slice() else { return Err(format!("{} {kind} spans instead of 1", spans.len())) };
        let chunks = if shape.stream { Some(u64::from(shape.chunks)) } else { call.number("inferscope.chunk.count") };
        for (name, want) in [
            ("gen_ai.usage.input_tokens", Some(u64::from(shape.prompt_words))),
            ("gen_ai.usage.output_tokens", Some(shape.answer_words())),
            ("inferscope.chunk.count", chunks),
        ] {
            if call.number(name) != want {
                return Err(format!("{kind}: {name} is {:?} instead of {want:?}", call.number(name)));
            }
        }
        for (name, is, want) in [("completion", call.completion(), "done"), ("capture", call.capture(), "complete")] {
            if is != Some(want) {
                return Err(format!("{kind}: {name} is {is:?} instead of {want}"));
            }
        }
        if text {
            for (name, want) in [
                ("gen_ai.input.messages", wire::prompt(number, shape)),
                ("gen_ai.output.messages", wire::answer(number, shape)),
            ] {
                if !call.text(name).is_some_and(|messages| holds(messages, &want)) {
                    return Err(format!("{kind}: {name} is not the text that was sent"));
                }
            }
        }
    }
    if told.len() != 2 {
        return Err(format!("{} spans instead of 2", told.len()));
    }
    Ok(())
}

/// Whether a text that is JSON holds a string that is `want` to the byte.
fn holds(json: &str, want: &str) -> bool {
    fn within(value: &Value, want: &str) -> bool {
        match value {
            Value::String(text) => text == want,
            Value::Array(items) => items.iter().any(|item| within(item, want)),
            Value::Object(fields) => fields.values().any(|field| within(field, want)),
            _ => false,
        }
    }
    serde_json::from_str(json).is_ok_and(|value| within(&value, want))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const SHAPE: Shape =
        Shape { stream: true, prompt_words: 3, chunks: 4, chunk_words: 2, first_us: 0, interval_us: 0 };
    const ENDS: Ends = Ends { client: 11, server: 22 };

    fn span(number: u64, kind: &str, pid: u32, chunks: u64) -> Call {
        let text = wire::answer(number, &SHAPE);
        let line = json!({"schema": 1, "kind": kind, "attributes": {
            "process.pid": pid, "gen_ai.response.id": wire::response_id(number), "inferscope.chunk.count": chunks,
            "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 8, "inferscope.completion": "done",
            "inferscope.capture": "complete",
            "gen_ai.input.messages": json!([{"parts": [{"content": wire::prompt(number, &SHAPE)}]}]).to_string(),
            "gen_ai.output.messages": json!([{"parts": [{"content": text}]}]).to_string(),
        }});
        Call::parse(&line.to_string()).unwrap()
    }

    fn judged(told: &[Call], balanced: bool) -> Completeness {
        let ledger = json!({"kernel.bytes_offered": 10, "lost_bytes": 0, "balanced": balanced});
        let stderr = vec![format!("inferscope: ledger {ledger}")];
        let stopped = Stopped { code: 0, took: Duration::ZERO, stdout: Vec::new(), stderr };
        let mut completeness = Completeness::new("x");
        completeness.take(told, &stopped, &[Made { first: 5, n: 2, shape: SHAPE }], ENDS, true).unwrap();
        completeness
    }

    #[test]
    fn every_call_once_at_each_end_is_good_and_anything_else_is_not() {
        let all =
            [span(5, "client", 11, 4), span(5, "server", 22, 4), span(6, "client", 11, 4), span(6, "server", 22, 4)];
        let good = judged(&all, true);
        assert!(good.is_good(), "{:?}", good.problems);
        assert_eq!((good.calls, good.chunks, good.exact), (2, 8, 2));
        assert!(!judged(&all, false).is_good());
        assert!(!judged(&all[..3], true).is_good());
        let twice = [&all[..], &all[..1]].concat();
        assert!(!judged(&twice, true).is_good());
        let mut short = all.clone();
        short[3] = span(6, "server", 22, 3);
        assert!(!judged(&short, true).is_good());
        let mut foreign = all;
        foreign[0] = span(5, "client", 12, 4);
        assert!(!judged(&foreign, true).is_good());
    }

    #[test]
    fn a_text_is_found_as_a_whole_or_not_at_all() {
        assert!(holds(r#"[{"parts":[{"content":"a b "}]}]"#, "a b "));
        assert!(!holds(r#"[{"parts":[{"content":"a b  "}]}]"#, "a b "));
        assert!(!holds("no json", "no json"));
    }
}
