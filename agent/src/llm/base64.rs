//! Base64 (RFC 4648 section 4), decoded in pieces of a fixed size.

/// Bytes that are handed out at a time; a multiple of three.
const PIECE: usize = 768;

/// Decodes `text` and hands out the bytes. False if it is not base64; what came before the fault has been handed out.
pub(crate) fn decode(text: &str, sink: &mut dyn FnMut(&[u8])) -> bool {
    let text = text.trim_end_matches('=');
    let mut piece = [0; PIECE];
    let mut whole = text.len() % 4 != 1;
    for digits in text.as_bytes().chunks(PIECE / 3 * 4) {
        let (mut bits, mut n_bits, mut len) = (0u32, 0, 0);
        for &digit in digits {
            let Some(value) = value(digit) else {
                whole = false;
                break;
            };
            (bits, n_bits) = (bits << 6 | u32::from(value), n_bits + 6);
            if n_bits >= 8 {
                n_bits -= 8;
                if let Some(slot) = piece.get_mut(len) {
                    *slot = (bits >> n_bits) as u8;
                }
                len += 1;
            }
        }
        sink(piece.get(..len).unwrap_or_default());
        if !whole {
            break;
        }
    }
    whole
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str, whole: bool) {
        let mut out = Vec::new();
        assert_eq!(decode(text, &mut |bytes| out.extend_from_slice(bytes)), whole, "{text}");
        assert_eq!(String::from_utf8_lossy(&out), expect, "{text}");
    }

    #[test]
    fn the_rfcs_examples() {
        let pairs = ["", "", "Zg==", "f", "Zm8=", "fo", "Zm9v", "foo", "Zm9vYg==", "foob", "Zm9vYmE=", "fooba"];
        for pair in pairs.chunks(2) {
            check(pair[0], pair[1], true);
        }
        check("Zm9vYmFy", "foobar", true);
        check("Zm9vYg", "foob", true);
    }

    #[test]
    fn long_text_comes_in_pieces() {
        check(&"Zm9v".repeat(1_000), &"foo".repeat(1_000), true);
    }

    #[test]
    fn other_text_is_told() {
        check("Zm9v!", "foo", false);
        check("Zm9vY", "foo", false);
        check("é", "", false);
    }
}
