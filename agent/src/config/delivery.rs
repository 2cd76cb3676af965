//! `[wal]` and `[export.ship]`: the durable log, and the collector that gets what is in it.

use std::path::PathBuf;

use serde::Deserialize;

/// Where the log is when nobody said otherwise.
const DEFAULT_DIR: &str = "/var/lib/inferscope/wal";

/// Disk that the log may take when nobody said otherwise: some 400,000 calls without content.
const DEFAULT_BYTES: u64 = 1 << 30;

/// Below this a log could not hold a segment and its successor.
const LEAST_BYTES: u64 = 1 << 20;

/// `[wal]`: there with the section, or with `[export.ship]`. Without a log what is exported waits in memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WalConfig {
    /// Directory of the log, which it has for itself.
    pub dir: PathBuf,
    /// Disk that it may take, bytes.
    pub max_bytes: u64,
    /// What happens when all of it is taken.
    pub when_full: WhenFull,
    /// File with the key that encrypts the log: 32 bytes, or 64 hexadecimal digits.
    pub key_file: Option<PathBuf>,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { dir: DEFAULT_DIR.into(), max_bytes: DEFAULT_BYTES, when_full: WhenFull::default(), key_file: None }
    }
}

/// What gives way when the disk budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// New calls are refused until there is room.
    #[default]
    RefuseNew,
    /// The oldest calls go.
    DropOldest,
}

impl WalConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.max_bytes < LEAST_BYTES {
            return Err(("max_bytes", "must be 1048576 or more"));
        }
        if !self.dir.is_absolute() {
            return Err(("dir", "must be an absolute path"));
        }
        Ok(())
    }
}

/// `[export.ship]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipConfig {
    /// `https://host:4317`, or `http://` where the collector is on this host.
    pub endpoint: String,
    /// Who this agent is. The host's name unless it is set.
    pub agent_id: Option<String>,
    /// Certificates to trust, PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, PEM; read anew for each connection.
    pub cert_file: Option<PathBuf>,
    /// Key of the client certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// File with the token that the collector knows this agent by; read anew for each connection.
    pub token_file: Option<PathBuf>,
    /// Compression of the stream.
    #[serde(default)]
    pub compression: ShipCompression,
}

/// Compression of the stream to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShipCompression {
    /// None.
    None,
    /// Zstandard.
    #[default]
    Zstd,
}

impl ShipConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.agent_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 255) {
            return Err(("agent_id", "must be 1 to 255 bytes"));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(("cert_file", "must be set where key_file is, and key_file where it is"));
        }
        Ok(())
    }
}
