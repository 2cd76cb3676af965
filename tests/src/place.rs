//! Where things are: the workspace, the built binaries, the virtualenv, programs on the path.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// `target/`, wherever cargo was told to put it.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// A binary of this workspace: the one that the environment variable `over` names, else the one built beside the
/// running test.
pub fn binary(name: &str, over: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(over) {
        return Ok(path.into());
    }
    let running = env::current_exe()?;
    // Tests run from target/PROFILE/deps, binaries such as xtask from target/PROFILE.
    for dir in running.ancestors().skip(1).take(2) {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{name} is not built: run `cargo build --workspace` or set {over}")
}

/// The agent: `INFERSCOPE_BIN`, else the one built beside the tests.
pub fn agent() -> Result<PathBuf> {
    binary("inferscope", "INFERSCOPE_BIN")
}

/// The Rust model server: `INFERSCOPE_MODEL_SERVER`, else the one built beside the tests.
pub fn model_server() -> Result<PathBuf> {
    binary("inferscope-model-server", "INFERSCOPE_MODEL_SERVER")
}

/// The mock inference engine: `INFERSCOPE_MOCK_ENGINE`, else the one built beside the tests.
pub fn mock_engine() -> Result<PathBuf> {
    binary("inferscope-mock-engine", "INFERSCOPE_MOCK_ENGINE")
}

/// The agent that delivers and captures nothing: `INFERSCOPE_DELIVERY_AGENT`, else the one built beside the tests.
pub fn delivery_agent() -> Result<PathBuf> {
    binary("inferscope-delivery-agent", "INFERSCOPE_DELIVERY_AGENT")
}

/// The virtualenv: `INFERSCOPE_VENV`, else `target/venv`.
pub fn venv() -> PathBuf {
    env::var_os("INFERSCOPE_VENV").map_or_else(|| target().join("venv"), PathBuf::from)
}

/// The virtualenv's interpreter.
pub fn python() -> Result<PathBuf> {
    let python = venv().join("bin/python");
    if !python.exists() {
        bail!("no virtualenv at {}: `cargo xtask test` makes it", venv().display());
    }
    Ok(python)
}

/// A file of `tests/python/`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// A program on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// A TCP port that nothing listens on at the moment. For a program that cannot choose one by itself, or for a
/// connection that must be refused.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
