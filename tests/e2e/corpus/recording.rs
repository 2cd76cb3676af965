//! The rows as a file of `inferscope record`, without a socket: what one process of the agent makes of them.

use std::{fs, net::SocketAddr, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use inferscope::{
    host::ProcessIdentity,
    record::{Origin, encode_process},
    recording::Recorder,
    time::{Mono, WallAnchor},
};
use inferscope_common::record::{Data, Header, Kind, MAX_PAYLOAD, READ, SOURCE_SYSCALL, Socket, SocketState, WRITE};
use inferscope_tests::{
    call::Call,
    corpus::{Row, Tally},
    place,
    process::Program,
};

use super::{
    CATCH_UP, Mode,
    http1::{Exchange, Framing},
};
use crate::scenario::{Room, say};

/// Records the rows as if they had been seen, replays the file and demands what the rows state.
pub fn replay(rows: &[Row], mode: Mode) -> Result<()> {
    let room = Room::new()?;
    let file = room.file("recording");
    let mut tape = Tape::create(&file)?;
    for row in rows {
        tape.exchange(row.index as u64, &Exchange::of(row, Framing::Chunked, mode)?, mode.piece)?;
    }
    tape.recorder.finish()?;
    let bytes = fs::metadata(&file)?.len();

    let mut command = Command::new(place::agent()?);
    command.arg("replay").arg(&file).args(["--output", "jsonl"]);
    let began = Instant::now();
    let program = Program::spawn("inferscope replay", &mut command)?;
    program.wait_success(CATCH_UP)?;
    let took = began.elapsed();
    let calls = program.stdout().iter().map(|line| Call::parse(line)).collect::<Result<Vec<_>>>()?;
    // What a replay takes is a result of its own, also where what it gives is wrong.
    let (n, ms) = (rows.len(), took.as_millis());
    say(&format!("replay::{}: {n} rows, {bytes} bytes of records, {ms} ms", mode.name()));
    let tally = Tally::of(rows, &calls);
    tally.verdict()?;
    say(&tally.to_string());
    Ok(())
}

/// The two processes.
const PIDS: [u32; 2] = [1_001, 1_002];

/// Time between two records.
const STEP_NS: u64 = 1_000;

/// A recording under construction.
struct Tape {
    recorder: Recorder,
    now: u64,
}

impl Tape {
    fn create(path: &std::path::Path) -> Result<Self> {
        let anchor = WallAnchor { mono: Mono(0), unix_nanos: 1_700_000_000_000_000_000 };
        let mut tape = Self { recorder: Recorder::create(path, anchor, [7; 16])?, now: 0 };
        for pid in PIDS {
            let origin = Origin { time: Mono(tape.tick()), tgid: pid, tid: pid, start_ns: 1 };
            let identity = ProcessIdentity { pid, start_boottime_ns: 1, ..ProcessIdentity::default() };
            tape.recorder.write(&encode_process(&origin, &identity))?;
        }
        Ok(tape)
    }

    fn tick(&mut self) -> u64 {
        self.now += STEP_NS;
        self.now
    }

    /// A connection of its own for one exchange, as both processes see it.
    fn exchange(&mut self, index: u64, Exchange { request, response }: &Exchange, piece: usize) -> Result<()> {
        let client = SocketAddr::from(([127, 0, 0, 1], 20_000 + (index % 40_000) as u16));
        let server = SocketAddr::from(([127, 0, 0, 1], 8_000));
        // A socket's address and inode are its own.
        let ids = [2 * index + 1, 2 * index + 2];
        self.socket(PIDS[0], ids[0], client, server)?;
        self.socket(PIDS[1], ids[1], server, client)?;
        for (from, to, bytes, turn) in [(0, 1, request, 1), (1, 0, response, 2)] {
            let mut offset = 0;
            for payload in bytes.chunks(piece.min(MAX_PAYLOAD)) {
                self.data(PIDS[from], ids[from], WRITE, offset, turn, payload)?;
                self.data(PIDS[to], ids[to], READ, offset, turn, payload)?;
                offset += payload.len() as u64;
            }
        }
        const ESTABLISHED: u8 = 1;
        const FIN_WAIT1: u8 = 4;
        const CLOSE_WAIT: u8 = 8;
        self.state(ids[0], ESTABLISHED, FIN_WAIT1)?;
        self.state(ids[1], ESTABLISHED, CLOSE_WAIT)
    }

    fn socket(&mut self, pid: u32, id: u64, local: SocketAddr, remote: SocketAddr) -> Result<()> {
        const AF_INET: u16 = 2;
        let address = |of: SocketAddr| -> Result<[u8; 16]> {
            let SocketAddr::V4(of) = of else { anyhow::bail!("{of} is not IPv4") };
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&of.ip().octets());
            Ok(bytes)
        };
        let mut out = self.header(Kind::Socket, pid, size_of::<Socket>());
        for value in [id, id] {
            out.extend_from_slice(&value.to_ne_bytes());
        }
        out.extend_from_slice(&address(local)?);
        out.extend_from_slice(&address(remote)?);
        for value in [local.port(), remote.port(), AF_INET, 0] {
            out.extend_from_slice(&value.to_ne_bytes());
        }
        self.write(&out, size_of::<Socket>())
    }

    fn data(&mut self, pid: u32, id: u64, direction: u8, offset: u64, turn: u32, payload: &[u8]) -> Result<()> {
        let len = u32::try_from(payload.len()).context("a piece is longer than a record")?;
        let mut out = self.header(Kind::Data, pid, size_of::<Data>() + payload.len());
        let skipped = 0;
        for value in [id, id, offset, skipped] {
            out.extend_from_slice(&value.to_ne_bytes());
        }
        for value in [len, len, turn] {
            out.extend_from_slice(&value.to_ne_bytes());
        }
        let overhead = [0, 0];
        out.extend_from_slice(&[direction, SOURCE_SYSCALL]);
        out.extend_from_slice(&overhead);
        out.extend_from_slice(payload);
        self.write(&out, size_of::<Data>() + payload.len())
    }

    fn state(&mut self, id: u64, old: u8, new: u8) -> Result<()> {
        let nobody = 0;
        let mut out = self.header(Kind::SocketState, nobody, size_of::<SocketState>());
        for value in [id, id] {
            out.extend_from_slice(&value.to_ne_bytes());
        }
        let (unread, error) = ([0; 2], [0; 4]);
        out.extend_from_slice(&[old, new]);
        out.extend_from_slice(&unread);
        out.extend_from_slice(&error);
        self.write(&out, size_of::<SocketState>())
    }

    fn header(&mut self, kind: Kind, pid: u32, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        let (flags, start_ns) = (0u16, u64::from(pid > 0));
        out.extend_from_slice(&(len as u32).to_ne_bytes());
        out.extend_from_slice(&(kind as u16).to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&self.tick().to_ne_bytes());
        out.extend_from_slice(&pid.to_ne_bytes());
        out.extend_from_slice(&pid.to_ne_bytes());
        out.extend_from_slice(&start_ns.to_ne_bytes());
        debug_assert_eq!(out.len(), size_of::<Header>());
        out
    }

    /// Adds a record, which must be as long as the ABI says.
    fn write(&mut self, record: &[u8], len: usize) -> Result<()> {
        ensure!(record.len() == len, "a record of {} bytes instead of {len}", record.len());
        Ok(self.recorder.write(record)?)
    }
}
