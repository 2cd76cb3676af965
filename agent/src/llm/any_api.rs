//! What is read of a call whatever API it speaks.
//!
//! Owns the readers that need no wire API, because the names that they look for mean the same in all of them: the
//! history of the messages, the schemas of the tools and, where estimates are wanted, how much text there is. They
//! stand beside the API and see the same values of the request.

use super::{
    estimate::{Counting, InputTokens, Tokens},
    history::{History, HistoryReader},
    quality::Schemas,
    session::{Options, RequestLine},
};
use crate::protocol::json::{Step, Token};

/// Reads one call.
#[derive(Clone)]
pub(crate) struct AnyApi {
    history: Option<HistoryReader>,
    /// Known when the request is over.
    request: Option<History>,
    schemas: Schemas,
    /// Absent unless estimates are wanted.
    input: Option<InputTokens>,
    retry_count: Option<u32>,
    low_confidence: Option<f64>,
}

/// What was read.
pub(crate) struct Read {
    /// As [`super::Facts::history`].
    pub history: Option<History>,
    /// As [`super::Facts::retry_count`].
    pub retry_count: Option<u32>,
    /// The request's tools.
    pub schemas: Schemas,
    /// The request's text, where estimates are wanted and it is all that there is.
    pub input: Option<Tokens>,
    /// As [`Options::low_confidence`].
    pub low_confidence: Option<f64>,
}

impl AnyApi {
    /// A call whose request is `line`; absent if that was not seen. Texts are counted with `counting`, where estimates are wanted.
    pub fn new(line: Option<&RequestLine<'_>>, options: &Options, counting: Option<Counting>) -> Self {
        Self {
            history: line.is_some().then(|| HistoryReader::new(&options.secret)),
            request: None,
            schemas: Schemas::default(),
            input: counting.map(InputTokens::new),
            retry_count: line.and_then(|line| line.headers).and_then(|headers| headers.retry_count),
            low_confidence: options.low_confidence,
        }
    }

    /// Takes one value of the request.
    pub fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>) {
        if let Some(history) = &mut self.history {
            history.take(path, token);
        }
        self.schemas.take(path, token);
        if let Some(input) = &mut self.input {
            input.take(path, token);
        }
    }

    /// Other tools take the place of those that were seen.
    pub fn forget_tools(&mut self) {
        self.schemas = Schemas::default();
    }

    /// Other messages take the place of those that were seen.
    pub fn forget_messages(&mut self, options: &Options) {
        self.history = Some(HistoryReader::new(&options.secret));
    }

    /// Messages are missing.
    pub fn lose_messages(&mut self) {
        self.history = None;
    }

    /// The request is over. A history that was not read whole could be taken for another.
    pub fn request_end(&mut self, whole: bool) {
        if !whole && let Some(input) = &mut self.input {
            input.forget();
        }
        self.request = self.history.take().filter(|_| whole).map(|mut history| history.end());
    }

    /// What was read.
    pub fn end(self) -> Read {
        let Self { history: _, request, schemas, input, retry_count, low_confidence } = self;
        let input = input.and_then(InputTokens::end);
        Read { history: request, retry_count, schemas, input, low_confidence }
    }
}
