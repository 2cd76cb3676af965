//! The binder against event loops that are simulated.

use proptest::prelude::*;

use super::*;

const TID: u32 = 9;
const MS: u64 = 1_000_000;

fn tls(n: u64) -> StreamKey {
    StreamKey::Tls { tgid: 5, object: ObjectId { address: 0x7000 + n, generation: 1 } }
}

fn plain(n: u64, direction: Direction, bytes: u32) -> Plain {
    Plain { tls: tls(n), direction, bytes, overhead: 0 }
}

fn socket(n: u64) -> ObjectId {
    ObjectId { address: 0xf000 + n, generation: n }
}

fn bound(n: u64) -> Finding {
    Finding::Bound { tls: tls(n), socket: socket(n) }
}

fn send(binder: &mut Binder, at: u64, n: u64, fragments: &[u16]) -> Vec<Finding> {
    let total = fragments.iter().map(|&f| u32::from(f) + 5).sum();
    binder.records(Mono(at), TID, socket(n), Direction::Write, fragments, total)
}

fn receive(binder: &mut Binder, at: u64, n: u64, fragments: &[u16]) {
    let total = fragments.iter().map(|&f| u32::from(f) + 5).sum();
    assert_eq!(binder.records(Mono(at), TID, socket(n), Direction::Read, fragments, total), []);
}

#[test]
fn a_write_that_is_sent_alone_binds_by_its_first_record() {
    for overhead in [17, 24, 16] {
        let mut binder = Binder::default();
        assert_eq!(binder.plain(Mono(1), TID, &plain(1, Direction::Write, 214)), None);
        assert_eq!(send(&mut binder, 2, 1, &[214 + overhead]), [bound(1)]);
    }
}

#[test]
fn a_request_behind_the_end_of_the_handshake_in_one_send_binds() {
    let mut binder = Binder::default();
    binder.plain(Mono(1), TID, &plain(1, Direction::Write, 270));
    assert_eq!(send(&mut binder, 2, 1, &[1, 53, 287]), [bound(1)]);
}

#[test]
fn a_long_write_must_agree_as_a_whole() {
    let bytes = 100_000u32;
    let total = bytes + bytes.div_ceil(16_384) * 22;
    for (total, findings) in [(total, vec![bound(1)]), (total - 1, vec![])] {
        let mut binder = Binder::default();
        binder.plain(Mono(1), TID, &plain(1, Direction::Write, bytes));
        let found = binder.records(Mono(2), TID, socket(1), Direction::Write, &[16_401; 7], total);
        assert_eq!(found, findings);
    }
}

#[test]
fn two_waiting_writes_of_one_length_prove_nothing() {
    let mut binder = Binder::default();
    binder.plain(Mono(1), TID, &plain(1, Direction::Write, 214));
    binder.plain(Mono(2), TID, &plain(2, Direction::Write, 214));
    assert_eq!(send(&mut binder, 3, 1, &[231]), []);
    assert_eq!(send(&mut binder, 4, 2, &[231]), []);
    // What they read next has other lengths.
    receive(&mut binder, 5, 2, &[317]);
    assert_eq!(binder.plain(Mono(6), TID, &plain(2, Direction::Read, 300)), Some(bound(2)));
}

#[test]
fn two_waiting_writes_of_different_lengths_need_two_records() {
    let mut binder = Binder::default();
    for (at, findings) in [(0, vec![]), (10 * MS, vec![bound(1)])] {
        binder.plain(Mono(at + 1), TID, &plain(1, Direction::Write, 214));
        binder.plain(Mono(at + 2), TID, &plain(2, Direction::Write, 300));
        assert_eq!(send(&mut binder, at + 3, 1, &[231]), findings);
        send(&mut binder, at + 4, 2, &[317]);
    }
}

#[test]
fn what_was_not_sent_in_time_proves_nothing_and_leaves_doubt() {
    let mut binder = Binder::default();
    binder.plain(Mono(1), TID, &plain(1, Direction::Write, 214));
    binder.plain(Mono(2_000 * MS), TID, &plain(2, Direction::Write, 214));
    assert_eq!(send(&mut binder, 2_001 * MS, 1, &[231]), [], "either of the two");
}

