//! `inferscope-load`: a server and its clients under a known load, and programs to compare them with.
//!
//! Each mode reads orders from standard input, one JSON object a line, and answers each with one line
//! (`inferscope_tests::load::order`). The end of the input ends the program.

use std::{
    io::{BufRead as _, Write as _, stdin, stdout},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use inferscope_tests::{
    load::{
        bystander, driver, flood,
        order::{Flood, Idle, Load, Lockstep},
        pair::{self, Pair},
        server::{self, Log},
        tls,
    },
    pki::Pki,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpListener, runtime};

/// A load generator with its server. Answers no model's, but shaped like one's.
#[derive(Debug, Parser)]
#[command(name = "inferscope-load", version)]
struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Serve; any line of input is answered with what was served since the last
    Serve {
        /// Where the certificates are written
        #[arg(long)]
        pki: PathBuf,
    },
    /// Call a server by schedule
    Drive {
        /// Port of the server's HTTP
        #[arg(long)]
        http: u16,
        /// Port of the server's HTTPS
        #[arg(long)]
        https: u16,
        /// The authority that signed the server's certificate
        #[arg(long)]
        ca: PathBuf,
    },
    /// Be server and client in one thread
    Pair {
        /// Where the certificates are written
        #[arg(long)]
        pki: PathBuf,
    },
    /// Be server and client in several threads, as fast as it goes
    Flood {
        /// Where the certificates are written
        #[arg(long)]
        pki: PathBuf,
    },
    /// Have nothing to do with it
    Bystander,
}

/// Threads of the server's runtime, and of the clients': few, as in programs that serve from an event loop.
const SERVER_THREADS: usize = 2;
const DRIVER_THREADS: usize = 1;

fn main() -> Result<()> {
    match Options::parse().mode {
        Mode::Serve { pki } => runtime(SERVER_THREADS)?.block_on(serve(Pki::generate(&pki)?)),
        Mode::Drive { http, https, ca } => {
            let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let target = driver::Target {
                http: local(http),
                https: local(https),
                connector: tls::connector(&ca)?,
                idle: Arc::default(),
            };
            let runtime = runtime(DRIVER_THREADS)?;
            obey(|load: Load| runtime.block_on(driver::drive(&target, load)))
        }
        Mode::Pair { pki } => {
            let pki = Pki::generate(&pki)?;
            let (connector, acceptor) = (tls::connector(&pki.ca)?, tls::acceptor(&pki)?);
            // The connections live as long as the program, as those of a real server do.
            let mut pairs = [Pair::new(false, &connector, &acceptor)?, Pair::new(true, &connector, &acceptor)?];
            obey(|order: Lockstep| pair::step(&mut pairs[usize::from(order.tls)], &order))
        }
        Mode::Flood { pki } => {
            let pki = Pki::generate(&pki)?;
            let (connector, acceptor) = (tls::connector(&pki.ca)?, tls::acceptor(&pki)?);
            obey(|order: Flood| flood::flood(&order, &connector, &acceptor))
        }
        Mode::Bystander => obey(|order: Idle| bystander::idle(&order)),
    }
}

fn runtime(threads: usize) -> Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().context("no runtime")
}

async fn serve(pki: Pki) -> Result<()> {
    let acceptor = Arc::new(tls::acceptor(&pki)?);
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (http, https) = (bind().await?, bind().await?);
    let log = Arc::new(Log::default());
    let ready = format!("ready http={} https={}", http.local_addr()?.port(), https.local_addr()?.port());
    let input = tokio::task::spawn_blocking({
        let log = Arc::clone(&log);
        move || {
            say(&ready)?;
            obey_lines(|_| Ok(log.take()))
        }
    });
    tokio::select! {
        ended = input => ended?,
        failed = server::accept(http, None, Arc::clone(&log)) => failed,
        failed = server::accept(https, Some(acceptor), Arc::clone(&log)) => failed,
        () = log.run() => Ok(()),
    }
}

/// Says that it is ready, carries out orders, and ends with the input.
fn obey<Order: DeserializeOwned, Account: Serialize>(mut act: impl FnMut(Order) -> Result<Account>) -> Result<()> {
    say("ready")?;
    obey_lines(|line| act(serde_json::from_str(line).with_context(|| format!("not an order: {line}"))?))
}

fn obey_lines<Account: Serialize>(mut act: impl FnMut(&str) -> Result<Account>) -> Result<()> {
    for line in stdin().lock().lines() {
        say(&serde_json::to_string(&act(&line?)?)?)?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
