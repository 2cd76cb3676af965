use proptest::prelude::*;

use super::{
    testing::{Encoder, Style},
    *,
};

/// A block's fields as text: `name: value`, `?` for what is unknown, `-` for what is nobody's business.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, &'static str> {
    let mut lines = Vec::new();
    decoder.decode(block, &mut |field| {
        let value = field.value.map(|value| String::from_utf8_lossy(value).into_owned());
        lines.push(match field.name {
            Name::Listed(name) => format!("{name}: {}", value.as_deref().unwrap_or("?")),
            Name::Other => "-".to_owned(),
            Name::Unknown => "?".to_owned(),
        });
    })?;
    Ok(lines)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Decodes blocks one after the other; each is told with its fields and the table's size behind it.
fn check(mut decoder: Decoder, blocks: &[(&str, &[&str], usize)]) {
    for (block, fields, size) in blocks {
        assert_eq!(decode(&mut decoder, &bytes(block)).unwrap(), *fields, "{block}");
        assert_eq!(decoder.table.size(), *size, "{block}");
    }
}

#[test]
fn rfc_7541_c2_representations() {
    check(Decoder::new(), &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &["-"], 55)]);
    check(Decoder::new(), &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0)]);
    check(Decoder::new(), &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &["-"], 0)]);
    check(Decoder::new(), &[("82", &[":method: GET"], 0)]);
}

#[test]
fn rfc_7541_c3_and_c4_requests() {
    let first = &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
    let second = &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "-"];
    let third = &[":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "-"];
    check(
        Decoder::new(),
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", first, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", second, 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", third, 164),
        ],
    );
    check(
        Decoder::new(),
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", first, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", second, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", third, 164),
        ],
    );
}

#[test]
fn rfc_7541_c5_and_c6_responses_with_eviction() {
    let small = || {
        let mut decoder = Decoder::new();
        decoder.table.resize(256);
        decoder
    };
    let (first, second) = (&[":status: 302", "-", "-", "-"], &[":status: 307", "-", "-", "-"]);
    let third = &[":status: 200", "-", "-", "-", "content-encoding: gzip", "-"];
    check(
        small(),
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
                 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                first,
                222,
            ),
            ("4803 3330 37c1 c0bf", second, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
                 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
                 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                third,
                215,
            ),
        ],
    );
    check(
        small(),
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
                 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                first,
                222,
            ),
            ("4883 640e ffc1 c0bf", second, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                third,
                215,
            ),
        ],
    );
}

#[test]
fn values_off_the_list_are_not_kept_even_in_the_table() {
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    let style = Style { insert: true, ..Style::default() };
    for name in ["authorization", "x-api-key", "cookie", "proxy-authorization"] {
        encoder.field(name, "canary", style, &mut block);
    }
    encoder.field(":path", "/v1/x?key=canary", style, &mut block);
    encoder.field(":authority", "canary@host", style, &mut block);
    let mut decoder = Decoder::new();
    assert_eq!(decode(&mut decoder, &block).unwrap(), ["-", "-", "-", "-", ":path: /v1/x", ":authority: host"]);
    assert_eq!(decoder.table.size(), encoder.size());
    let kept: Vec<_> = (0..).map_while(|at| decoder.table.get(at)).filter_map(|entry| entry.value.as_deref()).collect();
    assert_eq!(kept, [b"host".as_slice(), b"/v1/x"]);
}

#[test]
fn a_user_name_longer_than_what_is_read_is_not_taken_for_a_host() {
    let authority = format!("{}@host", "canary".repeat(400));
    for huffman in [false, true] {
        let mut block = Vec::new();
        Encoder::new().field(":authority", &authority, Style { huffman, ..Style::default() }, &mut block);
        assert_eq!(decode(&mut Decoder::new(), &block).unwrap(), [":authority: ?"]);
    }
}

#[test]
fn what_was_inserted_before_is_unknown_and_what_comes_after_is_known() {
    let index = Style { index: true, index_name: true, insert: true, ..Style::default() };
    let mut encoder = Encoder::new();
    let mut missed = Vec::new();
    encoder.field("user-agent", "old", index, &mut missed);
    encoder.field(":path", "/old", index, &mut missed);
    let mut decoder = Decoder::new();
    decoder.forget();
    let mut block = Vec::new();
    encoder.field("user-agent", "old", index, &mut block);
    encoder.field(":path", "/new", index, &mut block);
    encoder.field("user-agent", "old", index, &mut block);
    encoder.field(":path", "/old", index, &mut block);
    encoder.field(":path", "/new", index, &mut block);
    assert_eq!(decode(&mut decoder, &block).unwrap(), ["?", ":path: /new", "?", "?", ":path: /new"]);
}

