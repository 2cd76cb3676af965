//! The configuration file of `inferscope run`.
//!
//! Owns the file's layout, its defaults and the refusal of files that others could change. What the standard
//! `OTEL_*` variables add is resolved by `export::otlp`; what the settings mean is the business of whoever is
//! named by the section. Errors name the line and never quote it, because a line may hold a token.
//!
//! To add a setting: a documented field with a default in its section, its check in `Config::check`, a line in
//! the tests' full file.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    cost::CostConfig,
    targets::{Selectors, Targets},
};

mod delivery;
mod export;
mod gpu;
mod privacy;
mod sampling;
mod serving;

pub use delivery::{ShipCompression, ShipConfig, WalConfig, WhenFull};
pub use export::{Compression, ExportConfig, Headers, JsonlConfig, OtlpConfig, PrometheusConfig};
pub use gpu::GpuConfig;
pub use privacy::{PrivacyConfig, ToolDetail};
pub use sampling::SamplingConfig;
pub use serving::ServingConfig;

/// Where `inferscope run` looks when it is not told.
pub const DEFAULT_PATH: &str = "/etc/inferscope/config.toml";

/// Largest file that is read: a real one has some hundred bytes, and a path may name a device.
const MAX_FILE: u64 = 1 << 20;

/// Mean log-probability below which an answer is marked unless the file says otherwise: a probability of one in four
/// for each of its tokens.
pub const LOW_CONFIDENCE: f64 = -1.4;

/// Everything that the file can say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is captured.
    pub capture: CaptureConfig,
    /// Whose calls are captured.
    pub targets: TargetsConfig,
    /// What may be kept of what they say.
    pub privacy: PrivacyConfig,
    /// Where calls go.
    pub export: ExportConfig,
    /// Which calls go there.
    pub sampling: SamplingConfig,
    /// What is on its way, on disk.
    pub wal: Option<WalConfig>,
    /// What marks an answer as bad.
    pub quality: QualityConfig,
    /// What calls cost.
    pub cost: CostConfig,
    /// How tokens are counted.
    pub usage: UsageConfig,
    /// When a server's call is slow.
    pub serving: ServingConfig,
    /// How GPUs are read.
    pub gpu: GpuConfig,
}

/// `[usage]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsageConfig {
    /// Estimate token counts from the texts where none are reported, in attributes of their own: by the served model's
    /// tokenizer where it can be read, else by `o200k_base`. Takes some 50 MiB, and more for each tokenizer.
    pub estimate: bool,
}

/// `[quality]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityConfig {
    /// Mean natural logarithm of an answer's token probabilities below which it is marked as of low confidence. Needs
    /// requests that ask for log-probabilities.
    pub low_confidence_logprob: Option<f64>,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self { low_confidence_logprob: Some(LOW_CONFIDENCE) }
    }
}

/// `[capture]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// Give a call up when nothing was seen of it for so long.
    pub idle_timeout_seconds: u64,
    /// Report HTTP calls that are no model calls too.
    pub all_http: bool,
    /// Where TLS cannot be read, infer calls from the sizes and times of TLS records.
    pub infer: bool,
    /// Report the calls of MCP servers that are spoken to over their standard input and output.
    pub mcp_stdio: bool,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { idle_timeout_seconds: 300, all_http: false, infer: false, mcp_stdio: true }
    }
}

/// `[targets]`: what is empty does not narrow; see [`targets`](crate::targets) for what the selectors mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetsConfig {
    /// Process ids.
    pub pids: Vec<u32>,
    /// Command names, as in `/proc/PID/comm`.
    pub comms: Vec<String>,
    /// Globs of executables' paths.
    pub exes: Vec<String>,
    /// Control groups with all below them, or globs.
    pub cgroups: Vec<String>,
    /// systemd units.
    pub units: Vec<String>,
    /// Beginnings of container ids.
    pub containers: Vec<String>,
    /// TCP ports, of either end.
    pub ports: Vec<u16>,
    /// Globs of hosts, without ports.
    pub hosts: Vec<String>,
    /// `[targets.exclude]`: the same selectors; what they match is left out all the same.
    pub exclude: Selectors,
}

impl From<TargetsConfig> for Targets {
    fn from(config: TargetsConfig) -> Self {
        let TargetsConfig { pids, comms, exes, cgroups, units, containers, ports, hosts, exclude } = config;
        Self { include: Selectors { pids, comms, exes, cgroups, units, containers, ports, hosts }, exclude }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Someone else could tell a privileged service what to capture and where to send it.
    #[error("{path} can be written by its group or by everybody (mode {mode:04o}): chmod go-w it")]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its owner could, at any time.
    #[error("{path} belongs to user {uid}: chown it to root, or to whoever runs inferscope")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The file is larger than any real one.
    #[error("{path} is larger than {MAX_FILE} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is not what the file may say.
    #[error("{path}:{line}:{column}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is outside what makes sense.
    #[error("{path}: {setting} {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Full name of the setting.
        setting: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Config {
    /// Reads the file at `path`, which must be there; without one, the default file if it is there.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::read(path),
            None => Self::read_if_there(Path::new(DEFAULT_PATH)),
        }
    }

    fn read_if_there(path: &Path) -> Result<Self, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            other => other,
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        // The mode is that of the file that is open: a path could name another one a moment later.
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(ConfigError::Writable { path: path.to_owned(), mode });
        }
        // Whoever owns the file decides what root reads and where it writes. `/proc/self` belongs to who we are.
        let own = std::fs::metadata("/proc/self").map_err(failed)?.uid();
        if metadata.uid() != 0 && metadata.uid() != own {
            return Err(ConfigError::Owner { path: path.to_owned(), uid: metadata.uid() });
        }
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, &text)
    }

    /// Reads `text` as the file at `path`, which errors name.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            // `Display` of the error would quote the line.
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            ConfigError::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                reason: error.message().to_owned(),
            }
        })?;
        match config.check() {
            Ok(()) => Ok(config),
            Err((setting, reason)) => Err(ConfigError::Value { path: path.to_owned(), setting, reason }),
        }
    }

    fn check(&self) -> Result<(), (String, &'static str)> {
        let Self { capture, targets, privacy, export, sampling, quality, cost, usage: _, gpu, serving, wal } = self;
        if capture.idle_timeout_seconds == 0 {
            return Err(("capture.idle_timeout_seconds".to_owned(), "must be more than zero"));
        }
        privacy.check().map_err(|(key, reason)| (format!("privacy.{key}"), reason))?;
        // A logarithm of a probability is never positive.
        if quality.low_confidence_logprob.is_some_and(|limit| !(-1000.0..=0.0).contains(&limit)) {
            return Err(("quality.low_confidence_logprob".to_owned(), "must be between -1000 and 0"));
        }
        cost.check()?;
        serving.check().map_err(|(key, reason)| (format!("serving.{key}"), reason))?;
        gpu.check().map_err(|(key, reason)| (format!("gpu.{key}"), reason))?;
        let Targets { include, exclude } = targets.clone().into();
        include.check().map_err(|(key, reason)| (format!("targets.{key}"), reason))?;
        exclude.check().map_err(|(key, reason)| (format!("targets.exclude.{key}"), reason))?;
        export.check().map_err(|(key, reason)| (format!("export.{key}"), reason))?;
        sampling.check().map_err(|(key, reason)| (format!("sampling.{key}"), reason))?;
        if let Some(wal) = wal {
            wal.check().map_err(|(key, reason)| (format!("wal.{key}"), reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
