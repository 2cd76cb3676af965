//! Which calls belong together: turns of a conversation, tries of one request, and the tools between two turns.
//!
//! Owns the rule that makes a call a later turn: its messages begin with all messages of an earlier call of the same
//! process. A history is proof whoever sends it, so for a server all its clients count as one, and chats that begin
//! with the same words are one conversation. Where the provider keeps the history, its ids tell. Owns also what is a
//! retry (the same request again after one that failed or was cut) and a regeneration (the same history again after an
//! answer), and the spans of tools (`tools`). Pure: kernel times in, hashes of histories in, and no text.
//!
//! A call and its other end on the same host are in the same conversation: whichever is over first names it.

mod tools;

#[cfg(test)]
mod tests;

use sha2::{Digest as _, Sha256};

use super::{Completion, FinishedCall, Side, SpanIds, ids::Epoch, lru::Lru};
use crate::{
    llm::{Facts, History, keyed},
    time::Mono,
};
use tools::Tools;

pub use tools::ToolRun;

/// Turns that a later one may go on from. At 300 bytes each some 5 MiB, and a quarter of an hour at 20 calls a second.
const MAX_TURNS: usize = 16_384;

/// Requests that failed and may be tried again. Retries come within seconds.
const MAX_FAILED: usize = 4096;

/// Calls whose other end on the same host is not over yet.
const MAX_SHARED: usize = 4096;

/// Operations whose messages are a history. Others have lists of the same name: the texts of an embedding.
const OPERATIONS: [&str; 3] = ["chat", "generate_content", "text_completion"];

/// APIs that keep answers, which a later request may name in place of the messages.
const KEEPERS: [&str; 2] = ["openai.responses", "gemini.interactions"];

/// A call's place among others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `gen_ai.conversation.id`: the provider's own, or a hash that only this run can make.
    pub conversation: Option<String>,
    /// `inferscope.conversation.turn`: calls of the conversation up to this one, as far as they were seen.
    pub turn: Option<u32>,
    /// The request was made before.
    pub retry: Option<Retry>,
    /// `inferscope.regeneration`: the same history was answered before.
    pub regeneration: bool,
}

/// A request that was made before and came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// `inferscope.retry.count`: tries before this one.
    pub count: u32,
    /// `inferscope.retry.of`: the span of the first one, if it was seen.
    pub first: Option<[u8; 8]>,
}

/// A process: pid and start time.
type Process = (u32, u64);

/// A turn: whose it is, the hash of its history and that of its system prompts.
type Key = (Process, u64, u64);

/// What the provider's names of calls link a call to, as keyed hashes.
struct Links {
    /// The answer that it goes on from.
    previous: Option<u64>,
    /// The conversation.
    conversation: Option<u64>,
    /// Its own answer.
    response: Option<u64>,
}

impl Links {
    /// What tells a call's history from others when its messages are only the new ones and may say the same as earlier
    /// ones did. Where nothing but the conversation is named, no two calls have the same.
    fn chained(&self, messages: u64, span: [u8; 8]) -> u64 {
        match (self.previous, self.conversation) {
            (Some(previous), _) => messages ^ previous.rotate_left(1),
            (None, Some(_)) => messages ^ u64::from_le_bytes(span),
            (None, None) => messages,
        }
    }

    /// Whether the provider keeps the messages before.
    fn is_chained(&self) -> bool {
        self.previous.is_some() || self.conversation.is_some()
    }
}

/// One turn, or the last of several with the same history.
#[derive(Clone, Debug)]
struct Turn {
    conversation: String,
    number: u32,
    messages: u32,
    ids: SpanIds,
    end: Mono,
    answered: bool,
}

/// A request that failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    end: Mono,
    tries: u32,
    first: [u8; 8],
}

