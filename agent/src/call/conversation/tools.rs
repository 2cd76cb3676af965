//! The tools that ran between two turns.
//!
//! Owns the span of a tool: from the end of the call that asked for it to the start of the request that brings its
//! result. Its id is derived when the call that asked is over, so that what happens in between can be its child: a call
//! of MCP's by the same process, of the same tool. A tool whose result never comes gives a span only if it has such a
//! child, and then up to that child's end.

use sha2::{Digest as _, Sha256};

use crate::{
    call::{FinishedCall, Place, Side, SpanIds, ids::Epoch, lru::Lru},
    host::ProcessIdentity,
    llm::{AskedTool, ToolResult, keyed},
    record::Source,
    time::Mono,
};

/// Calls whose tools' results are awaited.
const MAX_WAITING: usize = 4096;

/// Tools awaited of one call; more parallel ones are not made in earnest.
const MAX_TOOLS: usize = 64;

/// A tool that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolRun {
    /// `gen_ai.tool.name`.
    pub name: Option<String>,
    /// `gen_ai.tool.call.id`.
    pub call_id: Option<String>,
}

/// A call that asked for tools.
struct Asking {
    ids: SpanIds,
    process: ProcessIdentity,
    side: Side,
    source: Source,
    conversation: Option<String>,
    end: Mono,
    tools: Vec<Waiting>,
}

/// A tool whose result is awaited.
struct Waiting {
    span: [u8; 8],
    id: Option<u64>,
    name: Option<u64>,
    tool: ToolRun,
    /// The end of the last child.
    child_end: Option<Mono>,
}

/// Tools whose results are awaited, by the span of the call that asked.
pub(super) struct Tools {
    epoch: Epoch,
    waiting: Lru<[u8; 8], Asking>,
    made: u64,
}

impl Tools {
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, waiting: Lru::new(MAX_WAITING), made: 0 }
    }

    /// Spans made, and calls forgotten.
    pub fn counts(&self) -> (u64, u64) {
        (self.made, self.waiting.evicted())
    }

    /// A call is over that asked for `tools`.
    pub fn asked(&mut self, call: &FinishedCall, tools: &[AskedTool], out: &mut dyn FnMut(FinishedCall)) {
        // A tool runs at the client. Where that was seen, it has the span.
        if tools.is_empty() || (call.side == Side::Server && call.ids.parent.is_some()) {
            return;
        }
        let hash = |text: &Option<String>| text.as_ref().map(|text| keyed(&self.epoch, text.as_bytes()));
        let tools = tools.iter().take(MAX_TOOLS).enumerate().map(|(number, AskedTool { id, name })| Waiting {
            span: self.span(call.ids.span, number),
            id: hash(id),
            name: hash(name),
            tool: ToolRun { name: name.clone(), call_id: id.clone() },
            child_end: None,
        });
        let asking = Asking {
            ids: call.ids,
            process: call.process.clone(),
            side: call.side,
            source: call.source,
            conversation: call.place.conversation.clone(),
            end: call.timing.end,
            tools: tools.collect(),
        };
        if let Some(forgotten) = self.waiting.insert(call.ids.span, asking) {
            self.give_up(forgotten, out);
        }
    }

    /// `call` brings results of tools that the call with `ids` asked for.
    pub fn results(
        &mut self,
        ids: &SpanIds,
        call: &FinishedCall,
        results: impl Iterator<Item = ToolResult>,
        out: &mut dyn FnMut(FinishedCall),
    ) {
        let Some(asking) = self.waiting.get(&ids.span) else { return };
        let mut made = 0;
        for ToolResult { id, name, .. } in results {
            let Asking { tools, .. } = asking;
            let of_id = |waiting: &Waiting| id.is_some() && waiting.id == id;
            let of_name = |waiting: &Waiting| name.is_some() && waiting.name == name;
            // An id that is not known is no order: it answers something else. Without any, results come in order.
            let at = match (id, name) {
                (Some(_), _) => tools.iter().position(of_id).or_else(|| tools.iter().position(of_name)),
                (None, Some(_)) => tools.iter().position(of_name),
                (None, None) => (!tools.is_empty()).then_some(0),
            };
            if let Some(at) = at {
                let waiting = tools.remove(at);
                made += 1;
                out(asking.span(waiting, call.timing.start));
            }
        }
        if asking.tools.is_empty() {
            self.waiting.remove(&ids.span);
        }
        self.made += made;
    }

    /// The tool that `call` ran, another program's by the name of `name`: the one that its process was asked for last
    /// and has not answered. Gives the trace and the tool's span. The server's end does not know the client's process:
    /// there the name must be one process's alone.
    pub fn running(&mut self, call: &FinishedCall, name: &str) -> Option<SpanIds> {
        let is_client = call.side == Side::Client;
        let own = |asking: &Asking| asking.process.pid == call.process.pid;
        let asked = self.waiting.values_mut().filter(|(_, asking)| {
            asking.side == Side::Client && own(asking) == is_client && asking.end <= call.timing.start
        });
        let mut found = asked.filter(|(_, asking)| asking.tools.iter().any(|waiting| waiting.is_named(name)));
        let (_, asking) = if is_client {
            found.max_by_key(|(used, _)| *used)?
        } else {
            let one = found.next()?;
            found.all(|(_, other)| other.process.pid == one.1.process.pid).then_some(one)?
        };
        let Asking { ids, tools, .. } = asking;
        // Of several with one name the first that nothing was seen of.
        let tools = tools.iter_mut().filter(|waiting| waiting.is_named(name));
        let waiting = tools.min_by_key(|waiting| waiting.child_end)?;
        if is_client {
            waiting.child_end = waiting.child_end.max(Some(call.timing.end));
        }
        Some(SpanIds { trace: ids.trace, span: waiting.span, parent: Some(ids.span) })
    }

    /// Nothing more comes.
    pub fn finish(&mut self, out: &mut dyn FnMut(FinishedCall)) {
        for asking in self.waiting.drain() {
            self.give_up(asking, out);
        }
    }

    /// Results are not awaited any longer.
    fn give_up(&mut self, mut asking: Asking, out: &mut dyn FnMut(FinishedCall)) {
        for waiting in std::mem::take(&mut asking.tools) {
            if let Some(end) = waiting.child_end {
                self.made += 1;
                out(asking.span(waiting, end));
            }
        }
    }

    fn span(&self, asking: [u8; 8], number: usize) -> [u8; 8] {
        let mut hash = Sha256::new();
        hash.update(b"tool");
        hash.update(self.epoch);
        hash.update(asking);
        hash.update((number as u64).to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut span = [0; 8];
        span.copy_from_slice(&digest[..8]);
        span
    }
}

impl Waiting {
    /// Whether this is the tool that its own program calls `name`. Clients put the program's name before it.
    fn is_named(&self, name: &str) -> bool {
        let asked = self.tool.name.as_deref().unwrap_or_default();
        asked.strip_suffix(name).is_some_and(|before| !before.ends_with(char::is_alphanumeric))
    }
}

impl Asking {
    /// The call that stands for a tool's run.
    fn span(&self, waiting: Waiting, end: Mono) -> FinishedCall {
        let Waiting { span, tool, .. } = waiting;
        let ids = SpanIds { trace: self.ids.trace, span, parent: Some(self.ids.span) };
        // The answer may have gone on a little after the client had read the tool's name and begun.
        let call = FinishedCall::within(ids, self.side, self.process.clone(), self.source, self.end, end);
        FinishedCall {
            place: Place { conversation: self.conversation.clone(), ..Place::default() },
            tool: Some(Box::new(tool)),
            ..call
        }
    }
}
