//! Reading of the time line: what was appended since the last look, line by line, and the scripted fate of calls.
//!
//! Owns the file, the clock and the [`Rule`]s of calls. A line that can't be understood ends the reading: from then on
//! every call fails, and standard error says which line it was.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};

use crate::timeline::{Clock, Header, Line, monotonic_ns};

/// Longest line: a device with some ten thousand processes.
const LINE: u64 = 4 << 20;
/// Most scripted fates of calls.
const RULES: usize = 1 << 14;

/// What a call does from a time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Number of its line.
    pub number: u64,
    at: u64,
    call: String,
    device: Option<u32>,
    field: Option<u32>,
    /// How long it takes.
    pub delay: Duration,
    /// What it returns; 0 for the usual.
    pub returns: u32,
    /// Whether others wait for it.
    pub lock: bool,
}

/// A time line being read.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
    reader: BufReader<File>,
    /// The beginning of a line whose end was not there yet.
    partial: Vec<u8>,
    clock: Clock,
    manual_now: u64,
    /// Sorted by time.
    rules: Vec<Rule>,
    lines: u64,
}

impl Script {
    /// Opens a time line and reads its header, with the time that counts as its start.
    pub fn open(path: &Path) -> io::Result<(Self, Header)> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut first = String::new();
        reader.by_ref().take(LINE).read_line(&mut first)?;
        let mut header: Header = serde_json::from_str(&first)?;
        header.start_ns.get_or_insert_with(|| match header.clock {
            Clock::Monotonic => monotonic_ns(),
            Clock::Manual => 0,
        });
        let script = Self {
            path: path.to_owned(),
            reader,
            partial: Vec::new(),
            clock: header.clock,
            manual_now: 0,
            rules: Vec::new(),
            lines: 1,
        };
        Ok((script, header))
    }

    /// The time now.
    pub fn now(&self) -> u64 {
        match self.clock {
            Clock::Monotonic => monotonic_ns(),
            Clock::Manual => self.manual_now,
        }
    }

    /// What times are.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The next line about devices, if a whole one was appended; lines about the clock and calls are taken in here.
    ///
    /// # Errors
    ///
    /// If a line is not one.
    pub fn next(&mut self) -> io::Result<Option<(u64, Line)>> {
        loop {
            self.reader.by_ref().take(LINE).read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                return match self.partial.len() as u64 {
                    LINE.. => Err(self.complaint("is too long")),
                    _ => Ok(None),
                };
            }
            self.lines += 1;
            let text = std::mem::take(&mut self.partial);
            let line: Line = serde_json::from_slice(&text).map_err(|error| self.complaint(error))?;
            match (&line.call, line.now_ns) {
                (_, Some(now)) => self.manual_now = now,
                (Some(_), None) => self.rule(line)?,
                (None, None) => return Ok(Some((self.lines, line))),
            }
        }
    }

    /// An error about the line that was read last.
    pub fn complaint(&self, what: impl std::fmt::Display) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}:{}: {what}", self.path.display(), self.lines))
    }

    fn rule(&mut self, line: Line) -> io::Result<()> {
        if self.rules.len() >= RULES {
            return Err(self.complaint("too many lines about calls"));
        }
        let rule = Rule {
            number: self.lines,
            at: line.t_ns.ok_or_else(|| self.complaint("no t_ns"))?,
            call: line.call.unwrap_or_default(),
            device: line.device,
            field: line.field,
            delay: Duration::from_micros(line.delay_us.unwrap_or(0)),
            returns: line.returns.unwrap_or(0),
            lock: line.lock.unwrap_or(false),
        };
        let index = self.rules.partition_point(|other| other.at <= rule.at);
        self.rules.insert(index, rule);
        Ok(())
    }

    /// What a call does now: what the latest line says that is about it.
    pub fn fate(&self, call: &str, device: Option<u32>, field: Option<u32>) -> Option<&Rule> {
        let now = self.now();
        self.rules.iter().rev().find(|rule| {
            rule.at <= now
                && (rule.call == call || rule.call == "*")
                && (rule.device.is_none() || rule.device == device)
                && rule.field == field
        })
    }

    /// A watch of the file, to wait for what is appended.
    pub fn watch(&self) -> Watch {
        let open = || {
            let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&inotify, &self.path, inotify::WatchFlags::MODIFY)?;
            Ok::<_, rustix::io::Errno>(inotify)
        };
        Watch { inotify: open().ok() }
    }
}

/// Waits until something is appended to a time line. To miss nothing, it is made before the file is read.
#[derive(Debug)]
pub struct Watch {
    /// Absent where the user has as many as allowed.
    inotify: Option<rustix::fd::OwnedFd>,
}

/// How often the file is looked at where it can't be watched.
const LOOK: Duration = Duration::from_millis(1);

/// How long appends are left to come together.
const PAUSE: Duration = Duration::from_millis(50);

impl Watch {
    /// Waits for an append, but no longer than given.
    pub fn wait(&self, longest: Duration) {
        let Some(inotify) = &self.inotify else { return std::thread::sleep(longest.min(LOOK)) };
        let timeout = Timespec {
            tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        };
        // An interrupted wait is one that ends early.
        if matches!(poll(&mut [PollFd::new(inotify, PollFlags::IN)], Some(&timeout)), Ok(1..)) {
            let mut events = [0; 4096];
            // That something happened is all; what it was is read from the time line.
            while matches!(rustix::io::read(inotify, &mut events), Ok(1..)) {}
            // A driver does not wake those who wait for its errors when work begins or ends; engines write of little else.
            std::thread::sleep(longest.min(PAUSE));
        }
    }
}