/// Keeps what later calls may belong to.
pub struct Conversations {
    epoch: Epoch,
    turns: Lru<Key, Turn>,
    /// The latest system prompts that came with a history: some change with every request.
    frames: Lru<(Process, u64), u64>,
    /// Turns by what the provider calls them: a response, a conversation.
    named: Lru<(Process, u64), Key>,
    failed: Lru<(Process, u64), Failed>,
    /// Conversation of the call whose other end is still to come, by trace.
    shared: Lru<[u8; 16], String>,
    tools: Tools,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns that were forgotten to make room.
    pub turns_evicted: u64,
    /// Spans of tools that were made.
    pub tools: u64,
    /// Calls whose tools' results were not awaited any longer, to make room.
    pub tools_evicted: u64,
}

impl Conversations {
    /// None yet. Names and span ids are hashes with `epoch`.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            turns: Lru::new(MAX_TURNS),
            frames: Lru::new(MAX_TURNS),
            named: Lru::new(MAX_TURNS),
            failed: Lru::new(MAX_FAILED),
            shared: Lru::new(MAX_SHARED),
            tools: Tools::new(epoch),
        }
    }

    /// Counters so far.
    pub fn counts(&self) -> Counts {
        let (tools, tools_evicted) = self.tools.counts();
        Counts { turns_evicted: self.turns.evicted(), tools, tools_evicted }
    }

    /// A call is over: finds its place. `other_end` says that its other end was seen on this host. Spans of tools whose
    /// results it brings come out.
    pub fn take(&mut self, call: &mut FinishedCall, other_end: bool, out: &mut dyn FnMut(FinishedCall)) {
        let Some(facts) = call.facts.take() else { return };
        if let Some(rpc) = &facts.rpc {
            self.place_tool_call(call, rpc.tool.as_deref(), rpc.traceparent.as_deref());
        }
        call.place.conversation.clone_from(&facts.request.conversation_id);
        if let Some(history) = &facts.history {
            let process = (call.process.pid, call.process.start_boottime_ns);
            call.place.retry = self.retry(process, call, &facts, history);
            if OPERATIONS.contains(&facts.operation) {
                self.converse(process, call, &facts, history, other_end, out);
            }
        }
        call.facts = Some(facts);
    }

    /// Puts a call to a tool into the trace of what caused it. `traceparent` is the context that the message itself
    /// carries (W3C Trace Context section 3.2), and the best witness; else the tool `name` that a model asked the
    /// process for. The server's end of a call whose client was seen keeps its parent.
    fn place_tool_call(&mut self, call: &mut FinishedCall, name: Option<&str>, traceparent: Option<&str>) {
        let running = name.and_then(|name| self.tools.running(call, name)).map(|ids| (ids.trace, ids.span));
        let Some((trace, span)) = traceparent.and_then(context).or(running) else { return };
        match call.side {
            Side::Server if call.ids.parent.is_some() => call.ids.trace = trace,
            // Which tool it was is the client's to say.
            Side::Server if traceparent.is_none() => {}
            Side::Client | Side::Server => (call.ids.trace, call.ids.parent) = (trace, Some(span)),
        }
    }

    /// Nothing more comes: what waits for results of tools is told as far as it is known.
    pub fn finish(&mut self, out: &mut dyn FnMut(FinishedCall)) {
        self.tools.finish(out);
    }

    fn retry(&mut self, process: Process, call: &FinishedCall, facts: &Facts, history: &History) -> Option<Retry> {
        let key = (process, history.body);
        let before = self.failed.remove(&key).filter(|failed| call.timing.start >= failed.end);
        let told = facts.retry_count.unwrap_or(0);
        let count = before.map_or(0, |failed| failed.tries).max(told);
        let first = before.map(|failed| failed.first);
        if has_failed(call.completion) {
            let failed =
                Failed { end: call.timing.end, tries: count.saturating_add(1), first: first.unwrap_or(call.ids.span) };
            self.failed.insert(key, failed);
        }
        (count > 0).then_some(Retry { count, first })
    }

    fn converse(
        &mut self,
        process: Process,
        call: &mut FinishedCall,
        facts: &Facts,
        history: &History,
        other_end: bool,
        out: &mut dyn FnMut(FinishedCall),
    ) {
        let named = |name: &Option<String>| name.as_deref().map(|name| keyed(&self.epoch, name.as_bytes()));
        let links = Links {
            previous: named(&facts.request.previous_response_id),
            conversation: named(&facts.request.conversation_id),
            response: named(&facts.response.id).filter(|_| KEEPERS.contains(&facts.api)),
        };
        let Some(whole) = history.whole().map(|whole| links.chained(whole, call.ids.span)) else { return };
        let key = (process, whole, history.frame);
        let start = call.timing.start;
        let (conversation, number) = match self.turns.get(&key) {
            Some(same) => {
                call.place.regeneration = same.answered && start >= same.end;
                (same.conversation.clone(), same.number)
            }
            None => match self.before(process, history, &links) {
                Some(earlier) => {
                    let new = |message: u32| links.is_chained() || message > earlier.messages;
                    let results = history.results.iter().filter(|result| new(result.message)).copied();
                    self.tools.results(&earlier.ids, call, results, out);
                    (earlier.conversation, earlier.number.saturating_add(1))
                }
                None => (self.name(&key, call, other_end), 1),
            },
        };
        let conversation = facts.request.conversation_id.clone().unwrap_or(conversation);
        // The other end may be the first call that is seen of its conversation.
        if other_end {
            self.shared.insert(call.ids.trace, conversation.clone());
        }
        call.place.conversation = Some(conversation.clone());
        call.place.turn = Some(number);
        let turn = Turn {
            conversation,
            number,
            messages: history.messages,
            ids: call.ids,
            end: call.timing.end,
            answered: matches!(call.completion, Some(Completion::Done | Completion::Length)),
        };
        self.tools.asked(call, &facts.asked, out);
        for name in [links.response, links.conversation].into_iter().flatten() {
            self.named.insert((process, name), key);
        }
        self.frames.insert((process, whole), history.frame);
        self.turns.insert(key, turn);
    }

    /// The turn that a call goes on from.
    fn before(&mut self, process: Process, history: &History, links: &Links) -> Option<Turn> {
        if let Some(name) = links.previous.or(links.conversation) {
            let key = *self.named.get(&(process, name))?;
            return self.turns.get(&key).cloned();
        }
        (1..history.messages).rev().map_while(|messages| history.prefix(messages)).find_map(|prefix| {
            // The same system prompt is the better witness, but many have the time in theirs.
            let same = (process, prefix, history.frame);
            if let Some(turn) = self.turns.get(&same) {
                return Some(turn.clone());
            }
            let frame = *self.frames.get(&(process, prefix))?;
            self.turns.get(&(process, prefix, frame)).cloned()
        })
    }

    /// The name of a conversation that begins with this call, as far as was seen.
    fn name(&mut self, key: &Key, call: &FinishedCall, other_end: bool) -> String {
        if let Some(name) = self.shared.get(&call.ids.trace).filter(|_| other_end) {
            return name.clone();
        }
        let ((pid, start), whole, frame) = *key;
        let mut hash = Sha256::new();
        hash.update(b"conversation");
        hash.update(self.epoch);
        hash.update(pid.to_le_bytes());
        for part in [start, whole, frame] {
            hash.update(part.to_le_bytes());
        }
        let digest = hash.finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Trace and span of a `traceparent`; absent for one that is invalid or of nothing.
fn context(text: &str) -> Option<([u8; 16], [u8; 8])> {
    fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
        let mut out = [0; N];
        if hex.len() != 2 * N || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        out.iter().any(|&byte| byte != 0).then_some(out)
    }
    let mut parts = text.trim().split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    (version.len() == 2 && version != "ff").then_some((bytes(trace)?, bytes(span)?))
}

/// Whether a call came to nothing. One whose end was not seen did not, for all that is known.
fn has_failed(completion: Option<Completion>) -> bool {
    use Completion as C;
    matches!(completion, Some(C::Error | C::ClientClosed | C::ServerClosed | C::Idle))
}
