//! Programs that are too large for every run: npm packages that hold a binary, kept under `target/programs/`.
//!
//! `cargo xtask test --suite capture-full` installs them; what they are and where is in one table, so that the one that
//! installs and the one that runs cannot differ. To add one: a line in [`Large::ALL`], and a cell or a scenario under
//! `capture_full::` that names it.

use std::path::PathBuf;

use crate::place;

/// An npm package with a program in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Large {
    /// What people call it.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
    /// Its version, pinned so that a result does not depend on the day.
    pub version: &'static str,
    /// The program, inside the package.
    pub path: &'static str,
}

impl Large {
    /// Bun: JavaScript on JavaScriptCore, with BoringSSL inside and no symbols.
    pub const BUN: Self = Self { name: "bun", package: "@oven/bun-linux-x64", version: "1.4.5", path: "bin/bun" };

    /// Deno: JavaScript on V8, with rustls inside and no symbols.
    pub const DENO: Self = Self { name: "deno", package: "@deno/linux-x64-glibc", version: "2.9.6", path: "deno" };

    /// Claude Code: a program of Bun's, with its BoringSSL.
    pub const CLAUDE: Self =
        Self { name: "claude", package: "@anthropic-ai/claude-code-linux-x64", version: "2.1.332", path: "claude" };

    /// Codex: a program in Rust, with rustls over aws-lc inside and no symbols.
    pub const CODEX: Self = Self {
        name: "codex",
        package: "@openai/codex",
        version: "0.171.0-linux-x64",
        path: "vendor/x86_64-unknown-linux-musl/bin/codex",
    };

    /// All of them.
    pub const ALL: [Self; 4] = [Self::BUN, Self::DENO, Self::CLAUDE, Self::CODEX];

    /// The directory that npm installs into; the version is in its name, so a new one is a new installation.
    pub fn prefix(&self) -> PathBuf {
        place::target().join("programs").join(format!("{}-{}", self.name, self.version))
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        self.prefix().join("node_modules").join(self.package).join(self.path)
    }

    /// Why it cannot be run, if so.
    pub fn missing(&self) -> Option<String> {
        let hint = "`cargo xtask test --suite capture-full` installs it";
        (!self.program().is_file()).then(|| format!("{} {} is not installed: {hint}", self.name, self.version))
    }
}
