//! An agent that captures nothing: it makes numbered spans, and delivers them through the real log and the real exporter.
//!
//! What it does is known to the number, which of a real agent it is not: each number that has become durable is written to a file
//! of its own, the truth that a collector is compared with after both were killed any number of times. A number that is not in
//! there may have become durable and may not.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope::{
    config::{ShipCompression, ShipConfig},
    export::{
        otlp::Envelope,
        ship::{ShipExporter, ShipSettings},
    },
    wal::{Kind, Start, Wal, WalSettings},
};
use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, KeyValue, any_value::Value},
        trace::Span,
    },
};

/// Delivers numbered spans
#[derive(Debug, Parser)]
struct Options {
    /// Directory of the log
    #[arg(long)]
    dir: PathBuf,
    /// The collector
    #[arg(long)]
    endpoint: String,
    /// Certificates to trust
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The agent's certificate
    #[arg(long)]
    cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// File of the numbers that are durable, one a line
    #[arg(long)]
    truth: PathBuf,
    /// Spans a second; 0 to make none and only deliver
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Bytes of disk for the log
    #[arg(long, default_value_t = 256 << 20)]
    max_bytes: u64,
}

/// How often spans are made and durable ones are noted.
const TICK: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let mut settings = WalSettings::new(&options.dir);
    settings.max_bytes = options.max_bytes;
    settings.segment_bytes = 256 << 10;
    let wal = Wal::open(settings)?;
    let config = ShipConfig {
        endpoint: options.endpoint.clone(),
        agent_id: Some("delivery".to_owned()),
        ca_file: options.ca_file.clone(),
        cert_file: options.cert_file.clone(),
        key_file: options.key_file.clone(),
        token_file: None,
        compression: ShipCompression::Zstd,
    };
    let envelope = Envelope::new(&|_| None, Some("delivery"))?;
    let settings = ShipSettings::resolve(&config, None, &envelope, wal.epoch())?;
    let exporter = ShipExporter::start(settings, wal.reader("ship", Start::Oldest)?)?;
    writeln!(std::io::stdout(), "ready")?;
    std::io::stdout().flush()?;
    let (mut truth, first) = Truth::open(&options.truth)?;
    let handle = wal.handle();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut next, mut accepted) = (first, Vec::new());
    let mut owed = 0.0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminate.recv() => break,
        }
        owed += options.rate as f64 * TICK.as_secs_f64();
        while owed >= 1.0 {
            owed -= 1.0;
            // A number that is refused is not used again: it is in no truth.
            if handle.offer(Kind::Span, span(next).into()).is_ok() {
                accepted.push(next);
            }
            next += 1;
        }
        truth.note(&accepted, wal.counts().durable_items)?;
    }
    wal.close(Duration::from_secs(5));
    truth.note(&accepted, wal.counts().durable_items)?;
    exporter.shutdown(Duration::from_secs(20)).await;
    Ok(())
}

/// The numbers that are durable.
struct Truth {
    file: File,
    /// Numbers of this life that were written down.
    noted: usize,
}

impl Truth {
    /// Opens it, with the first number that cannot have been used. A killed agent has used some that it did not write down.
    fn open(path: &Path) -> Result<(Self, u64)> {
        let mut last = 0;
        if path.exists() {
            for line in BufReader::new(File::open(path)?).lines() {
                last = last.max(line?.parse().context("the truth holds what is no number")?);
            }
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok((Self { file, noted: 0 }, (last / 1_000_000 + 1) * 1_000_000))
    }

    /// Of what was accepted in this life, so many items are durable.
    fn note(&mut self, accepted: &[u64], durable: u64) -> Result<()> {
        let durable = usize::try_from(durable)?;
        if durable > self.noted {
            let lines: String = accepted[self.noted..durable].iter().map(|number| format!("{number}\n")).collect();
            self.file.write_all(lines.as_bytes())?;
            self.noted = durable;
        }
        Ok(())
    }
}

/// The span of a number: always the same but for its time.
fn span(number: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let model = AnyValue { value: Some(Value::StringValue("numbered".to_owned())) };
    Span {
        trace_id: (1_u128 << 100 | u128::from(number)).to_be_bytes().to_vec(),
        span_id: number.to_be_bytes().to_vec(),
        name: format!("numbered {number}"),
        kind: 3,
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1,
        attributes: vec![KeyValue {
            key: "gen_ai.request.model".to_owned(),
            value: Some(model),
            ..KeyValue::default()
        }],
        ..Span::default()
    }
    .encode_to_vec()
}
