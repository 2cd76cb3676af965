//! The text of one string or number while it arrives in pieces.
//!
//! Owns UTF-8 repair, surrogate pairs, the cap, and the grammar of numbers. Where a token begins and ends and what
//! is an escape the scanner says.

/// How much of a buffer is kept for the next token. Anything larger came from one unusual string, and a thousand
/// idle streams must not each hold on to one.
const KEEP: usize = 4096;

/// Bytes looked at in one go: a string of megabytes in one push is not validated beyond its cap.
const WINDOW: usize = 4096;

/// A string under construction. Gives the same text however its bytes are cut into calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    text: String,
    max: usize,
    truncated: bool,
    /// Keep what does not fit for whoever takes it away.
    spilling: bool,
    spilled: String,
    /// Beginning of a UTF-8 sequence whose rest has not come yet.
    partial: [u8; 4],
    partial_len: usize,
    /// High surrogate that waits for its low one.
    high: Option<u16>,
}

impl Text {
    /// Begins a new string of at most `max` bytes. What is beyond is left out, or with `spilling` given to whoever asks
    /// for it.
    pub(super) fn start(&mut self, max: usize, spilling: bool) {
        self.text.clear();
        self.text.shrink_to(KEEP);
        self.spilled.clear();
        self.spilled.shrink_to(KEEP);
        (self.max, self.truncated, self.spilling, self.partial_len, self.high) = (max, false, spilling, 0, None);
    }

    /// Whether what does not fit is of interest.
    pub(super) fn is_spilling(&self) -> bool {
        self.spilling
    }

    /// What did not fit since it was last cleared.
    pub(super) fn spilled(&self) -> &str {
        &self.spilled
    }

    /// Forgets what did not fit.
    pub(super) fn clear_spilled(&mut self) {
        self.spilled.clear();
    }

    /// Text so far. After [`Self::end`] it is whole.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there was more than fits.
    pub(super) fn truncated(&self) -> bool {
        self.truncated
    }

    /// Appends raw bytes of the string.
    pub(super) fn bytes(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.drop_high();
        while self.partial_len > 0 && !self.is_over() {
            let Some((&byte, tail)) = bytes.split_first() else { return };
            self.partial[self.partial_len] = byte;
            match str::from_utf8(&self.partial[..=self.partial_len]) {
                Ok(_) => {
                    let (sequence, len) = (self.partial, self.partial_len + 1);
                    self.partial_len = 0;
                    self.lossy(&sequence[..len]);
                    bytes = tail;
                }
                Err(error) if error.error_len().is_none() => {
                    self.partial_len += 1;
                    bytes = tail;
                }
                // The byte does not continue the sequence: it begins something of its own.
                Err(_) => self.drop_partial(),
            }
        }
        self.lossy(bytes);
    }

    /// Appends what a one-letter escape stands for.
    pub(super) fn char(&mut self, c: char) {
        self.drop_high();
        self.drop_partial();
        self.append(c.encode_utf8(&mut [0; 4]));
    }

    /// Appends the UTF-16 unit of a `\u` escape (RFC 8259 section 7).
    pub(super) fn unit(&mut self, unit: u16) {
        self.drop_partial();
        match (self.high.take(), unit) {
            (Some(high), 0xDC00..=0xDFFF) => {
                let c = char::decode_utf16([high, unit]).next();
                self.char(c.and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (lone, _) => {
                if lone.is_some() {
                    self.append("\u{FFFD}");
                }
                match unit {
                    0xD800..=0xDBFF => self.high = Some(unit),
                    _ => self.char(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
        }
    }

    /// Ends the string: halves of anything become U+FFFD.
    pub(super) fn end(&mut self) {
        self.drop_high();
        self.drop_partial();
    }

    fn drop_high(&mut self) {
        if self.high.take().is_some() {
            self.append("\u{FFFD}");
        }
    }

    fn drop_partial(&mut self) {
        if self.partial_len > 0 {
            self.partial_len = 0;
            self.append("\u{FFFD}");
        }
    }

    fn lossy(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over() {
            let window = &bytes[..bytes.len().min(WINDOW)];
            match str::from_utf8(window) {
                Ok(text) => {
                    self.append(text);
                    bytes = &bytes[window.len()..];
                }
                Err(error) => {
                    let (valid, bad) = window.split_at(error.valid_up_to());
                    self.append(str::from_utf8(valid).unwrap_or_default());
                    bytes = &bytes[valid.len()..];
                    if let Some(len) = error.error_len() {
                        self.append("\u{FFFD}");
                        bytes = &bytes[len..];
                    } else if bytes.len() == bad.len() {
                        self.partial[..bad.len()].copy_from_slice(bad);
                        self.partial_len = bad.len();
                        return;
                    }
                }
            }
        }
    }

    /// Whether what follows makes no difference.
    fn is_over(&self) -> bool {
        self.truncated && !self.spilling
    }

    fn append(&mut self, text: &str) {
        let room = if self.truncated { 0 } else { self.max - self.text.len() };
        let fits = text.floor_char_boundary(room);
        self.text.push_str(&text[..fits]);
        self.truncated |= fits < text.len();
        if self.spilling {
            self.spilled.push_str(&text[fits..]);
        }
    }
}

/// RFC 8259 section 6: `[-] int [frac] [exp]`.
pub(super) fn is_number(number: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = number.strip_prefix(b"-").unwrap_or(number);
    let int = digits(rest);
    if int == 0 || (int > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[int..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let n = digits(fraction);
        if n == 0 {
            return false;
        }
        rest = &fraction[n..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
