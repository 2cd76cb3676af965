//! Keyed hashes: equal values give equal marks, and nobody without the key can try values out.

use sha2::{Digest as _, Sha256};

/// Block of SHA-256 in bytes (FIPS 180-4).
const BLOCK: usize = 64;

/// A key for hashes. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey([u8; BLOCK]);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

impl HashKey {
    /// A key of any length.
    pub fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        match block.get_mut(..key.len()) {
            Some(place) => place.copy_from_slice(key),
            None => block.iter_mut().zip(Sha256::digest(key)).for_each(|(place, b)| *place = b),
        }
        Self(block)
    }

    /// HMAC-SHA-256 (RFC 2104) of `text`, the first eight bytes in hexadecimal: a billion values collide with a chance
    /// of 3 %, which is enough to join by.
    pub(super) fn mark(&self, text: &str) -> String {
        self.hmac(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn hmac(&self, message: &[u8]) -> [u8; 32] {
        let pad = |with: u8| self.0.map(|byte| byte ^ with);
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
        Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn test_vectors_of_rfc_4231() {
        let check = |key: &[u8], message: &[u8], expect: &str| {
            assert_eq!(hex(&HashKey::new(key).hmac(message)), expect);
        };
        check(&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        check(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", HashKey::new(b"hunter2")), "HashKey");
    }
}
