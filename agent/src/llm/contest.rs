//! Several APIs that may each be the one that a call speaks.
//!
//! Owns the choice: every candidate reads the same values side by side, each with a draft of its own, and the first that
//! its own proof convinces goes on alone. Needed where APIs share a path, and for a call whose request was not seen. To
//! add an API: nothing, its `request_value` and `response_value` set the proofs of the draft as they do when it reads
//! alone; between APIs that share a path, what proves one must not prove the other.

use super::{
    api::{Draft, EventName, Part, WireApi},
    registry,
};
use crate::protocol::json::{Step, Token};

/// Documents without proof after which a response whose request was not seen is no model's. An event that only keeps the
/// connection alive has no proof, and some servers send a few in a row.
const MAX_DOCUMENTS: u32 = 16;

/// Reads one call.
pub(crate) struct Contest {
    candidates: Vec<(Box<dyn WireApi>, Draft)>,
    chosen: Option<Box<dyn WireApi>>,
    /// The request was not seen: every document of the response is looked at afresh, by every API.
    joined: Option<Joined>,
}

/// What a contest over a response alone keeps.
struct Joined {
    content: Option<usize>,
    documents: u32,
}

impl Contest {
    /// Between the APIs of one path. Each begins with a copy of `draft`.
    pub fn between(apis: Vec<Box<dyn WireApi>>, draft: &Draft) -> Self {
        let candidates = apis.into_iter().map(|api| (api, draft.clone())).collect();
        Self { candidates, chosen: None, joined: None }
    }

    /// Between all APIs, over a response of which nothing has been read, to a request whose path is not known; `content` is
    /// the cap on kept content.
    pub fn joined(content: Option<usize>) -> Self {
        let joined = Some(Joined { content, documents: 0 });
        Self { candidates: afresh(content), chosen: None, joined }
    }

    fn api(&self) -> Option<&dyn WireApi> {
        // Before the choice the first one speaks, whose names are the likeliest.
        let likeliest = || self.candidates.first().filter(|_| self.joined.is_none()).map(|(api, _)| &**api);
        self.chosen.as_deref().or_else(likeliest)
    }

    /// Lets the candidate that is proven go on alone.
    fn choose(&mut self, proven: fn(&Draft) -> bool, draft: &mut Draft) {
        if let Some(at) = self.candidates.iter().position(|(_, own)| proven(own)) {
            let (api, own) = self.candidates.swap_remove(at);
            *draft = Draft { logprobs: draft.logprobs, ..own };
            self.chosen = Some(api);
            self.candidates = Vec::new();
        }
    }
}

fn afresh(content: Option<usize>) -> Vec<(Box<dyn WireApi>, Draft)> {
    registry::all().into_iter().map(|api| (api, Draft::new(content))).collect()
}

impl WireApi for Contest {
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

    fn header(&mut self, part: Part, name: &'static str, value: &str, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.header(part, name, value, draft),
            None => self.candidates.iter_mut().for_each(|(api, own)| api.header(part, name, value, own)),
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.request_value(path, token, draft),
            None => {
                self.candidates.iter_mut().for_each(|(api, own)| api.request_value(path, token, own));
                // Where the path is not known, a request proves nothing: an API with a path of its own takes that for half
                // of its proof.
                if self.joined.is_none() {
                    self.choose(|own| own.request_proof, draft);
                }
            }
        }
    }

    fn request_cut(&mut self, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.request_cut(draft),
            None => self.candidates.iter_mut().for_each(|(api, own)| api.request_cut(own)),
        }
    }

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
        let mut carries = false;
        for (api, own) in &mut self.candidates {
            let carried = api.response_document(streamed, own);
            if own.response_proof {
                carries = carried;
                break;
            }
        }
        self.choose(|own| own.response_proof, draft);
        let Some(joined) = self.joined.as_mut().filter(|_| self.chosen.is_none()) else { return carries };
        joined.documents = joined.documents.saturating_add(1);
        if joined.documents < MAX_DOCUMENTS {
            self.candidates = afresh(joined.content);
        }
        false
    }

    fn response_cut(&mut self, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.response_cut(draft),
            None => self.candidates.iter_mut().for_each(|(api, own)| api.response_cut(own)),
        }
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

    fn concluded(&mut self, draft: &mut Draft) {
        match &mut self.chosen {
            Some(api) => api.concluded(draft),
            // What the bodies did not prove, half of a proof with an error in the API's own form may.
            None => self.choose(|own| own.request_hint, draft),
        }
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        self.chosen.as_ref().is_some_and(|api| api.is_finished(body_ended, draft))
    }

    fn takes_other_bodies(&self) -> bool {
        self.api().is_some_and(WireApi::takes_other_bodies)
    }

    fn is_refuted(&self) -> bool {
        self.chosen.is_none() && self.joined.as_ref().is_some_and(|joined| joined.documents >= MAX_DOCUMENTS)
    }
}