#[test]
fn a_read_in_pieces_is_summed() {
    let mut binder = Binder::default();
    receive(&mut binder, 1, 1, &[250, 1041]);
    assert_eq!(binder.plain(Mono(2), TID, &plain(1, Direction::Read, 1000)), None);
    assert_eq!(binder.plain(Mono(3), TID, &plain(1, Direction::Read, 24)), Some(bound(1)));
}

/// One direction, of a library that shows its records.
fn half(n: u64, direction: Direction, bytes: u32, overhead: u16) -> Plain {
    let object = ObjectId { address: 0x7000 + n, generation: 1 };
    Plain { tls: StreamKey::Half { tgid: 5, object, direction }, direction, bytes, overhead }
}

#[test]
fn two_directions_are_bound_to_one_socket() {
    let mut binder = Binder::default();
    let (written, read) = (half(1, Direction::Write, 214, 17), half(2, Direction::Read, 300, 17));
    binder.plain(Mono(1), TID, &written);
    assert_eq!(send(&mut binder, 2, 1, &[231]), [Finding::Bound { tls: written.tls, socket: socket(1) }]);
    receive(&mut binder, 3, 1, &[317]);
    let found = binder.plain(Mono(4), TID, &read);
    assert_eq!(found, Some(Finding::Bound { tls: read.tls, socket: socket(1) }));
    // The other direction of another connection is no contradiction, a second one of the same direction is.
    for at in [10, 20] {
        receive(&mut binder, at, 1, &[417]);
        let found = binder.plain(Mono(at + 1), TID, &half(3, Direction::Read, 400, 17));
        let withdrawn = Finding::Withdrawn { tls: read.tls, socket: socket(1) };
        assert_eq!(found, (at == 20).then_some(withdrawn));
    }
}

#[test]
fn a_known_overhead_must_be_met_and_padding_is_one() {
    for (overhead, fragment, is_bound) in [(17, 231, true), (17, 238, false), (57, 271, true), (17, 230, false)] {
        let mut binder = Binder::default();
        binder.plain(Mono(1), TID, &half(1, Direction::Write, 214, overhead));
        assert_eq!(send(&mut binder, 2, 1, &[fragment]).len(), usize::from(is_bound), "{overhead} {fragment}");
    }
}

#[test]
fn records_of_one_direction_are_read_one_by_one() {
    let mut binder = Binder::default();
    receive(&mut binder, 1, 1, &[250, 317, 417]);
    // The first was a ticket; the second does not add to the third.
    let bound = binder.plain(Mono(2), TID, &half(2, Direction::Read, 300, 17));
    assert!(bound.is_some());
    let mut binder = Binder::default();
    receive(&mut binder, 1, 1, &[37, 417]);
    assert_eq!(binder.plain(Mono(2), TID, &half(2, Direction::Read, 20, 17)), None, "too short");
    assert!(binder.plain(Mono(3), TID, &half(2, Direction::Read, 400, 17)).is_some());
}

#[test]
fn what_a_bound_stream_writes_is_not_anothers() {
    let mut binder = Binder::default();
    binder.plain(Mono(1), TID, &half(1, Direction::Write, 214, 17));
    assert_eq!(send(&mut binder, 2, 1, &[231]).len(), 1);
    binder.plain_of_bound(Mono(3), TID, &half(1, Direction::Write, 99, 17));
    binder.plain(Mono(4), TID, &half(2, Direction::Write, 99, 17));
    assert_eq!(send(&mut binder, 5, 1, &[116]), [], "of the one or the other");
    // Nobody tells records any more: then there is nothing that could be mistaken.
    let later = Mono(3 * WINDOW_NS);
    assert_eq!(binder.plain_of_bound(later, TID, &half(1, Direction::Write, 77, 17)), None);
    assert!(binder.threads[&TID].waiting.iter().all(|waiting| waiting.plain != 77));
}

#[test]
fn two_streams_that_read_after_one_receive_prove_nothing() {
    let mut binder = Binder::default();
    receive(&mut binder, 1, 1, &[417]);
    assert_eq!(binder.plain(Mono(2), TID, &plain(2, Direction::Read, 33)), None);
    assert_eq!(binder.plain(Mono(3), TID, &plain(1, Direction::Read, 400)), None);
}

#[test]
fn pieces_of_one_call_are_one_write() {
    let mut binder = Binder::default();
    for _ in 0..3 {
        binder.plain(Mono(1), TID, &plain(1, Direction::Write, 214));
    }
    assert_eq!(send(&mut binder, 2, 1, &[231]), [bound(1)]);
    assert_eq!(send(&mut binder, 3, 2, &[231]), [], "the write was sent already");
}

