//! `inferscope-model-server`: something to trace where no model is at hand.
//!
//! Serves the OpenAI API over HTTP and over HTTPS, and says everywhere that it is no language model.

use std::{
    io::Write as _,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Parser;
use inferscope_tests::{
    model::{
        NOTE,
        serve::{Tempo, accept, acceptor, bind},
    },
    pki::Pki,
};

/// An OpenAI-compatible server that is not a language model: it streams canned words at a steady pace.
#[derive(Debug, Parser)]
#[command(name = "inferscope-model-server", version)]
struct Options {
    /// Port for HTTP; 0 takes a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Port for HTTPS; 0 takes a free one.
    #[arg(long, default_value_t = 8443)]
    tls_port: u16,
    /// Where ca.pem is written, for clients that verify; a fresh temporary directory by default.
    #[arg(long)]
    cert_dir: Option<PathBuf>,
    /// Words in an uncut answer.
    #[arg(long, default_value_t = 20)]
    chunks: u64,
    /// Milliseconds between two words.
    #[arg(long, default_value_t = 25.0)]
    interval_ms: f64,
    /// Milliseconds before the first word.
    #[arg(long, default_value_t = 120.0)]
    first_token_ms: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { port, tls_port, cert_dir, chunks, interval_ms, first_token_ms } = Options::parse();
    let tempo = Tempo { chunks, interval: milliseconds(interval_ms)?, first_token: milliseconds(first_token_ms)? };
    let cert_dir = cert_dir.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        std::env::temp_dir().join(format!("inferscope-model-server-{now:x}"))
    });
    let pki = Pki::generate(&cert_dir)?;
    let (http, https) = (bind(port).await?, bind(tls_port).await?);
    eprintln!("inferscope-model-server: {NOTE}");
    eprintln!("inferscope-model-server: clients that verify trust {}", pki.ca.display());
    let (port, tls_port) = (http.local_addr()?.port(), https.local_addr()?.port());
    writeln!(std::io::stdout(), "ready http={port} https={tls_port}")?;
    tokio::join!(accept(http, None, tempo), accept(https, Some(acceptor(&pki)?), tempo));
    Ok(())
}

fn milliseconds(value: f64) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(value / 1000.0)?)
}
