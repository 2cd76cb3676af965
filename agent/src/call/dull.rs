//! Paths that can be no model's, as the kernel side looks them up.

use inferscope_common::targets::{HASH_BASIS, MAX_HASHED_PATH, hash_byte};

use crate::llm;

/// Hash of a POST's path, if the path alone says that it can be no model's and the kernel side would hash it: whole,
/// up to the query, and short enough.
pub fn hash(path: &str) -> Option<u64> {
    let dull = path.len() <= MAX_HASHED_PATH && !path.contains([' ', '?']) && llm::is_never_a_model(path);
    dull.then(|| path.bytes().fold(HASH_BASIS, hash_byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_is_no_models_is_hashed() {
        // FNV-1a of "foobar", from the algorithm's published test vectors.
        assert_eq!(hash("foobar"), Some(0x85944171f73967e8));
        assert!(hash("/api/ingest").is_some() && hash("/api/ingest") != hash("/api/ingests"));
        for path in ["/v1/chat/completions", "/v1/completions", "/a?b", &"/x".repeat(32)] {
            assert_eq!(hash(path), None, "{path}");
        }
    }
}
