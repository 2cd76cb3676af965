//! The command line: a stable contract (DESIGN), parsed and nothing else.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    collector,
    targets::{Selectors, Targets},
};

/// Every LLM call on this host: what was asked, what it cost, how fast it was, and why it was slow.
#[derive(Debug, Parser)]
#[command(name = "inferscope", version, propagate_version = true)]
pub struct Cli {
    /// More of the log on standard error; twice for all of it. INFERSCOPE_LOG says it in more detail
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show calls as they happen. Nothing is stored
    Trace(TraceArgs),
    /// Run as the service: capture, and export as the configuration says
    Run(RunArgs),
    /// Say what works here and, for each process, what is captured and why not
    Doctor(DoctorArgs),
    /// Write raw kernel records to a file. It holds everything that passes, credentials and prompts included
    Record(RecordArgs),
    /// Receive what agents ship and any OpenTelemetry source sends, store it once, and answer questions about it
    Collector(CollectorArgs),
    /// Put a recording through the same pipeline. Needs no privilege
    Replay(ReplayArgs),
    /// Look into the log of what is on its way. Changes nothing, and needs no running agent
    Wal(WalArgs),
}

/// What a collector is told.
#[derive(Clone, Debug, Args)]
pub struct CollectorArgs {
    /// Address for agents and OTLP/gRPC. Beyond the loopback address connections are encrypted and take a token or a client certificate
    #[arg(long, value_name = "ADDRESS", default_value_t = collector::DEFAULT_LISTEN)]
    pub listen: SocketAddr,
    /// Address for the page and queries
    #[arg(long, value_name = "ADDRESS", default_value_t = collector::DEFAULT_UI)]
    pub ui: SocketAddr,
    /// Directory of the store
    #[arg(long, value_name = "DIR", default_value = collector::DEFAULT_DIR)]
    pub data_dir: PathBuf,
    /// Certificate chain, PEM. Drawn and kept in the data directory where one is needed and none is given
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificates, PEM: a client whose certificate they signed is who that names
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Tokens and what they allow. Drawn and kept in the data directory where some are needed and none are given
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// No encryption beyond the loopback address, because something before this collector does it
    #[arg(long, conflicts_with_all = ["tls_cert", "client_ca"])]
    pub plaintext: bool,
    /// Days that calls are kept
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub keep_days: u32,
    /// Days that prompts and completions are kept, where agents send them
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub keep_content_days: u32,
    /// GiB of disk that the store may take; the oldest goes first
    #[arg(long, value_name = "GIB", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_gib: u32,
}

