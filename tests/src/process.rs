//! A child process whose output lines can be waited for.
//!
//! Owns: reader threads for stdout and stderr, the reaping of the child, signals to it. A [`Program`] that goes out
//! of scope is killed with everything that it started in its process group.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

/// How long output may take to end after the process did: a grandchild may still hold the pipe.
const PIPES_CLOSE: Duration = Duration::from_secs(2);

/// Lines of output that an error message quotes.
const QUOTED_LINES: usize = 30;

/// One of a child's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a child has written and whether it is over.
#[derive(Debug, Default)]
pub struct State {
    /// Complete lines of standard output, without the line end.
    pub stdout: Vec<String>,
    /// Complete lines of standard error.
    pub stderr: Vec<String>,
    /// Set once the child was reaped.
    pub exit: Option<ExitStatus>,
    open_pipes: u8,
}

impl State {
    /// The lines of one stream.
    pub fn lines(&self, stream: Stream) -> &[String] {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A running child.
#[derive(Debug)]
pub struct Program {
    name: String,
    pid: Pid,
    stdin: Option<ChildStdin>,
    own_group: bool,
    shared: Arc<Shared>,
}

impl Program {
    /// Starts `command` in a process group of its own, with all three standard streams piped.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).process_group(0);
        Self::start(name.into(), command, false)
    }

    /// Starts `command` for a person to watch: every line of it is shown as it comes, and it stays in this process
    /// group with this terminal, so that sudo can ask for a password and Ctrl-C reaches it.
    pub fn spawn_shown(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::inherit());
        Self::start(name.into(), command, true)
    }

    fn start(name: String, command: &mut Command, shown: bool) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        let pid = Pid::from_child(&child);
        let shared = Arc::new(Shared::default());
        shared.update(|state| state.open_pipes = 2);
        let stdin = child.stdin.take();
        read_lines(Arc::clone(&shared), Stream::Stdout, shown, child.stdout.take().context("no stdout")?);
        read_lines(Arc::clone(&shared), Stream::Stderr, shown, child.stderr.take().context("no stderr")?);
        reap(Arc::clone(&shared), child, pid);
        Ok(Self { name, pid, stdin, own_group: !shown, shared })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Runs `look` on the state now and after every change, until it finds something.
    ///
    /// Fails when `timeout` has passed, or when the child is over and its output has ended without it.
    pub fn wait_for<T>(&self, what: &str, timeout: Duration, mut look: impl FnMut(&State) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let over = state.exit.is_some() && state.open_pipes == 0;
            if over || left.is_zero() {
                let why = match state.exit {
                    Some(status) => format!("it ended with {status}"),
                    None => format!("not within {timeout:?}"),
                };
                return Err(anyhow!("{}: no {what}: {why}\n{}", self.name, quote(&state)));
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The first line of `stream` that `matches`.
    pub fn wait_for_line(
        &self,
        stream: Stream,
        what: &str,
        timeout: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> Result<String> {
        self.wait_for(what, timeout, |state| state.lines(stream).iter().find(|line| matches(line)).cloned())
    }

    /// Waits until the child is over and its output was read to the end.
    pub fn wait_exit(&self, timeout: Duration) -> Result<ExitStatus> {
        let status = self.wait_for("exit", timeout, |state| state.exit)?;
        let _all_read_or_held_by_a_grandchild =
            self.wait_for("end of output", PIPES_CLOSE, |state| (state.open_pipes == 0).then_some(()));
        Ok(status)
    }

    /// Waits for the end and demands exit status 0.
    pub fn wait_success(&self, timeout: Duration) -> Result<()> {
        let status = self.wait_exit(timeout)?;
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.name, quote(&self.shared.lock()));
        }
        Ok(())
    }

    /// Sends a signal to the child alone, unless it is over.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The lock keeps the child from being reaped, and its pid from being used again, before the signal is sent.
        let state = self.shared.lock();
        if state.exit.is_none() {
            kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    /// Kills the child and, where it has one of its own, its process group, and waits for its end.
    pub fn kill(&self) -> Result<ExitStatus> {
        {
            let state = self.shared.lock();
            if state.exit.is_none() {
                // One that is gone already is no error: it may have left on its own.
                let kill = if self.own_group { kill_process_group } else { kill_process };
                let _gone = kill(self.pid, Signal::KILL);
            }
        }
        self.wait_exit(Duration::from_secs(10))
    }

    /// Writes one line to the child's standard input.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// Writes bytes to the child's standard input.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        stdin.write_all(bytes)?;
        Ok(stdin.flush()?)
    }

    /// Ends the child's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The child and everything that it started, as far as it runs.
    pub fn tree(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> =
            fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(parent).collect();
        let mut tree = vec![self.pid()];
        let mut at = 0;
        while let Some(&pid) = tree.get(at) {
            tree.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
            at += 1;
        }
        tree
    }

    /// Standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.shared.lock().stdout.clone()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.shared.lock().stderr.clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Self { name: _, pid: _, stdin: _, own_group: _, shared: _ } = self;
        // Nobody is left to tell; an unkillable child shows as the next test's failure.
        let _status = self.kill();
    }
}

