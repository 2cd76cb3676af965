//! The facts of a call that is over.
//!
//! Everything that leaves the interpreter passes here, so this is where it is redacted.

use std::borrow::Cow;

use super::{
    any_api::Read,
    api::{Draft, WireApi},
    content::{render, render_parts, render_recent, render_tools},
    estimate::Estimated,
    facts::{AskedTool, Content, Facts, RequestFacts, ResponseFacts},
    quality::judge,
    retrieval::RetrievalFacts,
    rpc::mcp::RpcFacts,
};
use crate::privacy::Redactor;

/// `error.type` of an error that nothing better is known of.
pub(crate) const OTHER: &str = "_OTHER";

/// Puts the facts together. `cap` is the content cap, absent when content is off; `redactor` sees everything before
/// anybody else does.
pub(crate) fn facts(
    api: &dyn WireApi,
    draft: Draft,
    provider: &'static str,
    cap: Option<usize>,
    redactor: &Redactor,
    status: Option<u16>,
    read: Read,
) -> Facts {
    let Draft { mut request, mut response, usage, timings, mut retrieval, mut rpc, .. } = draft;
    let Draft { failure, mut choices, logprobs, input, instructions, tools, .. } = draft;
    response.finish_reasons = choices.finish_reasons();
    response.tool_calls = choices.tool_names();
    let mut asked = choices.asked();
    redact_names(&mut request, &mut response, &mut asked, redactor);
    if let Some(RetrievalFacts { data_source, operation: _, top_k: _, result_count: _ }) = &mut retrieval {
        redact([data_source].into_iter().flatten(), redactor);
    }
    if let Some(rpc) = &mut rpc {
        redact_call(rpc, redactor);
    }
    let error = failure.and_then(|failure| {
        let kind = failure.kind.filter(|kind| matches!(redactor.credentials(kind), Cow::Borrowed(_)));
        // An error status is the better name for an error that the body leaves without one.
        kind.or_else(|| status.is_none_or(|status| status < 400).then(|| OTHER.to_owned()))
    });
    let Read { history, retry_count, schemas, input: counted, low_confidence } = read;
    let counting = choices.budget.counted;
    let estimated =
        counting.map(|counting| Estimated::of(counting, counted, &mut choices, &usage, &request, &response));
    let quality = judge(&mut choices, &schemas, &logprobs, error.as_deref(), low_confidence);
    let content = cap.map(|cap| {
        let mut truncated = false;
        let mut written = |(text, cut): (String, bool), cut_before: bool| {
            truncated |= cut || cut_before;
            // Nothing to say, or not even the beginning of it fits.
            (text != "[]").then_some(text)
        };
        let (input, input_cut) = input.into_messages();
        let (output, output_cut) = choices.into_messages();
        let (instructions, instructions_cut) = instructions.into_messages();
        let (tools, tools_cut) = tools.into_definitions();
        Content {
            input_messages: written(render_recent(&input, cap, redactor), input_cut),
            output_messages: written(render(&output, cap, redactor), output_cut),
            system_instructions: written(render_parts(&instructions, cap, redactor), instructions_cut),
            tool_definitions: written(render_tools(&tools, cap, redactor), tools_cut),
            truncated,
        }
    });
    Facts {
        api: api.name(),
        operation: api.operation(),
        provider,
        request,
        response,
        usage,
        timings,
        retrieval,
        rpc,
        error,
        content,
        history: history.map(Box::new),
        retry_count,
        asked,
        estimated,
        quality,
    }
}

/// Names come from the payload like everything else, and a key pasted into the wrong field is a name.
fn redact_names(
    request: &mut RequestFacts,
    response: &mut ResponseFacts,
    tools: &mut [AskedTool],
    redactor: &Redactor,
) {
    let RequestFacts {
        model: asked,
        stop_sequences,
        encoding_formats,
        service_tier: asked_tier,
        previous_response_id,
        conversation_id,
        ..
    } = request;
    let ResponseFacts {
        model,
        id,
        finish_reasons,
        tool_calls,
        system_fingerprint,
        service_tier,
        upstream_provider,
        native_finish_reason,
        reported_cost: _,
        audio_seconds: _,
        counted_tokens: _,
    } = response;
    let single = [asked, asked_tier, previous_response_id, conversation_id, model, id, system_fingerprint]
        .into_iter()
        .chain([service_tier, upstream_provider, native_finish_reason])
        .flatten();
    let tools = tools.iter_mut().flat_map(|AskedTool { id, name }| [id, name]).flatten();
    let lists = finish_reasons.iter_mut().chain(tool_calls).chain(stop_sequences).chain(encoding_formats);
    redact(single.chain(lists).chain(tools), redactor);
}

pub(crate) fn redact_call(call: &mut RpcFacts, redactor: &Redactor) {
    let RpcFacts {
        method,
        request_id,
        tool,
        prompt,
        resource,
        protocol_version,
        error_code: _,
        traceparent,
        task_state,
    } = call;
    let optional = [request_id, tool, prompt, resource, protocol_version, traceparent, task_state];
    redact(optional.into_iter().flatten().chain([method]), redactor);
}

fn redact<'n>(names: impl Iterator<Item = &'n mut String>, redactor: &Redactor) {
    for name in names {
        if let Cow::Owned(redacted) = redactor.credentials(name) {
            *name = redacted;
        }
    }
}
