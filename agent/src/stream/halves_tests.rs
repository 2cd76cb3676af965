//! Halves in every order of coming.

use proptest::prelude::*;

use super::*;
use crate::record::Source;

const TGID: u32 = 5;

fn half(n: u64, direction: Direction) -> StreamKey {
    let address = 0x7000 + 2 * n + u64::from(direction == Direction::Write);
    StreamKey::Half { tgid: TGID, object: ObjectId { address, generation: address }, direction }
}

fn socket(n: u64) -> ObjectId {
    ObjectId { address: 0xf000 + n, generation: n }
}

fn origin(at: u64) -> Origin {
    Origin { time: Mono(at), tgid: TGID, tid: TGID, start_ns: 0 }
}

fn data(half: StreamKey, turn: u32, payload: &[u8]) -> Data<'_> {
    let direction = half.half().unwrap();
    let (stream, total) = (half.object(), payload.len() as u32);
    Data { stream, offset: 0, skipped: 0, total, turn, direction, source: Source::Rustls, overhead: 17, payload }
}

fn give(halves: &mut Halves, at: u64, half: StreamKey, payload: &[u8]) -> Route {
    assert!(halves.note(Mono(at), half).0);
    halves.take(half, &origin(at), &data(half, 1, payload))
}

fn texts(released: &[Held]) -> Vec<String> {
    released.iter().map(|held| String::from_utf8(held.payload.clone()).unwrap()).collect()
}

#[test]
fn a_pair_is_given_out_in_the_order_of_time() {
    let (read, write) = (half(1, Direction::Read), half(1, Direction::Write));
    let mut halves = Halves::default();
    assert_eq!(give(&mut halves, 1, write, b"request"), Route::Held);
    assert_eq!(halves.bind(write, socket(1)), None);
    assert_eq!(give(&mut halves, 2, read, b"answer"), Route::Held);
    assert_eq!(give(&mut halves, 3, write, b"next"), Route::Held);
    let pair = halves.bind(read, socket(1)).unwrap();
    // The read half was seen first by the kernel side, as its generation says.
    assert_eq!(pair.key, StreamKey::Tls { tgid: TGID, object: read.object() });
    assert_eq!((pair.place.object, pair.joined.gate), (write.object().address, read.object().address));
    assert_eq!(texts(&halves.release(pair.key)), ["request", "answer", "next"]);
    assert_eq!(halves.held_bytes(), 0);
    assert!(matches!(give(&mut halves, 4, read, b"more"), Route::To(key, _) if key == pair.key));
}

#[test]
fn a_half_of_another_connection_is_no_partner() {
    let mut halves = Halves::default();
    give(&mut halves, 1, half(1, Direction::Write), b"a");
    give(&mut halves, 2, half(2, Direction::Read), b"b");
    assert_eq!(halves.bind(half(1, Direction::Write), socket(1)), None);
    assert_eq!(halves.bind(half(2, Direction::Read), socket(2)), None);
}

#[test]
fn the_joined_half_answers_after_the_gates_turn() {
    let (read, write) = (half(1, Direction::Read), half(1, Direction::Write));
    let mut halves = Halves::default();
    give(&mut halves, 1, read, b"request");
    give(&mut halves, 2, write, b"answer");
    halves.bind(read, socket(1));
    let key = halves.bind(write, socket(1)).unwrap().key;
    let turns: Vec<u32> = halves.release(key).iter().map(|held| held.data().turn).collect();
    assert_eq!(turns, [1, 2]);
    // The kernel side knows by now.
    for (half, turn) in [(read, 3), (write, 4), (write, 4), (read, 5)] {
        assert_eq!(halves.take(half, &origin(9), &data(half, turn, b"x")), Route::To(key, turn));
    }
}

#[test]
fn a_bound_half_goes_on_alone_beyond_the_bound() {
    let (read, write) = (half(1, Direction::Read), half(1, Direction::Write));
    let mut halves = Halves::default();
    let piece = vec![b'x'; 16 << 10];
    give(&mut halves, 1, write, b"head");
    halves.bind(write, socket(1));
    let mut route = Route::Held;
    while route == Route::Held {
        route = give(&mut halves, 2, write, &piece);
    }
    let key = StreamKey::Tls { tgid: TGID, object: write.object() };
    assert_eq!(route, Route::Alone(key, socket(1)));
    assert_eq!((halves.release(key).len(), halves.only(key)), (MAX_HELD / piece.len() + 1, Some(Direction::Write)));
    // The other joins it, whichever was seen first.
    give(&mut halves, 3, read, b"answer");
    assert_eq!(halves.bind(read, socket(1)).map(|pair| pair.key), Some(key));
    assert_eq!((texts(&halves.release(key)), halves.only(key)), (vec!["answer".to_owned()], None));
    assert_eq!(halves.unpaired_bytes(), 0);
}

