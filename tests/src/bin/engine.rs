//! `inferscope-mock-engine`: an inference engine to observe where there is none.
//!
//! Starts itself again as the engine core, and that as the workers.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use inferscope_tests::engine::{engine_core, message::Setup, serve, worker};

/// A stand-in for an inference engine: batches and waits like one, and computes nothing.
#[derive(Debug, Parser)]
#[command(name = "inferscope-mock-engine", version)]
struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serve OpenAI's chat completions over HTTP
    Serve(Serve),
    /// The engine core; started by the front
    #[command(hide = true)]
    Core {
        /// What the front wants
        #[arg(long)]
        setup: String,
    },
    /// A worker; started by the engine core
    #[command(hide = true)]
    Worker {
        /// What the core wants
        #[arg(long)]
        setup: String,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port; 0 takes a free one, which pids.json names
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Where the truth is written, and the socket of the engine core
    #[arg(long)]
    dir: PathBuf,
    /// Worker processes; one for each device by default
    #[arg(long)]
    workers: Option<usize>,
    /// Indices of the devices
    #[arg(long, value_delimiter = ',', default_value = "0")]
    devices: Vec<u32>,
    /// Name of the served model
    #[arg(long, default_value = "inferscope/mock-8b")]
    model: String,
    /// A file that each worker reads before it is ready
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The stand-in for libcudart, in which workers wait
    #[arg(long)]
    cudart: Option<PathBuf>,
    /// How many times as fast as the model of the GPU
    #[arg(long, default_value_t = 1.0)]
    rate_scale: f64,
    /// Go on generating for clients that have gone
    #[arg(long)]
    ignore_disconnect: bool,
}

fn main() -> Result<()> {
    match Options::parse().role {
        Role::Serve(options) => {
            let Serve { host, port, dir, workers, devices, model, weights, cudart, rate_scale, ignore_disconnect } =
                options;
            let workers = workers.unwrap_or(devices.len());
            let setup = Setup { dir, workers, devices, weights, cudart, rate_scale };
            serve::run(serve::Options { host, port, model, ignore_disconnect, setup })
        }
        Role::Core { setup } => engine_core::run(&setup),
        Role::Worker { setup } => worker::run(&setup),
    }
}
