//! The Huffman code of RFC 7541 appendix B.
//!
//! Decodes four bits at a time with a table that the compiler makes from the lengths of the codes: the code is
//! canonical, so they say everything.

/// The end of a string, which no string holds.
const EOS: usize = 256;

/// Bits of each byte's code, and of the end's.
#[rustfmt::skip]
const LENGTHS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Longest code, in bits.
const MAX_BITS: u8 = 30;

/// What four bits do.
#[derive(Clone, Copy)]
struct Step {
    /// The node of the code's tree where they lead.
    next: u8,
    /// The byte whose code they end, if any.
    byte: Option<u8>,
    /// They end the code of the end, which is an error.
    fails: bool,
}

struct Table {
    steps: [[Step; 16]; EOS],
    /// Whether a string may end at a node: behind at most seven bits of the end's code (RFC 7541 section 5.2).
    is_end: [bool; EOS],
}

static TABLE: Table = table();

/// A child that is a leaf is `LEAF` and the byte; no child is 0, because the root is nobody's child.
const LEAF: u16 = 0x1000;

const fn tree() -> [[u16; 2]; EOS] {
    let mut nodes = [[0u16; 2]; EOS];
    let (mut n_nodes, mut code, mut bits) = (1, 0u32, 1);
    while bits <= MAX_BITS {
        let mut byte = 0;
        while byte <= EOS {
            if LENGTHS[byte] == bits {
                let (mut node, mut left) = (0usize, bits);
                while left > 1 {
                    left -= 1;
                    let bit = (code >> left & 1) as usize;
                    if nodes[node][bit] == 0 {
                        nodes[node][bit] = n_nodes;
                        n_nodes += 1;
                    }
                    node = nodes[node][bit] as usize;
                }
                nodes[node][(code & 1) as usize] = LEAF + byte as u16;
                code += 1;
            }
            byte += 1;
        }
        code <<= 1;
        bits += 1;
    }
    nodes
}

const fn table() -> Table {
    let nodes = tree();
    let mut steps = [[Step { next: 0, byte: None, fails: false }; 16]; EOS];
    let mut is_end = [false; EOS];
    let mut from = 0;
    while from < EOS {
        let mut bits = 0;
        while bits < 16 {
            let (mut node, mut left) = (from, 4);
            let step = &mut steps[from][bits];
            while left > 0 {
                left -= 1;
                let child = nodes[node][bits >> left & 1];
                if child == LEAF + EOS as u16 {
                    step.fails = true;
                    node = 0;
                } else if child >= LEAF {
                    step.byte = Some((child - LEAF) as u8);
                    node = 0;
                } else {
                    node = child as usize;
                }
            }
            step.next = node as u8;
            bits += 1;
        }
        from += 1;
    }
    let (mut node, mut depth) = (0usize, 0);
    while depth <= 7 {
        is_end[node] = true;
        node = nodes[node][1] as usize;
        depth += 1;
    }
    Table { steps, is_end }
}

/// Decodes a string into `out`, as far as it goes, and gives the string's true length; nothing if this is no string.
pub(super) fn decode(coded: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut node, mut len) = (0u8, 0);
    for &byte in coded {
        for bits in [byte >> 4, byte & 0xf] {
            let step = &TABLE.steps[usize::from(node)][usize::from(bits)];
            if step.fails {
                return None;
            }
            if let Some(byte) = step.byte {
                if let Some(slot) = out.get_mut(len) {
                    *slot = byte;
                }
                len += 1;
            }
            node = step.next;
        }
    }
    TABLE.is_end[usize::from(node)].then_some(len)
}

/// The code of a string, for tests of what reads it.
#[cfg(test)]
pub(in crate::protocol::http2) fn encode(text: &[u8]) -> Vec<u8> {
    let code_of = |wanted: usize| {
        let mut order: Vec<usize> = (0..=EOS).collect();
        order.sort_by_key(|&byte| (LENGTHS[byte], byte));
        let (mut code, mut bits) = (0u32, LENGTHS[order[0]]);
        for byte in order {
            code <<= LENGTHS[byte] - bits;
            bits = LENGTHS[byte];
            if byte == wanted {
                break;
            }
            code += 1;
        }
        (code, bits)
    };
    let mut coded: Vec<bool> = Vec::new();
    for &byte in text {
        let (code, bits) = code_of(usize::from(byte));
        coded.extend((0..bits).rev().map(|bit| code >> bit & 1 == 1));
    }
    coded.resize(coded.len().next_multiple_of(8), true);
    coded.chunks(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 512];
        decode(coded, &mut out).map(|len| out[..len].to_vec())
    }

    #[test]
    fn examples_of_the_rfc() {
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (
                &[0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3],
                "https://www.example.com",
            ),
            (&[], ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), coded);
        }
    }

    #[test]
    fn padding_that_is_too_long_or_not_ones_is_no_string() {
        // RFC 7541 section 5.2. `0` is 00000.
        assert_eq!(decoded(&[0b0000_0111]).as_deref(), Some(b"0".as_slice()));
        assert_eq!(decoded(&[0b0000_0110]), None);
        assert_eq!(decoded(&[0b0000_0111, 0xff]), None);
        assert_eq!(decoded(&[0xff; 4]), None, "the end itself");
    }

    #[test]
    fn more_than_there_is_room_for_is_counted() {
        let mut out = [0; 3];
        assert_eq!(decode(&encode(b"abcdef"), &mut out), Some(6));
        assert_eq!(&out, b"abc");
    }

    proptest! {
        #[test]
        fn every_string_survives(text in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn any_bytes_give_a_string_or_none(coded in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