#[test]
fn what_cannot_be_told_from_any_other_is_counted() {
    let mut halves = Halves::default();
    let piece = vec![b'x'; 16 << 10];
    for at in 0..64 {
        give(&mut halves, at, half(1, Direction::Read), &piece);
    }
    assert!(halves.held_bytes() <= MAX_HELD as u64);
    let (held, unpaired) = (halves.held_bytes(), halves.unpaired_bytes());
    assert_eq!(held + unpaired, 64 * piece.len() as u64);
    assert_eq!(halves.on_tick(Mono(2 * PATIENCE_NS), |_| true), []);
    assert_eq!((halves.held_bytes(), halves.unbound()), (0, 1));
    assert_eq!(halves.unpaired_bytes(), 64 * piece.len() as u64);
}

#[test]
fn a_later_key_at_a_place_replaces_the_earlier() {
    let mut halves = Halves::default();
    let early = half(1, Direction::Read);
    let StreamKey::Half { tgid, object, direction } = early else { panic!("no half") };
    let late = StreamKey::Half { tgid, object: ObjectId { generation: 99_999, ..object }, direction };
    assert_eq!(halves.note(Mono(1), early), (true, None));
    assert_eq!(halves.note(Mono(2), late), (true, Some(early)));
    halves.remove(early);
    assert_eq!(halves.note(Mono(3), late), (true, None));
}

/// Something that happens to a half.
#[derive(Clone, Debug)]
enum Step {
    Bytes(u64, bool, usize),
    Bind(u64, bool),
    Forget(u64),
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..4, any::<bool>(), 1usize..40_000).prop_map(|(n, write, len)| Step::Bytes(n, write, len)),
        2 => (0u64..4, any::<bool>()).prop_map(|(n, write)| Step::Bind(n, write)),
        1 => (0u64..4).prop_map(Step::Forget),
        1 => Just(Step::Tick),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Every byte is given out, held or counted; what is given out is given to its own connection, and in order.
    #[test]
    fn no_byte_goes_astray(steps in steps()) {
        let direction = |write| if write { Direction::Write } else { Direction::Read };
        let mut halves = Halves::default();
        let (mut at, mut given, mut out) = (0u64, 0u64, 0u64);
        let mut released: Vec<(StreamKey, Vec<Held>)> = Vec::new();
        for step in steps {
            at += 1_000;
            let alone = match step {
                Step::Bytes(n, write, len) => {
                    given += len as u64;
                    match give(&mut halves, at, half(n, direction(write)), &vec![n as u8; len]) {
                        Route::To(key, _) => {
                            prop_assert_eq!((key.object().address - 0x7000) / 2, n);
                            out += len as u64;
                            vec![]
                        }
                        Route::Held => vec![],
                        Route::Alone(key, on) => vec![(key, on)],
                    }
                }
                Step::Bind(n, write) => {
                    let pair = halves.bind(half(n, direction(write)), socket(n));
                    pair.map(|pair| (pair.key, socket(n))).into_iter().collect()
                }
                Step::Forget(n) => {
                    let alone = halves.give_up_waiting(socket(n));
                    released.extend(alone.iter().map(|(key, _)| (*key, halves.release(*key))));
                    for write in [false, true] {
                        if let Some(key) = halves.connection(half(n, direction(write))) {
                            halves.forget(key);
                        }
                    }
                    vec![]
                }
                Step::Tick => {
                    at += 2 * PATIENCE_NS;
                    halves.on_tick(Mono(at), |_| true)
                }
            };
            for (key, _) in alone {
                released.push((key, halves.release(key)));
            }
        }
        for (key, held) in released {
            let n = (key.object().address - 0x7000) / 2;
            for piece in &held {
                prop_assert!(piece.payload.iter().all(|byte| u64::from(*byte) == n));
                out += piece.payload.len() as u64;
            }
            prop_assert!(held.is_sorted_by_key(|held| held.origin.time));
        }
        let alone = halves.finish();
        out += alone.iter().flat_map(|(key, _)| halves.release(*key)).map(|held| held.payload.len() as u64).sum::<u64>();
        prop_assert_eq!(halves.held_bytes(), 0);
        prop_assert_eq!(given, out + halves.unpaired_bytes());
    }
}