/// The exit code of a finished process as a shell reports it: 128 plus the signal for one that was killed.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The process of an entry of `/proc`, and its parent.
fn parent(entry: fs::DirEntry) -> Option<(u32, u32)> {
    let pid = entry.file_name().to_str()?.parse().ok()?;
    let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
    // The name in parentheses may hold anything; behind it come the state and the parent.
    let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?;
    Some((pid, parent.parse().ok()?))
}

fn read_lines(shared: Arc<Shared>, stream: Stream, shown: bool, pipe: impl Read + Send + 'static) {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if shown {
                // Whoever closed the terminal does not want to see it.
                let _closed = match stream {
                    Stream::Stdout => writeln!(std::io::stdout(), "{text}"),
                    Stream::Stderr => writeln!(std::io::stderr(), "{text}"),
                };
            }
            shared.update(|state| match stream {
                Stream::Stdout => state.stdout.push(text),
                Stream::Stderr => state.stderr.push(text),
            });
            line.clear();
        }
        shared.update(|state| state.open_pipes -= 1);
    });
}

fn reap(shared: Arc<Shared>, mut child: Child, pid: Pid) {
    thread::spawn(move || {
        // First wait without reaping: the pid stays ours until the state is locked, so that no signal can hit a
        // stranger who was given the same pid.
        let _ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        shared.update(|state| state.exit = child.wait().ok());
    });
}

fn quote(state: &State) -> String {
    let mut text = String::new();
    for (name, lines) in [("stdout", &state.stdout), ("stderr", &state.stderr)] {
        for line in &lines[lines.len().saturating_sub(QUOTED_LINES)..] {
            let shown: String = line.chars().take(600).collect();
            text.push_str(&format!("  {name}: {shown}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Program {
        Program::spawn("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn lines_are_found_as_they_come_and_stay_findable() {
        let mut program = shell("echo one; read answer; echo got $answer; echo two >&2");
        program.wait_for_line(Stream::Stdout, "one", SOON, |line| line == "one").unwrap();
        program.write_line("yes").unwrap();
        program.wait_for_line(Stream::Stdout, "answer", SOON, |line| line == "got yes").unwrap();
        program.wait_success(SOON).unwrap();
        assert_eq!((program.stdout(), program.stderr()), (vec!["one".into(), "got yes".into()], vec!["two".into()]));
    }

    #[test]
    fn a_wait_ends_when_the_child_does_and_says_why() {
        let program = shell("echo last words >&2; exit 3");
        let error = program.wait_for_line(Stream::Stdout, "ready", SOON, |_| true).unwrap_err().to_string();
        assert!(error.contains("no ready") && error.contains("last words") && error.contains("status: 3"), "{error}");
        assert_eq!(exit_code(program.wait_exit(SOON).unwrap()), 3);
    }

    #[test]
    fn dropping_a_program_kills_its_whole_group() {
        let program = shell("sleep 1000 & echo $!; wait");
        let line = program.wait_for_line(Stream::Stdout, "pid", SOON, |_| true).unwrap();
        let grandchild = format!("/proc/{}/cmdline", line.trim());
        drop(program);
        // Whoever adopts the grandchild may reap it late: a zombie has an empty command line.
        let left = std::fs::read(grandchild).unwrap_or_default();
        assert!(left.is_empty(), "still running: {}", String::from_utf8_lossy(&left));
    }

    #[test]
    fn a_signal_reaches_the_child_and_a_dead_one_is_left_alone() {
        let program = shell("trap 'exit 7' INT; echo armed; while :; do read x; done");
        program.wait_for_line(Stream::Stdout, "armed", SOON, |_| true).unwrap();
        program.signal(Signal::INT).unwrap();
        assert_eq!(exit_code(program.wait_exit(SOON).unwrap()), 7);
        program.signal(Signal::KILL).unwrap();
    }
}