/// Whose calls.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    /// Only this process and its children; may be repeated
    #[arg(long, value_name = "N")]
    pub pid: Vec<u32>,
    /// Only processes with this name (as in /proc/PID/comm), now and later; may be repeated
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Only processes whose executable's path matches, such as '/opt/vllm/*'; may be repeated, as all that follow
    #[arg(long, value_name = "GLOB")]
    pub exe: Vec<String>,
    /// Only processes in this control group or below it, or in one that matches
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Only processes of this systemd unit, such as vllm.service
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<String>,
    /// Only processes of the container whose id begins so
    #[arg(long, value_name = "ID")]
    pub container: Vec<String>,
    /// Only connections with this TCP port at either end
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Only requests to a host that matches, such as '*.openai.com'
    #[arg(long, value_name = "GLOB")]
    pub host: Vec<String>,
    /// Not processes with this name
    #[arg(long, value_name = "NAME")]
    pub exclude_comm: Vec<String>,
    /// Not this process
    #[arg(long, value_name = "N")]
    pub exclude_pid: Vec<u32>,
    /// Not connections with this TCP port at either end
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub exclude_port: Vec<u16>,
    /// Not requests to a host that matches
    #[arg(long, value_name = "GLOB")]
    pub exclude_host: Vec<String>,
}

impl From<TargetArgs> for Targets {
    fn from(args: TargetArgs) -> Self {
        let TargetArgs { pid, comm, exe, cgroup, unit, container, port, host, .. } = args;
        let TargetArgs { exclude_comm, exclude_pid, exclude_port, exclude_host, .. } = args;
        Self {
            include: Selectors {
                pids: pid,
                comms: comm,
                exes: exe,
                cgroups: cgroup,
                units: unit,
                containers: container,
                ports: port,
                hosts: host,
            },
            exclude: Selectors {
                pids: exclude_pid,
                comms: exclude_comm,
                ports: exclude_port,
                hosts: exclude_host,
                ..Default::default()
            },
        }
    }
}

/// How calls are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for people
    #[default]
    Pretty,
    /// A JSON object a line: the data contract
    Jsonl,
}

/// Options that `trace` and `replay` share.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// How calls are shown
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Show prompts and completions. Off by default: they are the users'
    #[arg(long)]
    pub content: bool,
    /// Show every HTTP exchange, not only model calls
    #[arg(long)]
    pub all_http: bool,
    /// Where TLS cannot be read, infer calls to model providers (or to --host) from the sizes and times of TLS records
    #[arg(long)]
    pub infer: bool,
}

/// Options of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Whose calls.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// How they are shown.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Stop after this long: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Also append the calls to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub also_jsonl: Option<PathBuf>,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file [default: /etc/inferscope/config.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only this process and its children; may be repeated
    #[arg(long, value_name = "N")]
    pub pid: Vec<u32>,
    /// How the report is shown
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// How long to watch: what moves no bytes in this time cannot be judged
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "3s")]
    pub watch: Duration,
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Lines for people
    #[default]
    Pretty,
    /// One JSON object
    Json,
}

/// Options of `record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// File to make; it must not exist yet
    pub file: PathBuf,
    /// Whose calls.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Record every HTTP exchange, not only model calls
    #[arg(long)]
    pub all_http: bool,
    /// Record what `replay --infer` needs too: headers of TLS records that cannot be read
    #[arg(long)]
    pub infer: bool,
    /// Stop after this long: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// File that `inferscope record` made
    pub file: PathBuf,
    /// How calls are shown.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Options of `wal`.
#[derive(Debug, Args)]
pub struct WalArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: WalAction,
}

/// What to do with a log.
#[derive(Debug, Subcommand)]
pub enum WalAction {
    /// Say what is there: segments, destinations and what they lack
    Inspect {
        /// Which log.
        #[command(flatten)]
        log: LogArgs,
        /// How it is shown
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        output: ReportFormat,
    },
    /// Read everything and say what is damaged. Fails if anything is
    Verify {
        /// Which log.
        #[command(flatten)]
        log: LogArgs,
    },
    /// Write all items to standard output, one JSON object a line, those in quarantine included
    Export {
        /// Which log.
        #[command(flatten)]
        log: LogArgs,
    },
}

/// Which log.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// Its directory
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// File with the key, if it is encrypted
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// A number with a unit: `500ms`, `30s`, `5m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("'{text}' does not begin with a number"))?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("'{unit}' is no unit; use ms, s, m or h")),
    };
    milliseconds.map(Duration::from_millis).ok_or_else(|| format!("'{text}' is too long"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "s", "5d", "-1s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_contract_parses() {
        let line = "inferscope trace --pid 1 --pid 2 --comm curl --output jsonl --content --duration 30s --all-http";
        let Command::Trace(args) = Cli::parse_from(line.split(' ')).command else { panic!("not trace") };
        assert_eq!((args.targets.pid, args.targets.comm), (vec![1, 2], vec!["curl".to_owned()]));
        assert_eq!(args.show.output, Format::Jsonl);
        assert!(args.show.content && args.show.all_http);
        let Command::Doctor(args) = Cli::parse_from("inferscope doctor --pid 7 --output json".split(' ')).command
        else {
            panic!("not doctor")
        };
        assert_eq!((args.pid, args.output), (vec![7], ReportFormat::Json));
    }
}
