//! When a call is a model call, and when it has ended.

use super::*;

#[test]
fn finished_waits_for_every_choice() {
    let request = json!({"model": "m", "messages": [], "n": 2, "stream": true}).to_string();
    let piece = |index: u32, reason: Value| {
        format!("data: {}\n\n", chunk(json!([{"index": index, "delta": {"content": "x"}, "finish_reason": reason}])))
    };
    let mut session = Exchange::default().open();
    session.request_body(request.as_bytes());
    session.request_end();
    session.response_head(200, &typed(Some("text/event-stream; charset=utf-8")));
    let sink = &mut |_| {};
    session.response_body(piece(0, json!("stop")).as_bytes(), sink);
    assert!(!session.finished(), "the second choice has not begun");
    session.response_body(piece(1, json!("stop")).as_bytes(), sink);
    assert!(!session.finished(), "neither usage nor end of the body");
    session.response_end(sink);
    assert!(session.finished() && session.is_stream());
}

#[test]
fn path_alone_proves_nothing() {
    let of = |request: &str, status: u16, response: &str| {
        Exchange { request: request.into(), status, response: response.into(), ..Exchange::default() }.run().proof
    };
    let error = r#"{"error":{"message":"m","type":"invalid_request_error"}}"#;
    assert_eq!(of(r#"{"a":1}"#, 200, r#"{"ok":true}"#), Proof::Refuted);
    assert_eq!(of(r#"{"a":1}"#, 400, error), Proof::Refuted, "a whole request without a trace of the API");
    assert_eq!(of(r#"{"messages":[]}"#, 400, error), Proof::Response, "the model is missing, which is the error");
    assert_eq!(of("{\"model", 400, error), Proof::Response, "malformed request");
    assert_eq!(of("", 401, error), Proof::Response, "lost request");
    assert_eq!(of("", 502, "<html>bad gateway</html>"), Proof::Refuted);
    assert_eq!(of("", 404, r#"{"error":"not found"}"#), Proof::Refuted, "any program may answer that");
    assert_eq!(of("", 200, error), Proof::Refuted);
    assert_eq!(of(r#"{"model":"m","messages":[]}"#, 502, "<html>bad gateway</html>"), Proof::Request);
    assert_eq!(of("", 200, r#"{"object":"chat.completion","choices":[]}"#), Proof::Response);
}

#[test]
fn proof_is_pending_until_the_end() {
    let mut session = Exchange::default().open();
    assert_eq!(session.proof(), Proof::Pending);
    session.request_gap();
    session.request_end();
    session.response_head(200, &typed(None));
    assert_eq!(session.proof(), Proof::Pending);
    session.response_end(&mut |_| {});
    assert_eq!(session.proof(), Proof::Refuted);
}

#[test]
fn batch_poll_has_usage() {
    for (method, path) in
        [("GET", "/v1/batches/batch_1"), ("POST", "/v1/batches"), ("POST", "/v1/files"), ("GET", CHAT)]
    {
        assert!(
            Session::open(&RequestLine { method, path, host: None, headers: None }, &Options::default()).is_none(),
            "{method} {path}"
        );
    }
}
