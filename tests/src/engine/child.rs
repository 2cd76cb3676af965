//! Starting the engine's own processes, and being one of them.
//!
//! Each is this program again with another role. Whoever kills the front means the engine: the kernel ends a child with
//! the thread that started it, so children are started from the main thread, and a child whose socket is closed by the
//! other side ends by itself.

use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Serialize, de::DeserializeOwned};

/// Starts this program in another role with its setup. It keeps our standard error; its standard input is `stdin`.
pub fn start(role: &str, setup: &impl Serialize, stdin: Stdio) -> Result<Child> {
    let setup = serde_json::to_string(setup)?;
    let own = std::env::current_exe().context("cannot find the own program")?;
    let mut command = Command::new(own);
    command.args([role, "--setup", &setup]).stdin(stdin).stdout(Stdio::null());
    command.spawn().with_context(|| format!("cannot start the {role}"))
}

/// Starts this program in another role with one end of a socket as its standard input, and returns the other.
pub fn start_with_socket(role: &str, setup: &impl Serialize) -> Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair().context("no socket pair")?;
    Ok((start(role, setup, Stdio::from(std::os::fd::OwnedFd::from(theirs)))?, ours))
}

/// In a child: ends with its parent from now on. Returns its setup.
pub fn begin<T: DeserializeOwned>(setup: &str) -> Result<T> {
    // SIGKILL, because a child may be busy with something that no handler interrupts.
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie the process to its parent")?;
    serde_json::from_str(setup).context("not a setup")
}

/// In a child that [`start_with_socket`] started: its end.
pub fn socket() -> Result<UnixStream> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    Ok(UnixStream::from(stdin))
}
