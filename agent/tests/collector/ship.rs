//! One agent at a time: what is stored once, and what is refused.

use inferscope_proto::v1::{Batch, GapReason, RejectReason};
use tonic::Code;

use super::{
    SOON,
    agent::{Stream, batch, gap, hello, item},
    listed, now, settings, start, stored,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_acknowledged_and_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let at = now();
    let mut first = Stream::open(collector.listen(), hello("a", 1, 31)).await.unwrap();
    assert_eq!(first.welcome.durable_through, 0);
    first.send(batch(1, 1..=20, at)).await;
    first.acked(20).await.unwrap();
    drop(first);
    // The acknowledgement was lost: the agent begins before what is stored.
    let mut again = Stream::open(collector.listen(), hello("a", 1, 31)).await.unwrap();
    assert_eq!(again.welcome.durable_through, 20);
    again.send(batch(1, 5..=25, at)).await;
    again.acked(25).await.unwrap();
    again.send(gap(26..=28, GapReason::Corrupt.into())).await;
    again.send(batch(1, 29..=30, at)).await;
    again.acked(30).await.unwrap();
    again.close().await.unwrap();
    assert_eq!((stored(&collector), listed(&collector).len()), (27, 27));
    let agents = collector.store().reader().agents().unwrap();
    assert_eq!((agents[0].gaps[0].first_seq, agents[0].gaps[0].last_seq), (26, 28));
    // Another epoch has seqs of its own.
    let mut other = Stream::open(collector.listen(), hello("a", 2, 4)).await.unwrap();
    assert_eq!(other.welcome.durable_through, 0);
    other.send(batch(2, 1..=3, at)).await;
    other.acked(3).await.unwrap();
    assert_eq!(stored(&collector), 30);
    collector.shutdown(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_breaks_the_rules_is_told_which_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let at = now();
    let twice = Batch { items: vec![item(1, 1, at), item(1, 1, at)], first_seq: 1, last_seq: 1, gaps: Vec::new() };
    let cases = [
        (batch(1, 2..=3, at), Code::FailedPrecondition),
        (Batch { last_seq: 9, ..batch(1, 1..=3, at) }, Code::InvalidArgument),
        (twice, Code::InvalidArgument),
        (gap(1..=u64::MAX, 1), Code::InvalidArgument),
    ];
    for (wrong, code) in cases {
        let mut stream = Stream::open(collector.listen(), hello("a", 1, 100)).await.unwrap();
        stream.send(wrong).await;
        let status = stream.ack().await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    let mut hellos = vec![hello("", 1, 1), hello(&"x".repeat(256), 1, 1), hello("a", 1, 1), hello("a", 1, 1)];
    hellos[2].epoch = vec![1; 15].into();
    hellos[3].version = 0;
    for wrong in hellos {
        let Err(status) = Stream::open(collector.listen(), wrong).await else { panic!("it was let in") };
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    assert_eq!(stored(&collector), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_set_back_cannot_reuse_the_names_of_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let mut stream = Stream::open(collector.listen(), hello("a", 1, 11)).await.unwrap();
    stream.send(batch(1, 1..=10, now())).await;
    stream.acked(10).await.unwrap();
    drop(stream);
    let Err(status) = Stream::open(collector.listen(), hello("a", 1, 6)).await else { panic!("it was let in") };
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_damaged_costs_itself() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let mut batch = batch(1, 1..=5, now());
    batch.items[1].crc32c ^= 1;
    batch.items[2].payload = bytes::Bytes::from_static(b"\xff\xff no span");
    batch.items[2].crc32c = crc32c::crc32c(&batch.items[2].payload);
    batch.items[3].kind = 99;
    let mut stream = Stream::open(collector.listen(), hello("a", 1, 6)).await.unwrap();
    stream.send(batch).await;
    let ack = stream.acked(5).await.unwrap();
    let reasons: Vec<_> = ack.rejected.iter().map(|item| (item.seq, item.reason())).collect();
    assert_eq!(reasons, [(2, RejectReason::Checksum), (3, RejectReason::Malformed), (4, RejectReason::UnknownKind)]);
    assert_eq!(stored(&collector), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_of_an_agent_ends_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let mut old = Stream::open(collector.listen(), hello("a", 1, 10)).await.unwrap();
    let mut new = Stream::open(collector.listen(), hello("a", 1, 10)).await.unwrap();
    assert_eq!(old.ack().await.unwrap_err().code(), Code::Aborted);
    new.send(batch(1, 1..=9, now())).await;
    new.acked(9).await.unwrap();
    // Others are not concerned.
    assert!(Stream::open(collector.listen(), hello("b", 1, 10)).await.is_ok());
    new.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_beyond_the_credit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let at = now();
    let mut stream = Stream::open(collector.listen(), hello("a", 1, 1_000_000)).await.unwrap();
    let mut large = batch(1, 1..=2, at);
    for item in &mut large.items {
        item.payload = vec![0; 2 << 20].into();
    }
    // The two together are beyond the credit of a stream, and beyond the largest message.
    stream.send(large).await;
    let code = stream.ack().await.unwrap_err().code();
    assert!(matches!(code, Code::ResourceExhausted | Code::OutOfRange), "{code:?}");
    assert_eq!(stored(&collector), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let at = now();
    for round in 0..3_u64 {
        let collector = start(&settings(dir.path())).await;
        let mut stream = Stream::open(collector.listen(), hello("a", 1, 1_000)).await.unwrap();
        assert_eq!(stream.welcome.durable_through, round * 50);
        stream.send(batch(1, round * 50 + 1..=round * 50 + 50, at)).await;
        stream.acked(round * 50 + 50).await.unwrap();
        // A stream that is open does not hold up the end, and is told.
        let ended = tokio::spawn(async move { stream.ack().await });
        collector.shutdown(SOON).await.unwrap();
        assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::Unavailable);
    }
    let collector = start(&settings(dir.path())).await;
    assert_eq!((stored(&collector), listed(&collector).len()), (150, 150));
}
