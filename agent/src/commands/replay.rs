//! `inferscope replay`

use std::{fs::File, io::BufReader, time::Duration};

use anyhow::Context as _;

use super::{
    live::{Plan, say_ledger},
    trace::display,
};
use crate::{
    capture::Session,
    cli::{ReplayArgs, TargetArgs},
    cost::{CostConfig, Pricing},
    output::Outputs,
    pipeline::{Output, Pipeline},
    record,
    recording::{Frame, Playback},
    selfstat::Ledger,
    time::Mono,
};

/// How often the pipeline looks for idle exchanges, in recorded time: as often as a live capture does.
const TICK: Duration = Duration::from_secs(1);

/// Puts a recording through the pipeline.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let name = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("{name} cannot be opened"))?;
    let mut playback = Playback::open(BufReader::with_capacity(1 << 20, file))
        .with_context(|| format!("{name} cannot be replayed"))?;
    let session = Session { epoch: playback.epoch(), anchor: playback.anchor() };
    let plan = Plan::of(TargetArgs::default(), args.show.all_http, args.show.content, None).with_infer(args.show.infer);
    let mut pipeline = Pipeline::new(plan.pipeline(&session));
    let pricing = Pricing::new(&CostConfig::default());
    let mut outputs = Outputs::new(session.anchor, display(&args.show)).with_pricing(pricing);
    let mut deliver = |output| {
        if let Output::Call(call) = output {
            // A closed standard output is counted and no reason to stop: the ledger is of the whole file.
            let _ = outputs.deliver(&call);
        }
    };
    let mut next_tick = Mono(0);
    let damaged = loop {
        let bytes = match playback.next_frame().with_context(|| format!("{name} cannot be read"))? {
            Frame::Record(bytes) => bytes,
            Frame::End => break false,
            Frame::Damaged => break true,
        };
        match record::parse(bytes) {
            Ok(record) => {
                let time = record::time_of(bytes).unwrap_or_default();
                if time >= next_tick {
                    next_tick = Mono(time.0.saturating_add(TICK.as_nanos() as u64));
                    pipeline.on_tick(time, &mut deliver);
                }
                pipeline.on_record(record, &mut deliver);
            }
            Err(error) => {
                tracing::warn!(%error, "record passed over");
                pipeline.on_bad_record();
            }
        }
    };
    pipeline.finish(&mut deliver);
    let report = outputs.finish();
    let undelivered = report.entries().to_vec();
    let unpriced = report.unpriced;
    let engines = pipeline.energy();
    say_ledger(&Ledger { pipeline: pipeline.stats().clone(), undelivered, unpriced, engines, ..Default::default() });
    if let Some(error) = report.error {
        return Err(anyhow::Error::new(error).context("standard output cannot be written"));
    }
    anyhow::ensure!(!damaged, "{name} is damaged or was cut off; the calls above are those before the damage");
    Ok(())
}
