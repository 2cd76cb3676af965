use inferscope_testing::wire::protobuf::{bytes, number, varint};
use proptest::prelude::*;

use super::{super::json::Step, *};

const POINT: &[Field] = &[field(1, "id", Kind::Int), list(2, "tags", Kind::Text)];
const META: &[Field] = &[field(1, "took", Kind::Float), list(3, "counts", Kind::Int)];
const ROOT: &[Field] = &[
    field(1, "name", Kind::Text),
    list(2, "points", Kind::Message(POINT)),
    field(3, "ok", Kind::Bool),
    field(4, "vector", Kind::Presence),
    field(5, "meta", Kind::Inline(META)),
    list(6, "raw", Kind::RawText),
    field(7, "time", Kind::Float),
];

const fn field(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, repeated: false, kind }
}

const fn list(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, repeated: true, kind }
}

/// Everything that a message says, as text, and what is wrong with it.
fn read(message: &[u8], piece: usize) -> (Vec<String>, Option<&'static str>) {
    let mut out = Vec::new();
    let mut sink = |path: &[Step<'_>], token: Token<'_>| {
        let path: Vec<String> = path
            .iter()
            .map(|step| match step {
                Step::Key(key) => (*key).to_owned(),
                Step::Index(index) => index.to_string(),
            })
            .collect();
        out.push(format!("{} {token:?}", path.join(".")));
    };
    let mut scanner = Scanner::new(ROOT, 16);
    message.chunks(piece).for_each(|piece| scanner.push(piece, &mut sink));
    scanner.finish(&mut sink);
    let malformed = scanner.malformed();
    (out, malformed)
}

fn sample() -> Vec<u8> {
    let point = |id: u64, tag: &str| [number(1, id), bytes(2, tag.as_bytes()), number(9, 300)].concat();
    let raw = [&6u32.to_le_bytes()[..], b"grosse", b"more"].concat();
    [
        bytes(1, "größe".as_bytes()),
        bytes(2, point(7, "a")),
        bytes(15, [0xff; 300]),
        bytes(2, [point(8, "b"), bytes(2, b"c")].concat()),
        bytes(2, b""),
        number(3, 1),
        bytes(4, [0; 400]),
        bytes(5, [varint(1 << 3 | 5), 0.5f32.to_le_bytes().to_vec(), bytes(3, [1, 0x80, 1, 3])].concat()),
        bytes(6, &raw),
        [varint(7 << 3 | 1), 0.25f64.to_le_bytes().to_vec()].concat(),
        number(3, 0),
    ]
    .concat()
}

#[test]
fn values_have_the_paths_of_json() {
    let (values, malformed) = read(&sample(), usize::MAX);
    let text = |text: &str| format!("String {{ text: {text:?}, truncated: false }}");
    let expect = [
        format!("name {}", text("größe")),
        "points.0 ObjectStart".into(),
        "points.0.id Number(\"7\")".into(),
        format!("points.0.tags.0 {}", text("a")),
        "points.0 ObjectEnd".into(),
        "points.1 ObjectStart".into(),
        "points.1.id Number(\"8\")".into(),
        format!("points.1.tags.0 {}", text("b")),
        format!("points.1.tags.1 {}", text("c")),
        "points.1 ObjectEnd".into(),
        "points.2 ObjectStart".into(),
        "points.2 ObjectEnd".into(),
        "ok Bool(true)".into(),
        "vector Null".into(),
        "took Number(\"0.5\")".into(),
        "counts.0 Number(\"1\")".into(),
        "counts.1 Number(\"128\")".into(),
        "counts.2 Number(\"3\")".into(),
        format!("raw.0 {}", text("grosse")),
        "time Number(\"0.25\")".into(),
        "ok Bool(false)".into(),
        " ObjectEnd".into(),
    ];
    assert_eq!((values, malformed), (expect.to_vec(), None));
}

#[test]
fn long_text_is_cut_at_a_character() {
    let cut = |text: String| read(&bytes(1, text.as_bytes()), usize::MAX).0.remove(0);
    let expect = |text: String| format!("name String {{ text: {text:?}, truncated: true }}");
    assert_eq!(cut("ä".repeat(10)), expect("ä".repeat(8)));
    assert_eq!(cut("x".to_owned() + &"ä".repeat(10)), expect("x".to_owned() + &"ä".repeat(7)));
}

#[test]
fn what_is_wrong_is_said_and_stops_the_reading() {
    let wrong = |message: &[u8]| read(message, usize::MAX).1;
    assert_eq!(wrong(&[0xff; 11]), Some("a number is too long"));
    assert_eq!(wrong(&[3 << 3 | 3]), Some("a kind of field that is not in use"));
    assert_eq!(wrong(&bytes(2, [2 << 3 | 2, 100])), Some("a field is longer than its message"));
    let torn = [bytes(2, [1 << 3, 0x80]), number(3, 1)].concat();
    assert_eq!(wrong(&torn), Some("a field is longer than its message"));
    assert_eq!(wrong(&bytes(1, b"abc")[..3]), Some("the message ends inside a field"));
    // A length of 2^63: nothing is kept for what does not come.
    let lie = [varint(1 << 3 | 2), varint(1 << 63), b"x".to_vec()].concat();
    assert_eq!(wrong(&lie), Some("the message ends inside a field"));
}

static NODE: [Field; 1] = [field(2, "next", Kind::Message(&NODE))];

#[test]
fn deep_nesting_is_passed_over() {
    let mut message = Vec::new();
    for _ in 0..100 {
        message = bytes(2, &message);
    }
    let mut deepest = 0;
    let mut scanner = Scanner::new(&NODE, 16);
    scanner.push(&message, &mut |path, _| deepest = deepest.max(path.len()));
    assert!(scanner.finish(&mut |_, _| ()));
    assert_eq!(deepest, MAX_DEPTH);
}

proptest! {
    #[test]
    fn any_split_gives_the_same(piece in 1usize..40, end in 0usize..1_200) {
        let sample = sample();
        let cut = &sample[..end.min(sample.len())];
        prop_assert_eq!(read(cut, piece), read(cut, usize::MAX));
    }

    #[test]
    fn any_bytes_are_survived_in_any_split(message in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
        prop_assert_eq!(read(&message, piece), read(&message, usize::MAX));
    }
}
