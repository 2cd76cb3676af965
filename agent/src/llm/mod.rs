//! Model APIs: from message bodies to [`Facts`].

mod facts;

pub use facts::{Content, Facts, MAX_NAME, RequestFacts, ResponseFacts, Usage};
