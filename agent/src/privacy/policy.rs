//! What the operator decides: whether content is kept, and what is redacted in it besides credentials.

use serde::Deserialize;

use super::HashKey;

/// Most patterns of the configuration. Each is one more search of every text that is kept.
pub const MAX_PATTERNS: usize = 32;

/// Longest pattern in bytes.
pub const MAX_PATTERN: usize = 512;

/// Most names of fields, and the longest name in bytes.
pub const MAX_FIELDS: usize = 64;

/// Longest name of a field or of a pattern in bytes.
pub const MAX_NAME: usize = 64;

/// What happens to prompts, completions and tool arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentPolicy {
    /// They are read past and never kept.
    #[default]
    Off,
    /// They are redacted and kept.
    On {
        /// Most bytes that are kept of each content attribute of a call.
        cap: usize,
    },
}

impl ContentPolicy {
    /// The cap in bytes for each attribute, absent when content is off.
    pub fn cap(self) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::On { cap } => Some(cap),
        }
    }
}

/// What is written in place of something found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operator {
    /// It stays.
    Off,
    /// What it was: `[EMAIL]`.
    Replace,
    /// What is left of it when it names nobody any more: the last four digits, an address's domain or network.
    Mask,
    /// What it was and a keyed hash, so that equal values can be told: `[EMAIL:6f1c…]`.
    Hash,
}

/// A pattern of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What it finds, written in its place in capitals: letters, digits and `_`.
    pub name: String,
    /// A regular expression as the `regex` crate defines them. A match longer than 512 bytes is not found.
    pub regex: String,
    /// What is written in place of a match.
    #[serde(default = "replace")]
    pub operator: Operator,
}

fn replace() -> Operator {
    Operator::Replace
}

/// What is redacted besides credentials, which always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// E-mail addresses.
    pub email: Operator,
    /// Telephone numbers, international or as North America writes them.
    pub phone: Operator,
    /// Numbers of payment cards.
    pub card: Operator,
    /// Numbers of bank accounts (IBAN).
    pub iban: Operator,
    /// IPv4 and IPv6 addresses.
    pub ip: Operator,
    /// Patterns of the operator's own.
    pub patterns: Vec<Pattern>,
    /// Names of JSON fields whose values go, in any spelling of case, `_` and `-`.
    pub fields: Vec<String>,
    /// Whether descriptions and parameters of tools are kept, not their names alone.
    pub tool_details: bool,
    /// Key of the hashes. Without one, [`Operator::Hash`] replaces.
    pub hash_key: Option<HashKey>,
}

impl Default for Policy {
    /// What names a person goes. Addresses of machines stay: whoever reads prompts about machines needs them.
    fn default() -> Self {
        Self {
            email: Operator::Replace,
            phone: Operator::Replace,
            card: Operator::Replace,
            iban: Operator::Replace,
            ip: Operator::Off,
            patterns: Vec::new(),
            fields: Vec::new(),
            tool_details: false,
            hash_key: None,
        }
    }
}

impl Policy {
    /// Whether anything is hashed.
    pub fn hashes(&self) -> bool {
        let Self { email, phone, card, iban, ip, patterns, fields: _, tool_details: _, hash_key: _ } = self;
        let own = patterns.iter().map(|pattern| &pattern.operator);
        [email, phone, card, iban, ip].into_iter().chain(own).any(|&operator| operator == Operator::Hash)
    }

    /// The first setting that cannot be: its name and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (String, &'static str)> {
        let Self { patterns, fields, .. } = self;
        if patterns.len() > MAX_PATTERNS {
            return Err(("patterns".to_owned(), "must be 32 at most"));
        }
        if fields.len() > MAX_FIELDS {
            return Err(("fields".to_owned(), "must be 64 at most"));
        }
        for (n, field) in fields.iter().enumerate() {
            if plain_name(field).is_empty() || field.len() > MAX_NAME {
                return Err((format!("fields[{n}]"), "must be a name of 1 to 64 bytes with a letter or digit"));
            }
        }
        for (n, Pattern { name, regex, operator: _ }) in patterns.iter().enumerate() {
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !(1..=MAX_NAME).contains(&name.len()) || !is_name {
                return Err((format!("patterns[{n}].name"), "must be 1 to 64 letters, digits and underscores"));
            }
            if !(1..=MAX_PATTERN).contains(&regex.len()) {
                return Err((format!("patterns[{n}].regex"), "must be 1 to 512 bytes"));
            }
        }
        Ok(())
    }
}

/// A field's name without what spellings differ in.
pub(super) fn plain_name(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_off_unless_asked_for() {
        assert_eq!(ContentPolicy::default().cap(), None);
        assert_eq!(ContentPolicy::On { cap: 7 }.cap(), Some(7));
    }

    #[test]
    fn spellings_of_a_field_are_one() {
        for spelling in ["date_of_birth", "DateOfBirth", "date-of-birth", "DATE OF BIRTH"] {
            assert_eq!(plain_name(spelling), "dateofbirth");
        }
    }
}
