//! The text of a request, counted while it is parsed.

use super::{Counting, Tokens};
use crate::{
    llm::history::{LISTS, SYSTEM},
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Other members of a request that a model reads.
const READ: [&str; 7] = ["prompt", "message", "inputs", "suffix", "tools", "functions", "toolConfig"];

/// Members that hold pictures, sound or files.
const MEDIA: [&str; 8] = ["data", "image_url", "input_audio", "file_data", "file_id", "fileData", "images", "bytes"];

/// Tokens around each message, in thousandths: OpenAI's own count for its chat format is three and a half.
const PER_MESSAGE: u64 = 3_500;

/// Counts one request.
#[derive(Clone, Debug)]
pub(crate) struct InputTokens {
    tokens: Tokens,
    has_media: bool,
}

impl InputTokens {
    /// Counts with a vocabulary.
    pub fn new(counting: Counting) -> Self {
        Self { tokens: Tokens::new(counting), has_media: false }
    }

    /// Forgets what was counted: it is not all.
    pub fn forget(&mut self) {
        *self = Self::new(self.tokens.counting());
    }

    /// Takes one value of the request.
    pub fn take(&mut self, path: &[Step<'_>], token: Token<'_>) {
        let Some(Key(first)) = path.first() else { return };
        let is_list = LISTS.contains(first);
        if !is_list && !SYSTEM.contains(first) && !READ.contains(first) {
            return;
        }
        match (path, token) {
            ([_, Index(_)], Token::ObjectStart) if is_list => self.tokens.add_thousandths(PER_MESSAGE),
            (_, Token::String { text, .. } | Token::Piece(text)) => {
                let name = path.iter().rev().find_map(|step| if let Key(key) = step { Some(*key) } else { None });
                let in_media = path.iter().any(|step| matches!(step, Key(key) if MEDIA.contains(key)));
                self.has_media |= (is_list && in_media) || text.starts_with("data:");
                // The whole of it came in pieces before.
                let repeated = matches!(token, Token::String { truncated: true, .. });
                if !repeated && !matches!(name, Some("role" | "type" | "id" | "cache_control")) {
                    self.tokens.push(text);
                }
                if let Token::String { .. } = token {
                    self.tokens.end();
                }
            }
            // A schema is written out with its names.
            ([.., Key(key)], Token::ObjectStart | Token::ArrayStart) if !is_list => {
                self.tokens.push(key);
                self.tokens.end();
            }
            _ => {}
        }
    }

    /// The count; absent where the text is not all that the model reads.
    pub fn end(self) -> Option<Tokens> {
        (!self.has_media && self.tokens.is_any()).then_some(self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::json::Scanner;

    fn count(request: &Value) -> Option<u64> {
        let mut input = InputTokens::new(Counting::default());
        let mut scanner = Scanner::new(10).with_pieces();
        scanner.push(request.to_string().as_bytes(), &mut |path, token| input.take(path, token));
        input.end().map(|tokens| tokens.count(1_000))
    }

    #[test]
    fn every_text_that_a_model_reads_counts_once() {
        let text = "one two three four five six seven eight nine ten ".repeat(10);
        let alone = count(&json!({"prompt": text})).unwrap();
        assert!(alone.abs_diff(100) < 5, "{alone}");
        for request in [
            json!({"messages": [{"role": "user", "content": text}]}),
            json!({"model": "m", "input": text}),
            json!({"contents": [{"parts": [{"text": text}]}]}),
            json!({"system": text, "messages": []}),
            json!({"metadata": {"note": text}, "prompt": text}),
        ] {
            let found = count(&request).unwrap();
            assert!(found.abs_diff(alone) <= 4, "{request}: {found}");
        }
    }

    #[test]
    fn what_no_text_tells_is_not_estimated() {
        let with =
            |part: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]});
        assert_eq!(count(&with(json!({"type": "image_url", "image_url": {"url": "https://x/y.png"}}))), None);
        assert_eq!(count(&with(json!({"type": "image", "source": {"data": "iVBOR"}}))), None);
        assert_eq!(count(&json!({"model": "m"})), None);
        assert!(count(&with(json!({"type": "text", "text": "ho"}))).is_some());
    }
}
