//! `cargo xtask demo`: a server, real clients and the agent, and the calls as they happen.
//!
//! The agent prints for people on standard output and writes the same calls as JSON lines to a file, which is what
//! `--once` checks. Needs nothing but Rust; what else is there (curl, python3 with venv) is used.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use inferscope_tests::{
    agent::READY,
    client::{Client, Finished, Kind},
    place,
    process::{Program, Stream, exit_code},
    server::{ModelServer, Pace},
};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    check::Round,
    prepare::{self, Root},
    show::say,
    venv,
};

/// What the agent exits with when it lacks a right, and so does the demo.
const NO_PRIVILEGE: u8 = 77;

/// Between two rounds of calls.
const PAUSE: Duration = Duration::from_secs(3);

/// How long anything may take on a slow machine.
const SOON: Duration = Duration::from_secs(60);

/// The pace of the demo's answers: slow enough to be seen, fast enough not to bore.
const PACE: Pace = Pace { chunks: 20, interval_ms: 25.0, first_token_ms: 120.0 };

/// Options of `cargo xtask demo`.
#[derive(Debug, Args)]
pub struct Options {
    /// End after the first round; exit with 0 only if every call was captured
    #[arg(long)]
    once: bool,
}

/// Runs the task.
pub fn run(options: &Options) -> Result<ExitCode> {
    // Ctrl-C goes to everything that this terminal runs. The agent ends by it, and that ends the demo; this process
    // must live on to show the agent's last lines and to stop the server.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let root = Root::find(true);
    if root == Root::No {
        say("The demo needs root: the agent loads programs into the kernel, which takes CAP_BPF, CAP_PERFMON and");
        say("CAP_SYS_PTRACE. sudo is not there or would ask for a password without a terminal. As root, run");
        say("    cargo xtask demo");
        return Ok(ExitCode::from(NO_PRIVILEGE));
    }
    say("xtask: building (the first time takes some minutes)");
    prepare::build(&["--package", "inferscope", "--package", "inferscope-tests", "--bins"])?;
    let clients = Clients::find();
    if clients.is_empty() {
        anyhow::bail!("neither curl nor python3 with venv is here: install curl");
    }
    if root != Root::Already {
        say("xtask: the agent runs through sudo, because it loads programs into the kernel; nothing else does");
    }

    let room = tempfile::tempdir()?;
    let server = ModelServer::start(&place::model_server()?, PACE, room.path())?;
    say(&format!(
        "xtask: server at {} and {}: it is no language model, it streams canned words",
        server.http_url(),
        server.https_url()
    ));
    let mut agent = match DemoAgent::start(root, &place::agent()?, room.path())? {
        Ok(agent) => agent,
        Err(code) => return Ok(ExitCode::from(code)),
    };
    say(
        "xtask: the server's end of HTTPS is rustls, which this version does not read: such calls show their client's side",
    );
    let result = rounds(options, &clients, &server, &mut agent, &stop);
    agent.stop()?;
    result
}

fn rounds(
    options: &Options,
    clients: &Clients,
    server: &ModelServer,
    agent: &mut DemoAgent,
    stop: &AtomicBool,
) -> Result<ExitCode> {
    loop {
        let round = clients.round(server)?;
        if options.once {
            return agent.check(&round);
        }
        // The pause ends early when the agent does, as on Ctrl-C, which the terminal sends to all of us.
        if let Ok(status) = agent.program.wait_exit(PAUSE) {
            let code = exit_code(status);
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The clients of this machine.
struct Clients {
    curl: bool,
    python: Option<PathBuf>,
}

impl Clients {
    fn find() -> Self {
        let curl = place::on_path("curl").is_some() || prepare::install(&["curl"]).is_ok();
        if !curl {
            say("SKIPPED curl: it is not installed");
        }
        let python = match python() {
            Ok(python) => Some(python),
            Err(why) => {
                say(&format!("SKIPPED Python's openai: {why}"));
                None
            }
        };
        Self { curl, python }
    }

    fn is_empty(&self) -> bool {
        let Self { curl, python } = self;
        !curl && python.is_none()
    }

    /// Every client calls with and without TLS and with and without a stream.
    fn round(&self, server: &ModelServer) -> Result<Round> {
        let mut round = Round::new(server.pid());
        for (url, ca) in [(server.http_url(), None), (server.https_url(), Some(server.ca()))] {
            for stream in [true, false] {
                let mut clients = Vec::new();
                if self.curl {
                    clients.push(Client::new(Kind::Curl, &url, ca));
                }
                if let Some(python) = &self.python {
                    let mut client = Client::new(Kind::OpenAiSync, &url, ca);
                    client.python = Some(python.clone());
                    clients.push(client);
                }
                for client in clients {
                    let finished: Finished = client.stream(stream).run(SOON)?;
                    round.add(&finished, ca.is_some())?;
                }
            }
        }
        Ok(round)
    }
}

/// An interpreter with the `openai` package.
fn python() -> Result<PathBuf, String> {
    if place::on_path("python3").is_none() {
        return Err("python3 is not installed".to_owned());
    }
    if !prepare::has_python_venv() {
        prepare::install(&["python3-venv"])?;
    }
    let dir = venv::make("demo-venv", "requirements-demo.txt").map_err(|error| format!("{error:#}"))?;
    Ok(dir.join("bin/python"))
}

/// The agent at work: its lines go to the terminal, its calls also to a file.
struct DemoAgent {
    program: Program,
    root: Root,
    calls: PathBuf,
}

impl DemoAgent {
    /// Starts it; an agent that cannot work here has said why, and its exit code is returned.
    fn start(root: Root, binary: &Path, room: &Path) -> Result<Result<Self, u8>> {
        let calls = room.join("calls.jsonl");
        // Made here, the file stays readable when the agent runs as root.
        File::create(&calls)?;
        let mut command = root.command(binary, &[] as &[(&str, OsString)]).context("not root")?;
        command.args(["trace", "--output", "pretty", "--also-jsonl"]).arg(&calls);
        let program = Program::spawn_shown("inferscope", &mut command)?;
        let ready = program.wait_for_line(Stream::Stderr, READY, SOON, |line| line.contains(READY));
        if ready.is_err()
            && let Ok(status) = program.wait_exit(Duration::ZERO)
        {
            return Ok(Err(u8::try_from(exit_code(status)).unwrap_or(1)));
        }
        ready?;
        Ok(Ok(Self { program, root, calls }))
    }

    /// Ends the agent and looks for every call of the round in its file.
    fn check(&mut self, round: &Round) -> Result<ExitCode> {
        self.stop()?;
        let problems = round.problems(&fs::read_to_string(&self.calls)?)?;
        for problem in &problems {
            say(&format!("xtask: {problem}"));
        }
        say(&format!("xtask: {} calls were made, {} problems", round.len(), problems.len()));
        Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn stop(&mut self) -> Result<()> {
        if self.program.wait_exit(Duration::ZERO).is_err() {
            // A user may not signal root's processes; sudo passes on what it gets.
            let pid = self.program.pid().to_string();
            let mut kill: Command = self.root.command("kill", &[]).context("not root")?;
            kill.args(["-INT", &pid]).status()?;
        }
        self.program.wait_exit(SOON)?;
        Ok(())
    }
}
