//! Running other programs: with errors that name them, and cargo without what this session would leak into it.

use std::{env, ffi::OsStr, process::Command};

use anyhow::{Context as _, Result, bail};

/// Runs a program whose output the reader sees.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a program and returns what it writes to standard output.
pub fn text(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", name(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}\n{}", line(command), output.status, stderr.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} does not write text", name(command)))
}

/// A cargo that behaves as if it had been started from a plain shell.
///
/// A task is itself run by cargo, which hands its own variables on; and flags, wrappers and profiles that somebody
/// has set for the agent's build would go into the kernel object.
pub fn cargo(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for (variable, _) in env::vars_os() {
        if variable.to_str().is_some_and(interferes) {
            command.env_remove(variable);
        }
    }
    command
}

/// Whether an environment variable changes what cargo builds. Those that only say where crates come from stay, and
/// so does rustup's choice of the compiler for this machine.
fn interferes(variable: &str) -> bool {
    const HARMLESS: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    let of_cargo = ["CARGO", "__CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"].iter().any(|of| variable.starts_with(of));
    of_cargo && !HARMLESS.iter().any(|harmless| variable.starts_with(harmless))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let args = command.get_args().map(|arg| format!(" {}", arg.to_string_lossy()));
    format!("`{}{}`", name(command), args.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_a_build_is_kept_from_cargo() {
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "CARGO_PROFILE_BPF_DEBUG"] {
            assert!(interferes(variable), "{variable}");
        }
        for variable in ["PATH", "CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_SOURCE_X_REPLACE_WITH", "RUSTUP_TOOLCHAIN"] {
            assert!(!interferes(variable), "{variable}");
        }
    }

    #[test]
    fn a_failed_program_is_named_with_what_it_said() {
        let error = text(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo why >&2; exit 3` failed: exit status: 3\nwhy");
    }
}
