//! `[privacy]`: whether content is kept, and what is redacted in it besides credentials, which always are.
//!
//! Owns the section's layout and the reading of the key for hashes; what the settings mean is `privacy`'s business.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::privacy::{ContentPolicy, HashKey, Operator, Pattern, Policy, Redactor};

/// Fewest bytes of a key for hashes: as many as make trying all keys hopeless.
const MIN_KEY: usize = 16;

/// Most bytes of one: a path may name a device.
const MAX_KEY: u64 = 4096;

/// `[privacy]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyConfig {
    /// Keep prompts, completions, tool arguments, instructions and tool definitions.
    pub content: bool,
    /// Most bytes of each content attribute of one call.
    pub content_max_bytes: usize,
    /// What is kept of the tools that a request offers.
    pub tool_definitions: ToolDetail,
    /// E-mail addresses.
    pub email: Operator,
    /// Telephone numbers.
    pub phone: Operator,
    /// Numbers of payment cards.
    pub card: Operator,
    /// Numbers of bank accounts (IBAN).
    pub iban: Operator,
    /// IPv4 and IPv6 addresses.
    pub ip: Operator,
    /// Names of JSON fields whose values go.
    pub fields: Vec<String>,
    /// `[[privacy.patterns]]`: what else is looked for.
    pub patterns: Vec<Pattern>,
    /// File with the key for hashes; without one there is a key for each run, and hashes of two runs cannot be compared.
    pub hash_key_file: Option<PathBuf>,
}

/// What is kept of the tools that a request offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolDetail {
    /// Types and names.
    #[default]
    Names,
    /// Descriptions and parameters too.
    Full,
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        let Policy { email, phone, card, iban, ip, patterns, fields, tool_details: _, hash_key: _ } = Policy::default();
        Self {
            content: false,
            content_max_bytes: 64 << 10,
            tool_definitions: ToolDetail::Names,
            email,
            phone,
            card,
            iban,
            ip,
            fields,
            patterns,
            hash_key_file: None,
        }
    }
}

impl PrivacyConfig {
    /// The first setting that cannot be: its name and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (String, &'static str)> {
        if self.content_max_bytes == 0 {
            return Err(("content_max_bytes".to_owned(), "must be more than zero"));
        }
        Redactor::new(self.policy(None)).map(drop)
    }

    /// Whether content is kept, and how much.
    pub fn content(&self) -> ContentPolicy {
        match self.content {
            true => ContentPolicy::On { cap: self.content_max_bytes },
            false => ContentPolicy::Off,
        }
    }

    /// The redactor that the section asks for, with the key from its file or with one for this run. It lives as long as
    /// the program does.
    pub fn redactor(&self) -> anyhow::Result<&'static Redactor> {
        let mut policy = self.policy(None);
        if policy.hashes() {
            policy.hash_key = Some(match &self.hash_key_file {
                Some(path) => read_key(path).with_context(|| format!("{}: no key for hashes", path.display()))?,
                None => random_key().context("/dev/urandom cannot be read")?,
            });
        }
        match Redactor::new(policy) {
            Ok(redactor) => Ok(Box::leak(Box::new(redactor))),
            Err((setting, reason)) => anyhow::bail!("privacy.{setting} {reason}"),
        }
    }

    fn policy(&self, hash_key: Option<HashKey>) -> Policy {
        let Self { email, phone, card, iban, ip, fields, patterns, tool_definitions, .. } = self.clone();
        let tool_details = tool_definitions == ToolDetail::Full;
        Policy { email, phone, card, iban, ip, patterns, fields, tool_details, hash_key }
    }
}

fn read_key(path: &Path) -> anyhow::Result<HashKey> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    ensure!(mode & 0o077 == 0, "others than its owner can read it (mode {mode:04o}): chmod 600 it");
    let mut key = Vec::new();
    file.take(MAX_KEY).read_to_end(&mut key)?;
    let key = key.trim_ascii();
    ensure!(key.len() >= MIN_KEY, "it has fewer than {MIN_KEY} bytes");
    Ok(HashKey::new(key))
}

fn random_key() -> std::io::Result<HashKey> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(HashKey::new(&key))
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn mark(config: &PrivacyConfig) -> String {
        config.redactor().unwrap().redact("ann@example.org").into_owned()
    }

    #[test]
    fn equal_values_have_equal_hashes_in_one_run_and_with_one_key() {
        let mut config = PrivacyConfig { email: Operator::Hash, ..PrivacyConfig::default() };
        assert_ne!(mark(&config), mark(&config), "a run's key is its own");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        config.hash_key_file = Some(path);
        assert_eq!(mark(&config), mark(&config));
    }

    #[test]
    fn a_key_that_others_can_read_or_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let config =
            PrivacyConfig { ip: Operator::Hash, hash_key_file: Some(path.clone()), ..PrivacyConfig::default() };
        let error = |content: &str, mode| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            format!("{:#}", config.redactor().unwrap_err())
        };
        assert!(error("0123456789abcdef", 0o640).contains("mode 0640"));
        assert!(error("short", 0o600).contains("fewer than 16 bytes"));
    }
}
