//! What `inferscope doctor` makes of what it found: which mechanisms work, and for each process whether its calls are
//! captured, or why not and what to do.
//!
//! Pure: a report of discovery in, a verdict and words out. To add a verdict: a variant, its rule in [`judge`] and its
//! words in [`Verdict::advice`].

use inferscope_common::process_stats::ProcessStats;
use serde_json::{Value, json};

use crate::{
    discover::{Evidence, FileReport, ProcessReport, Report, UnsupportedFile},
    kernel::Probe,
    privacy::printable,
    selfstat::{unread_bytes, uring_bytes},
};

/// A mechanism of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// Whether it works.
    pub works: bool,
    /// What was found, and what is lost without it.
    pub detail: String,
}

/// Whether a process's calls are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Plaintext of TLS was read.
    TlsRead,
    /// TLS passes, and nothing that the process maps has TLS functions that are known.
    NoFunctions,
    /// TLS passes, and the probes that are there are not hit.
    NotHit,
    /// Its sockets are moved by io_uring, which no system call shows.
    Uring,
    /// Bytes without TLS, which are read from the system calls.
    Plain,
    /// Probes are there, and nothing moved.
    Waiting,
    /// Nothing moved and there is nothing to probe.
    Quiet,
}

impl Verdict {
    /// For machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsRead => "tls_read",
            Self::NoFunctions => "tls_no_functions",
            Self::NotHit => "tls_not_hit",
            Self::Uring => "io_uring",
            Self::Plain => "plain",
            Self::Waiting => "waiting",
            Self::Quiet => "quiet",
        }
    }

    /// What it means and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::TlsRead => "captured: the inside of TLS is read",
            Self::NoFunctions => {
                "NOT captured: its TLS functions were not found. See the other end of its calls, or let it speak plain HTTP \
                 to a local proxy; `trace --infer` estimates times and sizes. Please report the program and its version"
            }
            Self::NotHit => {
                "NOT captured: it maps a TLS library that has probes, but its TLS does not go through it. The probes are set \
                 anew once; if this stays, it has a second TLS library inside: `trace --infer` estimates times and sizes. \
                 Please report the program and its version"
            }
            Self::Uring => {
                "NOT captured, all or in part: it moves its sockets' bytes by io_uring, which no system call shows. See the \
                 other end of its calls, or have it use epoll (UV_USE_IO_URING=0 for libuv and Node, a switch of the server's \
                 own, or the sysctl kernel.io_uring_disabled for all)"
            }
            Self::Plain => "captured: no TLS, read from the system calls",
            Self::Waiting => "ready: the probes are there, nothing moved while it was watched",
            Self::Quiet => "nothing moved while it was watched, and it maps no TLS library",
        }
    }

    /// Whether something passes unread.
    pub fn is_blind(self) -> bool {
        matches!(self, Self::NoFunctions | Self::NotHit | Self::Uring)
    }
}

/// Judges a process.
pub fn judge(process: &ProcessReport) -> Verdict {
    let ProcessStats { socket, plain, .. } = process.stats;
    // Before the rest: what else it does may well be captured, and would hide it.
    if uring_bytes(&process.stats) > 0 {
        Verdict::Uring
    } else if plain[0] + plain[1] > 0 {
        Verdict::TlsRead
    } else if unread_bytes(&process.stats) > 0 {
        if process.files.is_empty() { Verdict::NoFunctions } else { Verdict::NotHit }
    } else if socket[0] + socket[1] > 0 {
        Verdict::Plain
    } else if !process.files.is_empty() {
        Verdict::Waiting
    } else {
        Verdict::Quiet
    }
}

/// The whole report as one JSON object.
pub fn to_json(checks: &[Check], report: &Report) -> Value {
    let check = |check: &Check| json!({"name": check.name, "works": check.works, "detail": check.detail});
    json!({
        "schema": 1,
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "files": report.files.iter().map(file_to_json).collect::<Vec<_>>(),
        "unsupported_files": report.unsupported.iter().map(unsupported_to_json).collect::<Vec<_>>(),
        "processes": report.processes.iter().map(|process| process_to_json(process, report)).collect::<Vec<_>>(),
    })
}

fn file_to_json(file: &FileReport) -> Value {
    json!({
        "path": file.path,
        "sources": sources(file),
        "evidence": evidence(file),
        "attached": file.attached,
        "probes": file.probes.iter().map(probe_to_json).collect::<Vec<_>>(),
        "calls": file.stats.calls,
        "bytes": file.stats.bytes,
        "streams_recognised": file.stats.recognised,
        "streams_unrecognised": file.stats.unrecognised,
        "overruns": file.stats.overruns,
    })
}

fn unsupported_to_json(file: &UnsupportedFile) -> Value {
    json!({"path": file.path, "library": file.library, "why": file.why})
}

fn probe_to_json(probe: &Probe) -> Value {
    json!({"function": probe.function, "offset": probe.file_offset, "site": probe.class.as_str()})
}

fn process_to_json(process: &ProcessReport, report: &Report) -> Value {
    let verdict = judge(process);
    let ProcessStats { socket, tls, plain, offered, emitted, unseen, uring, .. } = process.stats;
    let files = process.files.iter().filter_map(|&place| report.files.get(place));
    json!({
        "pid": process.pid,
        "comm": process.comm,
        "verdict": verdict.as_str(),
        "advice": verdict.advice(),
        "files": files.map(|file| file.path.as_str()).collect::<Vec<_>>(),
        "socket_bytes": {"read": socket[0], "written": socket[1]},
        "tls_bytes": {"read": tls[0], "written": tls[1]},
        "plaintext_bytes": {"read": plain[0], "written": plain[1]},
        "offered_bytes": offered,
        "emitted_bytes": emitted,
        "unread_bytes": unread_bytes(&process.stats),
        "unseen_bytes": unseen,
        "io_uring_bytes": {"read": uring[0], "written": uring[1]},
    })
}

