//! Whether every call of the demo's round was captured: once on each side that can be seen.

use anyhow::{Result, ensure};
use inferscope_tests::{call::Call, client::Finished};

/// The calls that were made.
pub struct Round {
    server: u32,
    calls: Vec<Made>,
}

struct Made {
    id: String,
    client: u32,
    tls: bool,
}

impl Round {
    /// None yet, to the server with this process id.
    pub fn new(server: u32) -> Self {
        Self { server, calls: Vec::new() }
    }

    /// Adds a client's call, which must have been answered.
    pub fn add(&mut self, client: &Finished, tls: bool) -> Result<()> {
        let report = client.only()?;
        ensure!(report.end == "done", "a client was not answered: {report:?}");
        self.calls.push(Made { id: report.id()?.to_owned(), client: client.pid, tls });
        Ok(())
    }

    /// How many calls were made.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// What is wrong with the agent's JSON lines; nothing if every call is there once per side.
    pub fn problems(&self, lines: &str) -> Result<Vec<String>> {
        let seen = lines.lines().map(Call::parse).collect::<Result<Vec<_>>>()?;
        let count = |made: &Made, kind: &str, pid: u32| {
            let is =
                |call: &&Call| call.id() == Some(&made.id) && call.kind() == kind && call.pid() == Some(u64::from(pid));
            seen.iter().filter(is).count()
        };
        let mut problems = Vec::new();
        for made in &self.calls {
            let client = count(made, "client", made.client);
            if client != 1 {
                problems.push(format!("{}: {client} client spans instead of 1", made.id));
            }
            let server = count(made, "server", self.server);
            // The server's TLS is rustls: not read by this version, and not wrong once it is.
            let right = if made.tls { server <= 1 } else { server == 1 };
            if !right {
                problems.push(format!("{}: {server} server spans instead of 1", made.id));
            }
        }
        Ok(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, pid: u32, id: &str) -> String {
        format!(r#"{{"schema":1,"kind":"{kind}","attributes":{{"process.pid":{pid},"gen_ai.response.id":"{id}"}}}}"#)
    }

    #[test]
    fn each_call_is_wanted_once_per_visible_side() {
        let made = |id: &str, tls| Made { id: id.into(), client: 7, tls };
        let round = Round { server: 9, calls: vec![made("a", false), made("b", true)] };
        let all = [line("client", 7, "a"), line("server", 9, "a"), line("client", 7, "b")];
        assert_eq!(round.problems(&all.join("\n")).unwrap(), Vec::<String>::new());
        let twice = [&all[..], &[line("client", 7, "b")]].concat().join("\n");
        assert_eq!(round.problems(&twice).unwrap(), ["b: 2 client spans instead of 1"]);
        assert_eq!(round.problems(&all[..1].join("\n")).unwrap().len(), 2);
    }
}
