//! The attributes of a call that was inferred from ciphertext.
//!
//! Owns which they are: every one of them has the prefix `inferscope.inferred`, so that no reader and no query takes an
//! estimate for what was read. Nothing else of such a call is guessed: it has no model, no token, no status and no
//! completion.

use super::{attributes as names, from_call::Attributes};
use crate::{
    call::{FinishedCall, InferredFacts},
    time::Mono,
};

/// How the sizes are to be understood.
const PLAINTEXT: &str = "plaintext";
const CIPHERTEXT: &str = "ciphertext";

/// Name of an inferred call's span: the server's name, where it is known.
pub(super) fn span_name(facts: &InferredFacts) -> String {
    match &facts.server_name {
        Some(name) => format!("inferred {name}"),
        None => "inferred".to_owned(),
    }
}

pub(super) fn attributes(out: &mut Attributes, call: &FinishedCall, facts: &InferredFacts) {
    let InferredFacts {
        server_name: _,
        first_token,
        request_bytes,
        response_bytes,
        plaintext_sizes,
        records,
        pieces,
        gaps,
        maybe_several,
    } = facts;
    let since_start = |at: Option<Mono>| at.map(|at| at.since(call.timing.start));
    out.if_true(names::INFERSCOPE_INFERRED, true);
    out.seconds(names::INFERSCOPE_INFERRED_FIRST_RECORD, since_start(call.timing.response_start));
    out.seconds(names::INFERSCOPE_INFERRED_FIRST_TOKEN, since_start(*first_token));
    out.int(names::INFERSCOPE_INFERRED_REQUEST_BYTES, Some(*request_bytes));
    out.int(names::INFERSCOPE_INFERRED_RESPONSE_BYTES, Some(*response_bytes));
    out.text(names::INFERSCOPE_INFERRED_SIZES, Some(if *plaintext_sizes { PLAINTEXT } else { CIPHERTEXT }));
    out.int(names::INFERSCOPE_INFERRED_RECORD_COUNT, Some(*records));
    out.int(names::INFERSCOPE_INFERRED_PIECE_COUNT, Some(*pieces));
    out.seconds(names::INFERSCOPE_INFERRED_GAP_P50, gaps.quantile(0.50));
    out.seconds(names::INFERSCOPE_INFERRED_GAP_P99, gaps.quantile(0.99));
    out.seconds(names::INFERSCOPE_INFERRED_GAP_MAX, gaps.max());
    out.if_true(names::INFERSCOPE_INFERRED_MAYBE_SEVERAL, *maybe_several);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        call::{Completion, HttpFacts, gaps::GapSketch},
        export::{
            pretty::Pretty,
            span::{Span, SpanStatus, Value},
            testing::{ANCHOR, chat},
        },
        record::Source,
    };

    const MS: u64 = 1_000_000;

    fn call() -> FinishedCall {
        let mut gaps = GapSketch::default();
        gaps.record(Duration::from_millis(20));
        let mut call = chat();
        (call.facts, call.completion, call.streamed, call.chunk_count) = (None, None, false, 0);
        (call.gaps, call.source) = (GapSketch::default(), Source::Ciphertext);
        call.http = HttpFacts { host: Some("api.openai.com:443".into()), ..HttpFacts::default() };
        call.inferred = Some(Box::new(InferredFacts {
            server_name: Some("api.openai.com".into()),
            first_token: Some(Mono(250 * MS)),
            request_bytes: 300,
            response_bytes: 4_000,
            plaintext_sizes: true,
            records: 20,
            pieces: 15,
            gaps,
            maybe_several: false,
        }));
        call
    }

    #[test]
    fn what_is_inferred_is_marked_and_what_was_not_seen_is_absent() {
        let span = Span::from_call(&call(), ANCHOR);
        assert_eq!((span.name.as_str(), span.status), ("inferred api.openai.com", SpanStatus::Unset));
        let seen = [
            "error.type",
            "server.address",
            "server.port",
            "network.peer.address",
            "network.peer.port",
            "process.pid",
            "process.executable.name",
            "process.real_user.id",
            "inferscope.capture",
            "inferscope.capture.source",
        ];
        for (name, value) in &span.attributes {
            assert!(names::INFERRED.contains(name) || seen.contains(name), "{name} is not marked: {value:?}");
        }
        assert_eq!(span.get("inferscope.capture.source"), Some(&Value::Str("ciphertext".into())));
        assert_eq!(span.get("inferscope.inferred"), Some(&Value::Bool(true)));
        assert_eq!(span.get("inferscope.inferred.time_to_first_token"), Some(&Value::Double(0.25)));
        assert_eq!(span.get("inferscope.inferred.sizes"), Some(&Value::Str("plaintext".into())));
        assert!(span.get("error.type").is_none() && span.get("inferscope.completion").is_none());
    }

    #[test]
    fn a_call_that_was_read_has_none_of_them() {
        let mut call = chat();
        call.completion = Some(Completion::Done);
        let span = Span::from_call(&call, ANCHOR);
        assert!(span.attributes.iter().all(|(name, _)| !names::INFERRED.contains(name)));
    }

    #[test]
    fn the_terminal_says_that_it_is_an_estimate() {
        let call = call();
        let text = Pretty::default().call(&call, &Span::from_call(&call, ANCHOR));
        assert!(text.contains("inferred api.openai.com"), "{text}");
        assert!(
            text.contains("inferred from ciphertext: 300 bytes out, 4000 in, first token after about 250ms"),
            "{text}"
        );
    }
}
