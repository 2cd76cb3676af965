//! The seam between one call's bytes and the API that they speak.

use super::{
    choice::Choices,
    content::{ToolDefinitions, Transcript},
    facts::{RequestFacts, ResponseFacts, Usage},
    grpc::Method,
    quality::Logprobs,
    retrieval::RetrievalFacts,
    rpc::mcp::RpcFacts,
    timings::Timings,
    value,
};
use crate::protocol::json::{Step, Token};

/// Which half of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The request.
    Request,
    /// The response.
    Response,
}

/// One wire API: which JSON value means what.
///
/// An implementation belongs to one call. It sees the request's headers and values, then the response's headers and the
/// values of one response document after the other (the events of a stream, or the only body), and writes what they say
/// into the [`Draft`].
pub(crate) trait WireApi: Send {
    /// `inferscope.api`.
    fn name(&self) -> &'static str;

    /// `gen_ai.operation.name`.
    fn operation(&self) -> &'static str;

    /// `gen_ai.provider.name` when the host does not tell.
    fn default_provider(&self) -> &'static str;

    /// One header out of `protocol::head::SIGNALS`.
    fn header(&mut self, _part: Part, _name: &'static str, _value: &str, _draft: &mut Draft) {}

    /// One value of the request.
    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft);

    /// Bytes of the request are missing. What was kept of its messages ends here, because what follows would be joined to
    /// the wrong text.
    fn request_cut(&mut self, draft: &mut Draft) {
        draft.input.budget.seal();
        draft.instructions.budget.seal();
        draft.tools.seal();
    }

    /// One value of the current response document.
    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft);

    /// The current response document is over, or was cut off. Says whether it carried content, reasoning or a
    /// tool call.
    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool;

    /// Bytes of the response are missing. What was kept of its messages ends here.
    fn response_cut(&mut self, draft: &mut Draft) {
        draft.choices.cut();
    }

    /// The call is over: the last word on what it was.
    fn concluded(&mut self, _draft: &mut Draft) {}

    /// Whether a response may be neither JSON nor events, audio for example.
    fn takes_other_bodies(&self) -> bool {
        false
    }

    /// The name of the event that the next response document is, where the framing has names. Comes before the
    /// document's values.
    fn event_name(&mut self, name: EventName<'_>, draft: &mut Draft) {
        if let EventName::Exception(name) = name {
            draft.failure.get_or_insert(Failure { kind: value::clean(name), shaped: true });
        }
    }

    /// Whether a response that is an array is a stream whose events are its elements.
    fn streams_array(&self) -> bool {
        false
    }

    /// Whether a member of an event changes nothing where the event before had the same one. Members that stand first in
    /// every event of a stream are then read once. `value` is as written. That no event names a member twice is taken for
    /// granted.
    fn is_settled(&self, _key: &str, _value: &str) -> bool {
        false
    }

    /// What the messages hold, where both bodies are gRPC messages. They are told as JSON values and documents are.
    fn grpc(&self) -> Option<Method> {
        None
    }

    /// Whether what was seen speaks for no API at all. Only for a call whose request was not seen.
    fn is_refuted(&self) -> bool {
        false
    }

    /// Whether the response ended as this API ends a response, apart from a sentinel.
    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool;
}

/// What the framing calls an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventName<'a> {
    /// `event` of an event stream, `:event-type` of an AWS event stream.
    Event(&'a str),
    /// `:exception-type` or `:error-code` of an AWS event stream.
    Exception(&'a str),
}

/// An error that a body named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `error.type`, when the body gave a usable one.
    pub kind: Option<String>,
    /// Whether the body had the API's own form for errors, which no other program's error page has by chance.
    pub shaped: bool,
}

/// What is known of a call so far.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// From the request.
    pub request: RequestFacts,
    /// From the response, apart from what `choices` holds.
    pub response: ResponseFacts,
    /// Token counts, the last report of each.
    pub usage: Usage,
    /// Times that the response's documents report, the last report of each.
    pub timings: Timings,
    /// What a search in a vector store was.
    pub retrieval: Option<RetrievalFacts>,
    /// What a remote procedure call was.
    pub rpc: Option<RpcFacts>,
    /// The engine that the response's documents bear a mark of.
    pub engine: Option<&'static str>,
    /// The first error that a response document named.
    pub failure: Option<Failure>,
    /// The response's choices.
    pub choices: Choices,
    /// Log-probabilities of the response's tokens.
    pub logprobs: Logprobs,
    /// The request's messages.
    pub input: Transcript,
    /// Instructions that the request gives apart from its messages.
    pub instructions: Transcript,
    /// The tools that the request offers.
    pub tools: ToolDefinitions,
    /// The request showed what only this API's requests show.
    pub request_proof: bool,
    /// The request showed part of that.
    pub request_hint: bool,
    /// The response showed what only this API's responses show.
    pub response_proof: bool,
}

impl Draft {
    /// One value of the response, for the API and for what reads every API's.
    pub fn response_value(&mut self, api: &mut dyn WireApi, path: &[Step<'_>], token: Token<'_>) {
        self.logprobs.take(path, token);
        api.response_value(path, token, self);
    }

    /// Nothing known yet; `content` is the cap on kept content.
    pub fn new(content: Option<usize>) -> Self {
        Self {
            request: RequestFacts::default(),
            response: ResponseFacts::default(),
            usage: Usage::default(),
            timings: Timings::default(),
            retrieval: None,
            rpc: None,
            engine: None,
            failure: None,
            choices: Choices::new(content),
            logprobs: Logprobs::default(),
            input: Transcript::new(content),
            instructions: Transcript::of_parts(content),
            tools: ToolDefinitions::new(content),
            request_proof: false,
            request_hint: false,
            response_proof: false,
        }
    }
}
