//! The providers' own SDKs and MCP's, which are installed only where they are asked for.
//!
//! `cargo xtask test --suite sdks` installs them: those for Python, pinned in `python/requirements-sdks.txt`, into an
//! environment of their own, those for Node at the versions here. To add one: its line in either, its client in
//! `python/client_sdks.py` or `python/client_sdks_node.mjs`, its server in `python/providers.py`, its name in
//! [`PYTHON`] or [`NODE`].

use std::path::PathBuf;

use crate::place;

/// The environment's name, and the list that it is made from.
pub const VENV: (&str, &str) = ("venv-sdks", "requirements-sdks.txt");

/// The SDKs for Python, as `client_sdks.py` names them.
pub const PYTHON: [&str; 7] = ["openai", "anthropic", "google", "mistral", "cohere", "bedrock", "ollama"];

/// The SDKs for Node, as `client_sdks_node.mjs` names them.
pub const NODE: [&str; 2] = ["openai", "anthropic"];

/// Their packages and MCP's, pinned so that a result does not depend on the day.
pub const PACKAGES: [&str; 3] = ["openai@7.55.0", "@anthropic-ai/sdk@1.10.0", "@modelcontextprotocol/sdk@1.32.2"];

/// The environment's interpreter.
pub fn python() -> PathBuf {
    place::target().join(VENV.0).join("bin/python")
}

/// The directory that npm installs into; the versions are in its name, so others are another installation.
pub fn prefix() -> PathBuf {
    let versions: Vec<_> = PACKAGES.iter().filter_map(|package| package.rsplit_once('@')).map(|(_, v)| v).collect();
    place::target().join("programs").join(format!("sdks-{}", versions.join("-")))
}

/// Where Node finds them.
pub fn modules() -> PathBuf {
    prefix().join("node_modules")
}

/// Why they cannot be run, if so.
pub fn missing() -> Option<String> {
    let hint = "`cargo xtask test --suite sdks` installs them";
    if !python().exists() || !modules().is_dir() {
        return Some(format!("the SDKs are not installed: {hint}"));
    }
    place::on_path("node").is_none().then(|| "node is not installed".to_owned())
}