#[test]
fn a_binding_that_is_contradicted_is_withdrawn() {
    let mut binder = Binder::default();
    binder.plain(Mono(1), TID, &plain(2, Direction::Write, 214));
    assert_eq!(send(&mut binder, 2, 1, &[231]), [Finding::Bound { tls: tls(2), socket: socket(1) }]);
    let mut found = Vec::new();
    for at in 0..2 {
        binder.plain(Mono(10 + 2 * at), TID, &plain(1, Direction::Write, 500));
        found.extend(send(&mut binder, 11 + 2 * at, 1, &[517]));
    }
    assert_eq!(found, [Finding::Withdrawn { tls: tls(2), socket: socket(1) }]);
}

#[test]
fn threads_are_bounded() {
    let mut binder = Binder::default();
    for tid in 0..2 * MAX_THREADS as u32 {
        binder.plain(Mono(1), tid, &plain(1, Direction::Write, 214));
    }
    assert!(binder.threads.len() <= MAX_THREADS);
}

/// One turn of an event loop: what some of the connections do.
#[derive(Clone, Debug)]
enum Turn {
    /// Each encrypts, then each sends, in another order (uvloop).
    Batch(Vec<(u64, u32)>, bool),
    /// One encrypts and sends (asyncio).
    Write(u64, u32),
    /// One receives, decrypts and reads.
    Read(u64, u32),
    /// One encrypts, and what it wrote is sent some turns later.
    Backlog(u64, u32),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    // Few lengths, so that they collide.
    let step = || (0u64..6, prop::sample::select(vec![40u32, 41, 48, 100, 214, 20_000]));
    prop::collection::vec(
        prop_oneof![
            (prop::collection::vec(step(), 1..6), any::<bool>())
                .prop_map(|(steps, backwards)| Turn::Batch(steps, backwards)),
            step().prop_map(|(n, len)| Turn::Write(n, len)),
            step().prop_map(|(n, len)| Turn::Read(n, len.min(16_384))),
            step().prop_map(|(n, len)| Turn::Backlog(n, len)),
        ],
        1..60,
    )
}

fn fragments(plain: u32) -> Vec<u16> {
    let full = plain / 16_384;
    let mut all = vec![16_401; full as usize];
    if !plain.is_multiple_of(16_384) {
        all.push((plain % 16_384 + 17) as u16);
    }
    all
}

proptest! {
    /// Whatever the interleaving, as long as every stream of the thread is seen: no binding is wrong.
    #[test]
    fn no_binding_is_wrong(turns in turns()) {
        let mut binder = Binder::default();
        let mut at = 0;
        let mut found = Vec::new();
        let mut backlog: Vec<(u64, u32)> = Vec::new();
        for turn in turns {
            let mut tick = || { at += 10_000; at };
            match turn {
                Turn::Batch(mut steps, backwards) => {
                    for &(n, len) in &steps {
                        found.extend(binder.plain(Mono(tick()), TID, &plain(n, Direction::Write, len)));
                    }
                    if backwards {
                        steps.reverse();
                    }
                    for (n, len) in steps {
                        found.extend(send(&mut binder, tick(), n, &fragments(len)));
                    }
                }
                Turn::Write(n, len) => {
                    found.extend(binder.plain(Mono(tick()), TID, &plain(n, Direction::Write, len)));
                    found.extend(send(&mut binder, tick(), n, &fragments(len)));
                }
                Turn::Read(n, len) => {
                    receive(&mut binder, tick(), n, &fragments(len));
                    found.extend(binder.plain(Mono(tick()), TID, &plain(n, Direction::Read, len)));
                }
                Turn::Backlog(n, len) => {
                    found.extend(binder.plain(Mono(tick()), TID, &plain(n, Direction::Write, len)));
                    backlog.push((n, len));
                }
            }
            if backlog.len() > 3 {
                let (n, len) = backlog.remove(0);
                found.extend(send(&mut binder, tick(), n, &fragments(len)));
            }
        }
        for finding in found {
            match finding {
                Finding::Bound { tls: StreamKey::Tls { object, .. }, socket } => {
                    prop_assert_eq!(object.address - 0x7000, socket.address - 0xf000);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
