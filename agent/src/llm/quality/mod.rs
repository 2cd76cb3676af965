//! Signs of a bad answer that are in the bytes.
//!
//! Owns what counts as one: refused, filtered, cut at the limit, empty, going round in circles, with tool arguments
//! that are no JSON or not what the tool declared, with improbable tokens. Everything is judged while it comes, in
//! fixed memory and in any cut; no text is kept for it. What was not seen whole is not judged.
//!
//! A wire API does three things for it: it appends answers and arguments with `Clipped::push_token`, which takes pieces
//! of long strings too, it sets `Choice::refused` where a refusal has a place of its own, and `choice.rs` knows how it
//! spells its finish reasons.

mod arguments;
mod heard;
mod logprobs;
mod loops;
mod schema;

use super::choice::{Choice, Choices, schema_finish_reason};
use arguments::{Arguments, Verdict};
use loops::Loops;

pub(crate) use heard::Heard;
pub(crate) use logprobs::Logprobs;
pub(crate) use schema::Schemas;

/// `error.type` by which providers say that their filter refused a prompt.
const FILTER_ERRORS: [&str; 3] = ["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"];

/// What is wrong with an answer, as far as it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// `inferscope.quality.refusal`: the model refused.
    pub refusal: bool,
    /// `inferscope.quality.content_filter`: a filter of the provider's stopped the prompt or the answer.
    pub content_filter: bool,
    /// `inferscope.quality.length`: an answer ended at a token limit.
    pub length: bool,
    /// `inferscope.quality.empty`: an answer ended normally and holds neither content nor a tool call.
    pub empty: bool,
    /// `inferscope.quality.repetition`: an answer goes round in circles.
    pub repetition: bool,
    /// `inferscope.quality.malformed_tool_arguments`: tool calls whose arguments are no JSON.
    pub malformed_arguments: u64,
    /// `inferscope.quality.mismatched_tool_arguments`: tool calls whose arguments are not of the declared schema.
    pub mismatched_arguments: u64,
    /// `inferscope.quality.logprob.mean`: mean natural logarithm of the tokens' probabilities.
    pub logprob_mean: Option<f64>,
    /// `inferscope.quality.logprob.min`: that of the least likely token.
    pub logprob_min: Option<f64>,
    /// `inferscope.quality.low_confidence`: the mean is below the operator's threshold.
    pub low_confidence: bool,
}

/// Judges an answer that is over.
pub(crate) fn judge(
    choices: &mut Choices,
    schemas: &Schemas,
    logprobs: &Logprobs,
    error: Option<&str>,
    threshold: Option<f64>,
) -> Quality {
    let mean = logprobs.mean();
    let mut quality = Quality {
        content_filter: error.is_some_and(|error| FILTER_ERRORS.contains(&error)),
        logprob_mean: mean,
        logprob_min: logprobs.min(),
        low_confidence: mean.zip(threshold).is_some_and(|(mean, threshold)| mean < threshold),
        ..Quality::default()
    };
    let whole = error.is_none() && !choices.is_cut();
    for choice in choices.iter_mut() {
        judge_choice(&mut quality, choice, whole, schemas);
    }
    quality
}

fn judge_choice(quality: &mut Quality, choice: &mut Choice, whole: bool, schemas: &Schemas) {
    quality.repetition |= choice.text.heard.is_loop() || choice.reasoning.heard.is_loop();
    quality.refusal |= choice.refused;
    let Some(finish) = choice.finish.as_deref() else { return };
    let kind = schema_finish_reason(finish);
    quality.refusal |= finish == "refusal";
    quality.content_filter |= kind == "content_filter" && finish != "refusal";
    quality.length |= kind == "length";
    if !whole {
        return;
    }
    // What carries neither text nor a tool call may still carry a picture or sound; reasoning alone is no answer.
    let speaks =
        choice.text.heard.is_any() || !choice.tools.is_empty() || (choice.carries && !choice.reasoning.heard.is_any());
    quality.empty |= matches!(kind, "stop" | "tool_call") && !speaks;
    for tool in &mut choice.tools {
        match tool.arguments.heard.take_verdict() {
            // Cut off arguments are the limit's doing, and told as such.
            Verdict::Malformed if kind != "length" => quality.malformed_arguments += 1,
            Verdict::Json(given) => {
                let name = tool.name.as_deref().unwrap_or_default();
                let fits = given.is_some_and(|given| schemas.allow(name, &given));
                quality.mismatched_arguments += u64::from(!fits);
            }
            Verdict::Malformed | Verdict::Unknown => {}
        }
    }
}
