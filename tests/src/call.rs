//! A call as the agent prints it: one JSON object of the data contract, with accessors for the tests.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One finished call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call(Value);

impl Call {
    /// Parses one line of the agent's output.
    pub fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("not a JSON line: {line}"))?;
        anyhow::ensure!(value["schema"] == 1, "not a call of schema 1: {line}");
        Ok(Self(value))
    }

    /// The whole object.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// A member that is a string.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// `client` or `server`.
    pub fn kind(&self) -> &str {
        self.member("kind").unwrap_or("")
    }

    /// `ok`, `error` or `unset`.
    pub fn status(&self) -> &str {
        self.member("status").unwrap_or("")
    }

    /// An attribute; absent and null are the same.
    pub fn attr(&self, name: &str) -> Option<&Value> {
        self.0.get("attributes")?.get(name).filter(|value| !value.is_null())
    }

    /// An attribute that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attr(name)?.as_str()
    }

    /// An attribute that is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.attr(name)?.as_u64()
    }

    /// An attribute that is a number, for times in seconds.
    pub fn seconds(&self, name: &str) -> Option<f64> {
        self.attr(name)?.as_f64()
    }

    /// An attribute that is a list of strings.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        self.attr(name)?.as_array()?.iter().map(Value::as_str).collect()
    }

    /// `gen_ai.response.id`.
    pub fn id(&self) -> Option<&str> {
        self.text("gen_ai.response.id")
    }

    /// `process.pid`.
    pub fn pid(&self) -> Option<u64> {
        self.number("process.pid")
    }

    /// `inferscope.completion`.
    pub fn completion(&self) -> Option<&str> {
        self.text("inferscope.completion")
    }

    /// `inferscope.capture`.
    pub fn capture(&self) -> Option<&str> {
        self.text("inferscope.capture")
    }

    /// What must be equal when two agents, or an agent and a replay, saw the same call: everything but ids that are
    /// keyed for one run, and what was measured.
    pub fn facts(&self) -> Value {
        let Value::Object(mut object) = self.0.clone() else { return Value::Null };
        for measured in
            ["trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano", "events"]
        {
            object.remove(measured);
        }
        if let Some(Value::Object(attributes)) = object.get_mut("attributes") {
            attributes.retain(|name, _| {
                let is_id = matches!(name.as_str(), "gen_ai.conversation.id" | "inferscope.retry.of");
                !is_id && !name.contains(".time_") && !name.contains("gap.") && !name.starts_with("inferscope.time")
            });
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"schema":1,"trace_id":"aa","span_id":"bb","parent_span_id":null,"name":"chat m",
        "kind":"client","start_time_unix_nano":1,"end_time_unix_nano":2,"status":"unset","attributes":{
        "process.pid":7,"gen_ai.conversation.id":"c","gen_ai.response.id":"x","gen_ai.response.finish_reasons":["stop"],
        "inferscope.time_to_first_token":0.5,"gen_ai.response.time_to_first_chunk":0.5,
        "inferscope.chunk.gap.p50":0.1,"inferscope.chunk.count":3,"gen_ai.usage.input_tokens":null},"events":[]}"#;

    #[test]
    fn accessors_read_the_contract_and_take_null_for_absent() {
        let call = Call::parse(LINE).unwrap();
        assert_eq!((call.kind(), call.id(), call.pid()), ("client", Some("x"), Some(7)));
        assert_eq!(call.list("gen_ai.response.finish_reasons"), Some(vec!["stop"]));
        assert_eq!(call.number("gen_ai.usage.input_tokens"), None);
    }

    #[test]
    fn facts_leave_out_identity_and_measurements() {
        let facts = Call::parse(LINE).unwrap().facts();
        let names: Vec<_> = facts["attributes"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            [
                "gen_ai.response.finish_reasons",
                "gen_ai.response.id",
                "gen_ai.usage.input_tokens",
                "inferscope.chunk.count",
                "process.pid"
            ]
        );
        assert!(facts.get("span_id").is_none());
    }

    #[test]
    fn a_line_that_is_no_call_is_refused() {
        assert!(Call::parse("inferscope: ready").is_err());
        assert!(Call::parse("{}").is_err());
    }
}