#[test]
fn errors_are_told_and_leave_the_table_unknown() {
    for (block, what) in [
        ("80", "index 0"),
        ("ff", "an integer that does not end"),
        ("ffff ffff ff0f", "an integer that is too large"),
        ("ff80 8080 8080 8080 01", "an integer of too many bytes"),
        ("0004 6162", "a string that is cut"),
        ("4481 00", "a Huffman code that is none"),
    ] {
        let mut decoder = Decoder::new();
        decode(&mut decoder, &bytes("4401 61")).unwrap();
        assert_eq!(decode(&mut decoder, &bytes("be")).unwrap(), [":path: a"]);
        assert_eq!(decode(&mut decoder, &bytes(block)), Err(reason::COMPRESSION), "{what}");
        assert_eq!(decode(&mut decoder, &bytes("be")).unwrap(), ["?"], "{what}");
    }
}

#[test]
fn a_table_of_any_size_is_bounded() {
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    encoder.resize(1 << 20, &mut block);
    for n in 0..4000 {
        encoder.field(":path", &format!("/{n}"), Style { insert: true, ..Style::default() }, &mut block);
    }
    let mut decoder = Decoder::new();
    decode(&mut decoder, &block).unwrap();
    assert!(decoder.table.size() <= table::MAX_TABLE && encoder.size() > table::MAX_TABLE);
    let mut last = Vec::new();
    encoder.field(":path", "/3999", Style { index: true, ..Style::default() }, &mut last);
    encoder.field(":path", "/0", Style { index: true, ..Style::default() }, &mut last);
    assert_eq!(decode(&mut decoder, &last).unwrap(), [":path: /3999", "?"]);
}

/// A name that is listed, or one that is not, and a value of which there are few: so that the table is used.
fn field() -> impl Strategy<Value = (&'static str, String, Style)> {
    let names = [":path", "user-agent", "content-type", "traceparent", "cookie", "x-custom", "authorization", "server"];
    let style = any::<[bool; 5]>().prop_map(|[index, index_name, insert, never, huffman]| Style {
        index,
        index_name,
        insert,
        never,
        huffman,
    });
    (prop::sample::select(names.to_vec()), "[a-c]{1,2}", style)
}

/// Perhaps a change of the table's size, and fields.
type Block = (Option<usize>, Vec<(&'static str, String, Style)>);

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let size = prop::option::weighted(0.2, 0usize..400);
    prop::collection::vec((size, prop::collection::vec(field(), 0..8)), 1..30)
}

proptest! {
    #[test]
    fn every_block_says_what_was_said(blocks in blocks()) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (size, fields) in blocks {
            let mut block = Vec::new();
            size.into_iter().for_each(|size| encoder.resize(size, &mut block));
            let mut expect = Vec::new();
            for (name, value, style) in fields {
                encoder.field(name, &value, style, &mut block);
                expect.push(listed(name.as_bytes()).map_or("-".to_owned(), |name| format!("{name}: {value}")));
            }
            prop_assert_eq!(decode(&mut decoder, &block).unwrap(), expect);
            prop_assert_eq!(decoder.table.size(), encoder.size());
        }
    }

    #[test]
    fn missed_blocks_never_give_a_wrong_value(blocks in blocks(), missed in prop::collection::vec(any::<bool>(), 30)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for ((size, fields), missed) in blocks.into_iter().zip(missed) {
            let mut block = Vec::new();
            size.into_iter().for_each(|size| encoder.resize(size, &mut block));
            let mut truth = Vec::new();
            for (name, value, style) in fields {
                encoder.field(name, &value, style, &mut block);
                truth.push(listed(name.as_bytes()).map_or("-".to_owned(), |name| format!("{name}: {value}")));
            }
            if missed {
                decoder.forget();
                continue;
            }
            for (said, truth) in decode(&mut decoder, &block).unwrap().into_iter().zip(truth) {
                let name_alone = said.strip_suffix(": ?").is_some_and(|name| truth.starts_with(name));
                prop_assert!(said == truth || said == "?" || name_alone, "{said} is not {truth}");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_block_or_none(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let _ = decode(&mut decoder, &block);
            prop_assert!(decoder.table.size() <= table::MAX_TABLE);
        }
    }
}
