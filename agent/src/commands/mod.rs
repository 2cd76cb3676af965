//! The commands: each puts the parts together for one purpose and says how it went.
//!
//! Owns exit codes. To add a command: its arguments in `cli`, a file here, a branch in [`run`].

mod collector;
mod doctor;
mod live;
mod receivers;
mod record;
mod replay;
mod run;
mod trace;
mod wal;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use crate::{
    cli::{Cli, Command},
    config::ConfigError,
    kernel::{LoadError, Missing},
};

/// Something failed.
const FAILED: u8 = 1;

/// What was asked for cannot be: on the command line, or in the configuration.
const USAGE: u8 = 2;

/// A privilege or a kernel feature is missing.
const MISSING: u8 = 77;

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    init_log(cli.verbose);
    let result = match cli.command {
        Command::Trace(args) => trace::trace(args),
        Command::Run(args) => run::run(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Record(args) => record::record(args),
        Command::Collector(args) => collector::collector(args),
        Command::Replay(args) => replay::replay(&args),
        Command::Wal(args) => wal::wal(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("inferscope: {error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// A line on standard error. That nobody reads it is no reason to stop, and `eprintln!` would panic.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The code for an error: what is missing on this machine is told apart from what went wrong.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Missing>() {
        return MISSING;
    }
    if error.is::<ConfigError>() {
        return USAGE;
    }
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Lacks(_) | LoadError::Resources(_)) | None => FAILED,
        Some(_) => MISSING,
    }
}

fn init_log(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("INFERSCOPE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // Fails only if there is a subscriber already, which is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_configuration_that_cannot_be_is_misuse() {
        let bad = "[[privacy.patterns]]\nname = \"a\"\nregex = \"(\"";
        let error = Config::parse(Path::new("c.toml"), bad).unwrap_err();
        assert_eq!(exit_code(&error.into()), USAGE);
    }

    #[test]
    fn what_is_missing_has_its_own_code() {
        assert_eq!(exit_code(&Missing(vec!["a".into()]).into()), MISSING);
        let no_btf = LoadError::NoBtf(std::io::ErrorKind::NotFound.into());
        assert_eq!(exit_code(&no_btf.into()), MISSING);
        assert_eq!(exit_code(&LoadError::Lacks("x").into()), FAILED);
        assert_eq!(exit_code(&anyhow::anyhow!("other")), FAILED);
    }
}
