//! `inferscope collector`

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::CollectorArgs,
    collector::{Collector, CollectorSettings, ServerFiles},
};

/// Said on standard error once the listeners are there. Scripts wait for it.
const READY: &str = "inferscope: collector ready";

/// What is under way may take so long at the end.
const DRAIN: Duration = Duration::from_secs(3);

/// One day.
const DAY: Duration = Duration::from_secs(86_400);

/// Receives and stores until it is stopped.
pub fn collector(args: CollectorArgs) -> anyhow::Result<()> {
    let settings = settings(args);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime did not start")?;
    runtime.block_on(async {
        // Before anything slow: Ctrl-C while a large store is opened must end it.
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
        let collector = tokio::select! {
            started = Collector::start(&settings) => started?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        if let Some(certificate) = collector.certificate() {
            super::say(&format!("inferscope: agents trust the certificate in {} (ca_file)", certificate.display()));
        }
        if let Some(tokens) = collector.tokens() {
            super::say(&format!("inferscope: tokens for agents and readers are in {}", tokens.display()));
        }
        super::say(&format!("{READY} listen={} ui={}", collector.listen(), collector.ui()));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::select! {
            ended = collector.shutdown(DRAIN) => ended,
            // A second request means now. What is not committed was not acknowledged.
            _ = interrupt.recv() => std::process::exit(130),
            _ = terminate.recv() => std::process::exit(143),
        }
    })
}

fn settings(args: CollectorArgs) -> CollectorSettings {
    let CollectorArgs { listen, ui, data_dir, tls_cert, tls_key, client_ca, tokens, plaintext, .. } = args;
    let tls = tls_cert.zip(tls_key).map(|(certificate, key)| ServerFiles { certificate, key, client_ca });
    CollectorSettings {
        listen,
        ui,
        data_dir,
        tls,
        plaintext,
        tokens,
        keep: DAY * args.keep_days,
        keep_content: DAY * args.keep_content_days,
        max_bytes: u64::from(args.max_gib) << 30,
    }
}
