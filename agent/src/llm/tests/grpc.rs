//! Calls over gRPC: Triton, and vector stores.

use inferscope_testing::wire::{
    event_stream,
    protobuf::{bytes, number, varint},
};

use super::*;

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn message(content: &[Vec<u8>]) -> Vec<u8> {
    event_stream::grpc(&content.concat())
}

/// Feeds both bodies in pieces of this size.
fn run(path: &str, request: &[u8], response: &[u8], piece: usize) -> Outcome {
    let line = RequestLine { method: "POST", path, host: None, headers: None };
    let mut session =
        Session::open(&line, &Options { content: Some(1_000), ..Options::default() }).expect("a model API's path");
    request.chunks(piece).for_each(|piece| session.request_body(piece));
    session.request_end();
    let mut events = Vec::new();
    session.response_head(200, &typed(Some("application/grpc")));
    response.chunks(piece).for_each(|piece| session.response_body(piece, &mut |event| events.push(event)));
    session.response_end(&mut |event| events.push(event));
    outcome(session, events)
}

fn called(path: &str, request: &[u8], response: &[u8]) -> Outcome {
    let outcome = run(path, request, response, usize::MAX);
    assert_eq!(run(path, request, response, 1), outcome, "byte by byte");
    for end in 0..response.len() {
        run(path, &request[..end.min(request.len())], &response[..end], 3);
    }
    outcome
}

fn tensor(name: &str, contents: &[u8]) -> Vec<u8> {
    [bytes(1, name), bytes(2, "BYTES"), bytes(3, [1]), bytes(5, contents)].concat()
}

fn raw(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn triton_infer_with_typed_contents() {
    let request = message(&[
        bytes(1, "ensemble"),
        bytes(5, tensor("text_input", &bytes(8, "why"))),
        bytes(5, tensor("max_tokens", &bytes(2, [20]))),
        bytes(5, tensor("stream", &bytes(1, [0]))),
    ]);
    let response = message(&[
        bytes(1, "ensemble"),
        bytes(3, "42"),
        bytes(5, tensor("text_output", &bytes(8, "because"))),
        bytes(5, tensor("num_output_tokens", &bytes(2, [3]))),
    ]);
    let outcome = called("/inference.GRPCInferenceService/ModelInfer", &request, &response);
    let Facts { api, provider, request, response, usage, .. } = &outcome.facts;
    assert_eq!((*api, *provider, request.model.as_deref()), ("triton.infer", "triton", Some("ensemble")));
    assert_eq!((request.max_tokens, request.stream, response.id.as_deref()), (Some(20), Some(false), Some("42")));
    assert_eq!((usage.output, outcome.proof, outcome.finished), (Some(3), Proof::Request, true));
    assert_eq!((outcome.is_stream, outcome.malformed), (false, None));
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "because");
    assert_eq!(input(&outcome)[0]["parts"][0]["content"], "why");
}

#[test]
fn triton_stream_with_raw_contents() {
    let named = |name: &str| bytes(5, [bytes(1, name), bytes(2, "BYTES"), bytes(3, [1])].concat());
    let request =
        message(&[bytes(1, "vllm"), named("stream"), named("text_input"), bytes(7, [1]), bytes(7, raw("größe?"))]);
    let piece =
        |text: &str| message(&[bytes(2, [bytes(1, "vllm"), named("text_output"), bytes(6, raw(text))].concat())]);
    let response = [piece("a"), piece("b"), piece("")].concat();
    let outcome = called("/inference.GRPCInferenceService/ModelStreamInfer", &request, &response);
    assert_eq!((carrying(&outcome), outcome.is_stream, outcome.finished), (vec![true, true, false], true, true));
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "ab");
    assert_eq!(input(&outcome)[0]["parts"][0]["content"], "größe?");
    let failed = [piece("a"), message(&[bytes(1, "out of memory")])].concat();
    let outcome = called("/inference.GRPCInferenceService/ModelStreamInfer", &request, &failed);
    assert_eq!((outcome.facts.error.as_deref(), outcome.finished), (Some("_OTHER"), false));
}

#[test]
fn a_compressed_message_is_marked() {
    let request = message(&[bytes(5, tensor("text_input", &bytes(8, "why")))]);
    let outcome = called("/inference.GRPCInferenceService/ModelInfer", &request, b"\x01\0\0\0\x02ab");
    assert_eq!((outcome.proof, outcome.malformed), (Proof::Request, Some("a compressed message cannot be read")));
}

fn retrieval(path: &str, request: &[u8], response: &[u8]) -> (RetrievalFacts, Outcome) {
    let outcome = called(path, request, response);
    assert_eq!((outcome.facts.api, outcome.proof, outcome.malformed), ("retrieval", Proof::Request, None));
    (outcome.facts.retrieval.clone().unwrap(), outcome)
}

fn found(source: &str, operation: &'static str, top_k: u64, count: Option<u64>) -> RetrievalFacts {
    RetrievalFacts { data_source: Some(source.into()), operation, top_k: Some(top_k), result_count: count }
}

