//! A network of a scenario's own, which loses what passes it if that is wanted.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// A network with nothing but a loopback interface; removed with the value.
pub struct Network {
    name: &'static str,
}

impl Network {
    /// Makes one; `lossy` drops every tenth segment with data to a port above 32767, which is the client's.
    pub fn make(name: &'static str, lossy: bool) -> Result<Self> {
        succeed(Command::new("ip").args(["netns", "add", name]))?;
        let network = Self { name };
        succeed(network.inside(Path::new("ip")).args(["link", "set", "lo", "up"]))?;
        if lossy {
            let rules = "table inet lossy { chain in { type filter hook input priority 0; \
                tcp sport 1024-65535 tcp dport 32768-65535 meta length 100-65535 numgen inc mod 10 == 9 drop; }; }";
            succeed(network.inside(Path::new("nft")).arg(rules))?;
        }
        Ok(network)
    }

    /// A command that runs a program in it.
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _kept = succeed(Command::new("ip").args(["netns", "del", self.name]));
    }
}

/// Runs a command that is to succeed.
pub fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
