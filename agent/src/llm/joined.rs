//! A call whose request was not seen: the response says which API it is.
//!
//! Every API reads the first documents of the response side by side, each with a draft of its own. The first that its
//! own proof convinces goes on alone. To add an API: nothing, its `response_value` must set `response_proof` as it does
//! for a call that was seen whole.

use super::{
    api::{Draft, EventName, WireApi},
    registry,
};
use crate::protocol::json::{Step, Token};

/// Documents without proof after which the response is no model's. An event that only keeps the connection alive has no
/// proof, and some servers send a few in a row.
const MAX_DOCUMENTS: u32 = 16;

/// Reads one response.
pub(crate) struct Joined {
    content: Option<usize>,
    candidates: Vec<(Box<dyn WireApi>, Draft)>,
    chosen: Option<Box<dyn WireApi>>,
    documents: u32,
}

impl Joined {
    /// A response of which nothing has been read; `content` is the cap on kept content.
    pub fn new(content: Option<usize>) -> Self {
        let mut joined = Self { content, candidates: Vec::new(), chosen: None, documents: 0 };
        joined.begin();
        joined
    }

    fn begin(&mut self) {
        self.candidates = registry::all().map(|api| (api, Draft::new(self.content))).collect();
    }

    fn api(&self) -> Option<&dyn WireApi> {
        self.chosen.as_deref()
    }
}

impl WireApi for Joined {
    // Without proof there is no call, and nobody asks for the names.
    fn name(&self) -> &'static str {
        self.api().map_or("unknown", WireApi::name)
    }

    fn operation(&self) -> &'static str {
        self.api().map_or("unknown", WireApi::operation)
    }

    fn default_provider(&self) -> &'static str {
        self.api().map_or("unknown", WireApi::default_provider)
    }

    fn request_value(&mut self, _path: &[Step<'_>], _token: Token<'_>, _draft: &mut Draft) {}

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.response_value(path, token, draft),
            None => self.candidates.iter_mut().for_each(|(api, own)| api.response_value(path, token, own)),
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        if let Some(api) = &mut self.chosen {
            return api.response_document(streamed, draft);
        }
        self.documents = self.documents.saturating_add(1);
        for (mut api, mut own) in std::mem::take(&mut self.candidates) {
            let carries = api.response_document(streamed, &mut own);
            if own.response_proof {
                *draft = own;
                self.chosen = Some(api);
                return carries;
            }
        }
        if !self.is_refuted() {
            self.begin();
        }
        false
    }

    fn event_name(&mut self, name: EventName<'_>, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.event_name(name, draft),
            None => self.candidates.iter_mut().for_each(|(api, own)| api.event_name(name, own)),
        }
    }

    fn streams_array(&self) -> bool {
        self.chosen.iter().chain(self.candidates.iter().map(|(api, _)| api)).any(|api| api.streams_array())
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        self.api().is_some_and(|api| api.is_finished(body_ended, draft))
    }

    fn is_refuted(&self) -> bool {
        self.chosen.is_none() && self.documents >= MAX_DOCUMENTS
    }
}