/// The report for people, line by line.
pub fn to_lines(checks: &[Check], report: &Report) -> Vec<String> {
    let mut lines = vec!["This host".to_owned()];
    for Check { name, works, detail } in checks {
        lines.push(format!("  {} {name}: {detail}", if *works { "ok " } else { "-- " }));
    }
    lines.push(String::new());
    lines.push(format!("Files with probes ({})", report.files.len()));
    for file in &report.files {
        let FileReport { path, probes, attached, stats, .. } = file;
        lines.push(format!(
            "  {}: {} by {}, {attached} of {} probes, {} calls with {} bytes",
            printable(path),
            sources(file).join(" + "),
            evidence(file),
            probes.len(),
            stats.calls,
            stats.bytes,
        ));
        // The entry and the return of a function sit on one instruction.
        let mut sites: Vec<String> =
            probes.iter().map(|probe| format!("{} ({})", probe.function, probe.class.as_str())).collect();
        sites.dedup();
        lines.push(format!("      {}", sites.join(", ")));
    }
    if !report.unsupported.is_empty() {
        lines.push(String::new());
        lines.push(format!("Files that cannot be probed ({})", report.unsupported.len()));
        for UnsupportedFile { path, library, why } in &report.unsupported {
            lines.push(format!("  {}: {}, {}", printable(path), printable(library), printable(why)));
        }
    }
    lines.push(String::new());
    lines.push(format!("Processes ({})", report.processes.len()));
    for process in &report.processes {
        let verdict = judge(process);
        let ProcessStats { socket, tls, plain, unseen, uring, .. } = process.stats;
        let name = process.comm.as_deref().unwrap_or("?");
        lines.push(format!(
            "  {} {}[{}] {}",
            if verdict.is_blind() { "-- " } else { "ok " },
            printable(name),
            process.pid,
            verdict.advice(),
        ));
        lines.push(format!(
            "      bytes read/written: sockets {}/{}, of them TLS {}/{}, plaintext of TLS {}/{}",
            socket[0], socket[1], tls[0], tls[1], plain[0], plain[1],
        ));
        if unseen + uring_bytes(&process.stats) > 0 {
            lines.push(format!(
                "      uncaptured: by io_uring {}/{}, on followed streams by sendfile, splice and other ways {unseen}",
                uring[0], uring[1],
            ));
        }
        for file in process.files.iter().filter_map(|&place| report.files.get(place)) {
            lines.push(format!("      maps {}", printable(&file.path)));
        }
    }
    lines
}

fn sources(file: &FileReport) -> Vec<&'static str> {
    file.functions.iter().map(|functions| functions.as_str()).collect()
}

fn evidence(file: &FileReport) -> &'static str {
    match file.evidence {
        Evidence::Symbols => "symbols",
        Evidence::Shape => "the shape of the code",
    }
}

#[cfg(test)]
mod tests {
    use inferscope_common::probe_stats::FileStats;

    use super::*;
    use crate::{discover::Functions, record::Source};

    fn process(files: Vec<usize>, stats: ProcessStats) -> ProcessReport {
        ProcessReport { pid: 7, comm: Some("x\u{1b}[31m".into()), files, stats }
    }

    #[test]
    fn every_verdict_has_its_rule() {
        let tls = ProcessStats { socket: [30_000, 0], tls: [30_000, 0], ..Default::default() };
        let read = ProcessStats { plain: [0, 5], ..tls };
        let plain = ProcessStats { socket: [5, 0], ..Default::default() };
        for (files, stats, expected) in [
            (vec![0], read, Verdict::TlsRead),
            (vec![], tls, Verdict::NoFunctions),
            (vec![0], tls, Verdict::NotHit),
            (vec![0], plain, Verdict::Plain),
            (vec![0], ProcessStats { uring: [0, 1], ..read }, Verdict::Uring),
            (vec![0], ProcessStats::default(), Verdict::Waiting),
            (vec![], ProcessStats::default(), Verdict::Quiet),
        ] {
            assert_eq!(judge(&process(files, stats)), expected);
        }
    }

    #[test]
    fn a_hostile_name_does_not_reach_the_terminal() {
        let file = FileReport {
            path: "/lib/libssl.so.3".into(),
            functions: vec![Functions::Tls(Source::OpenSsl)],
            evidence: Evidence::Symbols,
            probes: vec![],
            attached: 3,
            stats: FileStats::default(),
        };
        let old =
            UnsupportedFile { path: "/opt/old\u{7}".into(), library: "go".into(), why: "built by Go 1.16".into() };
        let processes = vec![process(vec![0], ProcessStats::default())];
        let report = Report { files: vec![file], unsupported: vec![old], processes };
        let checks = [Check { name: "kernel", works: true, detail: "6.18".into() }];
        let text = to_lines(&checks, &report).join("\n");
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
        assert!(text.contains("go, built by Go 1.16"), "{text}");
        assert!(text.contains("maps /lib/libssl.so.3"), "{text}");
        let json = to_json(&checks, &report);
        assert_eq!(json["processes"][0]["verdict"], "waiting");
        assert_eq!(json["files"][0]["sources"][0], "openssl");
    }
}
