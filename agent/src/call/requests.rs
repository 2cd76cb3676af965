//! Requests on one direction of a channel that wait for their answers.
//!
//! Owns the times of a request and its answer, and how a call without HTTP ended. Answers come in any order and name
//! their request; which channel brings them is the pipeline's to find out.

use std::collections::VecDeque;

use super::{Capture, Completion, Note, NoteKind, Timing};
use crate::{
    llm::{Answer, Facts, RpcFacts, mcp_facts},
    privacy::Redactor,
    time::Mono,
};

/// Requests that may wait on one direction. Clients have some dozens under way at most.
const MAX_OPEN: usize = 256;

/// Notes kept per call.
const MAX_NOTES: usize = 4;

/// A process, as records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Thread group.
    pub tgid: u32,
    /// Start of its leader, ns since boot; 0 when unknown.
    pub start_ns: u64,
}

/// A request, or a notification.
#[derive(Debug)]
pub struct Request {
    /// Counts the direction's requests and notifications.
    pub number: u64,
    /// Who sent it, or read it.
    pub owner: Owner,
    /// First byte.
    pub start: Mono,
    /// Last byte.
    pub end: Mono,
    id: Option<String>,
    facts: RpcFacts,
    capture: Capture,
    notes: Vec<Note>,
}

/// Why a request waits no longer.
#[derive(Debug)]
pub(crate) enum Over {
    /// It was answered.
    Answered {
        /// By what.
        answer: Answer,
        /// First byte.
        start: Mono,
        /// Last byte.
        end: Mono,
    },
    /// It wants no answer.
    Notified,
    /// One end went away.
    Left(Party),
    /// Nothing came for too long.
    Idle,
    /// Too many were waiting.
    Overflow,
    /// The agent stops.
    Shutdown,
}

/// One end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who asked.
    Requester,
    /// Who answers.
    Responder,
}

/// What is left of a request when it is over.
pub(crate) struct Outcome {
    pub timing: Timing,
    pub facts: Facts,
    pub completion: Option<Completion>,
    pub capture: Capture,
    pub notes: Vec<Note>,
}

impl Request {
    /// What names it, the same at both ends; nothing for a notification.
    pub fn label(&self) -> Option<u32> {
        // FNV-1a: a request is told apart from those that are under way on its channel at the same time.
        let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        self.id.as_ref().map(|id| id.bytes().fold(0x811c_9dc5, fold))
    }

    /// Closes the books.
    pub(crate) fn over(self, over: Over, redactor: &Redactor) -> Outcome {
        let Self { number: _, owner: _, start, end, id: _, facts, mut capture, notes } = self;
        let (mut response_start, mut last) = (None, end);
        let mut completion = None;
        let facts = match over {
            Over::Answered { answer, start, end } => {
                (response_start, last) = (Some(start), end);
                let facts = answer.facts(facts, redactor);
                completion = Some(if facts.error.is_some() { Completion::Error } else { Completion::Done });
                facts
            }
            over => {
                completion = match over {
                    Over::Notified => Some(Completion::Done),
                    Over::Left(Party::Requester) => Some(Completion::ClientClosed),
                    Over::Left(Party::Responder) => Some(Completion::ServerClosed),
                    Over::Idle => Some(Completion::Idle),
                    _ => completion,
                };
                if matches!(over, Over::Shutdown) {
                    capture = capture.max(Capture::Truncated);
                }
                mcp_facts(facts, redactor)
            }
        };
        Outcome {
            timing: Timing {
                start,
                request_end: Some(end),
                response_start,
                first_event: None,
                first_chunk: None,
                last_chunk: None,
                end: last.max(end),
            },
            facts,
            completion,
            capture,
            notes,
        }
    }
}

/// The requests of one direction. Bounded by [`MAX_OPEN`].
#[derive(Debug, Default)]
pub struct Requests {
    open: VecDeque<Request>,
    began: u64,
}

impl Requests {
    /// A message that is none of the answers.
    pub(crate) fn message(
        &mut self,
        owner: Owner,
        start: Mono,
        end: Mono,
        id: Option<String>,
        facts: RpcFacts,
    ) -> Request {
        let number = self.began;
        self.began += 1;
        Request { number, owner, start, end, id, facts, capture: Capture::Complete, notes: Vec::new() }
    }

    /// A request waits from here on. Gives back the oldest one if there are too many, or one with the same id: it will
    /// not be answered any more.
    pub fn wait(&mut self, request: Request) -> Option<Request> {
        let same = self.open.iter().position(|open| open.id == request.id);
        let out = match same {
            Some(at) => self.open.remove(at),
            None if self.open.len() >= MAX_OPEN => self.open.pop_front(),
            None => None,
        };
        self.open.push_back(request);
        out
    }

    /// Whether a request with this id waits.
    pub fn has(&self, id: &str) -> bool {
        self.open.iter().any(|request| request.id.as_deref() == Some(id))
    }

    /// The request with this id, which waits no longer.
    pub fn take(&mut self, id: &str) -> Option<Request> {
        let at = self.open.iter().position(|request| request.id.as_deref() == Some(id))?;
        self.open.remove(at)
    }

    /// Those for which `which` holds, which wait no longer.
    pub fn take_if(&mut self, which: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (out, open) = std::mem::take(&mut self.open).into_iter().partition(|request| which(request));
        self.open = open;
        Vec::from(out)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes are missing that may have been of these requests' answers.
    pub fn gap(&mut self, at: Mono, bytes: u64) {
        for request in &mut self.open {
            request.capture = request.capture.max(Capture::Gap);
            if request.notes.len() < MAX_NOTES {
                request.notes.push(Note { at, kind: NoteKind::Gap { part: "response", bytes } });
            }
        }
    }
}