#[test]
fn qdrant_over_grpc() {
    let search = [bytes(1, "docs"), bytes(2, [0; 64]), number(4, 5)];
    let point = bytes(1, bytes(1, number(1, 7)));
    let (facts, outcome) = retrieval(
        "/qdrant.Points/Search",
        &message(&search),
        &message(&[point.clone(), point.clone(), double(2, 0.25)]),
    );
    assert_eq!(facts, found("docs", "search", 5, Some(2)));
    assert_eq!((outcome.facts.provider, outcome.facts.timings.total), ("qdrant", Some(0.25)));
    let query = [bytes(1, "docs"), bytes(3, b""), number(8, 2)].concat();
    let batch = message(&[bytes(1, "docs"), bytes(2, &query), bytes(2, &query)]);
    let results = [bytes(1, [point.clone(), point.clone()].concat()), bytes(1, point.clone()), double(2, 0.5)];
    let (facts, _) = retrieval("/qdrant.Points/QueryBatch", &batch, &message(&results));
    assert_eq!(facts, found("docs", "query", 2, Some(3)));
    let group = bytes(1, [bytes(2, b""), bytes(2, b"")].concat());
    let (facts, _) = retrieval(
        "/qdrant.Points/SearchGroups",
        &message(&search),
        &message(&[bytes(1, [group.clone(), group].concat()), double(2, 0.5)]),
    );
    assert_eq!(facts.result_count, Some(4));
    let (facts, _) = retrieval("/qdrant.Points/Search", &message(&search), &message(&[double(2, 0.5)]));
    assert_eq!(facts.result_count, Some(0), "nothing found");
}

#[test]
fn milvus_over_grpc() {
    let pair = |key: &str, value: &str| bytes(9, [bytes(1, key), bytes(2, value)].concat());
    let request = message(&[
        bytes(3, "docs"),
        bytes(6, [0; 40]),
        pair("metric_type", "COSINE"),
        pair("topk", "10"),
        number(12, 2),
    ]);
    let path = "/milvus.proto.milvus.MilvusService/Search";
    let response = message(&[bytes(1, b""), bytes(2, [number(1, 2), bytes(6, [10, 7])].concat())]);
    let (facts, outcome) = retrieval(path, &request, &response);
    assert_eq!(facts, found("docs", "search", 10, Some(17)));
    assert_eq!((outcome.facts.provider, outcome.facts.error), ("milvus", None));
    let failed = message(&[bytes(1, [number(1, 1), bytes(2, "no such collection"), number(3, 100)].concat())]);
    let (facts, outcome) = retrieval(path, &request, &failed);
    assert_eq!((facts.result_count, outcome.facts.error.as_deref()), (None, Some("100")));
    let query = message(&[bytes(3, "docs"), bytes(4, "id > 3"), pair("limit", "4")]);
    let (facts, _) =
        retrieval("/milvus.proto.milvus.MilvusService/Query", &query, &message(&[bytes(1, b""), bytes(2, b"x")]));
    assert_eq!(facts, found("docs", "query", 4, None), "an answer by columns does not count its rows");
}

#[test]
fn weaviate_and_pinecone_over_grpc() {
    let request = message(&[bytes(1, "Article"), number(30, 3), bytes(43, [0; 20])]);
    let took = [varint(1 << 3 | 5), 0.5f32.to_le_bytes().to_vec()].concat();
    let response = message(&[took, bytes(2, b""), bytes(2, b"")]);
    let (facts, outcome) = retrieval("/weaviate.v1.Weaviate/Search", &request, &response);
    assert_eq!(facts, found("Article", "search", 3, Some(2)));
    assert_eq!((outcome.facts.provider, outcome.facts.timings.total), ("weaviate", Some(0.5)));
    let request = message(&[bytes(1, "ns"), number(2, 4), bytes(7, [0; 16])]);
    let (facts, _) = retrieval("/VectorService/Query", &request, &message(&[bytes(2, b""), bytes(3, "ns")]));
    assert_eq!(facts, found("ns", "query", 4, Some(1)));
}

/// A request, the head that answers it, and what comes behind the body.
fn ended(head: &[(&'static str, &str)], trailers: &[(&'static str, &str)], body: &[u8]) -> Outcome {
    let line = RequestLine { method: "POST", path: "/qdrant.Points/Search", host: None, headers: None };
    let mut session = Session::open(&line, &Options::default()).expect("a vector store's path");
    session.request_body(&message(&[bytes(1, "docs"), bytes(2, [0; 64]), number(4, 5)]));
    session.request_end();
    let with = |signals: &[(&'static str, &str)]| Headers {
        signals: signals.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        ..Headers::default()
    };
    session.response_head(200, &with(head));
    session.response_body(body, &mut |_| {});
    session.response_trailers(&with(trailers));
    session.response_end(&mut |_| {});
    outcome(session, Vec::new())
}

#[test]
fn the_status_is_in_the_trailers_or_in_the_only_head() {
    let error = |outcome: Outcome| outcome.facts.error;
    assert_eq!(error(ended(&[], &[("grpc-status", "0")], &message(&[double(2, 0.5)]))), None);
    assert_eq!(error(ended(&[], &[("grpc-status", "14")], b"")).as_deref(), Some("UNAVAILABLE"));
    assert_eq!(error(ended(&[("grpc-status", "5")], &[], b"")).as_deref(), Some("NOT_FOUND"));
    assert_eq!(error(ended(&[("grpc-status", "99")], &[], b"")).as_deref(), Some("UNKNOWN"));
}

#[test]
fn compressed_messages_are_read() {
    use std::io::Write as _;
    let point = bytes(1, bytes(1, number(1, 7)));
    let plain = [point.clone(), point, double(2, 0.25)].concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&plain).unwrap();
    let packed = encoder.finish().unwrap();
    let body = [&[1][..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
    let outcome = ended(&[("grpc-encoding", "gzip")], &[("grpc-status", "0")], &body);
    assert_eq!(outcome.facts.retrieval.unwrap().result_count, Some(2));
    assert_eq!(outcome.malformed, None);
}
