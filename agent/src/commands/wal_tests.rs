//! What `inferscope wal` tells of logs, good and damaged.

use std::{path::Path, time::Duration};

use bytes::Bytes;

use super::*;
use crate::wal::{Start, Wal, WalSettings};

/// A log of two items that nobody has acknowledged.
fn log(dir: &Path) {
    let wal = Wal::open(WalSettings::new(dir)).unwrap();
    let _reader = wal.reader("ship", Start::Oldest).unwrap();
    let text = AnyValue { value: Some(Any::StringValue("openai.chat".into())) };
    let api = KeyValue { key: "inferscope.api".into(), value: Some(text), ..Default::default() };
    let span =
        Span { trace_id: vec![0xab; 16], name: "chat".into(), kind: 3, attributes: vec![api], ..Default::default() };
    wal.handle().offer(Kind::Span, span.encode_to_vec().into()).unwrap();
    wal.handle().offer(Kind::Log, Bytes::from_static(b"\x01\xff")).unwrap();
    assert!(wal.close(Duration::from_secs(30)));
}

fn looked(dir: &Path, depth: Depth) -> (View, Vec<Value>) {
    let args = LogArgs { dir: dir.to_owned(), key_file: None };
    let mut lines = Vec::new();
    let seen = look(&args, depth, &mut |epoch, item| {
        lines.push(line(epoch, &item));
        Ok(())
    });
    (seen.unwrap(), lines)
}

#[test]
fn a_good_log_is_told_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let (seen, lines) = looked(dir.path(), Depth::Payloads);
    assert!(!seen.is_damaged(), "{seen:?}");
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["seq"], &lines[0]["kind"]), (&json!(1), &json!("span")));
    assert_eq!(lines[0]["span"]["attributes"], json!({"inferscope.api": "openai.chat"}));
    assert_eq!((&lines[0]["span"]["kind"], &lines[0]["span"]["trace_id"]), (&json!("client"), &json!("ab".repeat(16))));
    assert_eq!((&lines[1]["kind"], &lines[1]["payload"]), (&json!("log"), &json!("01ff")));
    let report = to_json(&looked(dir.path(), Depth::Headers).0);
    assert_eq!(report["cursors"], json!([{"name": "ship", "through": 0, "backlog": 2}]));
    assert_eq!((&report["segments"][0]["items"], &report["damaged"]), (&json!(2), &json!(false)));
    let mut text = Vec::new();
    pretty(&mut text, &seen).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("cursor   ship: has everything up to seq 0, 2 are to come"));
}

#[test]
fn a_damaged_log_fails_to_verify_and_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let path = looked(dir.path(), Depth::Headers).0.segments[0].path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (seen, lines) = looked(dir.path(), Depth::Payloads);
    assert_eq!((lines.len(), seen.gaps.len(), seen.is_damaged()), (1, 1, true));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let log = LogArgs { dir: dir.path().to_owned(), key_file: None };
    let error = wal(&WalArgs { action: WalAction::Verify { log } }).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn a_directory_that_is_none_is_an_error_and_nothing_is_made_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogArgs { dir: dir.path().join("none"), key_file: None };
    assert!(wal(&WalArgs { action: WalAction::Verify { log } }).is_err());
    assert!(!dir.path().join("none").exists());
}
